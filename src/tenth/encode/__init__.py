"""Photos -> embeddings (K, D)."""

__all__: list[str] = []  # its modules are the interface: tenth.encode.<module>
