"""IP-Adapters: files in the official layouts, and the modules that an adapter adds to a UNet or a transformer.

A file has image_proj.*, the projection of an embedding to tokens (image_projection.py), and ip_adapter.*, the keys and values
of the layers (networks/, a file for each class of networks). Source: the weights of Ye et al. 2023, arXiv:2308.06721.
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
from tenth.models.adapters.image_projection import detect_projection_type
from tenth.models.adapters.networks.adapted_network import with_prefix
from tenth.models.adapters.networks.flux1 import official_name
from tenth.models.adapters.networks.registry import ADAPTED_NETWORKS, adapted_network
from tenth.models.adapters.networks.unet import cross_attention_layers

ADAPTER_FILE = "ip-adapter.safetensors"  # in the folder of a trained method; without it the model's own is used
PARTS = ("image_proj", "ip_adapter")
ALLOWED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of files of torch.save and pickle
PROJECTIONS = {row.projection for row in ADAPTED_NETWORKS.values()}  # attributes in which an adapter's projection may be


def load_ip_adapter(path: str | Path, *, as_float32: bool = True) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter in an official layout, split as diffusers wants it. as_float32: else in the file's types, memory-mapped.

    Raises ModelError if the file is a pickle, damaged or of another layout, or a value is not finite.
    """
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    with _explain_errors(path):
        _, tensors = read_tensors(path)
    for name, tensor in tensors.items():
        part, _, inner = official_name(name).partition(".")
        if part not in parts or not inner:
            raise _mismatch_error(path, [f"has {name}, which is not known"])
        if inner in parts[part]:
            raise _mismatch_error(path, [f"has {part}.{inner} twice, under two names"])
        if tensor.dtype not in ALLOWED_DTYPES:
            raise _mismatch_error(path, [f"has {name} of {str(tensor.dtype).removeprefix('torch.')}, which no weight is"])
        parts[part][inner] = tensor.float() if as_float32 else tensor
    detect_projection_type(parts["image_proj"], path)
    return parts


def uses_patch_tokens(path: Path) -> bool:
    """Whether an adapter reads patch tokens, not pooled embeddings, by its file's names. Raises as `load_ip_adapter`."""
    with _explain_errors(path):
        _, infos = read_header(path)
    names = [name.removeprefix("image_proj.") for name in map(official_name, infos) if name.startswith("image_proj.")]
    return detect_projection_type(names, path) != "pooled"


def validate_ip_adapter(network: Any, parts: Mapping[str, Mapping[str, Tensor]], encoder: Encoder, path: Path) -> None:
    """Raises ModelError unless an adapter is whole and for this encoder's embeddings and this network, to the last shape."""
    kind = adapted_network(network)
    projection, projection_type = parts["image_proj"], detect_projection_type(parts["image_proj"], path)
    inputs = {True: "patch tokens", False: "pooled embeddings"}
    taken, given = inputs[projection_type != "pooled"], inputs[bool(encoder.num_tokens)]
    if taken != given:
        raise _mismatch_error(path, [f"takes {taken}, where the image encoder gives {given}"])
    if projection_type not in kind.projection_types:
        found = f"has a projection of the type {projection_type!r}, where {' or '.join(kind.projection_types)} is called"
        raise _mismatch_error(path, [f"{found}: another family of models"])
    widths = encoder.embedding_dim, kind.token_dim(network)
    if not (mismatches := image_projection.shape_mismatches(projection, projection_type, *widths)):
        expected = kind.layer_shapes(network, projection)
        mismatches = image_projection.compare_shapes(tensor_shapes(parts["ip_adapter"]), expected)
    if mismatches:
        raise _mismatch_error(path, mismatches)


@dataclass(frozen=True, eq=False)
class ImageConditioning:
    """How a network is conditioned on images: attention processors, projections of embeddings, its type. They are never copied.

    projections: by attribute, as far as the network has them; a UNet without adapter has None.
    """

    processors: Mapping[str, Any]
    projections: Mapping[str, Any]
    projection_type: Any

    @classmethod
    def of(cls, network: Any) -> ImageConditioning:
        """What is in the network now."""
        # A resampler has attention of its own, which is not the network's.
        processors = {
            name: value for name, value in network.attn_processors.items() if name.partition(".")[0] not in PROJECTIONS
        }
        projections = {name: getattr(network, name) for name in PROJECTIONS if hasattr(network, name)}
        return cls(processors, projections, getattr(network.config, "encoder_hid_dim_type", None))

    def put_into(self, network: Any) -> None:
        """Replace the network's."""
        for name in PROJECTIONS:
            if hasattr(network, name):  # set_attn_processor counts processors, and a resampler has some of its own
                delattr(network, name)
        network.set_attn_processor(dict(self.processors))
        for name, projection in self.projections.items():
            setattr(network, name, projection)
        if hasattr(network.config, "encoder_hid_dim_type"):  # of UNets
            network.config.encoder_hid_dim_type = self.projection_type

    @property
    def projection(self) -> Any:
        """That of the adapter; None without one."""
        return next(iter(self.projections.values()), None)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules with weights: the adapter's."""
        parts = (*self.processors.values(), *self.projections.values())
        return [module for module in parts if isinstance(module, nn.Module)]


@contextmanager
def installed_ip_adapter(network: Any, parts: Mapping[str, Mapping[str, Tensor]]) -> Iterator[None]:
    """An adapter in the network, on its device and in its precision, until the block ends."""
    before = ImageConditioning.of(network)
    install_ip_adapter(network, parts)
    for module in ImageConditioning.of(network).modules:
        module.to(network.device, network.dtype)
    try:
        yield
    finally:
        before.put_into(network)


def install_ip_adapter(network: Any, parts: Mapping[str, Mapping[str, Tensor]], *, share_memory: bool = False) -> None:
    """Put an adapter into a network, as modules of diffusers, on the CPU. share_memory: keys and values are not copied.

    diffusers' own `load_ip_adapter` makes four tokens of pooled embeddings, or 16 of FLUX.1's, and needs an image encoder.
    """
    kind, before = adapted_network(network), ImageConditioning.of(network)
    projection = parts["image_proj"]
    projection_type = detect_projection_type(projection, Path("an adapter"))
    num_tokens = image_projection.count_tokens(projection, projection_type)
    layers = parts["ip_adapter"]
    if not share_memory:
        layers = {name: tensor.to(torch.float32, copy=True) for name, tensor in layers.items()}
    processors = {**before.processors, **kind.build_processors(network, layers, num_tokens)}
    module = image_projection.build_projection(projection, projection_type)
    ImageConditioning(processors, {kind.projection: module}, "ip_image_proj").put_into(network)


def ip_adapter_state_dict(network: Any) -> dict[str, Tensor]:
    """The installed adapter in the official layout: image_proj.* and ip_adapter.*."""
    kind = adapted_network(network)
    projection = image_projection.projection_state_dict(getattr(network, kind.projection))
    weights = with_prefix("image_proj.", projection) | with_prefix("ip_adapter.", kind.layer_weights(network))
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


def init_ip_adapter(network: Any, embedding_dim: int, num_tokens: int = DEFAULT_NUM_TOKENS) -> dict[str, dict[str, Tensor]]:
    """A new adapter for pooled embeddings: random projection, and the keys and values with which its network begins.

    Raises ModelError for a network whose adapters are trained by others alone.
    """
    kind = adapted_network(network)
    if kind.init_layers is None:
        found = f"a new adapter for {type(network).__name__}"
        raise ModelError(found, "training goes on from a published one", "Give its file as --adapter")
    token_dim = kind.token_dim(network)
    projection, norm = nn.Linear(embedding_dim, num_tokens * token_dim), nn.LayerNorm(token_dim)
    image_proj = with_prefix("proj.", projection.state_dict()) | with_prefix("norm.", norm.state_dict())
    return {"image_proj": image_proj, "ip_adapter": kind.init_layers(network)}
