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
from tenth.core.wording import few

MARKS = {"proj.weight": "pooled", "latents": "plus", "proj.3.weight": "full"}  # the name by which a kind is known
ENTRY = {"pooled": "proj.weight", "plus": "proj_in.weight", "full": "proj.0.weight"}  # (..., D): what reads the embedding
EXIT = {"pooled": "norm.weight", "plus": "proj_out.weight", "full": "proj.3.weight"}  # (C, ...): what gives the tokens
PLAIN = {"pooled": {"proj": "image_embeds", "norm": "norm"}, "full": {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "proj.3": "norm"}}  # fmt: skip # noqa: E501
ENDS = {name: name for name in ("proj_in", "proj_out", "norm_out")}
LAYER = {"0.norm1": "ln0", "0.norm2": "ln1", "0.to_q": "attn.to_q", "0.to_out": "attn.to_out.0", "1.0": "ff.0", "1.1": "ff.1.net.0.proj", "1.3": "ff.1.net.2"}  # fmt: skip # noqa: E501
HEAD = 64  # width of a resampler's attention heads in all published files; nothing in a file tells it
WIDER = 4  # times: its feed-forward's inside
ALL_TOKENS = 257  # of a "full" one on ViT-H/14 at 224 pixels; diffusers writes it down and does not use it

Shapes = dict[str, tuple[int, ...]]


def kind_of(names: Iterable[str], path: Path) -> str:
    """The kind of a projection by the names in its part of the file. Raises ModelError for FaceID's and what is not known."""
    names = set(names)
    if any(name.startswith("perceiver_resampler.") for name in names) or {"proj.0.weight", "norm.weight"} <= names:
        raise ModelError(
            f"{path} is a FaceID adapter, which reads a face recogniser of InsightFace",
            "an adapter that reads CLIP is needed",
            "Choose ip-adapter, ip-adapter-plus or ip-adapter-plus-face",
        )
    found = [kind for mark, kind in MARKS.items() if mark in names]
    if len(found) != 1:
        raise ModelError(
            f"{path} has an image projection of {few(sorted(names)) or 'no tensors'}",
            "one of the official IP-Adapter, Plus or Full is needed",
            "Get the file again, or choose another",
        )
    return found[0]


def misfits(projection: Mapping[str, Tensor], kind: str, width: int, cross: int) -> list[str]:
    """What is wrong with a projection for embeddings of `width` and tokens of `cross`, the plainest first; empty if nothing."""
    reads, gives = _size(projection, ENTRY[kind], 1), _size(projection, EXIT[kind], 0)
    if reads != width:
        return [f"reads {reads} numbers, where the image encoder gives {width}"]
    if gives != cross:
        return [f"gives tokens of {gives} numbers, where the UNet reads {cross}: it is of another family of models"]
    wanted = _shapes(projection, kind, width, cross)
    return differences({name: tuple(tensor.shape) for name, tensor in projection.items()}, wanted)


def differences(found: Shapes, wanted: Shapes) -> list[str]:
    """One line for each name that is missing, unknown or of another shape."""
    lines = [f"lacks {name}" for name in wanted if name not in found]
    lines += [f"has {name}, which is not known" for name in found if name not in wanted]
    pairs = ((name, found[name], shape) for name, shape in wanted.items() if name in found)
    return lines + [f"has {name} of shape {one}, where {other} is needed" for name, one, other in pairs if one != other]


def build_projection(projection: Mapping[str, Tensor], kind: str) -> Any:
    """diffusers' module with these weights, of float32. The projection has no misfits."""
    reads, gives = _size(projection, ENTRY[kind], 1), _size(projection, EXIT[kind], 0)
    if kind == "pooled":
        module = ImageProjection(reads, gives, token_count(projection, kind))
    elif kind == "full":
        module = IPAdapterFullImageProjection(reads, gives)
    else:
        module = IPAdapterPlusImageProjection(
            reads,
            gives,
            hidden_dims=_size(projection, "latents", 2),
            depth=_depth(projection),
            heads=_size(projection, "layers.0.0.to_q.weight", 0) // HEAD,
            num_queries=_size(projection, "latents", 1),
        )
    named = _paths(kind, _depth(projection))
    weights = {}
    for name, tensor in projection.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith("to_kv"):
            layer = path.removesuffix("0.to_kv")
            weights[f"{layer}attn.to_k.weight"], weights[f"{layer}attn.to_v.weight"] = tensor.chunk(2)
        else:
            weights[f"{named[path]}.{leaf}" if path else name] = tensor
    module.load_state_dict(weights)
    return MultiIPAdapterImageProjection([module])


def projection_weights(built: Any) -> dict[str, Tensor]:
    """The official layout of what `build_projection` gave."""
    module = built.image_projection_layers[0]
    kinds = {ImageProjection: "pooled", IPAdapterFullImageProjection: "full", IPAdapterPlusImageProjection: "plus"}
    weights = module.state_dict()
    named = {ours: official for official, ours in _paths(kinds[type(module)], len(getattr(module, "layers", ()))).items()}
    official = {}
    for name, tensor in weights.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith("attn.to_k"):
            layer = path.removesuffix("attn.to_k")
            official[f"{layer}0.to_kv.weight"] = torch.cat([tensor, weights[f"{layer}attn.to_v.weight"]])
        elif not path.endswith("attn.to_v"):
            official[f"{named[path]}.{leaf}" if path else name] = tensor
    return official


def build_processor(attention: Any, keys_and_values: tuple[Tensor, Tensor], tokens: int, *, shared: bool = False) -> Any:
    """diffusers' processor of a cross-attention, with the adapter's keys and values (width, C), copied or shared."""
    width, cross = attention.to_k.weight.shape
    processor = IPAdapterAttnProcessor2_0(width, cross, num_tokens=[tokens])
    weights = dict(zip(("to_k_ip.0.weight", "to_v_ip.0.weight"), keys_and_values, strict=True))
    processor.load_state_dict(weights, assign=shared)
    return processor


def token_count(projection: Mapping[str, Tensor], kind: str) -> int:
    """How many tokens a photo becomes."""
    if kind == "pooled":
        return _size(projection, "proj.weight", 0) // _size(projection, "norm.weight", 0)
    return _size(projection, "latents", 1) if kind == "plus" else ALL_TOKENS


def _shapes(projection: Mapping[str, Tensor], kind: str, width: int, cross: int) -> Shapes:
    """Every name and shape that a projection of its free sizes has: tokens, hidden width, heads, layers."""
    if kind == "pooled":
        tokens = max(token_count(projection, kind), 1)
        return _linear("proj", tokens * cross, width) | _norm("norm", cross)
    if kind == "full":
        return _linear("proj.0", width, width) | _linear("proj.2", cross, width) | _norm("proj.3", cross)
    hidden = _size(projection, "latents", 2)
    inner = max(_size(projection, "layers.0.0.to_q.weight", 0) // HEAD, 1) * HEAD
    shapes: Shapes = {"latents": (1, _size(projection, "latents", 1), hidden)}
    shapes |= _linear("proj_in", hidden, width) | _linear("proj_out", cross, hidden) | _norm("norm_out", cross)
    for layer in range(max(_depth(projection), 1)):
        at = f"layers.{layer}"
        shapes |= _norm(f"{at}.0.norm1", hidden) | _norm(f"{at}.0.norm2", hidden)
        shapes |= {f"{at}.0.to_q.weight": (inner, hidden), f"{at}.0.to_kv.weight": (2 * inner, hidden)}
        shapes |= {f"{at}.0.to_out.weight": (hidden, inner)} | _norm(f"{at}.1.0", hidden)
        shapes |= {f"{at}.1.1.weight": (WIDER * hidden, hidden), f"{at}.1.3.weight": (hidden, WIDER * hidden)}
    return shapes


def _linear(path: str, out: int, into: int) -> Shapes:
    return {f"{path}.weight": (out, into), f"{path}.bias": (out,)}


def _norm(path: str, width: int) -> Shapes:
    return {f"{path}.weight": (width,), f"{path}.bias": (width,)}


def _depth(projection: Mapping[str, Tensor]) -> int:
    """How many different layers are named, whatever their numbers: a damaged number must not ask for a billion of them."""
    return len({name.split(".")[1] for name in projection if name.startswith("layers.")})


def _size(projection: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Along an axis; 1 where there is no such tensor or axis, which the comparison of shapes then reports."""
    tensor = projection.get(name)
    return max(int(tensor.shape[axis]), 1) if tensor is not None and tensor.ndim > axis else 1


def _paths(kind: str, depth: int) -> dict[str, str]:
    """Official path of each module -> diffusers'; `to_kv`, which diffusers splits, is not among them."""
    layers = {f"layers.{n}.{path}": f"layers.{n}.{ours}" for n in range(depth) for path, ours in LAYER.items()}
    return {**ENDS, **layers} if kind == "plus" else PLAIN[kind]
