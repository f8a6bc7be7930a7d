"""A rater's choices between two systems' images of the same tasks, without knowing which is whose."""
