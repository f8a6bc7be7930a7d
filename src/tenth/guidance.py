"""Classifier-free guidance in a part of the denoising only: outside it the UNet reads each image once instead of twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tenth.errors import RecipeError

ALWAYS = (0.0, 1.0)


def check_interval(interval: Sequence[float]) -> None:
    """Raises RecipeError if an interval is not two numbers from 0 to 1, the second not below the first."""
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        found = f"guidance_interval is {list(interval)}"
        raise RecipeError(found, "two numbers from 0 to 1 are needed, the second not below the first", "Correct it")


@contextmanager
def guided_within(unet: Any, interval: tuple[float, float], timesteps: int) -> Iterator[None]:
    """Guide only where start <= 1 - t / timesteps <= end. The UNet is given [negative; prompt] rows, as pipelines do.

    interval: 0 is pure noise, 1 the finished image, on the schedule that the model learnt from: it means the same whatever the
    sampler and the number of steps. Outside it the UNet computes the prompt's half, which counts as both, so that guidance adds
    nothing; image embeddings are halved with the rest, and no image sees another's. The UNet is as before when the block ends.
    Source: Kynkäänniemi et al. 2024, arXiv:2404.07724, whose interval is in noise levels.
    """
    if interval == ALWAYS:
        yield
        return
    alone = False

    def before(_: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal alone
        done = 1 - float(torch.as_tensor(given[1]).flatten()[0]) / timesteps
        alone = not interval[0] <= done <= interval[1]
        if not alone:
            return given, dict(named)
        return (_half(given[0]), *given[1:]), {name: _half(value) for name, value in named.items()}

    def after(_: Any, __: Any, predicted: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.cat([each, each]) for each in predicted) if alone else predicted

    hooks = unet.register_forward_pre_hook(before, with_kwargs=True), unet.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _half(value: Any) -> Any:
    """The second half of every tensor's rows, through lists and mappings."""
    if isinstance(value, Tensor):
        return value.chunk(2)[1] if value.ndim else value
    if isinstance(value, Mapping):
        return {name: _half(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_half, value))
    return value
