"""Images and held-out photos -> scores with confidence intervals."""

__all__: list[str] = []
