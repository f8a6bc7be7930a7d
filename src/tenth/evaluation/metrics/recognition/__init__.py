"""Metrics of recognition among many people: identification, verification, and likeness by group."""

__all__: list[str] = []
