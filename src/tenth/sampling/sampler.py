"""One sampling call: prompts, seeds and embeddings -> images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.types import DiffusionModel, Pixels
from tenth.models.adapters.adapter_scale import set_scale
from tenth.models.pipelines import quiet
from tenth.sampling.config import SamplingConfig
from tenth.sampling.guidance import guidance_hooks
from tenth.sampling.schedulers import SCHEDULERS, a1111_name, using_scheduler

OnStep = Callable[[int], None]  # called with the number of steps done


def sample(
    model: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: SamplingConfig,
    embeddings: Tensor | None = None,
    on_step: OnStep | None = None,
) -> list[Pixels]:
    """One image (H, W, 3) for each prompt and seed. embeddings: of `applied`, (B, M, D), a row per image.

    Raises ModelError if latents or pixels are not finite.
    """
    with sampling_context(model, sampling, embeddings) as image_kwargs:
        text_embeddings = model.prompt_encoder(prompts, sampling.negative_prompt, guided=sampling.guidance_scale > 1)
        kwargs = pipeline_kwargs(prompts, seeds, sampling, on_step, text_embeddings)
        images = model.pipeline(**kwargs, **image_kwargs).images  # (B, H, W, 3) in [0, 1]
    return to_uint8(images)


@contextmanager
def sampling_context(model: DiffusionModel, sampling: SamplingConfig, embeddings: Tensor | None) -> Iterator[dict[str, Any]]:
    """The pipeline with the scale, scheduler, guidance and precision of `sampling`. Gives its arguments for the embeddings.

    Guidance is away from a zero embedding, or, for patch tokens, from those of a black image.
    """
    # The embeddings, with the unconditional ones where there is guidance.
    pipeline = model.pipeline
    image_embeds: list[Tensor] | None = None
    if embeddings is not None:
        set_scale(pipeline, sampling.ip_adapter_scale)
        image_embeds = [model.with_unconditional(embeddings) if sampling.guidance_scale > 1 else embeddings]

    # Guidance. Without a person, all of it is on the text.
    guidance = guidance_hooks(
        pipeline.unet,
        sampling.guidance_scale,
        text_guidance_scale=0.0 if embeddings is None else sampling.text_guidance_scale,
        interval=sampling.guidance_interval,
        num_train_timesteps=int(pipeline.scheduler.config["num_train_timesteps"]),
    )

    # Precision. Not `enabled=False`: that would end the autocast in which a model in training is validated.
    autocast: AbstractContextManager[Any] = nullcontext()
    if sampling.precision == "bf16":
        autocast = torch.autocast(pipeline._execution_device.type, torch.bfloat16)

    pipeline.set_progress_bar_config(disable=True)
    with (
        quiet(),
        autocast,
        checked_decoding(pipeline),
        _precomputed_image_embeds(pipeline, image_embeds),
        using_scheduler(pipeline, sampling.scheduler),
        guidance,
    ):
        yield {} if image_embeds is None else {"ip_adapter_image_embeds": image_embeds}


def sampler_name(model: DiffusionModel, sampling: SamplingConfig) -> str:
    """The sampler's name as A1111 writes it."""
    return SCHEDULERS[sampling.scheduler].a1111_name if sampling.scheduler else a1111_name(model.pipeline.scheduler)


def pipeline_kwargs(
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
    text_embeddings: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """The arguments of a pipeline call, but for a person's. A seed is one noise, whatever its batch.

    text_embeddings: of `PromptEncoder`; None: the pipeline encodes the prompts itself, cut at its limit.
    """

    def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        check_latents(tensors["latents"], seeds, step + 1)
        if on_step is not None:
            on_step(step + 1)
        return tensors

    prompt_kwargs = {"prompt": list(prompts), "negative_prompt": [sampling.negative_prompt] * len(prompts)}
    return {
        **(prompt_kwargs if text_embeddings is None else text_embeddings),
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.guidance_scale,
        "guidance_rescale": sampling.guidance_rescale,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "np",
        "callback_on_step_end": step_done,
    }


def to_uint8(images: Sequence[Any]) -> list[Pixels]:
    """Images (H, W, 3) in [0, 1] -> uint8. Raises ModelError if a value is not finite."""
    for image in images:
        check_pixels(image)
    return [np.rint(image * 255).astype(np.uint8, order="C") for image in images]


@contextmanager
def _precomputed_image_embeds(pipeline: Any, embeddings: list[Tensor] | None) -> Iterator[None]:
    """Inside, the pipeline uses these embeddings. Its own code repeats all rows for each image (diffusers #9813)."""
    pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del pipeline.prepare_ip_adapter_image_embeds


# No image is written of NaN or infinity.


def check_latents(latents: Tensor, seeds: Sequence[int], step: int) -> None:
    """Raises ModelError, which names the first seed, if latents (B, C, h, w) are not finite. seeds: B of them. step: from 1."""
    finite = torch.isfinite(latents).flatten(1).all(1)  # (B,)
    if not finite.all():
        seed = seeds[int(finite.long().argmin())]
        raise _not_finite(f"the image of seed {seed} has values that are not finite after step {step}")


def check_pixels(image: npt.NDArray[Any]) -> None:
    """Raises ModelError if an image (H, W, 3) is not finite."""
    if not np.isfinite(image).all():
        raise _not_finite("an image has pixels that are not finite")


@contextmanager
def checked_decoding(pipeline: Any) -> Iterator[None]:
    """Inside, the decoder raises ModelError for output that is not finite, before clamping turns infinity white."""

    def check(_: Any, __: Any, decoded: Any) -> None:
        if isinstance(decoded, Tensor) and not torch.isfinite(decoded).all():
            raise _not_finite("the autoencoder gives pixels that are not finite")

    hook = pipeline.vae.decoder.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


def _not_finite(found: str) -> ModelError:
    return ModelError(
        f"{found}, so it is not written",
        "weights that are finite, in a precision in which all stays finite, are needed",
        "Get or make the model, adapter, LoRA or identity again; or try --precision fp32 or TENTH_MEMORY_PROFILE=float32",
    )
