"""Apply a memory plan to a pipeline of a transformer family: the precision of its weights, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from torch import nn

from tenth.models.memory.flow_footprint import TEXT_ENCODERS
from tenth.models.memory.footprint import count_weights
from tenth.models.memory.half_precision import store_in_half
from tenth.models.memory.planner import MemoryPlan
from tenth.models.memory.quantized import Bits, quantize
from tenth.models.model_folder import weight_files

QUANTIZED: Mapping[str, Bits] = {"int8": 8, "nf4": 4}
DTYPES = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NETWORKS = ("transformer", "vae", *TEXT_ENCODERS, "siglip")
NOT_IN_FLOAT8 = (
    "embed",
    "lm_head",
    "norm",
    "proj_out",
)  # in names of layers: the libraries read a model's dtype from the first


def place_pipeline(pipeline: Any, plan: MemoryPlan) -> None:
    """Apply a memory plan to a pipeline as it was loaded, or as a profile that needs more memory left it."""
    networks = _networks(pipeline)
    for name, network in networks.items():
        if name != "vae" and network.device.type != "meta":
            store_weights(network, plan)
    if plan.profile.vae_tiling:
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if plan.device == "cpu":
        return

    # On a GPU: all parts, those that the text encoder leaves room for, or the blocks that run.
    for name, network in networks.items():
        is_text = name in TEXT_ENCODERS
        if plan.profile.cpu_offload and name != "vae":
            _offload_blocks(network, plan.device, leaves=is_text)
        elif not (is_text and plan.profile.frees_text_encoder):
            network.to(plan.device)


def load_dtypes(folder: Path, plan: MemoryPlan) -> dict[str, torch.dtype]:
    """What each part of a folder is loaded in: on a CPU as its file has it, unless all is float32, so that nothing is copied.

    There the autoencoder is float32 in every profile: it is small, and 16 bits show in its pixels.
    """
    if plan.profile.weights == "float32":
        return {"default": torch.float32}
    if plan.device != "cpu":
        return {"default": getattr(torch, plan.half_dtype)}
    parts = [name for name in NETWORKS if name != "vae" and (folder / name).is_dir()]
    dtypes = {name: DTYPES[count_weights(weight_files(folder / name)).dtype] for name in parts}
    return dtypes | {"default": torch.float32}


def store_weights(network: nn.Module, plan: MemoryPlan) -> None:
    """Store a network's weights as the profile says. On a CPU what is not quantized stays in 16 bits, in its mapped file."""
    weights = plan.profile.weights
    if bits := QUANTIZED.get(weights):
        quantize(network, bits, plan.device)
        for parameter in network.parameters():  # of the mapped file nothing is left, so that its pages go
            parameter.data = parameter.data.clone()
    if weights == "float8":
        apply_layerwise_casting(network, torch.float8_e4m3fn, getattr(torch, plan.half_dtype), NOT_IN_FLOAT8)
    elif plan.device == "cpu" and weights != "float32" and not is_memory_mapped(network, plan):
        store_in_half(network)


def is_memory_mapped(network: nn.Module, plan: MemoryPlan) -> bool:
    """Whether a network's weights stay as they lie in its float32 file."""
    return plan.profile.weights == "mapped" and all(value.dtype == torch.float32 for value in network.parameters())


class TextEncoders:
    """The text encoders of a pipeline, which some profiles have in memory only while prompts are encoded.

    load: a text encoder by its name, as `store_weights` leaves it; called for the profiles of a CPU that free it. plan: the
    pipeline's; it may change.
    """

    def __init__(self, pipeline: Any, plan: MemoryPlan, load: Callable[[str], nn.Module] | None = None) -> None:
        self.pipeline, self.plan, self.load = pipeline, plan, load
        self.names = [name for name in TEXT_ENCODERS if name in pipeline.components]
        self._here = not self._are_freed

    @property
    def _are_freed(self) -> bool:
        return self.plan.profile.frees_text_encoder and not self.plan.profile.cpu_offload

    def ensure(self) -> None:
        """Load them, or move them to the GPU in the transformer's place, unless they are there."""
        if self._here:
            return
        if self.plan.device != "cpu":
            self._move(texts=self.plan.device, transformer="cpu")
        elif self.load is not None:  # from their files, whose pages the system may have kept
            for name in self.names:
                setattr(self.pipeline, name, self.load(name))
        self._here = True

    @contextmanager
    def freed_after(self) -> Iterator[None]:
        """A block after which they are freed, if the profile says so; they come when `ensure` asks for them."""
        try:
            yield
        finally:
            if self._here and self._are_freed:
                self._here = False
                if self.plan.device != "cpu":
                    self._move(texts="cpu", transformer=self.plan.device)
                else:  # without weights: its configuration is read at any time
                    for name in self.names:
                        getattr(self.pipeline, name).to("meta")

    def _move(self, *, texts: str, transformer: str) -> None:
        """First what leaves the GPU."""
        moves = [(self.pipeline.transformer, transformer), *((getattr(self.pipeline, name), texts) for name in self.names)]
        for network, device in sorted(moves, key=lambda move: move[1] != "cpu"):
            network.to(device)


def _networks(pipeline: Any) -> dict[str, Any]:
    found = {name: getattr(pipeline, name, None) for name in NETWORKS}
    return {name: network for name, network in found.items() if network is not None}


def _offload_blocks(network: nn.Module, device: str, *, leaves: bool) -> None:
    """Keep weights on the CPU and copy them to the GPU block by block, the next while one runs where the GPU can."""
    streams = torch.device(device).type == "cuda" and torch.cuda.is_available()
    kind = "leaf_level" if leaves else "block_level"
    apply_group_offloading(
        network, torch.device(device), offload_type=kind, num_blocks_per_group=None if leaves else 1, use_stream=streams
    )
