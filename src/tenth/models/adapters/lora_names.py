"""The names that LoRA files give to a model's layers, now and before: of kohya's trainer, of diffusers, of PEFT, of ComfyUI.

Inside tenth a layer is "part.path", with the path of diffusers' format, whatever an installed library calls its modules.
Sources: kohya-ss/sd-scripts, networks/lora.py; ComfyUI, comfy/lora.py; diffusers, utils/state_dict_utils.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import nn

from tenth.models.adapters.native_names import ARCHITECTURES, native_layer

DENOISERS = ("unet", "transformer")
PARTS = (*DENOISERS, "text_encoder", "text_encoder_2")
PEFT_PREFIX = "base_model.model."  # begins all names that PEFT's own `save_pretrained` writes
TEXT_MODEL_PREFIX = "text_model."  # begins the names of all layers of a text encoder, but for its projection
# Beginnings of kohya's names: of a model with one text encoder, then of one with two (SDXL).
KOHYA_PREFIXES = {"unet": ("lora_unet",), "text_encoder": ("lora_te", "lora_te1"), "text_encoder_2": ("lora_te2",)}
# Beginnings of a transformer's: of kohya's trainer, OneTrainer and LyCORIS, before its path with underscores.
TRANSFORMER_PREFIXES = ("lora_unet", "lora_transformer", "lycoris")
NATIVE_PREFIX = (
    "diffusion_model."  # begins the names of ai-toolkit and of ComfyUI's own, before the authors' or diffusers' path
)
# A UNet's layers in the code of the models' authors, which kohya's names of SDXL follow.
# fmt: off
ORIGINAL_NAMES = {
    "conv_in":                 "input_blocks.0.0",  "conv_out":                "out.2",
    "time_embedding.linear_1": "time_embed.0",      "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1":  "label_emb.0.0",     "add_embedding.linear_2":  "label_emb.0.2",
}
ORIGINAL_RESNET_NAMES = {
    "conv1": "in_layers.2",  "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
# fmt: on


def canonical_name(name: str) -> str:
    """A layer's name "part.path" as an installed library has it, whatever its version -> as the published format has it."""
    part, _, path = name.partition(".")
    if part in DENOISERS or path.startswith((TEXT_MODEL_PREFIX, "text_projection")):
        return name
    return f"{part}.{TEXT_MODEL_PREFIX}{path}"


def get_parameter(module: nn.Module, path: str) -> nn.Parameter | None:
    """The parameter of a module, whether the installed library has `text_model.` in its path or not; None if there is none."""
    for candidate in (path, path.removeprefix(TEXT_MODEL_PREFIX), TEXT_MODEL_PREFIX + path):
        try:
            return module.get_parameter(candidate)
        except AttributeError:
            continue
    return None


def kohya_name(name: str, *, two_text_encoders: bool) -> str:
    """The published name of a layer of a UNet or text encoder -> kohya's, as ComfyUI and A1111 look it up."""
    part, _, path = name.partition(".")
    return kohya_key(KOHYA_PREFIXES[part][-1 if two_text_encoders else 0], path)


def kohya_key(prefix: str, path: str) -> str:
    """Kohya's name of a layer, from a beginning that says which network it is of."""
    return f"{prefix}_{path.replace('.', '_')}"


def lora_parts(pipeline: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline that a LoRA may be for: the one that denoises, and text encoders that are CLIP's."""
    parts = {name: module for name in PARTS if (module := getattr(pipeline, name, None)) is not None}
    return {name: module for name, module in parts.items() if name in DENOISERS or "clip" in module.config.model_type}


def layer_aliases(pipeline: Any) -> dict[str, list[tuple[str, ...]]]:
    """Every name that a file may give to a layer -> the layers that it may mean: two where it omits which text encoder.

    Each is a tuple of one layer, or of several whose rows, in this order, are the layer that the file means.
    """
    layers_by_alias: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for part, module in lora_parts(pipeline).items():
        for installed_path, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                path = canonical_name(f"{part}.{installed_path}").removeprefix(f"{part}.")
                for alias, paths in _aliases(part, path, module):
                    meant = tuple(f"{part}.{each}" for each in paths)
                    if meant not in layers_by_alias[alias]:  # as it is met again at each of several
                        layers_by_alias[alias].append(meant)
    return layers_by_alias


def _aliases(part: str, path: str, module: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if part == "transformer":
        yield from _transformer_aliases(path, module)
        return
    paths = [path] if part == "unet" else [path, path.removeprefix(TEXT_MODEL_PREFIX)]
    names: list[str] = []
    for each in paths:
        names += (kohya_key(beginning, each) for beginning in KOHYA_PREFIXES[part])
        for spelling in (each, *_legacy_names(each)):
            names += (f"{part}.{spelling}", spelling, PEFT_PREFIX + spelling)
    if part == "unet" and (original := _original_name(path, module)):
        names.append(kohya_key(KOHYA_PREFIXES[part][0], original))
    yield from ((name, (path,)) for name in names)


def _transformer_aliases(path: str, module: nn.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for prefix in ("transformer.", "", PEFT_PREFIX, NATIVE_PREFIX):
        yield prefix + path, (path,)
    for prefix in TRANSFORMER_PREFIXES:
        yield kohya_key(prefix, path), (path,)
    architecture = ARCHITECTURES.get(type(module).__name__)
    if architecture is not None and (native := native_layer(architecture, path)):
        for prefix in ("", PEFT_PREFIX, NATIVE_PREFIX):
            yield prefix + native.name, native.parts
        yield kohya_key(TRANSFORMER_PREFIXES[0], native.name), native.parts


def _legacy_names(path: str) -> Iterator[str]:
    """An attention's layer as diffusers wrote it when its processors held the matrices."""
    owner, attention, last = path.rpartition(".to_")
    if attention:
        last = last.removesuffix(".0")  # to_out.0 was to_out
        yield from (f"{owner}.processor.to_{last}", f"{owner}.to_{last}")
    elif text := re.fullmatch(r"(.+\.self_attn)\.(q|k|v|out)_proj", path):
        yield f"{text[1]}.to_{text[2]}"


def _original_name(path: str, unet: Any) -> str:
    """The layer's name in the authors' code, "" where it has none. Blocks are counted there through the whole UNet."""
    layers = unet.config.layers_per_block
    if not isinstance(layers, int):
        return ""
    places = layers + 1  # of a block: its layers, and down or up; a block up has one layer more than a block down
    match path.split("."):
        case ["down_blocks", block, "downsamplers", _, "conv"]:
            return f"input_blocks.{places * (int(block) + 1)}.0.op"
        case ["up_blocks", block, "upsamplers", _, "conv"]:
            has_attention = hasattr(unet.up_blocks[int(block)], "attentions")
            return f"output_blocks.{places * (int(block) + 1) - 1}.{1 + has_attention}.conv"
        case ["down_blocks", block, kind, layer, *inner]:
            start = f"input_blocks.{1 + places * int(block) + int(layer)}.{int(kind == 'attentions')}"
        case ["up_blocks", block, kind, layer, *inner]:
            start = f"output_blocks.{places * int(block) + int(layer)}.{int(kind == 'attentions')}"
        case ["mid_block", kind, layer, *inner]:
            start = f"middle_block.{1 if kind == 'attentions' else 2 * int(layer)}"
        case _:
            return ORIGINAL_NAMES.get(path, "")
    rest = ".".join(inner)
    return f"{start}.{ORIGINAL_RESNET_NAMES.get(rest, rest) if kind == 'resnets' else rest}"
