"""How much of the person there is in each block of a UNet: one number, or the adapter's scales in diffusers' own nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tenth.core.errors import RecipeError

MOST_SCALE = 2.0  # far beyond what gives a picture
SIDES = ("down", "mid", "up")
Scale = float | Mapping[str, Any]  # {"up": {"block_0": [0, 1, 0]}}: what is not named is 0
EXAMPLE = '{"up": {"block_0": [0, 1, 0]}}'


def check_scale(scale: Scale) -> None:
    """Raises RecipeError if a scale is not a number from 0 to 2, or a nesting of sides, blocks and layers with such numbers."""
    if not isinstance(scale, Mapping):
        _check_number("scale", scale)
        return
    for side in scale:
        if side not in SIDES:
            raise _odd(f"scale has {side!r}", f"{', '.join(SIDES)} are needed")
    for place, value in _places(scale):
        for number in value if isinstance(value, list | tuple) else [value]:
            _check_number(f"scale of {place}", number)


def set_scale(pipeline: Any, scale: Scale) -> None:
    """Set the scale of the installed adapter's layers. Raises RecipeError for a block or number of layers that is not there."""
    if isinstance(scale, Mapping):
        layers = _layers(pipeline.unet)
        for place, value in _places(scale):
            known = {block: count for block, count in layers.items() if block == place or block.startswith(f"{place}.")}
            if not known or (isinstance(value, list | tuple) and any(len(value) != count for count in known.values())):
                there = ", ".join(f"{block} of {count}" for block, count in layers.items())
                raise _odd(f"scale has {place} with {value}", f"the layers with an adapter are {there}")
        scale = json.loads(json.dumps(scale))  # diffusers wants dicts and lists
    pipeline.set_ip_adapter_scale(scale)


def _places(scale: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each named place, "up.block_0" or a whole side, and what it has: a number, or one for each layer."""
    for side, inner in scale.items():
        if isinstance(inner, Mapping):
            yield from ((f"{side}.{block}", value) for block, value in inner.items())
        else:
            yield side, inner


def _layers(unet: Any) -> dict[str, int]:
    """How many layers with cross-attention each block has, by "up.block_0"; of the middle by "mid"."""
    found = {
        f"{side}.block_{number}": len(block.attentions)
        for side, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks))
        for number, block in enumerate(blocks)
        if hasattr(block, "attentions")
    }
    return found | {"mid": len(getattr(unet.mid_block, "attentions", ()))}


def _check_number(name: str, value: Any) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_SCALE
    if not right:
        raise _odd(f"{name} is {value!r}", f"a number from 0 to {MOST_SCALE:g} is needed")


def _odd(found: str, needed: str) -> RecipeError:
    return RecipeError(found, needed, f"Give one number for all blocks, or such as {EXAMPLE}")
