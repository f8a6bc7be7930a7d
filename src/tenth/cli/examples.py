"""The examples at the end of a command's help. A test runs them, one after another."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "identity": (
        "tenth identity me/ -o me.safetensors",
        "tenth identity me/ --method ip-adapter-set -o me-set.safetensors",
    ),
    "generate": (
        'tenth generate me/ --prompt "a portrait photo of a smiling person" -o out/smiling',
        'tenth generate me/ --prompt "a photo of an old person" -n 2 --seed 100 --size 512x768 -o out/old',
        "tenth generate me/ --settings-from out/smiling/0001.png --seed 7 -n 1 -o out/again",
        'tenth generate me.safetensors --prompt "a photo of a person with glasses" -n 1 -o out/glasses',
    ),
    "export": ("tenth export me.safetensors -o for-diffusers/me.safetensors",),
}


def epilog(command: str) -> str | None:
    """The end of a command's help, as typer takes it: nothing in it is wrapped."""
    lines = [f"  {line}" for line in EXAMPLES.get(command, ())]
    return "\n".join(["\b", "Examples:", *lines]) if lines else None
