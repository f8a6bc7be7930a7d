"""Which of the models with a short name suits a machine, and why, and which transformers fit. No weight is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenth.core.errors import ModelError
from tenth.models.memory.flow_footprint import FlowFootprint
from tenth.models.memory.footprint import WeightCounts
from tenth.models.memory.planner import RESERVED_BYTES, LoadOptions, MemoryPlan, plan_memory
from tenth.models.memory.system import AvailableMemory

# In 16 bits with ViT-H/14 and a plain adapter, as benchmarks/full_size.py writes them (docs/models.md); float32 is twice that.
HALF_PRECISION_BYTES = {"sdxl": 8_900_000_000, "sd15": 3_400_000_000}  # the larger images first
GPU_FACTOR = 1.3  # of the weights: one image at a time and what a layer copies, by the planner's estimates of both
MIN_CPU_BYTES = HALF_PRECISION_BYTES["sd15"] + 2_000_000_000  # with the libraries and an image's activations

# Transformers with a short name, from the published configurations (tests/models/test_flow_memory.py counts them).
_QWEN3 = WeightCounts(3_633_315_840, 389_152_256, 24_903_680, "BF16", 3_633_315_840, 100_930_816)
_KLEIN = FlowFootprint(
    {
        "transformer": WeightCounts(3_841_327_104, 34_217_472, 84_934_656, "BF16", 3_680_501_760, 245_367_296),
        "vae": WeightCounts(83_829_120, 216_995, 2_359_296, "BF16"),
        "text_encoder": _QWEN3,
    },
    image_size=1024,
    rows=1,
    token_activations=22 * 3072,
    text_activations=37 * 2560 + 151_936,
    vae_activations=768,
)
FLOW_FOOTPRINTS: Mapping[str, FlowFootprint] = {
    "flux2-klein-4b": _KLEIN,
    "z-image": FlowFootprint(
        {
            "transformer": WeightCounts(6_143_270_400, 11_638_336, 39_321_600, "BF16", 6_142_033_920, 180_910_336),
            "vae": WeightCounts(83_677_824, 143_187, 2_359_296, "BF16"),
            "text_encoder": _QWEN3,
        },
        image_size=1024,
        token_activations=14 * 3840,
        text_activations=37 * 2560 + 3.3 * 9728,
        vae_activations=768,
    ),
    "qwen-image-edit": FlowFootprint(
        {
            "transformer": WeightCounts(20_414_595_072, 15_806_016, 56_623_104, "BF16", 20_384_317_440, 339_831_296),
            "vae": WeightCounts(4_428_096, 122_464_435, 1_327_104, "BF16"),
            "text_encoder": WeightCounts(7_744_815_104, 547_351_552, 544_997_376, "BF16", 6_525_288_448, 233_057_792),
        },
        image_size=1024,
        token_activations=16 * 3072,
        text_activations=29 * 3584 + 152_064,
        vae_activations=18 * 96,
    ),
}


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


def flow_plans(memory: AvailableMemory) -> dict[str, MemoryPlan | None]:
    """How each transformer with a short name would be held here, for one image at a time; None where it does not fit."""
    plans: dict[str, MemoryPlan | None] = {}
    for name, footprint in FLOW_FOOTPRINTS.items():
        try:
            plans[name] = plan_memory(footprint, LoadOptions(batch_size=1), memory)
        except ModelError:
            plans[name] = None
    return plans
