"""The sampling loop: prompts, seeds and identities in, images out. diffusers gives the networks and the schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.rng import derive_seed
from tenth.core.types import DiffusionModel, Pixels
from tenth.models.denoiser import Conditioning, Conditions, concat
from tenth.sampling.config import SamplingConfig
from tenth.sampling.guidance import Guidance
from tenth.sampling.init_latents import InitLatents
from tenth.sampling.noise import predicted_x0, pure_noise, scaled_input
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.people import BatchRegions
from tenth.sampling.schedulers import build_scheduler

FloatImage = npt.NDArray[np.float32]  # (H, W, 3) in [0, 1]; between passes nothing is rounded


@dataclass(frozen=True, eq=False)
class SamplingBatch:
    """B images to generate, while their identities are applied to the model. embeddings: of `applied`, (B, M, D), or None.

    context: (B, ...) tensors, of the identities' photos in context; {} without.
    size: of the images; None: the model's own. init: what they start from; None: pure noise. regions: where people are, whose
    rows the embeddings have; None: everywhere.
    """

    model: DiffusionModel
    sampling: SamplingConfig
    prompts: Sequence[str]
    seeds: Sequence[int]
    embeddings: Tensor | None = None
    size: Size | None = None
    init: InitLatents | None = None
    regions: BatchRegions | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Of the images, in pixels."""
        side = self.model.native_resolution
        return (side, side) if self.size is None else (self.size.height, self.size.width)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of each image's latents, (C, h, w)."""
        return self.model.latent_shape(*self.height_and_width)

    def single(self, index: int) -> SamplingBatch:
        """A batch of one of its images."""
        selected = slice(index, index + 1)
        embeddings = None if self.embeddings is None else self.embeddings[selected]
        init = None if self.init is None else self.init.select(selected)
        regions = None if self.regions is None else self.regions.select(selected)
        context = {name: tensor[selected] for name, tensor in self.context.items()}
        selection = replace(self, prompts=self.prompts[selected], seeds=self.seeds[selected], context=context)
        return replace(selection, embeddings=embeddings, init=init, regions=regions)

    def with_new_noise(self, purpose: str, pass_index: int) -> SamplingBatch:
        """The same batch with other seeds, a function of the first ones."""
        return replace(self, seeds=[derive_seed(purpose, seed, pass_index) for seed in self.seeds])


@dataclass(frozen=True, eq=False)
class Schedule:
    """A scheduler of diffusers, the timesteps (S,) that are taken, and the noise (B, C, h, w) at their start."""

    scheduler: Any
    timesteps: Tensor
    noise: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """A step of denoising that is done. number: from 1, of `total`. The rest is what a preview is computed from, if asked for.

    scaled_latents: (B, C, h, w), what the network was given. prediction: (B, C, h, w), guided. timestep: of the two.
    """

    number: int
    total: int
    model: DiffusionModel
    scaled_latents: Tensor
    prediction: Tensor
    timestep: Tensor
    scheduler: Any

    @torch.no_grad()
    def preview(self) -> list[Pixels]:
        """A small image (h, w, 3) of each of the batch: what the network now expects."""
        latents = predicted_x0(self.scheduler, self.scaled_latents, self.prediction, self.timestep)
        images = (self.model.decode_preview(latents).float().nan_to_num() / 2 + 0.5).clamp(0, 1)
        return [np.rint(image * 255).astype(np.uint8) for image in images.permute(0, 2, 3, 1).cpu().numpy()]


OnStep = Callable[[Step], None]


def sample(batch: SamplingBatch, on_step: OnStep | None = None) -> list[Pixels]:
    """An image (H, W, 3) for each prompt and seed. Raises ModelError if latents or pixels are not finite."""
    return to_uint8(sample_float(batch, on_step))


def sample_float(batch: SamplingBatch, on_step: OnStep | None = None) -> list[FloatImage]:
    """The images before they are rounded. A seed is one noise, whatever its batch."""
    model, sampling, init = batch.model, batch.sampling, batch.init
    defaults = model.default_sampling
    autocast: AbstractContextManager[Any] = nullcontext()
    if sampling.precision == "bf16":  # not `enabled=False` otherwise: that would end the autocast of a model in training
        autocast = torch.autocast(model.device.type, torch.bfloat16)
    with torch.no_grad(), autocast:
        # Guidance, as the model has it where nothing is said.
        scale, text_scale = sampling.guidance_scale or defaults.guidance_scale, sampling.text_guidance_scale
        if model.is_guidance_distilled:
            scale, text_scale = 1.0, 0.0
        rescale = defaults.guidance_rescale if sampling.guidance_rescale is None else sampling.guidance_rescale
        guidance = Guidance(
            scale,
            text_scale,
            sampling.guidance_interval,
            rescale,
            None if model.family is None else model.family.correct_guidance,
            defaults.centred,
            has_person=batch.embeddings is not None,
        )
        if batch.embeddings is not None:
            model.set_adapter_scale(sampling.ip_adapter_scale)

        # Noise, or an image with noise.
        scheduler = build_scheduler(model.pipeline.scheduler, sampling.scheduler)
        timesteps = last_timesteps(scheduler, sampling.steps or defaults.steps, batch)
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        schedule = Schedule(scheduler, timesteps, initial_noise(batch, generators))
        noise = schedule.noise
        latents = pure_noise(scheduler, noise) if init is None else init.noised(scheduler, noise, timesteps)
        latents = denoise(batch, latents, schedule, guidance, generators, on_step)
        return decode_images(batch, latents)


def denoise(
    batch: SamplingBatch,
    latents: Tensor,
    schedule: Schedule,
    guidance: Guidance,
    generators: list[torch.Generator],
    on_step: OnStep | None = None,
) -> Tensor:
    """The loop: noisy latents (B, C, h, w) -> latents. generators: continued by a stochastic scheduler.

    Raises ModelError, with the first seed, if values are not finite.
    """
    scheduler, timesteps = schedule.scheduler, schedule.timesteps
    model, conditionings = batch.model, prompt_and_person(batch, guidance)
    denoiser = model.denoiser(batch.sampling.precision)
    num_train_timesteps = int(scheduler.config.num_train_timesteps)
    steps, steps_done = len(timesteps) // scheduler.order, 0
    stochastic = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    joined: dict[tuple[str, ...], Conditioning] = {}
    for index, timestep in enumerate(timesteps):
        # The terms that this step needs, as one batch.
        terms = guidance.terms(1 - float(timestep) / num_train_timesteps)
        if terms not in joined:
            joined[terms] = concat([conditionings[term] for term in terms])
        scaled = scaled_input(scheduler, latents, timestep)
        predicted = denoiser(torch.cat([scaled] * len(terms)), timestep, joined[terms]).chunk(len(terms))
        guided = guidance.combine(dict(zip(terms, predicted, strict=True)))

        # One step towards the image.
        previous = latents
        latents = scheduler.step(guided, timestep, latents, **stochastic, return_dict=False)[0].to(previous.dtype)
        if batch.init is not None:
            latents = batch.init.keep_unmasked(latents, scheduler, schedule.noise, timesteps[index + 1 : index + 2])
        check_latents(latents, batch.seeds, index + 1)

        # A step of a scheduler of the second order is two evaluations.
        finished = (index + 1) * steps // len(timesteps)
        if on_step is not None and finished > steps_done:
            on_step(Step(finished, steps, model, scaled, guided, timestep, scheduler))
        steps_done = finished
    return latents


def prompt_and_person(batch: SamplingBatch, guidance: Guidance) -> Mapping[str, Conditioning]:
    """What each of the terms that guidance may need is conditioned on: the model encodes it."""
    model, sampling, (height, width) = batch.model, batch.sampling, batch.height_and_width
    regions = None if batch.regions is None else batch.regions.masks(*batch.latent_shape[1:], model.device)
    conditions = Conditions(
        batch.prompts,
        sampling.negative_prompt,
        guidance.enabled,
        sampling.guidance_scale or model.default_sampling.guidance_scale,
        height,
        width,
        batch.embeddings,
        batch.context,
        regions,
    )
    return model.conditionings(conditions)


def last_timesteps(scheduler: Any, steps: int, batch: SamplingBatch) -> Tensor:
    """The timesteps (S,) of the last of a scheduler's `steps`, by `img2img_steps`. It is set to them, as the model has it."""
    strength = 1.0 if batch.init is None else batch.init.strength
    batch.model.set_timesteps(scheduler, steps, batch.latent_shape)
    skipped = (steps - img2img_steps(steps, strength)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # it counts from the first of all steps
        scheduler.set_begin_index(skipped)
    timesteps: Tensor = scheduler.timesteps[skipped:]
    return timesteps


def initial_noise(batch: SamplingBatch, generators: list[torch.Generator]) -> Tensor:
    """Standard normal noise (B, C, h, w), each image's from its own generator on the CPU.

    As every low frequency of it, its mean in each channel decides the image's: the colours of the whole. Of few latents the
    mean is large, and a seed gives red faces whoever is asked for; models that are `centred` do without it.
    """
    shape = (len(generators), *batch.latent_shape)
    noise: Tensor = randn_tensor(shape, generators, batch.model.device, batch.model.dtype)
    return noise - noise.mean((2, 3), keepdim=True) if batch.model.default_sampling.centred else noise


def img2img_steps(steps: int, strength: float) -> int:
    """Steps of a pass of this strength: at least one."""
    return max(1, round(steps * strength))


def decode_images(batch: SamplingBatch, latents: Tensor) -> list[FloatImage]:
    """Latents (B, C, h, w) -> images (H, W, 3) in [0, 1]. Raises ModelError if a pixel is not finite."""
    decoded = batch.model.decode(latents, batch.sampling.precision)  # (B, 3, H, W)
    if not torch.isfinite(decoded).all():  # before clamping turns infinity white
        raise _not_finite("the autoencoder gives pixels that are not finite")
    return list((decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy())


def to_uint8(images: Sequence[FloatImage]) -> list[Pixels]:
    """Images (H, W, 3) in [0, 1] -> uint8. Raises ModelError if a value is not finite."""
    for image in images:
        if not np.isfinite(image).all():
            raise _not_finite("an image has pixels that are not finite")
    return [np.rint(image * 255).astype(np.uint8, order="C") for image in images]


def check_latents(latents: Tensor, seeds: Sequence[int], step: int) -> None:
    """Raises ModelError, which names the first seed, if latents (B, C, h, w) are not finite. seeds: B of them. step: from 1."""
    finite = torch.isfinite(latents).flatten(1).all(1)  # (B,)
    if not finite.all():
        seed = seeds[int(finite.long().argmin())]
        raise _not_finite(f"the image of seed {seed} has values that are not finite after step {step}")


def _not_finite(found: str) -> ModelError:
    return ModelError(
        f"{found}, so it is not written",
        "weights that are finite, in a precision in which all stays finite, are needed",
        "Get or make the model, adapter, LoRA or identity again; or try --precision fp32 or TENTH_MEMORY_PROFILE=float32",
    )
