"""Methods x people x prompts -> run.json; the demo."""

__all__: list[str] = []
