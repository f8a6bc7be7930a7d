"""run.json -> tables, plots, one page."""

__all__: list[str] = []
