"""What the commands do, a file for each group of them. Each returns its exit code."""

__all__: list[str] = []
