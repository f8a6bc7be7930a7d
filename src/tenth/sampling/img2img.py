"""Image-to-image: an image with noise added is denoised again, by the pipeline that also generates from pure noise."""

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

from tenth.core.rng import derive_seed
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import SamplingConfig
from tenth.sampling.resolutions import Size
from tenth.sampling.sampler import OnStep, pipeline_kwargs, sampling_context

FloatImage = npt.NDArray[np.float32]  # (H, W, 3) in [0, 1]; between passes nothing is rounded

MAX_UNTILED_PIXELS = 1024 * 1024  # the autoencoder processes larger images in tiles, if it can


@dataclass(frozen=True, eq=False)
class SamplingBatch:
    """B images to generate, while their identities are applied to the model. embeddings: (B, M, D) or None."""

    model: LatentDiffusion
    sampling: SamplingConfig
    prompts: Sequence[str]
    seeds: Sequence[int]
    embeddings: Tensor | None = None

    def single(self, index: int) -> SamplingBatch:
        """A batch of one of its images."""
        selected = slice(index, index + 1)
        embeddings = None if self.embeddings is None else self.embeddings[selected]
        return replace(self, prompts=self.prompts[selected], seeds=self.seeds[selected], embeddings=embeddings)

    def with_new_noise(self, purpose: str, pass_index: int) -> SamplingBatch:
        """The same batch with other seeds, a function of the first ones."""
        return replace(self, seeds=[derive_seed(purpose, seed, pass_index) for seed in self.seeds])


def untyped_pipeline(model: LatentDiffusion) -> Any:
    """The model's pipeline as Any: diffusers' types do not declare its parts."""
    return model.pipeline


def native_resolution(model: LatentDiffusion) -> int:
    """Side of the square, in pixels, that the model generates by default."""
    pipeline = untyped_pipeline(model)
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


def run_pipeline(
    batch: SamplingBatch,
    size: Size,
    on_step: OnStep | None = None,
    init_latents: Callable[[Any, list[torch.Generator]], Tensor] | None = None,
    strength: float = 1.0,
) -> list[FloatImage]:
    """One call of the pipeline: images (H, W, 3) of a size.

    init_latents: gives the initial latents (B, C, h, w) from the pipeline and its generators; None: noise.
    strength: fraction of the steps that are taken, the last ones.
    SDXL is conditioned on this size as original and target size, as in its training on whole images.
    """
    pipeline = untyped_pipeline(batch.model)
    with (
        sampling_context(batch.model, batch.sampling, batch.embeddings) as image_kwargs,
        _vae_tiling(pipeline.vae, size),
        _truncated_schedule(pipeline, strength),
    ):
        text_embeddings = batch.model.prompt_encoder(
            batch.prompts, batch.sampling.negative_prompt, guided=batch.sampling.guidance_scale > 1
        )
        kwargs = pipeline_kwargs(batch.prompts, batch.seeds, batch.sampling, on_step, text_embeddings)
        if init_latents is not None:
            kwargs["latents"] = init_latents(pipeline, kwargs["generator"])
        return list(pipeline(**kwargs, height=size.height, width=size.width, **image_kwargs).images)


def img2img(batch: SamplingBatch, image: FloatImage, strength: float, on_step: OnStep | None = None) -> FloatImage:
    """An image (H, W, 3) with noise added, denoised again at its size.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit). Computes what diffusers' image-to-image pipelines do, but with the mean
    of the autoencoder's distribution in place of a sample, and with guidance rescaling, which Stable Diffusion 1.5's lacks.
    """
    size = Size(image.shape[1], image.shape[0])

    def init_latents(pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        scheduler, device = pipeline.scheduler, pipeline.unet.device
        latents = encode_image(pipeline, image)  # (1, C, h, w)
        # The pipeline continues with this generator, so that a stochastic sampler does not add the same noise again.
        noise = torch.randn(latents.shape, generator=generators[0]).to(latents)
        scheduler.set_timesteps(batch.sampling.steps, device=device)
        noisy: Tensor = scheduler.add_noise(latents, noise, scheduler.timesteps[:1])
        return noisy.div(scheduler.init_noise_sigma)  # by which the pipeline multiplies

    return run_pipeline(batch, size, on_step, init_latents, strength)[0]


def img2img_steps(steps: int, strength: float) -> int:
    """Steps of a pass of this strength: at least one."""
    return max(1, round(steps * strength))


@contextmanager
def _truncated_schedule(pipeline: Any, strength: float) -> Iterator[None]:
    """Inside, the pipeline has a copy of its scheduler without the first steps; with strength 1 its own."""
    if strength == 1:
        yield
        return
    original = pipeline.scheduler
    truncated = type(original).from_config(original.config)
    set_timesteps, set_begin_index = truncated.set_timesteps, getattr(truncated, "set_begin_index", None)

    def last_steps(count: int, **given: Any) -> None:
        set_timesteps(count, **given)
        left_out = (count - img2img_steps(count, strength)) * truncated.order
        truncated.timesteps = truncated.timesteps[left_out:]
        if set_begin_index is not None:  # schedulers count from the first of all steps, pipelines from the first remaining one
            truncated.set_begin_index = lambda index=0: set_begin_index(left_out + index)
            truncated.set_begin_index()

    truncated.set_timesteps = last_steps
    pipeline.scheduler = truncated
    try:
        yield
    finally:
        pipeline.scheduler = original


@torch.no_grad()
def encode_image(pipeline: Any, image: FloatImage) -> Tensor:
    """An image (H, W, 3) -> latents (1, C, h, w) in the UNet's scale and precision: the mean of the distribution."""
    vae = pipeline.vae
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] * 2 - 1  # (1, 3, H, W)
    overflows = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)  # as SDXL's does
    if overflows:
        vae.to(torch.float32)
    try:
        output = vae.encode(pixels.to(vae.device, vae.dtype))
    finally:
        if overflows:
            vae.to(torch.float16)
    mean = output.latent_dist.mode() if "latent_dist" in output else output.latents
    latents_mean, latents_std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if latents_mean is not None and latents_std is not None:
        mean = (mean - mean.new_tensor(latents_mean).view(1, -1, 1, 1)) / mean.new_tensor(latents_std).view(1, -1, 1, 1)
    latents: Tensor = (mean * vae.config.scaling_factor).to(pipeline.unet.dtype)
    return latents


@contextmanager
def _vae_tiling(vae: Any, size: Size) -> Iterator[None]:
    """Inside, the autoencoder works in tiles if the image is large and it supports them."""
    use_tiling = size.area > MAX_UNTILED_PIXELS and hasattr(vae, "enable_tiling") and not vae.use_tiling
    if use_tiling:
        vae.enable_tiling()
    try:
        yield
    finally:
        if use_tiling:
            vae.disable_tiling()


def resize_to_cover(image: FloatImage, size: Size) -> FloatImage:
    """Resize an image (h, w, 3) with Lanczos' filter until it covers the size, and crop its center: (H, W, 3)."""
    height, width = image.shape[:2]
    if (width, height) == (size.width, size.height):
        return image
    scale = max(size.width / width, size.height / height)
    left, top = (width - size.width / scale) / 2, (height - size.height / scale) / 2
    box = (left, top, width - left, height - top)
    channels = [Image.fromarray(np.ascontiguousarray(image[..., number])) for number in range(3)]
    scaled = [channel.resize((size.width, size.height), Image.Resampling.LANCZOS, box) for channel in channels]
    return np.stack([np.asarray(channel) for channel in scaled], -1).clip(0, 1)
