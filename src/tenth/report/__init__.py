"""Results -> something to look at."""

__all__: list[str] = []  # its modules are the interface: tenth.report.<module>
