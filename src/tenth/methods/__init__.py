"""Methods of personalization: photos of a person -> an identity."""

__all__: list[str] = []
