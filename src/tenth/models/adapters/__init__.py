"""IP-Adapters and weight changes: read, checked, installed, saved."""

__all__: list[str] = []
