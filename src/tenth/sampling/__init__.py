"""Identities and prompts -> images."""

__all__: list[str] = []
