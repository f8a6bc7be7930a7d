"""Classifier-free guidance in a part of the denoising only, outside which the UNet reads an image once; more of it on words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tenth.sampling.config import ALWAYS

PERSON = "image_embeds"  # what a row of the UNet has of its person, by diffusers' name


@contextmanager
def guided(
    unet: Any, guidance: float, *, words: float = 0.0, within: tuple[float, float] = ALWAYS, timesteps: int
) -> Iterator[None]:
    """Change what classifier-free guidance does, from inside the UNet. It is given [negative; prompt] rows, as pipelines do.

    guidance: that of the pipeline. words: a further one, from the negative towards the prompt as it would be drawn of nobody,
    where no embedding speaks against it; the UNet then reads each image three times, and what it found goes into the negative
    rows' prediction. within: guide only where start <= 1 - t / timesteps <= end. 0 is pure noise, 1 the finished image, on the
    schedule that the model learnt from: it means the same whatever the sampler and the number of steps. Outside the UNet
    computes the prompt's half, which counts as both, so that guidance adds nothing; image embeddings go with the rest, and no
    image sees another's. The UNet is as before when the block ends. Sources: Kynkäänniemi et al. 2024, arXiv:2404.07724, whose
    interval is in noise levels; Liu et al. 2022, composable diffusion, arXiv:2206.01714, the conjunction: here of a prompt, and
    of the prompt with a person.
    """
    if guidance <= 1 or (within == ALWAYS and not words):
        yield
        return
    rows = 2

    def before(_: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal rows
        done = 1 - float(torch.as_tensor(given[1]).flatten()[0]) / timesteps
        rows = 1 if not within[0] <= done <= within[1] else 3 if words else 2
        if rows == 2:
            return given, dict(named)
        change = _half if rows == 1 else _with_nobody
        return (change(given[0], "sample"), *given[1:]), {name: change(value, name) for name, value in named.items()}

    def after(_: Any, __: Any, predicted: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if rows == 2:
            return predicted
        return tuple(torch.cat([each, each]) if rows == 1 else _towards(each, words / (guidance - 1)) for each in predicted)

    hooks = unet.register_forward_pre_hook(before, with_kwargs=True), unet.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _towards(predicted: Tensor, share: float) -> Tensor:
    """[negative; prompt; nobody] -> [negative; prompt], from which guidance gives what all three are to give together."""
    negative, prompt, nobody = predicted.chunk(3)
    return torch.cat([negative - share * (nobody - negative), prompt])


def _half(value: Any, name: str) -> Any:
    """The second half of every tensor's rows, through lists and mappings."""
    return _rows(value, name, lambda _, halves: halves[1])


def _with_nobody(value: Any, name: str) -> Any:
    """[negative; prompt] rows with a third part: the prompt's latents and text, and nobody, whom the negative has."""
    return _rows(value, name, lambda name, halves: torch.cat([*halves, halves[name != PERSON]]))


def _rows(value: Any, name: str, change: Callable[[str, tuple[Tensor, ...]], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(name, value.chunk(2)) if value.ndim else value
    if isinstance(value, Mapping):
        return {inner: _rows(each, inner, change) for inner, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rows(each, name, change) for each in value)
    return value
