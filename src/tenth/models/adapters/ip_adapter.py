"""IP-Adapter files in the official layout, and the modules that an installed adapter adds to a UNet.

Source of the layout: the weights of Ye et al. 2023, arXiv:2308.06721: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.core.file_reading import UnreadableError, digest_of, name_of, open_regular, reason
from tenth.core.file_writing import write_tensors
from tenth.core.tensor_reading import read_header, read_tensors
from tenth.core.types import Encoder
from tenth.core.wording import few
from tenth.models.adapters.image_projection import (
    Shapes,
    build_processor,
    build_projection,
    differences,
    kind_of,
    misfits,
    projection_weights,
    token_count,
)
from tenth.models.pipelines import quiet

ADAPTER = "ip-adapter.safetensors"  # in the folder of a trained method; without it the model's own is used
PARTS = ("image_proj", "ip_adapter")
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32)
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how files of torch.save and of pickle begin


def read_adapter(path: str | Path, *, whole: bool = True) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter in the official layout, as diffusers wants it: {"image_proj": ..., "ip_adapter": ...}.

    whole: in float32; otherwise as they lie in the file, from which they are then read when they are used.
    Raises ModelError if the file is a pickle, damaged or of another layout, or a value is not finite.
    """
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    with _explained(path):
        _, tensors = read_tensors(path)
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        if part not in parts or not inner:
            raise _misfit(path, [f"has {name}, which is not known"])
        if tensor.dtype not in PRECISIONS:
            raise _misfit(path, [f"has {name} of {str(tensor.dtype).removeprefix('torch.')}, which no weight is"])
        parts[part][inner] = tensor.float() if whole else tensor
    kind_of(parts["image_proj"], path)
    return parts


def reads_patches(path: Path) -> bool:
    """Whether an adapter reads an encoder's patch tokens (Plus, Full) and not its pooled embedding, by the file's names alone.

    Raises ModelError as `read_adapter` does.
    """
    with _explained(path):
        _, described = read_header(path)
    names = [name.removeprefix("image_proj.") for name in described if name.startswith("image_proj.")]
    return kind_of(names, path) != "pooled"


def check_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], encoder: Encoder, path: Path) -> None:
    """Raises ModelError unless an adapter is whole and made for this encoder's embeddings and this UNet, to the last shape."""
    kind = kind_of(parts["image_proj"], path)
    if (kind != "pooled") != bool(encoder.tokens):
        of = {True: "patch tokens", False: "pooled embeddings"}
        raise _misfit(path, [f"reads {of[kind != 'pooled']}, where the image encoder in use gives {of[bool(encoder.tokens)]}"])
    wanted: Shapes = {}
    for number, _, attention in adapter_layers(unet):
        wanted |= {f"{number}.to_{each}_ip.weight": tuple(getattr(attention, f"to_{each}").weight.shape) for each in "kv"}
    found = {name: tuple(tensor.shape) for name, tensor in parts["ip_adapter"].items()}
    wrong = misfits(parts["image_proj"], kind, encoder.width, int(unet.config.cross_attention_dim))
    if wrong := wrong + differences(found, wanted):
        raise _misfit(path, wrong)


def install_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], *, shared: bool = False) -> None:
    """Put an adapter's processors and projection into the UNet, as modules of diffusers. shared: copies no keys and values.

    Its own way, `load_ip_adapter`, takes pooled embeddings to four tokens alone, and wants an image encoder of the CLIP family.
    """
    unet.encoder_hid_proj = None  # a resampler has attention too, which is none of the UNet's
    projection, processors = parts["image_proj"], dict(unet.attn_processors)
    kind = kind_of(projection, Path("an adapter"))
    for number, name, attention in adapter_layers(unet):
        keys, values = (parts["ip_adapter"][f"{number}.to_{part}_ip.weight"] for part in "kv")
        processors[name] = build_processor(attention, (keys, values), token_count(projection, kind), shared=shared)
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = build_projection(projection, kind)
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    with quiet():
        unet.to(dtype=unet.dtype, device=unet.device)


def adapter_layers(unet: Any) -> list[tuple[int, str, Any]]:
    """(number in the official layout, processor's name, attention module) of each cross-attention: down, up, mid last."""
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    return [(2 * i + 1, name, unet.get_submodule(name.removesuffix(".processor"))) for i, name in enumerate(names)]


def adapter_weights(unet: Any) -> dict[str, Tensor]:
    """The installed adapter in the official layout: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight."""
    weights = {f"image_proj.{name}": value for name, value in projection_weights(unet.encoder_hid_proj).items()}
    for number, name, _ in adapter_layers(unet):
        processor = unet.attn_processors[name]
        weights[f"ip_adapter.{number}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        weights[f"ip_adapter.{number}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {name: value.detach().contiguous() for name, value in weights.items()}


def save_adapter(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Write an adapter as `adapter_weights` gives it, one flat safetensors file, whole or not at all."""
    write_tensors(path, weights)


def set_adapter_scale(unet: Any, scale: float) -> None:
    """The weight of the image cross-attention; at 0 it is not computed at all."""
    for _, name, _ in adapter_layers(unet):
        unet.attn_processors[name].scale = [scale]


def adapter_name(path: Path) -> str:
    """The "name@digest" of an adapter's file."""
    return f"{name_of(path.with_suffix(''))}@{digest_of([path])}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raises ModelError for a pickle, unread, and for whatever reading in the block cannot read."""
    try:
        with open_regular(path) as file:
            start = file.read(9)  # of safetensors: eight of the header's length, which may be any, and its first
        if start.startswith(PICKLES) and not start.endswith(b"{"):
            raise ModelError(
                f"{path} is a pickle, and reading one may run any code in it",
                "an IP-Adapter in safetensors is needed",
                "Take the file of the same name that ends in .safetensors, which is published beside it",
            )
        yield
    except (OSError, UnreadableError) as problem:
        raise ModelError(
            f"{path} {reason(problem)}", "an IP-Adapter in safetensors is needed", "Get the file again"
        ) from problem


def _misfit(path: Path, wrong: Sequence[str]) -> ModelError:
    return ModelError(
        f"{path} {few(wrong)}",
        "an IP-Adapter of the official layout is needed, whole, for this model and its image encoder",
        "Choose an adapter of this model, or get the file again",
    )


TOKENS = 4  # of a photo, as published: of the files that diffusers itself loads


def untrained_adapter(unet: Any, width: int, tokens: int = TOKENS) -> dict[str, dict[str, Tensor]]:
    """A new adapter for pooled embeddings of `width`: random projection to `tokens`, keys and values copied from the text's.

    Source: the official training script's initialisation. In the official layout, split as diffusers wants it.
    """
    cross = int(unet.config.cross_attention_dim)
    projection, norm = nn.Linear(width, tokens * cross), nn.LayerNorm(cross)
    image_proj = {f"proj.{name}": value for name, value in projection.state_dict().items()}
    image_proj |= {f"norm.{name}": value for name, value in norm.state_dict().items()}
    layers: dict[str, Tensor] = {}
    for number, _, attention in adapter_layers(unet):
        layers[f"{number}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        layers[f"{number}.to_v_ip.weight"] = attention.to_v.weight.detach().clone()
    return {"image_proj": image_proj, "ip_adapter": layers}
