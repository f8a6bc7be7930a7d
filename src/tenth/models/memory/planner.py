"""Choose the first memory profile whose needs fit the free memory; the costliest are last. No weight is loaded here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tenth.core.errors import ModelError, unknown_name
from tenth.models.memory.footprint import ModelFootprint, WeightCounts, activation_bytes
from tenth.models.memory.system import AvailableMemory

# Used where no option was given.
DEVICE_VARIABLE, PROFILE_VARIABLE, BACKEND_VARIABLE = "TENTH_DEVICE", "TENTH_MEMORY_PROFILE", "TENTH_BACKEND"
RESERVED_BYTES = 500_000_000  # stay free for other programs
SMALL_MODEL_WEIGHTS = 250_000_000  # a model with fewer weights stays in float32, on the CPU unless a device is requested
DEFAULT_BATCH_SIZE = 4  # images at a time: on two cores larger batches are no faster
BFLOAT16_CAPABILITY = (8, 0)  # the compute capability from which a GPU has bfloat16, whose range is that of float32


@dataclass(frozen=True)
class MemoryProfile:
    """One way to hold a model. cost: compared with the first profile, for the message to the user."""

    name: str
    weights: Literal["float32", "half", "mapped"] = "half"  # mapped: memory-mapped files, read again when memory is short
    batch_size: int = DEFAULT_BATCH_SIZE  # images at a time, at most
    vae_tiling: bool = False  # the autoencoder decodes one image at a time, in tiles
    cpu_offload: bool = False  # weights are on the GPU only while their layer runs
    cost: str = ""


_TILING = "one image at a time, decoded in tiles: pixels may differ where they meet"
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
# fmt: on


@dataclass(frozen=True)
class LoadOptions:
    """What a model is loaded for. image_size: side of the images in pixels, 0 for the model's. batch_size: images at a time.

    device, profile: names, "" for the best that fits. full_precision: all weights in float32, for training and export.
    backend: what the networks run on, a name of models/compiled.py; "" for the quickest.
    """

    device: str = ""
    profile: str = ""
    image_size: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    full_precision: bool = False
    backend: str = ""


@dataclass(frozen=True)
class MemoryPlan:
    """The memory profile of a model, and its device.

    half_dtype: the 16-bit type used on a GPU. backend: what sampling runs on (models/compiled.py). required_bytes: None where
    unknown. small: see SMALL_MODEL_WEIGHTS.
    """

    profile: MemoryProfile = CPU_PROFILES[0]
    device: str = "cpu"
    half_dtype: str = "float16"
    required_bytes: int | None = None
    available_bytes: int = 0
    small: bool = True
    backend: str = "torch"

    @property
    def message(self) -> str:
        """One line for the user; empty for a small model."""
        if self.small:
            return ""
        required = "" if self.required_bytes is None else f"needs about {self.required_bytes / 1e9:.1f} GB, "
        free = f"{self.available_bytes / 1e9:.1f} GB are free"
        return f"memory on {self.device}: {required}{free}; {self.profile.name}: {self.profile.cost}"

    @property
    def metadata(self) -> dict[str, Any]:
        """For an image's settings, as pixels may differ slightly between profiles. Empty for a small model."""
        return {} if self.small else {"device": self.device, "memory_profile": self.profile.name}


DEFAULT_PLAN = MemoryPlan()  # float32 on the CPU
DEFAULT_OPTIONS = LoadOptions()


def plan_memory(footprint: ModelFootprint, options: LoadOptions, memory: AvailableMemory) -> MemoryPlan:
    """The first memory profile that fits. Raises ModelError if none does or the device is missing, InputError if unknown."""
    # Device, and the profiles that it has.
    small = footprint.num_weights < SMALL_MODEL_WEIGHTS and not options.profile
    device = choose_device(options.device, memory, small=small)
    profiles, available = (CPU_PROFILES, memory.cpu) if device == "cpu" else (GPU_PROFILES, memory.gpu or 0)
    half = "bfloat16" if memory.capability >= BFLOAT16_CAPABILITY else "float16"
    if small:
        return MemoryPlan(profiles[0], device, half, available_bytes=available)

    # The first one that fits; weights that are not on the GPU must fit the CPU's memory.
    candidates = candidate_profiles(profiles, options)
    requirements = [required_bytes(footprint, profile, options, device) for profile in candidates]
    for profile, required in zip(candidates, requirements, strict=True):
        on_cpu = weight_bytes(footprint, profile, keep_float32=False) if profile.cpu_offload else 0
        if required + RESERVED_BYTES <= available and on_cpu + RESERVED_BYTES <= memory.cpu:
            return MemoryPlan(profile, device, half, required, available, small=False)
    needed = f"about {(min(requirements) + RESERVED_BYTES) / 1e9:.1f} GB are needed ({candidates[-1].name})"
    action = "Close other programs, draw smaller images, or choose a smaller model"
    raise ModelError(f"{available / 1e9:.1f} GB of memory are free on {device}", needed, action)


def choose_device(name: str, memory: AvailableMemory, *, small: bool) -> str:
    """The named device; without a name the GPU, if there is one, for a large model. Raises ModelError if torch finds none."""
    if name not in ("", "cpu", "cuda"):
        raise unknown_name("device", name, ["cpu", "cuda"], "Correct --device or TENTH_DEVICE")
    if name == "cuda" and memory.gpu is None:
        raise ModelError("torch finds no GPU here", "one is needed for --device cuda", "Leave it out, or install torch for it")
    return name or ("cpu" if memory.gpu is None or small else "cuda")


def candidate_profiles(profiles: Sequence[MemoryProfile], options: LoadOptions) -> list[MemoryProfile]:
    """The profiles that the options allow. Raises InputError for an unknown name, ModelError for one that is too coarse."""
    if options.profile:
        named = [profile for profile in profiles if profile.name == options.profile]
        if not named:
            known = [profile.name for profile in profiles]
            raise unknown_name("memory profile", options.profile, known, "docs/models.md says what each does")
        if options.full_precision and named[0].weights != "float32":
            found = f"the memory profile {options.profile} is not float32"
            raise ModelError(found, "training and export need float32", f"Set {PROFILE_VARIABLE}=float32, or unset it")
        return named
    if options.full_precision:
        return [profile for profile in profiles if profile.weights == "float32"]
    return [profile for profile in profiles if profiles is CPU_PROFILES or profile.weights != "float32"]


def next_profile(plan: MemoryPlan) -> MemoryPlan:
    """The next profile, after a GPU ran out of memory. Raises ModelError if there is none."""
    profiles = GPU_PROFILES if plan.device != "cpu" else CPU_PROFILES
    later = profiles[profiles.index(plan.profile) + 1 :]
    if plan.small or plan.profile.weights == "float32" or not later:
        found = f"{plan.device} ran out of memory with the last memory profile, {plan.profile.name}"
        action = "Close other programs, draw smaller images, or set TENTH_DEVICE=cpu"
        raise ModelError(found, "more memory is needed", action)
    return replace(plan, profile=later[0], required_bytes=None)


def required_bytes(footprint: ModelFootprint, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> int:
    """Free bytes that a profile needs for weights and activations, without what the libraries themselves take."""
    bits = 32 if device == "cpu" or profile.weights == "float32" else 16
    batch_size, image_size = min(options.batch_size, profile.batch_size), options.image_size or footprint.image_size
    held = 0 if profile.cpu_offload else weight_bytes(footprint, profile, keep_float32=device == "cpu")
    return held + activation_bytes(footprint, batch_size, image_size=image_size, vae_tiling=profile.vae_tiling, bits=bits)


def weight_bytes(footprint: ModelFootprint, profile: MemoryProfile, *, keep_float32: bool = True) -> int:
    """Bytes of weights in memory. keep_float32: autoencoder, embeddings and norms stay in it (half_precision.py)."""
    return sum(_component_bytes(name, part, profile, keep_float32) for name, part in footprint.parts.items())


def _component_bytes(name: str, part: WeightCounts, profile: MemoryProfile, keep_float32: bool) -> int:
    mapped = profile.weights == "mapped"
    if profile.weights != "float32" and not keep_float32:
        return 2 * part.total
    if keep_float32 and mapped and part.dtype == "F32":
        return 0
    if profile.weights == "float32" or name == "vae":
        return 4 * part.total
    return (0 if mapped else 2 * part.castable) + 4 * part.others


def with_environment(options: LoadOptions) -> LoadOptions:
    """The options, with device, memory profile and backend from the environment where they name none."""
    return replace(
        options,
        device=options.device or os.environ.get(DEVICE_VARIABLE, ""),
        profile=options.profile or os.environ.get(PROFILE_VARIABLE, ""),
        backend=options.backend or os.environ.get(BACKEND_VARIABLE, ""),
    )
