"""The parts of the pocket model that learn: UNet and text encoder, with the loss of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tenth.core.rng import Draws
from tenth.training.diffusion_loss import Also, noise_loss
from tenth.training.frozen_diffusion import ATTENTION


@dataclass(frozen=True, eq=False)
class Told:
    """What the UNet is told of each image."""

    tokens: Tensor  # (B, T)
    embeddings: Tensor  # (B, M, D), zeros where it is dropped
    changes: Tensor | None = None  # (B, augment.KINDS), how its photo was changed; None where it has no layer for it


@dataclass(frozen=True, eq=False)
class Trainable:
    """The parts of a model that learn, with what stays: made from the configs of a folder, weights random."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    @classmethod
    def create(cls, folder: Path) -> Trainable:
        return cls(
            unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        )

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers (B, T), padded as diffusers' pipelines pad."""
        length = self.tokenizer.model_max_length
        tokens: Tensor = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return tokens

    def noise_loss(self, latents: Tensor, told: Told, draws: Draws, gamma: float = 5.0, also: Also | None = None) -> Tensor:
        """Mean of `noise.noise_loss` over the images."""

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            text = self.text_encoder(told.tokens).last_hidden_state  # (B, T, cross-attention width)
            photos = {"image_embeds": [told.embeddings]}
            with sdpa_kernel(ATTENTION[latents.device.type]):
                found = self.unet(noisy, steps, text, timestep_cond=told.changes, added_cond_kwargs=photos)
            predicted: Tensor = found.sample
            return predicted

        return noise_loss(predict, self.scheduler, latents, draws, gamma, also).mean()
