"""Person -> Identity."""

__all__: list[str] = []
