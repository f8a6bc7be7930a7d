"""The class noun of a person by the model itself: the noun under which it predicts the noise on the photos best.

Source: Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv:2303.16203.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenth.core.rng import StepRNG
from tenth.training.frozen_diffusion import FrozenDiffusion

NOUNS, FALLBACK_NOUN = ("man", "woman"), "person"
PROMPT = "a photo of a {}"
NUM_TRIALS = 8  # noises and timesteps for each photo, the same for each noun
MIN_AGREEMENT = 0.75  # fraction of the photos that have to agree
PHOTO_BATCH = 4  # photos at a time


@torch.no_grad()
def classify_noun(moments: Tensor, frozen: FrozenDiffusion) -> str:
    """man or woman, or person where the photos do not agree. moments: (K, 2C, h, w), as `encode_pixels` gives them."""
    prompt_embeddings = frozen.encode_prompts([PROMPT.format(noun) for noun in NOUNS])
    parts = [slice(start, start + PHOTO_BATCH) for start in range(0, len(moments), PHOTO_BATCH)]

    def denoising_errors(part: slice, noun_index: int) -> Tensor:
        total = torch.zeros(len(moments[part]))
        for trial in range(NUM_TRIALS):
            rng = StepRNG(0, trial, len(moments), part)
            latents = frozen.sample_latents(moments[part], rng).to(frozen.unet.device)
            prompt = prompt_embeddings[torch.full((len(latents),), noun_index)].to(frozen.unet.device)
            total += frozen.per_sample_loss(latents, prompt, None, rng).cpu()
        return total  # (b,)

    # Each photo votes for the noun with the smaller error.
    votes = torch.cat(
        [torch.stack([denoising_errors(part, noun) for noun in range(len(NOUNS))]).argmin(0) for part in parts]
    )  # (K,)
    counts = votes.bincount(minlength=len(NOUNS))
    return NOUNS[int(counts.argmax())] if counts.max() >= MIN_AGREEMENT * len(votes) else FALLBACK_NOUN
