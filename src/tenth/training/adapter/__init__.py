"""Training of an aggregator of several photos and its IP-Adapter."""

__all__: list[str] = []
