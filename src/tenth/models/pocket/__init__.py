"""The small model that ships in the package."""

__all__: list[str] = []
