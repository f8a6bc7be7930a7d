"""A picture -> the same drawn again from little noise: one call of the pipeline that also draws from noise alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tenth.core.rng import seed_of
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.sampling.config import Sampling
from tenth.sampling.resolutions import Size
from tenth.sampling.sampler import OnStep, asked, drawing

Floats = npt.NDArray[np.float32]  # (H, W, 3) in [0, 1]; between passes nothing is rounded

LARGEST_WHOLE = 1024 * 1024  # pixels that the autoencoder reads and writes at once; of more, in tiles where it can


@dataclass(frozen=True, eq=False)
class Scene:
    """What a batch of pictures shows, a row each, while its identities are on the model. embeddings: (B, M, D) or None."""

    model: LatentDiffusion
    sampling: Sampling
    prompts: Sequence[str]
    seeds: Sequence[int]
    embeddings: Tensor | None = None

    def row(self, number: int) -> Scene:
        """One picture of the batch, alone."""
        rows = slice(number, number + 1)
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return replace(self, prompts=self.prompts[rows], seeds=self.seeds[rows], embeddings=embeddings)

    def again(self, purpose: str, number: int) -> Scene:
        """The same with other noise, a function of the first."""
        return replace(self, seeds=[seed_of(purpose, seed, number) for seed in self.seeds])


def parts_of(model: LatentDiffusion) -> Any:
    """The model's pipeline: diffusers' types do not know its parts."""
    return model.pipeline


def draws_one_square(model: LatentDiffusion) -> bool:
    """Whether it is a pocket model, which has seen upright faces in one square and knows no detail but that of it."""
    return isinstance(parts_of(model).vae, PocketAutoencoder)


def trained_side(model: LatentDiffusion) -> int:
    """Side of the square, in pixels, that the model draws when no size is asked for."""
    pipeline = parts_of(model)
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


def run(
    scene: Scene,
    size: Size,
    on_step: OnStep | None = None,
    begin: Callable[[Any, list[torch.Generator]], Tensor] | None = None,
    strength: float = 1.0,
) -> list[Floats]:
    """One call of the pipeline: pictures (H, W, 3) of a size. begin: gives the latents to begin with (B, C, h, w).

    strength: share of the sampling's steps that are taken, the last ones.

    SDXL is told this size as the original's and the target's, as in its training on whole pictures.
    """
    pipeline = parts_of(scene.model)
    with (
        drawing(scene.model, scene.sampling, scene.embeddings) as images,
        _in_tiles(pipeline.vae, size),
        _beginning_late(pipeline, strength),
    ):
        texts = scene.model.texts(scene.prompts, scene.sampling.negative, guided=scene.sampling.guidance > 1)
        call = asked(scene.prompts, scene.seeds, scene.sampling, on_step, texts)
        if begin is not None:
            call["latents"] = begin(pipeline, call["generator"])
        return list(pipeline(**call, height=size.height, width=size.width, **images).images)


def redraw(scene: Scene, image: Floats, strength: float, on_step: OnStep | None = None) -> Floats:
    """One picture (H, W, 3) with noise added, and denoised again at its size, by the pipeline that draws from noise.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit). What diffusers' image-to-image pipelines compute, but for the
    autoencoder's mean in place of a draw, and with `Sampling.rescale`, which that of Stable Diffusion 1.5 does not know.
    """
    size = Size(image.shape[1], image.shape[0])

    def begin(pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        scheduler, device = pipeline.scheduler, pipeline.unet.device
        latents = encoded(pipeline, image)  # (1, C, h, w)
        # The generator goes on to the pipeline, so that a sampler that adds noise of its own does not add the same again.
        noise = torch.randn(latents.shape, generator=generators[0]).to(latents)
        scheduler.set_timesteps(scene.sampling.steps, device=device)
        noisy: Tensor = scheduler.add_noise(latents, noise, scheduler.timesteps[:1])
        return noisy.div(scheduler.init_noise_sigma)  # by which the pipeline multiplies

    return run(scene, size, on_step, begin, strength)[0]


def steps_again(steps: int, strength: float) -> int:
    """How many of a sampling's steps a second pass takes: at least one."""
    return max(1, round(steps * strength))


@contextmanager
def _beginning_late(pipeline: Any, strength: float) -> Iterator[None]:
    """The pipeline with a copy of its scheduler that leaves out the first steps; with strength 1 as it is."""
    if strength == 1:
        yield
        return
    own = pipeline.scheduler
    late = type(own).from_config(own.config)
    all_steps, begin = late.set_timesteps, getattr(late, "set_begin_index", None)

    def last_steps(count: int, **given: Any) -> None:
        all_steps(count, **given)
        left_out = (count - steps_again(count, strength)) * late.order
        late.timesteps = late.timesteps[left_out:]
        if begin is not None:  # schedulers count from the first of all steps, pipelines from the first that is left
            late.set_begin_index = lambda index=0: begin(left_out + index)
            late.set_begin_index()

    late.set_timesteps = last_steps
    pipeline.scheduler = late
    try:
        yield
    finally:
        pipeline.scheduler = own


@torch.no_grad()
def encoded(pipeline: Any, image: Floats) -> Tensor:
    """A picture (H, W, 3) -> latents (1, C, h, w) in the UNet's scale and precision: the mean, nothing is drawn."""
    vae = pipeline.vae
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] * 2 - 1  # (1, 3, H, W)
    overflows = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)  # SDXL's does
    if overflows:
        vae.to(torch.float32)
    try:
        found = vae.encode(pixels.to(vae.device, vae.dtype))
    finally:
        if overflows:
            vae.to(torch.float16)
    mean = found.latent_dist.mode() if "latent_dist" in found else found.latents
    middle, spread = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if middle is not None and spread is not None:
        mean = (mean - mean.new_tensor(middle).view(1, -1, 1, 1)) / mean.new_tensor(spread).view(1, -1, 1, 1)
    latents: Tensor = (mean * vae.config.scaling_factor).to(pipeline.unet.dtype)
    return latents


@contextmanager
def _in_tiles(vae: Any, size: Size) -> Iterator[None]:
    """The autoencoder working in tiles if the picture is large and it can; as it was afterwards."""
    turned_on = size.area > LARGEST_WHOLE and hasattr(vae, "enable_tiling") and not vae.use_tiling
    if turned_on:
        vae.enable_tiling()
    try:
        yield
    finally:
        if turned_on:
            vae.disable_tiling()


def fitted(image: Floats, size: Size) -> Floats:
    """A picture (h, w, 3) enlarged or reduced by Lanczos' filter until it covers the size, its middle: (H, W, 3)."""
    height, width = image.shape[:2]
    if (width, height) == (size.width, size.height):
        return image
    scale = max(size.width / width, size.height / height)
    left, top = (width - size.width / scale) / 2, (height - size.height / scale) / 2
    box = (left, top, width - left, height - top)
    channels = [Image.fromarray(np.ascontiguousarray(image[..., number])) for number in range(3)]
    scaled = [channel.resize((size.width, size.height), Image.Resampling.LANCZOS, box) for channel in channels]
    return np.stack([np.asarray(channel) for channel in scaled], -1).clip(0, 1)
