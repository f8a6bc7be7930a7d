"""Which noun a model itself would call somebody by: the one under which it predicts the noise on the photos best.

Source: Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv:2303.16203.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenth.core.rng import Draws
from tenth.training.frozen_diffusion import Frozen

NOUNS, UNSURE = ("man", "woman"), "person"
PROMPT = "a photo of a {}"
TIMES = 8  # noises and timesteps for each photo, the same under each noun
SURE = 0.75  # share of the photos that have to agree
BATCH = 4  # photos at a time


@torch.no_grad()
def likely_noun(moments: Tensor, frozen: Frozen) -> str:
    """man or woman, or person where the photos do not agree. moments: (K, 2C, h, w) of the photos, as Frozen encodes them."""
    texts = frozen.encode_prompts([PROMPT.format(noun) for noun in NOUNS])
    parts = [slice(start, start + BATCH) for start in range(0, len(moments), BATCH)]

    def errors(part: slice, noun: int) -> Tensor:
        total = torch.zeros(len(moments[part]))
        for time in range(TIMES):
            draws = Draws(0, time, len(moments), part)
            latents = frozen.latents(moments[part], draws).to(frozen.unet.device)
            rows = texts[torch.full((len(latents),), noun)].to(frozen.unet.device)
            total += frozen.errors(latents, rows, None, draws).cpu()
        return total  # (b,)

    votes = torch.cat([torch.stack([errors(part, noun) for noun in range(len(NOUNS))]).argmin(0) for part in parts])  # (K,)
    counts = votes.bincount(minlength=len(NOUNS))
    return NOUNS[int(counts.argmax())] if counts.max() >= SURE * len(votes) else UNSURE
