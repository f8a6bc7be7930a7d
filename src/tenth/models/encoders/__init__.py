"""Photos -> embeddings."""

__all__: list[str] = []
