"""Which of the models with a short name suits a machine, and why. No weight is loaded here."""

from __future__ import annotations

from dataclasses import dataclass

from tenth.models.memory.planner import RESERVED_BYTES
from tenth.models.memory.system import AvailableMemory

# In 16 bits with ViT-H/14 and a plain adapter, as benchmarks/full_size.py writes them (docs/models.md); float32 is twice that.
HALF_PRECISION_BYTES = {"sdxl": 8_900_000_000, "sd15": 3_400_000_000}  # the larger images first
GPU_FACTOR = 1.3  # of the weights: one image at a time and what a layer copies, by the planner's estimates of both
MIN_CPU_BYTES = HALF_PRECISION_BYTES["sd15"] + 2_000_000_000  # with the libraries and an image's activations


@dataclass(frozen=True)
class Recommendation:
    """The name of a model, and the reason in one line."""

    model: str
    reason: str


def recommend_model(memory: AvailableMemory) -> Recommendation:
    """The model of the largest images that the memory of a GPU holds in 16 bits; without such a GPU the pocket model.

    memory: what is free. Source of the bytes: docs/models.md.
    """
    if memory.gpu is not None:
        free = f"{memory.gpu / 1e9:.1f} GB of the GPU are free"
        for name, weight_bytes in HALF_PRECISION_BYTES.items():
            required = GPU_FACTOR * weight_bytes + RESERVED_BYTES
            if required <= memory.gpu:
                return Recommendation(name, f"{free}, and about {required / 1e9:.1f} GB are needed")
        smallest = GPU_FACTOR * min(HALF_PRECISION_BYTES.values()) + RESERVED_BYTES
        return Recommendation("pocket", f"{free}, and a large model needs about {smallest / 1e9:.1f} GB; pocket needs none")
    if memory.cpu >= MIN_CPU_BYTES:
        return Recommendation("pocket", "there is no GPU; sd15 fits into the memory, and takes minutes for an image")
    return Recommendation("pocket", f"there is no GPU, and sd15 needs about {MIN_CPU_BYTES / 1e9:.1f} GB of free memory")
