"""Embeddings (K, D) of one person -> (M, D)."""

__all__: list[str] = []  # its modules are the interface: tenth.aggregate.<module>
