"""Published models: which files they have, downloads, and the lock file."""

__all__: list[str] = []
