"""No image is written of NaN or infinity: checks of latents, decoder output and pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tenth.core.errors import ModelError


def check_latents(latents: Tensor, seeds: Sequence[int], step: int) -> None:
    """Raises ModelError, which names the first seed, if latents (B, C, h, w) are not finite. seeds: B of them. step: from 1."""
    finite = torch.isfinite(latents).flatten(1).all(1)  # (B,)
    if not finite.all():
        seed = seeds[int(finite.long().argmin())]
        raise _not_finite(f"the picture of seed {seed} is no longer made of numbers after step {step}")


def check_pixels(image: npt.NDArray[Any]) -> None:
    """Raises ModelError if an image (H, W, 3) is not finite."""
    if not np.isfinite(image).all():
        raise _not_finite("a picture has pixels that are no numbers")


@contextmanager
def checked_decoding(pipeline: Any) -> Iterator[None]:
    """Inside, the decoder raises ModelError for output that is not finite, before clamping turns infinity white."""

    def check(_: Any, __: Any, decoded: Any) -> None:
        if isinstance(decoded, Tensor) and not torch.isfinite(decoded).all():
            raise _not_finite("the autoencoder gives pixels that are no numbers")

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
