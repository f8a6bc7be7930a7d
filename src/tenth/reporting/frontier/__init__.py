"""The frontier in a report: prompt obeyed and person kept, read from the record, in a plot and in tables."""

__all__: list[str] = []
