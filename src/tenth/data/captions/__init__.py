"""Captions of photos: attribute tables, templates, caption files, and attributes parsed from prompts."""

__all__: list[str] = []
