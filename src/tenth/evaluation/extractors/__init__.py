"""Images -> features."""

__all__: list[str] = []
