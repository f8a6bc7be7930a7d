"""Embeddings of several photos -> one."""
