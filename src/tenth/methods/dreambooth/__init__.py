"""Fine-tuning for one person, and what it learns from."""
