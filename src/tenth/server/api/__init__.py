"""The HTTP API: what is asked, answered, and refused in three parts."""

__all__: list[str] = []
