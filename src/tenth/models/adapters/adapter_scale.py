"""The IP-Adapter scale of each block: one number, or a nesting of sections, blocks and, of a UNet, layers as in diffusers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tenth.core.errors import RecipeError

MAX_SCALE = 2.0  # far beyond useful values
UNET_SECTIONS = ("down", "mid", "up")
TRANSFORMER_SECTIONS = {"double": "transformer_blocks", "single": "single_transformer_blocks"}  # of blocks, by streams
SECTIONS = (*UNET_SECTIONS, *TRANSFORMER_SECTIONS)
AdapterScale = float | Mapping[str, Any]  # {"up": {"block_0": [0, 1, 0]}}: what is not named is 0
EXAMPLE_SCALE = '{"up": {"block_0": [0, 1, 0]}}'


def validate_scale(scale: AdapterScale) -> None:
    """Raises RecipeError if a scale is not a number from 0 to 2, or a nesting of sides, blocks and layers with such numbers."""
    if not isinstance(scale, Mapping):
        _check_number("ip_adapter_scale", scale)
        return
    for section in scale:
        if section not in SECTIONS:
            raise _invalid_scale(f"ip_adapter_scale has {section!r}", f"{', '.join(SECTIONS)} are needed")
    for block, value in _scale_entries(scale):
        for number in value if isinstance(value, list | tuple) else [value]:
            _check_number(f"ip_adapter_scale of {block}", number)


def set_scale(pipeline: Any, scale: AdapterScale) -> None:
    """Set the scale of the installed adapter's layers. Raises RecipeError for a block or number of layers that is not there."""
    if hasattr(pipeline, "transformer"):
        _set_transformer_scale(pipeline.transformer, scale)
        return
    if isinstance(scale, Mapping):
        layers = _attention_counts(pipeline.unet)
        for location, value in _scale_entries(scale):
            counts = {count for block, count in layers.items() if f"{block}.".startswith(f"{location}.")}
            if not counts or (isinstance(value, list | tuple) and counts != {len(value)}):
                raise _unknown_place(location, value, [f"{block} of {count}" for block, count in layers.items()])
        scale = json.loads(json.dumps(scale))  # diffusers wants dicts and lists
    pipeline.set_ip_adapter_scale(scale)


def _set_transformer_scale(transformer: Any, scale: AdapterScale) -> None:
    """One number for all blocks of a section, or for each of them, or for those that are named: the others have 0."""
    blocks = {
        f"{section}.block_{number}": _adapter_processors(block)
        for section, name in TRANSFORMER_SECTIONS.items()
        for number, block in enumerate(getattr(transformer, name, ()))
    }
    blocks = {place: processors for place, processors in blocks.items() if processors}
    values = dict.fromkeys(blocks, 0.0 if isinstance(scale, Mapping) else scale)
    for location, value in _scale_entries(scale) if isinstance(scale, Mapping) else ():
        places = [block for block in blocks if f"{block}.".startswith(f"{location}.")]
        numbers = value if isinstance(value, list | tuple) else [value] * len(places)
        if not places or len(numbers) != len(places):
            counts = {section: sum(block.startswith(section) for block in blocks) for section in TRANSFORMER_SECTIONS}
            raise _unknown_place(location, value, [f"{section} of {count}" for section, count in counts.items() if count])
        values |= dict(zip(places, numbers, strict=True))
    for place, processors in blocks.items():
        for processor in processors:  # FLUX.1's has a number for each adapter, of which there is one
            processor.scale = [values[place]] if isinstance(processor.scale, list) else values[place]


def _adapter_processors(block: Any) -> list[Any]:
    """Of a transformer's block, those with an adapter; a block with dual attention has two."""
    return [each for layer in block.children() if hasattr(each := getattr(layer, "processor", None), "scale")]


def _unknown_place(location: str, value: Any, available: Sequence[str]) -> RecipeError:
    found = f"ip_adapter_scale has {location} with {value}"
    return _invalid_scale(found, f"the layers with an adapter are {', '.join(available)}")


def _scale_entries(scale: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each named place, "up.block_0" or a whole side, and what it has: a number, or one for each layer."""
    for section, inner in scale.items():
        if isinstance(inner, Mapping):
            yield from ((f"{section}.{block}", value) for block, value in inner.items())
        else:
            yield section, inner


def _attention_counts(unet: Any) -> dict[str, int]:
    """How many layers with cross-attention each block has, by "up.block_0"; of the middle by "mid"."""
    counts = {
        f"{section}.block_{number}": len(block.attentions)
        for section, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks))
        for number, block in enumerate(blocks)
        if hasattr(block, "attentions")
    }
    return counts | {"mid": len(getattr(unet.mid_block, "attentions", ()))}


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SCALE:
        raise _invalid_scale(f"{name} is {value!r}", f"a number from 0 to {MAX_SCALE:g} is needed")


def _invalid_scale(found: str, needed: str) -> RecipeError:
    return RecipeError(found, needed, f"Give one number for all blocks, or such as {EXAMPLE_SCALE}")
