"""Classifier-free guidance: in an interval of the denoising only, and further guidance on the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tenth.sampling.bounds import FULL_INTERVAL

IMAGE_EMBEDS_KEY = "image_embeds"  # diffusers' name of the person's embeddings among the UNet's inputs


@contextmanager
def guidance_hooks(
    unet: Any,
    guidance_scale: float,
    *,
    text_guidance_scale: float = 0.0,
    interval: tuple[float, float] = FULL_INTERVAL,
    num_train_timesteps: int,
) -> Iterator[None]:
    """Change classifier-free guidance from inside the UNet, which is given [negative; prompt] rows by pipelines.

    guidance_scale: the pipeline's. text_guidance_scale: of further guidance from the negative towards the prompt without a
    person; the UNet then computes three predictions per image, and the third is folded into the negative one.
    interval: guidance is on where start <= 1 - t / num_train_timesteps <= end, so that 0 is pure noise and 1 the finished
    image, whatever the scheduler and the number of steps. Outside, the UNet computes the prompt's prediction alone, which is
    returned for both, so that guidance adds nothing. The UNet is as before when the block ends.
    Sources: Kynkäänniemi et al. 2024, arXiv:2404.07724, whose interval is in noise levels; Liu et al. 2022, composable
    diffusion, arXiv:2206.01714, the conjunction: here of a prompt, and of the prompt with a person.
    """
    if guidance_scale <= 1 or (interval == FULL_INTERVAL and not text_guidance_scale):
        yield
        return
    branches_inside, text_weight = (3, text_guidance_scale / (guidance_scale - 1)) if text_guidance_scale else (2, 0.0)
    num_branches = 2  # predictions per image in the current step

    def pre_forward(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal num_branches
        denoised_fraction = 1 - float(torch.as_tensor(args[1]).flatten()[0]) / num_train_timesteps
        num_branches = branches_inside if interval[0] <= denoised_fraction <= interval[1] else 1
        if num_branches == 2:
            return args, dict(kwargs)
        change = _conditional_half if num_branches == 1 else _add_null_identity
        return (change(args[0], "sample"), *args[1:]), {name: change(value, name) for name, value in kwargs.items()}

    def post_forward(_: Any, __: Any, predicted: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if num_branches == 1:
            return tuple(torch.cat([output, output]) for output in predicted)
        if num_branches == 3:
            return tuple(_fold_text_guidance(output, text_weight) for output in predicted)
        return predicted

    hooks = unet.register_forward_pre_hook(pre_forward, with_kwargs=True), unet.register_forward_hook(post_forward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fold_text_guidance(predicted: Tensor, weight: float) -> Tensor:
    """[negative; prompt; without a person] -> [negative; prompt], from which the pipeline computes all three terms."""
    negative, prompt, unconditional = predicted.chunk(3)
    return torch.cat([negative - weight * (unconditional - negative), prompt])


def _conditional_half(value: Any, name: str) -> Any:
    """The prompt's half of every tensor's rows, through lists and mappings."""
    return _map_rows(value, name, lambda _, halves: halves[1])


def _add_null_identity(value: Any, name: str) -> Any:
    """[negative; prompt] rows with a third part: the prompt's latents and text, and the null embedding of the negative."""
    return _map_rows(value, name, lambda name, halves: torch.cat([*halves, halves[name != IMAGE_EMBEDS_KEY]]))


def _map_rows(value: Any, name: str, change: Callable[[str, tuple[Tensor, ...]], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(name, value.chunk(2)) if value.ndim else value
    if isinstance(value, Mapping):
        return {key: _map_rows(item, key, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_rows(item, name, change) for item in value)
    return value
