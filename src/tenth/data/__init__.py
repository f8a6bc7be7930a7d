"""Photos on disk -> people."""

__all__: list[str] = []  # its modules are the interface: tenth.data.<module>
