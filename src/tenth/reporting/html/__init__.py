"""The page: tables, gallery, plots, how to repeat it."""

__all__: list[str] = []
