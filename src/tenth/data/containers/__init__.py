"""Parsers of image file structure, which run before any decoder."""

__all__: list[str] = []
