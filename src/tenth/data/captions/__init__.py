"""Captions of photos: attributes, templates, caption files, prompts read back."""

__all__: list[str] = []
