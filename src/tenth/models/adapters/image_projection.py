"""How an IP-Adapter turns embeddings of photos into tokens: its projection in the official layout <-> diffusers' module.

Three kinds are published (Ye et al. 2023, arXiv:2308.06721, and its code, ip_adapter.py and resampler.py):
"pooled"  Linear + LayerNorm on CLIP's pooled embedding; 4 tokens in all published files, any number in ours
"plus"    a perceiver resampler on the encoder's patch tokens: 16 tokens; Plus and Plus-Face are alike to the last shape
"full"    an MLP on each patch token: as many tokens as patches (full-face)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
    MultiIPAdapterImageProjection,
)
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.wording import abbreviate

TYPE_KEYS = {"proj.weight": "pooled", "latents": "plus", "proj.3.weight": "full"}  # the name by which a kind is known
INPUT_KEYS = {"pooled": "proj.weight", "plus": "proj_in.weight", "full": "proj.0.weight"}  # (..., D): what reads the embedding
OUTPUT_KEYS = {"pooled": "norm.weight", "plus": "proj_out.weight", "full": "proj.3.weight"}  # (C, ...): what gives the tokens
SIMPLE_PATHS = {"pooled": {"proj": "image_embeds", "norm": "norm"}, "full": {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "proj.3": "norm"}}  # fmt: skip # noqa: E501
RESAMPLER_PATHS = {name: name for name in ("proj_in", "proj_out", "norm_out")}
RESAMPLER_LAYER_PATHS = {"0.norm1": "ln0", "0.norm2": "ln1", "0.to_q": "attn.to_q", "0.to_out": "attn.to_out.0", "1.0": "ff.0", "1.1": "ff.1.net.0.proj", "1.3": "ff.1.net.2"}  # fmt: skip # noqa: E501
HEAD_DIM = 64  # width of a resampler's attention heads in all published files; nothing in a file tells it
FF_MULT = 4  # times: its feed-forward's inside
FULL_NUM_TOKENS = 257  # of a "full" one on ViT-H/14 at 224 pixels; diffusers writes it down and does not use it

Shapes = dict[str, tuple[int, ...]]


def detect_projection_type(names: Iterable[str], path: Path) -> str:
    """The kind of a projection by the names in its part of the file. Raises ModelError for FaceID's and what is not known."""
    names = set(names)
    if any(name.startswith("perceiver_resampler.") for name in names) or {"proj.0.weight", "norm.weight"} <= names:
        raise ModelError(
            f"{path} is a FaceID adapter, which reads a face recogniser of InsightFace",
            "an adapter that reads CLIP is needed",
            "Choose ip-adapter, ip-adapter-plus or ip-adapter-plus-face",
        )
    matching = [kind for mark, kind in TYPE_KEYS.items() if mark in names]
    if len(matching) != 1:
        raise ModelError(
            f"{path} has an image projection of {abbreviate(sorted(names)) or 'no tensors'}",
            "one of the official IP-Adapter, Plus or Full is needed",
            "Get the file again, or choose another",
        )
    return matching[0]


def shape_mismatches(
    projection: Mapping[str, Tensor], projection_type: str, embedding_dim: int, cross_attention_dim: int
) -> list[str]:
    """What is wrong with a projection for these widths of embeddings and tokens, the plainest first; empty if nothing."""
    input_dim, output_dim = (
        _size(projection, INPUT_KEYS[projection_type], 1),
        _size(projection, OUTPUT_KEYS[projection_type], 0),
    )
    if input_dim != embedding_dim:
        return [f"reads {input_dim} numbers, where the image encoder gives {embedding_dim}"]
    if output_dim != cross_attention_dim:
        return [f"gives tokens of {output_dim} numbers, where the UNet takes {cross_attention_dim}: another family of models"]
    expected = _expected_shapes(projection, projection_type, embedding_dim, cross_attention_dim)
    return compare_shapes({name: tuple(tensor.shape) for name, tensor in projection.items()}, expected)


def compare_shapes(actual: Shapes, expected: Shapes) -> list[str]:
    """One line for each name that is missing, unknown or of another shape."""
    lines = [f"lacks {name}" for name in expected if name not in actual]
    lines += [f"has {name}, which is not known" for name in actual if name not in expected]
    pairs = ((name, actual[name], shape) for name, shape in expected.items() if name in actual)
    return lines + [f"has {name} of shape {one}, where {other} is needed" for name, one, other in pairs if one != other]


def build_projection(projection: Mapping[str, Tensor], projection_type: str) -> Any:
    """diffusers' module with these weights, of float32. The projection has no misfits."""
    input_dim, output_dim = (
        _size(projection, INPUT_KEYS[projection_type], 1),
        _size(projection, OUTPUT_KEYS[projection_type], 0),
    )
    if projection_type == "pooled":
        module = ImageProjection(input_dim, output_dim, count_tokens(projection, projection_type))
    elif projection_type == "full":
        module = IPAdapterFullImageProjection(input_dim, output_dim)
    else:
        module = IPAdapterPlusImageProjection(
            input_dim,
            output_dim,
            hidden_dims=_size(projection, "latents", 2),
            depth=_depth(projection),
            heads=_size(projection, "layers.0.0.to_q.weight", 0) // HEAD_DIM,
            num_queries=_size(projection, "latents", 1),
        )
    module_paths = _module_paths(projection_type, _depth(projection))
    weights = {}
    for name, tensor in projection.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith("to_kv"):
            layer = path.removesuffix("0.to_kv")
            weights[f"{layer}attn.to_k.weight"], weights[f"{layer}attn.to_v.weight"] = tensor.chunk(2)
        else:
            weights[f"{module_paths[path]}.{leaf}" if path else name] = tensor
    module.load_state_dict(weights)
    return MultiIPAdapterImageProjection([module])


def projection_state_dict(projection: Any) -> dict[str, Tensor]:
    """The official layout of what `build_projection` gave."""
    module = projection.image_projection_layers[0]
    projection_types = {ImageProjection: "pooled", IPAdapterFullImageProjection: "full", IPAdapterPlusImageProjection: "plus"}
    weights = module.state_dict()
    official_paths = {
        ours: official
        for official, ours in _module_paths(projection_types[type(module)], len(getattr(module, "layers", ()))).items()
    }
    official = {}
    for name, tensor in weights.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith("attn.to_k"):
            layer = path.removesuffix("attn.to_k")
            official[f"{layer}0.to_kv.weight"] = torch.cat([tensor, weights[f"{layer}attn.to_v.weight"]])
        elif not path.endswith("attn.to_v"):
            official[f"{official_paths[path]}.{leaf}" if path else name] = tensor
    return official


def build_processor(
    attention: Any, keys_and_values: tuple[Tensor, Tensor], num_tokens: int, *, share_memory: bool = False
) -> Any:
    """diffusers' processor of a cross-attention, with the adapter's keys and values (width, C), copied or shared."""
    width, cross_attention_dim = attention.to_k.weight.shape
    processor = IPAdapterAttnProcessor2_0(width, cross_attention_dim, num_tokens=[num_tokens])
    weights = dict(zip(("to_k_ip.0.weight", "to_v_ip.0.weight"), keys_and_values, strict=True))
    processor.load_state_dict(weights, assign=share_memory)
    return processor


def count_tokens(projection: Mapping[str, Tensor], projection_type: str) -> int:
    """How many tokens a photo becomes."""
    if projection_type == "pooled":
        return _size(projection, "proj.weight", 0) // _size(projection, "norm.weight", 0)
    return _size(projection, "latents", 1) if projection_type == "plus" else FULL_NUM_TOKENS


def _expected_shapes(
    projection: Mapping[str, Tensor], projection_type: str, embedding_dim: int, cross_attention_dim: int
) -> Shapes:
    """Every name and shape that a projection of its free sizes has: tokens, hidden width, heads, layers."""
    if projection_type == "pooled":
        num_tokens = max(count_tokens(projection, projection_type), 1)
        return _linear_shapes("proj", num_tokens * cross_attention_dim, embedding_dim) | _norm_shapes(
            "norm", cross_attention_dim
        )
    if projection_type == "full":
        return (
            _linear_shapes("proj.0", embedding_dim, embedding_dim)
            | _linear_shapes("proj.2", cross_attention_dim, embedding_dim)
            | _norm_shapes("proj.3", cross_attention_dim)
        )
    hidden = _size(projection, "latents", 2)
    inner = max(_size(projection, "layers.0.0.to_q.weight", 0) // HEAD_DIM, 1) * HEAD_DIM
    shapes: Shapes = {"latents": (1, _size(projection, "latents", 1), hidden)}
    shapes |= (
        _linear_shapes("proj_in", hidden, embedding_dim)
        | _linear_shapes("proj_out", cross_attention_dim, hidden)
        | _norm_shapes("norm_out", cross_attention_dim)
    )
    for layer in range(max(_depth(projection), 1)):
        prefix = f"layers.{layer}"
        shapes |= _norm_shapes(f"{prefix}.0.norm1", hidden) | _norm_shapes(f"{prefix}.0.norm2", hidden)
        shapes |= {f"{prefix}.0.to_q.weight": (inner, hidden), f"{prefix}.0.to_kv.weight": (2 * inner, hidden)}
        shapes |= {f"{prefix}.0.to_out.weight": (hidden, inner)} | _norm_shapes(f"{prefix}.1.0", hidden)
        shapes |= {f"{prefix}.1.1.weight": (FF_MULT * hidden, hidden), f"{prefix}.1.3.weight": (hidden, FF_MULT * hidden)}
    return shapes


def _linear_shapes(path: str, out_features: int, in_features: int) -> Shapes:
    return {f"{path}.weight": (out_features, in_features), f"{path}.bias": (out_features,)}


def _norm_shapes(path: str, width: int) -> Shapes:
    return {f"{path}.weight": (width,), f"{path}.bias": (width,)}


def _depth(projection: Mapping[str, Tensor]) -> int:
    """How many different layers are named, whatever their numbers: a damaged number must not ask for a billion of them."""
    return len({name.split(".")[1] for name in projection if name.startswith("layers.")})


def _size(projection: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Along an axis; 1 where there is no such tensor or axis, which the comparison of shapes then reports."""
    tensor = projection.get(name)
    return max(int(tensor.shape[axis]), 1) if tensor is not None and tensor.ndim > axis else 1


def _module_paths(projection_type: str, depth: int) -> dict[str, str]:
    """Official path of each module -> diffusers'; `to_kv`, which diffusers splits, is not among them."""
    layers = {f"layers.{n}.{path}": f"layers.{n}.{ours}" for n in range(depth) for path, ours in RESAMPLER_LAYER_PATHS.items()}
    return {**RESAMPLER_PATHS, **layers} if projection_type == "plus" else SIMPLE_PATHS[projection_type]
