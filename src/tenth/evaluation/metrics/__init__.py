"""Features -> a number with its interval."""

__all__: list[str] = []
