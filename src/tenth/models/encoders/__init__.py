"""Photos -> embeddings."""
