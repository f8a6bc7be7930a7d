"""Photos -> Person: photos opened safely, faces, folders, LFW, splits."""

__all__: list[str] = []
