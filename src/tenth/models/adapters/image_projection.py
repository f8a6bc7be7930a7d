"""How an IP-Adapter turns embeddings of photos into tokens: its projection in the official layout <-> diffusers' module.

Four kinds are published (Ye et al. 2023, arXiv:2308.06721, and its code, ip_adapter.py and resampler.py; InstantX' for SD3.5):
"pooled"  Linear + LayerNorm on CLIP's pooled embedding; 4 tokens in all published files, any number in ours
"plus"    a perceiver resampler on the encoder's patch tokens: 16 tokens; Plus and Plus-Face are alike to the last shape
"full"    an MLP on each patch token: as many tokens as patches (full-face)
"timed"   a resampler that also reads the timestep of the denoising: 64 tokens (SD3.5)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
    IPAdapterTimeImageProjection,
    MultiIPAdapterImageProjection,
)
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.core.files.tensors import tensor_shapes
from tenth.core.wording import abbreviate
from tenth.models.adapters.networks.adapted_network import Shapes

TYPE_KEYS = {"proj.weight": "pooled", "latents": "plus", "proj.3.weight": "full"}  # the name by which a kind is known
TIME_KEY = "time_embedding.linear_1.weight"  # of a resampler that reads the timestep
# (..., D): what reads the embedding. (C, ...): what gives the tokens.
INPUT_KEYS = {"pooled": "proj.weight", "plus": "proj_in.weight", "full": "proj.0.weight", "timed": "proj_in.weight"}
OUTPUT_KEYS = {"pooled": "norm.weight", "plus": "proj_out.weight", "full": "proj.3.weight", "timed": "proj_out.weight"}
# Official path of each module -> diffusers'; of a resampler's layers, whose `to_kv` diffusers splits, within the layer.
PATHS = {
    "pooled": {"proj": "image_embeds", "norm": "norm"},
    "full": {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "proj.3": "norm"},
    "plus": {name: name for name in ("proj_in", "proj_out", "norm_out")},
    "timed": {name: name for name in ("proj_in", "proj_out", "norm_out", "time_embedding.linear_1", "time_embedding.linear_2")},
}
# fmt: off
LAYER_PATHS = {
    "plus": {
        "0.norm1": "ln0",       "0.norm2": "ln1",             "1.0": "ff.0",
        "0.to_q": "attn.to_q",  "0.to_k": "attn.to_k",        "1.1": "ff.1.net.0.proj",
        "0.to_v": "attn.to_v",  "0.to_out": "attn.to_out.0",  "1.3": "ff.1.net.2",
    },
    "timed": {
        "0.norm1": "ln0",       "0.norm2": "ln1",             "1.0": "adaln_norm",
        "0.to_q": "attn.to_q",  "0.to_kv": "attn.to_kv",      "1.1": "ff.net.0.proj",
        "2.1": "adaln_proj",    "0.to_out": "attn.to_out.0",  "1.3": "ff.net.2",
    },
}
# fmt: on
HEAD_DIM = 64  # width of a resampler's attention heads in all published files; nothing in a file tells it
MAX_LAYERS = 64  # of a resampler; published ones have 4
FULL_NUM_TOKENS = 257  # of a "full" one on ViT-H/14 at 224 pixels; diffusers writes it down and does not use it


class TimedImageProjection(IPAdapterTimeImageProjection):  # type: ignore[misc]  # diffusers has no types
    """diffusers' resampler, of each photo by itself, as it was trained."""

    def forward(self, x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens (B, M, T, D) of M photos, timesteps (B,) -> tokens (B, M, Q, C), embedded timesteps (B, H)."""
        num_photos = x.shape[1]
        tokens, embedded = super().forward(x.flatten(0, 1), timestep.repeat_interleave(num_photos))
        return tokens.unflatten(0, (-1, num_photos)), embedded[::num_photos]


PROJECTION_TYPES: Mapping[type[Any], str] = {
    ImageProjection: "pooled",
    IPAdapterPlusImageProjection: "plus",
    IPAdapterFullImageProjection: "full",
    TimedImageProjection: "timed",
}


def detect_projection_type(names: Iterable[str], path: Path) -> str:
    """The kind of a projection by the names in its part of the file. Raises ModelError for FaceID's and what is not known."""
    names = set(names)
    if any(name.startswith("perceiver_resampler.") for name in names) or {"proj.0.weight", "norm.weight"} <= names:
        found = f"{path} is a FaceID adapter, which reads a face recognizer of InsightFace"
        action = "Choose ip-adapter, ip-adapter-plus or ip-adapter-plus-face"
        raise ModelError(found, "an adapter that reads CLIP is needed", action)
    matching = [kind for mark, kind in TYPE_KEYS.items() if mark in names]
    if len(matching) != 1:
        found = f"{path} has an image projection of {abbreviate(sorted(names)) or 'no tensors'}"
        needed = "one of the official IP-Adapter, Plus or Full is needed"
        raise ModelError(found, needed, "Get the file again, or choose another")
    return "timed" if matching == ["plus"] and TIME_KEY in names else matching[0]


def shape_mismatches(
    projection: Mapping[str, Tensor], projection_type: str, embedding_dim: int, cross_attention_dim: int
) -> list[str]:
    """What is wrong with a projection for these widths of embeddings and tokens, the plainest first; empty if nothing."""
    input_dim, output_dim = _outer_dims(projection, projection_type)
    if input_dim != embedding_dim:
        return [f"reads {input_dim} numbers, where the image encoder gives {embedding_dim}"]
    if output_dim != cross_attention_dim:
        return [f"gives tokens of {output_dim} numbers, where the model takes {cross_attention_dim}: another family of models"]
    try:
        with torch.device("meta"):
            expected = _official_state_dict(_build_module(projection, projection_type), projection_type)
    except (RuntimeError, ValueError, ArithmeticError):  # too large a number
        return ["has sizes that no projection has"]
    return compare_shapes(tensor_shapes(projection), tensor_shapes(expected))


def compare_shapes(actual: Shapes, expected: Shapes) -> list[str]:
    """One line for each name that is missing, unknown or of another shape."""
    lines = [f"lacks {name}" for name in expected if name not in actual]
    lines += [f"has {name}, which is not known" for name in actual if name not in expected]
    pairs = ((name, actual[name], shape) for name, shape in expected.items() if name in actual)
    return lines + [f"has {name} of shape {one}, where {other} is needed" for name, one, other in pairs if one != other]


def build_projection(projection: Mapping[str, Tensor], projection_type: str) -> Any:
    """The network's module with these weights, of float32. The projection has no mismatches."""
    weights: dict[str, Tensor] = {}
    for name, tensor in projection.items():
        if "to_kv" in name and projection_type == "plus":
            weights |= {name.replace("to_kv", f"to_{part}"): each for part, each in zip("kv", tensor.chunk(2), strict=False)}
        else:
            weights[name] = tensor
    module = _build_module(projection, projection_type)
    module.load_state_dict(_rename(weights, _module_paths(projection_type, _depth(projection))))
    return module if projection_type == "timed" else MultiIPAdapterImageProjection([module])


def projection_state_dict(projection: Any) -> dict[str, Tensor]:
    """The official layout of what `build_projection` gave."""
    module = projection if isinstance(projection, TimedImageProjection) else projection.image_projection_layers[0]
    return _official_state_dict(module, PROJECTION_TYPES[type(module)])


def count_tokens(projection: Mapping[str, Tensor], projection_type: str) -> int:
    """How many tokens a photo becomes."""
    if projection_type == "pooled":
        return max(_size(projection, "proj.weight", 0) // _size(projection, "norm.weight", 0), 1)
    return FULL_NUM_TOKENS if projection_type == "full" else _size(projection, "latents", 1)


def _build_module(projection: Mapping[str, Tensor], projection_type: str) -> nn.Module:
    """diffusers' module of the sizes that the tensors have, with weights of its own."""
    input_dim, output_dim = _outer_dims(projection, projection_type)
    module: nn.Module
    if projection_type == "pooled":
        module = ImageProjection(input_dim, output_dim, count_tokens(projection, projection_type))
    elif projection_type == "full":
        module = IPAdapterFullImageProjection(input_dim, output_dim)
    else:
        hidden_dim, num_queries = _size(projection, "latents", 2), _size(projection, "latents", 1)
        sizes = {"depth": _depth(projection), "heads": max(_size(projection, "layers.0.0.to_q.weight", 0) // HEAD_DIM, 1)}
        if projection_type == "timed":
            sizes |= {"hidden_dim": hidden_dim, "timestep_in_dim": _size(projection, TIME_KEY, 1)}
            module = TimedImageProjection(input_dim, output_dim, num_queries=num_queries, **sizes)
        else:
            module = IPAdapterPlusImageProjection(
                input_dim, output_dim, hidden_dims=hidden_dim, num_queries=num_queries, **sizes
            )
    return module


def _official_state_dict(module: nn.Module, projection_type: str) -> dict[str, Tensor]:
    layers: Any = getattr(module, "layers", ())
    paths = {ours: official for official, ours in _module_paths(projection_type, len(layers)).items()}
    weights = _rename(module.state_dict(), paths)
    for name in [name for name in weights if name.endswith("0.to_k.weight")]:
        keys, values = weights.pop(name), weights.pop(name.replace("to_k", "to_v"))
        weights[name.replace("to_k", "to_kv")] = torch.cat([keys, values])
    return weights


def _rename(weights: Mapping[str, Tensor], paths: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of modules by the modules' other names; what belongs to no module keeps its name."""
    split_names = {name: name.rpartition(".") for name in weights}
    return {f"{paths[path]}.{leaf}" if path else leaf: weights[name] for name, (path, _, leaf) in split_names.items()}


def _module_paths(projection_type: str, depth: int) -> dict[str, str]:
    paths = LAYER_PATHS.get(projection_type, {})
    layers = {f"layers.{n}.{path}": f"layers.{n}.{ours}" for n in range(depth) for path, ours in paths.items()}
    return PATHS[projection_type] | layers


def _outer_dims(projection: Mapping[str, Tensor], projection_type: str) -> tuple[int, int]:
    """Width of the embeddings that are read, and of the tokens that are given."""
    return _size(projection, INPUT_KEYS[projection_type], 1), _size(projection, OUTPUT_KEYS[projection_type], 0)


def _depth(projection: Mapping[str, Tensor]) -> int:
    """How many different layers are named, whatever their numbers: a damaged number must not ask for a billion of them."""
    names = {name.split(".")[1] for name in projection if name.startswith("layers.")}
    return min(max(len(names), 1), MAX_LAYERS)


def _size(projection: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Along an axis; 1 where there is no such tensor or axis, which the comparison of shapes then reports."""
    tensor = projection.get(name)
    return max(int(tensor.shape[axis]), 1) if tensor is not None and tensor.ndim > axis else 1
