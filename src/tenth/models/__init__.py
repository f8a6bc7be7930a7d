"""Diffusion models with their encoders and adapters: loaded, placed in memory, an identity put on and taken off."""
