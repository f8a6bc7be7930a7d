"""Types, errors, configuration, files, cache, random numbers, records. Knows no model."""

__all__: list[str] = []
