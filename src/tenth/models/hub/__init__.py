"""Published models: which files, downloaded once, locked."""

__all__: list[str] = []
