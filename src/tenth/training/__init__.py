"""The one training loop, and what it trains."""

__all__: list[str] = []
