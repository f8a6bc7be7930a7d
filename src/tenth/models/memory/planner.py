"""What memory there is and what a model needs -> the rung of a ladder that fits, and the line that announces it.

Above are the rungs that cost least, below those that need least. Nothing here loads a weight.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tenth.core.errors import ModelError, unknown_name
from tenth.models.memory.footprint import ModelFootprint, WeightCounts, activation_bytes
from tenth.models.memory.system import AvailableMemory

DEVICE_VARIABLE, PROFILE_VARIABLE = (
    "TENTH_DEVICE",
    "TENTH_MEMORY_PROFILE",
)  # environment variables, for what no option was given
RESERVED_BYTES = 500_000_000  # bytes that stay free for everybody else
SMALL_MODEL_WEIGHTS = 250_000_000  # numbers; a model with fewer is drawn in float32, on the CPU unless a device is asked for
DEFAULT_BATCH_SIZE = 4  # images at a time: on two cores larger batches are no faster
BFLOAT16_CAPABILITY = (8, 0)  # the compute capability from which a GPU has bfloat16, which overflows no more than float32


@dataclass(frozen=True)
class MemoryProfile:
    """One way to hold a model. cost: what it costs against the first rung, for the announcement."""

    name: str
    weights: Literal["float32", "half", "mapped"] = "half"  # mapped: in the files, read again where there is no room
    batch_size: int = DEFAULT_BATCH_SIZE  # images at a time, at most
    vae_tiling: bool = False  # the autoencoder decodes one image at a time, in tiles
    cpu_offload: bool = False  # weights are on the GPU only while their layer runs
    cost: str = ""


# fmt: off
CPU_PROFILES = (
    MemoryProfile("float32",    "float32", cost="nothing"),
    MemoryProfile("half",       "half", cost="weights kept in 16 bits, widened layer by layer: some seconds more for a step"),
    MemoryProfile("half-alone", "half", 1, cost="as half, one image at a time"),
    MemoryProfile("half-tiled", "half", 1, True, cost="as half-alone, decoded in tiles: pixels may differ where they meet"),
    MemoryProfile("mapped",     "mapped", 1, True, cost="as half-tiled, weights read from the files again in each step: slow without a fast disk"),  # noqa: E501
)
GPU_PROFILES = (
    MemoryProfile("float32",    "float32", cost="twice the memory and time of half"),
    MemoryProfile("half",       "half", cost="pictures differ slightly from a CPU's"),
    MemoryProfile("half-alone", "half", 1, cost="as half, one image at a time"),
    MemoryProfile("half-tiled", "half", 1, True, cost="as half-alone, decoded in tiles: pixels may differ where they meet"),
    MemoryProfile("offloaded",  "half", 1, True, True, cost="as half-tiled, weights fetched layer by layer: many times slower"),
)
# fmt: on


@dataclass(frozen=True)
class LoadOptions:
    """What a model is loaded for. image_size: the side of the images, 0 for the model's own. batch_size: at a time.

    full_precision: all weights in float32, which learning and exporting need. device, profile: by name, "" for what fits best.
    """

    device: str = ""
    profile: str = ""
    image_size: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    full_precision: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """The rung on which a model stands, and where.

    half_dtype: the 16-bit type of a GPU. required_bytes, available_bytes: bytes, None where unknown.
    """

    profile: MemoryProfile = CPU_PROFILES[0]
    device: str = "cpu"
    half_dtype: str = "float16"
    required_bytes: int | None = None
    available_bytes: int | None = None
    small: bool = True

    @property
    def message(self) -> str:
        """One line for the user; none for a small model, of which there is nothing to say."""
        if self.small:
            return ""
        available = (
            "what there is, this system does not say"
            if self.available_bytes is None
            else f"{self.available_bytes / 1e9:.1f} GB are free"
        )
        required = "" if self.required_bytes is None else f"needs about {self.required_bytes / 1e9:.1f} GB, "
        return f"memory on {self.device}: {required}{available}; {self.profile.name}: {self.profile.cost}"

    @property
    def metadata(self) -> dict[str, Any]:
        """What an image's settings say of it: on another rung the pixels may differ slightly. Of a small model nothing."""
        return {} if self.small else {"device": self.device, "rung": self.profile.name}


DEFAULT_PLAN = MemoryPlan()  # float32 on the CPU: small models, and whatever is not on the ladder
DEFAULT_OPTIONS = LoadOptions()


def plan_memory(footprint: ModelFootprint, options: LoadOptions, memory: AvailableMemory) -> MemoryPlan:
    """The first rung that fits into the machine.

    Raises ModelError if none does or the device is not there, InputError for a rung of another name.
    """
    small = footprint.num_weights < SMALL_MODEL_WEIGHTS and not options.profile
    device = choose_device(options.device, memory, small=small)
    profiles = GPU_PROFILES if device != "cpu" else CPU_PROFILES
    available = memory.gpu if device != "cpu" else memory.cpu
    half = "bfloat16" if memory.capability >= BFLOAT16_CAPABILITY else "float16"
    if small:
        return MemoryPlan(profiles[0], device, half, available_bytes=available)
    allowed_profiles = candidate_profiles(profiles, options)
    requirements = [required_bytes(footprint, rung, options, device) for rung in allowed_profiles]
    for profile, required in zip(allowed_profiles, requirements, strict=True):
        host = weight_bytes(footprint, profile, keep_float32=False) if profile.cpu_offload else 0
        if (available is None or required + RESERVED_BYTES <= available) and (
            memory.cpu is None or host + RESERVED_BYTES <= memory.cpu
        ):
            return MemoryPlan(profile, device, half, required, available, small=False)
    raise ModelError(
        f"{(available or 0) / 1e9:.1f} GB of memory are free on {device}",
        f"about {(min(requirements) + RESERVED_BYTES) / 1e9:.1f} GB are needed ({allowed_profiles[-1].name})",
        "Close other programs, draw smaller images, or choose a smaller model",
    )


def choose_device(name: str, memory: AvailableMemory, *, small: bool) -> str:
    """Where a model runs: as asked, else a large one on the GPU if there is one. Raises ModelError if torch finds none."""
    if name not in ("", "cpu", "cuda"):
        raise unknown_name("device", name, ["cpu", "cuda"], "Correct --device or TENTH_DEVICE")
    if name == "cuda" and memory.gpu is None:
        raise ModelError("torch finds no GPU here", "one is needed for --device cuda", "Leave it out, or install torch for it")
    return name or ("cpu" if memory.gpu is None or small else "cuda")


def candidate_profiles(profiles: Sequence[MemoryProfile], options: LoadOptions) -> list[MemoryProfile]:
    """The rungs that may be chosen. Raises InputError for an unknown name, ModelError for one that the use cannot be on."""
    if options.profile and options.profile not in [rung.name for rung in profiles]:
        raise unknown_name("rung", options.profile, [rung.name for rung in profiles], "docs/models.md says what each does")
    full_precision = [profile for profile in profiles if profile.weights == "float32"]
    defaults = [rung for rung in profiles if profiles is CPU_PROFILES or rung.weights != "float32"]
    named = [rung for rung in profiles if rung.name == options.profile]
    if options.full_precision and named and named[0] not in full_precision:
        raise ModelError(
            f"the rung {options.profile}",
            "learning and exporting need float32",
            f"Set {PROFILE_VARIABLE}=float32, or leave it out",
        )
    return named or (full_precision if options.full_precision else defaults)


def next_profile(plan: MemoryPlan) -> MemoryPlan:
    """The next rung down, after a GPU ran out of memory. Raises ModelError if there is none."""
    profiles = GPU_PROFILES if plan.device != "cpu" else CPU_PROFILES
    lower = profiles[profiles.index(plan.profile) + 1 :]
    if plan.small or plan.profile.weights == "float32" or not lower:
        raise ModelError(
            f"{plan.device} ran out of memory on the last rung, {plan.profile.name}",
            "more memory is needed",
            "Close other programs, draw smaller images, or set TENTH_DEVICE=cpu",
        )
    return replace(plan, profile=lower[0], required_bytes=None)


def required_bytes(footprint: ModelFootprint, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> int:
    """Bytes that must be free to load and draw on a profile: weights and activations. The libraries' own are taken already."""
    bits = 32 if device == "cpu" or profile.weights == "float32" else 16
    batch_size, image_size = min(options.batch_size, profile.batch_size), options.image_size or footprint.image_size
    held = 0 if profile.cpu_offload else weight_bytes(footprint, profile, keep_float32=device == "cpu")
    return held + activation_bytes(footprint, batch_size, image_size=image_size, vae_tiling=profile.vae_tiling, bits=bits)


def weight_bytes(footprint: ModelFootprint, profile: MemoryProfile, *, keep_float32: bool = True) -> int:
    """Bytes of weights that stay in memory. keep_float32: the autoencoder, embeddings and norms stay float32 (narrow.py)."""

    def held(name: str, part: WeightCounts) -> int:
        if profile.weights == "float32":
            return 4 * part.total
        if not keep_float32:
            return 2 * part.total
        mapped = profile.weights == "mapped"
        if mapped and part.dtype == "F32":
            return 0
        if name == "vae":
            return 4 * part.total
        return (0 if mapped else 2 * part.castable) + 4 * part.others

    return sum(held(name, part) for name, part in footprint.parts.items())


def with_environment(options: LoadOptions) -> LoadOptions:
    """The use with what the environment says where the use itself says nothing."""
    return replace(
        options,
        device=options.device or os.environ.get(DEVICE_VARIABLE, ""),
        profile=options.profile or os.environ.get(PROFILE_VARIABLE, ""),
    )
