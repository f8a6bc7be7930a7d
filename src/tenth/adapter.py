"""IP-Adapter files in the official layout, and the modules that an installed adapter adds to a UNet.

Source of the layout: the weights of Ye et al. 2023, arXiv:2308.06721: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tenth.errors import ModelError
from tenth.pipelines import quiet

ADAPTER = "ip-adapter.safetensors"  # in the folder of a trained method; without it the model's own is used

CHUNK = 1 << 20  # bytes of a file in memory at a time


def read_adapter(path: Path, *, whole: bool = True) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter in the official layout, as diffusers wants it: {"image_proj": ..., "ip_adapter": ...}.

    whole: in float32; otherwise as they lie in the file, from which they are then read when they are used.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as problem:
        raise ModelError(
            f"{path} cannot be read: {problem}", "an IP-Adapter in safetensors is needed", "Get the file again"
        ) from problem
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor.float() if whole else tensor
    return parts


def check_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], width: int, path: Path) -> None:
    """Raises ModelError if an adapter's projection or layers are not for embeddings of `width` and this UNet."""
    projection, cross = parts["image_proj"].get("proj.weight"), int(unet.config.cross_attention_dim)
    found = "no linear projection" if projection is None else f"one from {projection.shape[1]} to {projection.shape[0]}"
    if projection is None or projection.shape[1] != width or projection.shape[0] % cross:
        raise ModelError(
            f"{path} has {found}", f"one from {width} to tokens of {cross} is needed", "Choose an adapter of this model"
        )
    layers = {f"{number}.to_{part}_ip.weight" for number, _, _ in adapter_layers(unet) for part in "kv"}
    if layers != set(parts["ip_adapter"]):
        raise ModelError(
            f"{path} has {len(parts['ip_adapter'])} layers",
            f"the {len(layers)} of this model are needed",
            "Choose an adapter of this model",
        )


def install_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], *, shared: bool = False) -> None:
    """Put an adapter's processors and projection into the UNet, by diffusers' own conversion. shared: no weight is copied."""
    # The public way, `load_ip_adapter`, also wants to load an image encoder of the CLIP family; ours need not be one.
    with quiet():
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=shared)


def adapter_layers(unet: Any) -> list[tuple[int, str, Any]]:
    """(number in the official layout, processor's name, attention module) of each cross-attention: down, up, mid last."""
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    return [(2 * i + 1, name, unet.get_submodule(name.removesuffix(".processor"))) for i, name in enumerate(names)]


def adapter_weights(unet: Any) -> dict[str, Tensor]:
    """The installed adapter in the official layout: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight."""
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    weights = {f"image_proj.proj.{name}": value for name, value in projection.image_embeds.state_dict().items()}
    weights |= {f"image_proj.norm.{name}": value for name, value in projection.norm.state_dict().items()}
    for number, name, _ in adapter_layers(unet):
        processor = unet.attn_processors[name]
        weights[f"ip_adapter.{number}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        weights[f"ip_adapter.{number}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {name: value.detach().contiguous() for name, value in weights.items()}


def set_adapter_scale(unet: Any, scale: float) -> None:
    """The weight of the image cross-attention; at 0 it is not computed at all."""
    for _, name, _ in adapter_layers(unet):
        unet.attn_processors[name].scale = [scale]


def adapter_name(path: Path) -> str:
    """The "name@digest" of an adapter's file."""
    return f"{path.stem}@{digest_of([path])}"


def digest_of(files: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the sha256 over the files' contents, in the given order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(CHUNK):
                digest.update(part)
    return digest.hexdigest()[:16]
