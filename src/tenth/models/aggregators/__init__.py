"""Embeddings of several photos -> one."""

__all__: list[str] = []
