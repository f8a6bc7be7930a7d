"""The structure of image files, walked over before any decoder sees a byte."""

__all__: list[str] = []
