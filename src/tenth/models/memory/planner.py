"""Choose the first memory profile whose needs fit the free memory; the costliest are last. No weight is loaded here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tenth.core.errors import ModelError, unknown_name
from tenth.models.memory.profiles import CPU_PROFILES, DEFAULT_BATCH_SIZE, GPU_PROFILES, MemoryProfile
from tenth.models.memory.system import AvailableMemory

# Used where no option was given.
DEVICE_VARIABLE, PROFILE_VARIABLE, BACKEND_VARIABLE = "TENTH_DEVICE", "TENTH_MEMORY_PROFILE", "TENTH_BACKEND"
RESERVED_BYTES = 500_000_000  # stay free for other programs
SMALL_MODEL_WEIGHTS = 250_000_000  # a model with fewer weights stays in float32, on the CPU unless a device is requested
BFLOAT16_CAPABILITY = (8, 0)  # the compute capability from which a GPU has bfloat16, whose range is that of float32


class Footprint(Protocol):
    """What the estimate of one kind of model depends on: footprint.py, flow_footprint.py."""

    @property
    def num_weights(self) -> int:
        """All weights of all parts."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the model draws by default."""

    @property
    def trained_weights(self) -> Sequence[str]:
        """The kinds of weights that training can begin from: of MemoryProfile."""

    def profiles(self, device: str) -> Sequence[MemoryProfile]:
        """The ways to hold such a model on a device, the costliest last."""

    def required_bytes(self, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> int:
        """Free bytes of the device for weights and activations, without what the libraries themselves take."""

    def offloaded_bytes(self, profile: MemoryProfile) -> int:
        """Bytes of weights that are on the CPU while a GPU draws."""


@dataclass(frozen=True)
class LoadOptions:
    """What a model is loaded for. image_size: side of the images in pixels, 0 for the model's. batch_size: images at a time.

    device, profile: names, "" for the best that fits. full_precision: weights that can be trained or exported, of a UNet all in
    float32.
    backend: what the networks run on, a name of models/compiled.py; "" for the quickest. context_photos: of each person, for
    a model that takes them.
    """

    device: str = ""
    profile: str = ""
    image_size: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    full_precision: bool = False
    backend: str = ""
    context_photos: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """The memory profile of a model, and its device.

    half_dtype: the 16-bit type used on a GPU. backend: what sampling runs on (models/compiled.py). required_bytes: None where
    unknown. small: see SMALL_MODEL_WEIGHTS. profiles: those of the device.
    """

    profile: MemoryProfile = CPU_PROFILES[0]
    device: str = "cpu"
    half_dtype: str = "float16"
    required_bytes: int | None = None
    available_bytes: int = 0
    small: bool = True
    backend: str = "torch"
    profiles: Sequence[MemoryProfile] = GPU_PROFILES

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


def plan_memory(footprint: Footprint, options: LoadOptions, memory: AvailableMemory) -> MemoryPlan:
    """The first memory profile that fits. Raises ModelError if none does or the device is missing, InputError if unknown."""
    # Device, and the profiles that it has.
    small = footprint.num_weights < SMALL_MODEL_WEIGHTS and not options.profile
    device = choose_device(options.device, memory, small=small)
    profiles, available = footprint.profiles(device), memory.cpu if device == "cpu" else memory.gpu or 0
    half = "bfloat16" if memory.capability >= BFLOAT16_CAPABILITY else "float16"
    if small:
        return MemoryPlan(profiles[0], device, half, available_bytes=available, profiles=profiles)

    # The first one that fits; weights that are not on the GPU must fit the CPU's memory.
    candidates = candidate_profiles(profiles, options, device, footprint.trained_weights)
    requirements = [footprint.required_bytes(profile, options, device) for profile in candidates]
    for profile, required in zip(candidates, requirements, strict=True):
        on_cpu = 0 if device == "cpu" else footprint.offloaded_bytes(profile)
        if required + RESERVED_BYTES <= available and on_cpu + RESERVED_BYTES <= memory.cpu:
            return MemoryPlan(profile, device, half, required, available, small=False, profiles=profiles)
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


def candidate_profiles(
    profiles: Sequence[MemoryProfile],
    options: LoadOptions,
    device: str = "cpu",
    trained_weights: Sequence[str] = ("float32",),
) -> list[MemoryProfile]:
    """The profiles that the options allow. Raises InputError for an unknown name, ModelError for one that cannot be trained."""
    trainable = [profile for profile in profiles if profile.weights in trained_weights and not profile.cpu_offload]
    if options.profile:
        named = [profile for profile in profiles if profile.name == options.profile]
        if not named:
            known = [profile.name for profile in profiles]
            raise unknown_name("memory profile", options.profile, known, "docs/models.md says what each does")
        if options.full_precision and named[0] not in trainable:
            found = f"the memory profile {options.profile} is not {' or '.join(trained_weights)}"
            needed = f"training and export need {' or '.join(trained_weights)}"
            raise ModelError(found, needed, f"Set {PROFILE_VARIABLE}=float32, or unset it")
        return named
    if options.full_precision:
        return trainable
    return [profile for profile in profiles if device == "cpu" or profile.weights != "float32"]


def next_profile(plan: MemoryPlan) -> MemoryPlan:
    """The next profile, after a GPU ran out of memory. Raises ModelError if there is none."""
    later = plan.profiles[plan.profiles.index(plan.profile) + 1 :] if plan.profile in plan.profiles else ()
    if plan.small or plan.profile.weights == "float32" or not later:
        found = f"{plan.device} ran out of memory with the last memory profile, {plan.profile.name}"
        action = "Close other programs, draw smaller images, or set TENTH_DEVICE=cpu"
        raise ModelError(found, "more memory is needed", action)
    return replace(plan, profile=later[0], required_bytes=None)


def with_environment(options: LoadOptions) -> LoadOptions:
    """The options, with device, memory profile and backend from the environment where they name none."""
    return replace(
        options,
        device=options.device or os.environ.get(DEVICE_VARIABLE, ""),
        profile=options.profile or os.environ.get(PROFILE_VARIABLE, ""),
        backend=options.backend or os.environ.get(BACKEND_VARIABLE, ""),
    )
