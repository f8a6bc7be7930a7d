"""Samples and held-out photos -> scores."""

__all__: list[str] = []  # its modules are the interface: tenth.evaluate.<module>
