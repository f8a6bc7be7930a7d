"""Parts of a set of images -> sums that merge in any order -> the same figures as of the whole set."""

__all__: list[str] = []
