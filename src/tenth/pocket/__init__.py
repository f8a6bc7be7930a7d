"""The small model that ships inside the package, and how it is trained."""

__all__: list[str] = []  # its modules are the interface: tenth.pocket.<module>
