"""Classifier-free guidance in a part of the denoising only, outside which the UNet reads an image once; more of it on words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tenth.sampling.config import FULL_INTERVAL

IMAGE_EMBEDS_KEY = "image_embeds"  # what a row of the UNet has of its person, by diffusers' name


@contextmanager
def guidance_hooks(
    unet: Any,
    guidance_scale: float,
    *,
    text_guidance_scale: float = 0.0,
    interval: tuple[float, float] = FULL_INTERVAL,
    num_train_timesteps: int,
) -> Iterator[None]:
    """Change what classifier-free guidance does, from inside the UNet. It is given [negative; prompt] rows, as pipelines do.

    guidance_scale: that of the pipeline. text_guidance_scale: a further one, from the negative towards the prompt as it would
    be drawn of nobody, where no embedding speaks against it; the UNet then reads each image three times, and what it found
    goes into the negative rows' prediction. interval: guide only where start <= 1 - t / num_train_timesteps <= end. 0 is pure
    noise, 1 the finished image, on the schedule that the model learnt from: it means the same whatever the sampler and the
    number of steps. Outside the UNet computes the prompt's half, which counts as both, so that guidance adds nothing; image
    embeddings go with the rest, and no image sees another's. The UNet is as before when the block ends. Sources: Kynkäänniemi
    et al. 2024, arXiv:2404.07724, whose interval is in noise levels; Liu et al. 2022, composable diffusion, arXiv:2206.01714,
    the conjunction: here of a prompt, and of the prompt with a person.
    """
    if guidance_scale <= 1 or (interval == FULL_INTERVAL and not text_guidance_scale):
        yield
        return
    num_branches = 2

    def pre_forward(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal num_branches
        denoised_fraction = 1 - float(torch.as_tensor(args[1]).flatten()[0]) / num_train_timesteps
        num_branches = 1 if not interval[0] <= denoised_fraction <= interval[1] else 3 if text_guidance_scale else 2
        if num_branches == 2:
            return args, dict(kwargs)
        expand = _conditional_half if num_branches == 1 else _add_null_identity
        return (expand(args[0], "sample"), *args[1:]), {name: expand(value, name) for name, value in kwargs.items()}

    def post_forward(_: Any, __: Any, predicted: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if num_branches == 2:
            return predicted
        return tuple(
            torch.cat([each, each])
            if num_branches == 1
            else _fold_text_guidance(each, text_guidance_scale / (guidance_scale - 1))
            for each in predicted
        )

    hooks = unet.register_forward_pre_hook(pre_forward, with_kwargs=True), unet.register_forward_hook(post_forward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fold_text_guidance(predicted: Tensor, weight: float) -> Tensor:
    """[negative; prompt; nobody] -> [negative; prompt], from which guidance gives what all three are to give together."""
    negative, prompt, unconditional = predicted.chunk(3)
    return torch.cat([negative - weight * (unconditional - negative), prompt])


def _conditional_half(value: Any, name: str) -> Any:
    """The second half of every tensor's rows, through lists and mappings."""
    return _map_rows(value, name, lambda _, halves: halves[1])


def _add_null_identity(value: Any, name: str) -> Any:
    """[negative; prompt] rows with a third part: the prompt's latents and text, and nobody, whom the negative has."""
    return _map_rows(value, name, lambda name, halves: torch.cat([*halves, halves[name != IMAGE_EMBEDS_KEY]]))


def _map_rows(value: Any, name: str, change: Callable[[str, tuple[Tensor, ...]], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(name, value.chunk(2)) if value.ndim else value
    if isinstance(value, Mapping):
        return {inner: _map_rows(each, inner, change) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_rows(each, name, change) for each in value)
    return value
