"""One sampling call: prompts, seeds and embeddings -> images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import Diffusion, Pixels
from tenth.models.adapters.adapter_scale import set_scale
from tenth.models.pipelines import quiet
from tenth.sampling.config import Sampling
from tenth.sampling.finite import check_latents, check_pixels, decoding
from tenth.sampling.guidance import guided
from tenth.sampling.schedulers import SCHEDULERS, label_of, scheduled

OnStep = Callable[[int], None]  # called with the number of steps done


def sample(
    model: Diffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    embeddings: Tensor | None = None,
    on_step: OnStep | None = None,
) -> list[Pixels]:
    """One image (H, W, 3) for each prompt and seed. embeddings: from `applied`, a row an image.

    Raises ModelError where what is drawn is no longer a number (finite.py).
    """
    with drawing(model, sampling, embeddings) as images:
        texts = model.texts(prompts, sampling.negative, guided=sampling.guidance > 1)
        drawn = model.pipeline(**asked(prompts, seeds, sampling, on_step, texts), **images).images  # (B, H, W, 3) in [0, 1]
    return to_pixels(drawn)


@contextmanager
def drawing(model: Diffusion, sampling: Sampling, embeddings: Tensor | None) -> Iterator[dict[str, Any]]:
    """Scale, scheduler, guidance and precision as asked, diffusers quiet. Gives what a pipeline takes embeddings by.

    Guidance leads away from a zero embedding, or, of patch tokens, from those of a picture of zeros.
    """
    images: dict[str, Any] = {}
    if embeddings is not None:
        set_scale(model.pipeline, sampling.scale)
        images = {"ip_adapter_image_embeds": [model.beside_nobody(embeddings) if sampling.guidance > 1 else embeddings]}
    words = sampling.words if embeddings is not None else 0.0  # of nobody, guidance is on words alone
    noisy = int(model.pipeline.scheduler.config["num_train_timesteps"])
    model.pipeline.set_progress_bar_config(disable=True)
    # Not `enabled=False`: that would end the autocast in which a model that is being trained is watched.
    half = (
        torch.autocast(model.pipeline._execution_device.type, torch.bfloat16) if sampling.precision == "bf16" else nullcontext()
    )
    with (
        quiet(),
        half,
        decoding(model.pipeline),
        _as_given(model.pipeline, images.get("ip_adapter_image_embeds")),
        scheduled(model.pipeline, sampling.scheduler),
        guided(model.pipeline.unet, sampling.guidance, words=words, within=sampling.guidance_interval, timesteps=noisy),
    ):
        yield images


def sampler_name(model: Diffusion, sampling: Sampling) -> str:
    """The sampler's name as A1111 has it."""
    return SCHEDULERS[sampling.scheduler].label if sampling.scheduler else label_of(model.pipeline.scheduler)


def asked(
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    on_step: OnStep | None = None,
    texts: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """The arguments of a call of a pipeline, but for a person's. A seed is one noise, whatever its batch.

    texts: the prompts' embeddings as `Texts` gives them; None: the pipeline reads the prompts itself, no further than it can.
    """

    def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        check_latents(tensors["latents"], seeds, step + 1)
        if on_step is not None:
            on_step(step + 1)
        return tensors

    plain = {"prompt": list(prompts), "negative_prompt": [sampling.negative] * len(prompts)}
    return {
        **(plain if texts is None else texts),
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.guidance,
        "guidance_rescale": sampling.rescale,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "np",
        "callback_on_step_end": step_done,
    }


def to_pixels(drawn: Sequence[Any]) -> list[Pixels]:
    """Images (H, W, 3) in [0, 1] as diffusers gives them -> whole numbers to 255. Raises ModelError for what is no number."""
    for image in drawn:
        check_pixels(image)
    return [np.rint(image * 255).astype(np.uint8, order="C") for image in drawn]


@contextmanager
def _as_given(pipeline: Any, embeddings: list[Tensor] | None) -> Iterator[None]:
    """diffusers repeats all rows for each image, so that every image sees every person (#9813); ours match already."""
    pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del pipeline.prepare_ip_adapter_image_embeds
