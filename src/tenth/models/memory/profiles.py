"""The ways to hold a model in memory, in tables whose costliest rows are last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_BATCH_SIZE = 4  # images at a time: on two cores larger batches are no faster


@dataclass(frozen=True)
class MemoryProfile:
    """One way to hold a model. cost: compared with the first profile, for the message to the user.

    weights: mapped are memory-mapped files, read again when memory is short; int8 and nf4 as in quantized.py.
    """

    name: str
    weights: Literal["float32", "half", "mapped", "float8", "int8", "nf4"] = "half"
    batch_size: int = DEFAULT_BATCH_SIZE  # images at a time, at most
    vae_tiling: bool = False  # the autoencoder decodes one image at a time, in tiles
    cpu_offload: bool = False  # weights are on the GPU only while their layer, or block of layers, runs
    frees_text_encoder: bool = False  # it is there only while prompts are encoded; on a GPU the other parts are not there then
    cost: str = ""


_TILING = "one image at a time, decoded in tiles: pixels may differ where they meet"
_FREED = "the text encoder loaded for each set of prompts and freed after it"
# fmt: off
CPU_PROFILES = (
    MemoryProfile("float32",         "float32", cost="nothing"),
    MemoryProfile("half",            cost="weights in 16 bits, computed in float32: some seconds more for a step"),
    MemoryProfile("half-batch1",     batch_size=1, cost="as half, one image at a time"),
    MemoryProfile("half-vae-tiling", batch_size=1, vae_tiling=True, cost=f"as half, {_TILING}"),
    MemoryProfile("mapped", "mapped", 1, True, cost="as half-vae-tiling, weights read from their files in each step: slow without a fast disk"),  # noqa: E501
)
GPU_PROFILES = (
    MemoryProfile("float32",         "float32", cost="twice the memory and time of half"),
    MemoryProfile("half",            cost="images differ slightly from a CPU's"),
    MemoryProfile("half-batch1",     batch_size=1, cost="as half, one image at a time"),
    MemoryProfile("half-vae-tiling", batch_size=1, vae_tiling=True, cost=f"as half, {_TILING}"),
    MemoryProfile("cpu-offload",     "half", 1, True, True, cost="as half-vae-tiling, weights copied layer by layer: many times slower"),  # noqa: E501
)
# Of transformers trained by flow matching.
FLOW_CPU_PROFILES = (
    *CPU_PROFILES[:4],
    MemoryProfile("half-text-freed", "half", 1, True, False, True, f"as half-vae-tiling, {_FREED}"),
    MemoryProfile("int8",            "int8", 1, True, False, True, f"weights in 8 bits: images differ slightly; one image at a time, decoded in tiles, {_FREED}"),  # noqa: E501
    MemoryProfile("nf4",             "nf4",  1, True, False, True, "weights in 4 bits: images differ visibly; else as int8, and slower"),  # noqa: E501
    MemoryProfile("mapped",          "mapped", 1, True, False, True, f"weights read from their files in each step: slow without a fast disk; {_FREED}"),  # noqa: E501
)
FLOW_GPU_PROFILES = (
    *GPU_PROFILES[:4],
    MemoryProfile("half-text-freed", "half", 1, True, False, True, "as half-vae-tiling, text encoder and transformer on the GPU in turn: seconds more for each set of prompts"),  # noqa: E501
    MemoryProfile("float8",          "float8", 1, True, False, True, "as half-text-freed, weights stored in 8 bits (floating point): images differ slightly; no person's own weights"),  # noqa: E501
    MemoryProfile("int8",            "int8", 1, True, False, True, "as half-text-freed, weights in 8 bits (integers): images differ slightly"),  # noqa: E501
    MemoryProfile("nf4",             "nf4",  1, True, False, True, "as half-text-freed, weights in 4 bits: images differ visibly"),  # noqa: E501
    MemoryProfile("group-offload",   "half", 1, True, True, True, "as half-vae-tiling, weights copied block by block: many times slower"),  # noqa: E501
)
# fmt: on
