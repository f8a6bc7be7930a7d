"""Person -> Identity, and how each way learns."""

__all__: list[str] = []  # its modules are the interface: tenth.adapt.<module>
