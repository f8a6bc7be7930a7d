"""IP-Adapters: files in the official layout, and the modules that an adapter adds to a UNet.

Source of the layout: the weights of Ye et al. 2023, arXiv:2308.06721: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, open_regular, printable_name, reason, short_sha256_of
from tenth.core.files.tensors import read_header, read_tensors, tensor_shapes
from tenth.core.files.writing import write_tensors
from tenth.core.types import Encoder
from tenth.core.wording import abbreviate
from tenth.models.adapters import image_projection
from tenth.models.adapters.image_projection import Shapes, detect_projection_type
from tenth.models.adapters.regional_attention import RegionalIPAdapterAttnProcessor

ADAPTER_FILE = "ip-adapter.safetensors"  # in the folder of a trained method; without it the model's own is used
PARTS = ("image_proj", "ip_adapter")
ALLOWED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of files of torch.save and pickle
PROJECTION_PREFIX = "encoder_hid_proj."  # where an adapter's projection is in the UNet


def load_ip_adapter(path: str | Path, *, as_float32: bool = True) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter in the official layout, split as diffusers wants it. as_float32: else in the file's types, memory-mapped.

    Raises ModelError if the file is a pickle, damaged or of another layout, or a value is not finite.
    """
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    with _explain_errors(path):
        _, tensors = read_tensors(path)
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        if part not in parts or not inner:
            raise _mismatch_error(path, [f"has {name}, which is not known"])
        if tensor.dtype not in ALLOWED_DTYPES:
            raise _mismatch_error(path, [f"has {name} of {str(tensor.dtype).removeprefix('torch.')}, which no weight is"])
        parts[part][inner] = tensor.float() if as_float32 else tensor
    detect_projection_type(parts["image_proj"], path)
    return parts


def uses_patch_tokens(path: Path) -> bool:
    """Whether an adapter reads patch tokens, not pooled embeddings, by its file's names. Raises as `load_ip_adapter`."""
    with _explain_errors(path):
        _, infos = read_header(path)
    names = [name.removeprefix("image_proj.") for name in infos if name.startswith("image_proj.")]
    return detect_projection_type(names, path) != "pooled"


def validate_ip_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], encoder: Encoder, path: Path) -> None:
    """Raises ModelError unless an adapter is whole and made for this encoder's embeddings and this UNet, to the last shape."""
    projection_type = detect_projection_type(parts["image_proj"], path)
    inputs = {True: "patch tokens", False: "pooled embeddings"}
    taken, given = inputs[projection_type != "pooled"], inputs[bool(encoder.num_tokens)]
    if taken != given:
        raise _mismatch_error(path, [f"takes {taken}, where the image encoder gives {given}"])
    expected: Shapes = {}
    for number, _, attention in cross_attention_layers(unet):
        expected |= {f"{number}.to_{each}_ip.weight": tuple(getattr(attention, f"to_{each}").weight.shape) for each in "kv"}
    widths = encoder.embedding_dim, int(unet.config.cross_attention_dim)
    mismatches = image_projection.shape_mismatches(parts["image_proj"], projection_type, *widths)
    if mismatches := mismatches + image_projection.compare_shapes(tensor_shapes(parts["ip_adapter"]), expected):
        raise _mismatch_error(path, mismatches)


@dataclass(frozen=True, eq=False)
class ImageConditioning:
    """How a UNet is conditioned on images: attention processors, projection of embeddings, its type. They are never copied."""

    processors: Mapping[str, Any]
    projection: Any
    projection_type: Any

    @classmethod
    def of(cls, unet: Any) -> ImageConditioning:
        """What is in the UNet now."""
        # A resampler has attention of its own, which is not the UNet's.
        processors = {name: value for name, value in unet.attn_processors.items() if not name.startswith(PROJECTION_PREFIX)}
        return cls(processors, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type)

    def put_into(self, unet: Any) -> None:
        """Replace the UNet's."""
        unet.encoder_hid_proj = None  # set_attn_processor counts processors, and a resampler has some of its own
        unet.set_attn_processor(dict(self.processors))
        unet.encoder_hid_proj = self.projection
        unet.config.encoder_hid_dim_type = self.projection_type

    @property
    def modules(self) -> list[nn.Module]:
        """The modules with weights: the adapter's."""
        return [module for module in (*self.processors.values(), self.projection) if isinstance(module, nn.Module)]


@contextmanager
def installed_ip_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]]) -> Iterator[None]:
    """An adapter in the UNet, on its device and in its precision, until the block ends."""
    before = ImageConditioning.of(unet)
    install_ip_adapter(unet, parts)
    for module in ImageConditioning.of(unet).modules:
        module.to(unet.device, unet.dtype)
    try:
        yield
    finally:
        before.put_into(unet)


def install_ip_adapter(unet: Any, parts: Mapping[str, Mapping[str, Tensor]], *, share_memory: bool = False) -> None:
    """Put an adapter into the UNet, as modules of diffusers, on the CPU. share_memory: keys and values are not copied.

    diffusers' own `load_ip_adapter` makes four tokens of pooled embeddings, no other number, and needs a CLIP image encoder.
    """
    unet.encoder_hid_proj = None  # a resampler has attention of its own, which is not the UNet's
    projection, processors = parts["image_proj"], dict(unet.attn_processors)
    projection_type = detect_projection_type(projection, Path("an adapter"))
    num_tokens = [image_projection.count_tokens(projection, projection_type)]
    for number, name, attention in cross_attention_layers(unet):
        processors[name] = RegionalIPAdapterAttnProcessor(*attention.to_k.weight.shape, num_tokens=num_tokens)
        weights = {f"to_{part}_ip.0.weight": parts["ip_adapter"][f"{number}.to_{part}_ip.weight"] for part in "kv"}
        processors[name].load_state_dict(weights, assign=share_memory)
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = image_projection.build_projection(projection, projection_type)
    unet.config.encoder_hid_dim_type = "ip_image_proj"


def cross_attention_layers(unet: Any) -> list[tuple[int, str, Any]]:
    """(number in the official layout, processor's name, attention module) of each cross-attention: down, up, mid last."""
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    return [(2 * i + 1, name, unet.get_submodule(name.removesuffix(".processor"))) for i, name in enumerate(names)]


def ip_adapter_state_dict(unet: Any) -> dict[str, Tensor]:
    """The installed adapter in the official layout: image_proj.* and ip_adapter.<odd>.to_{k,v}_ip.weight."""
    weights = {
        f"image_proj.{name}": value for name, value in image_projection.projection_state_dict(unet.encoder_hid_proj).items()
    }
    for number, name, _ in cross_attention_layers(unet):
        processor = unet.attn_processors[name]
        for part in "kv":
            weights[f"ip_adapter.{number}.to_{part}_ip.weight"] = getattr(processor, f"to_{part}_ip")[0].weight
    return {name: value.detach().contiguous() for name, value in weights.items()}


def save_ip_adapter(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Write an adapter as `ip_adapter_state_dict` gives it, one flat safetensors file, whole or not at all."""
    write_tensors(path, weights)


def set_adapter_scale(unet: Any, scale: float) -> None:
    """Set the weight of the image cross-attention; at 0 it is not computed."""
    for _, name, _ in cross_attention_layers(unet):
        unet.attn_processors[name].scale = [scale]


def adapter_name(path: Path) -> str:
    """The "name@digest" of an adapter's file."""
    return f"{printable_name(path.with_suffix(''))}@{short_sha256_of([path])}"


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Raises ModelError for a pickle, unread, and for whatever reading in the block cannot read."""
    needed = "an IP-Adapter in safetensors is needed"
    try:
        with open_regular(path) as file:
            start = file.read(9)  # of safetensors: eight of the header's length, which may be any, and its first
        if start.startswith(PICKLE_MAGIC) and not start.endswith(b"{"):
            action = "Take the file of the same name that ends in .safetensors, which is published beside it"
            raise ModelError(f"{path} is a pickle, and reading one may run any code in it", needed, action)
        yield
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{path} {reason(problem)}", needed, "Get the file again") from problem


def _mismatch_error(path: Path, mismatches: Sequence[str]) -> ModelError:
    needed = "an IP-Adapter of the official layout is needed, whole, for this model and its image encoder"
    return ModelError(f"{path} {abbreviate(mismatches)}", needed, "Choose an adapter of this model, or get the file again")


DEFAULT_NUM_TOKENS = 4  # of a photo, as published: of the files that diffusers itself loads


def init_ip_adapter(unet: Any, embedding_dim: int, num_tokens: int = DEFAULT_NUM_TOKENS) -> dict[str, dict[str, Tensor]]:
    """A new adapter for pooled embeddings, as the official script starts: random projection, the text's keys and values."""
    cross_attention_dim = int(unet.config.cross_attention_dim)
    projection, norm = nn.Linear(embedding_dim, num_tokens * cross_attention_dim), nn.LayerNorm(cross_attention_dim)
    image_proj = {f"proj.{name}": value for name, value in projection.state_dict().items()}
    image_proj |= {f"norm.{name}": value for name, value in norm.state_dict().items()}
    layers: dict[str, Tensor] = {}
    for number, _, attention in cross_attention_layers(unet):
        layers[f"{number}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        layers[f"{number}.to_v_ip.weight"] = attention.to_v.weight.detach().clone()
    return {"image_proj": image_proj, "ip_adapter": layers}
