"""The command line: one command, one call."""

__all__: list[str] = []
