"""The modules of the pocket model that are trained, UNet and text encoder, and the loss of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import install_ip_adapter
from tenth.models.denoiser import Conditioning, predict
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket, read_statistics
from tenth.models.pocket.paths import STATISTICS_PATH
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.diffusion_loss import ExtraLoss, denoising_loss
from tenth.training.frozen_diffusion import attention_kernels
from tenth.training.pocket.autoencoder import load_autoencoder


@dataclass(frozen=True, eq=False)
class CaptionedPeople:
    """What the UNet is conditioned on, for each image."""

    tokens: Tensor  # (B, T)
    embeddings: Tensor  # (B, M, D), zeros where they are dropped
    augmentation: Tensor | None = None  # (B, NUM_AUGMENTATIONS); None where the UNet has no layer for it


@dataclass(frozen=True, eq=False)
class PocketModules:
    """UNet and text encoder, made from the configs of a folder with random weights, with tokenizer and scheduler."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    @classmethod
    def create(cls, folder: Path) -> PocketModules:
        return cls(
            unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        )

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers (B, T), padded as diffusers' pipelines pad."""
        padding: Any = {"padding": "max_length", "max_length": self.tokenizer.model_max_length, "truncation": True}
        tokens: Tensor = self.tokenizer(list(prompts), **padding, return_tensors="pt").input_ids
        return tokens

    def denoising_loss(
        self,
        latents: Tensor,
        conditions: CaptionedPeople,
        rng: StepRNG,
        min_snr_gamma: float = 5.0,
        extra_loss: ExtraLoss | None = None,
    ) -> Tensor:
        """Mean of `diffusion_loss.denoising_loss` over the images."""

        def predict_noise(noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
            text = self.text_encoder(conditions.tokens).last_hidden_state  # (B, T, cross-attention width)
            conditioning = Conditioning(PromptEmbeddings(text), conditions.embeddings, timestep_cond=conditions.augmentation)
            with sdpa_kernel(attention_kernels(latents.device)):
                return predict(self.unet, noisy_latents, timesteps, conditioning)

        return denoising_loss(predict_noise, self.scheduler, latents, rng, min_snr_gamma, extra_loss).mean()


def load_modules(folder: Path) -> tuple[PocketModules, PocketAutoencoder, FaceEncoder]:
    """A whole model, with its adapter in the UNet. Raises ModelError if the folder is incomplete."""
    loaded, model = load_pocket(folder), PocketModules.create(folder)
    model.unet.load_state_dict(loaded.pipeline.unet.state_dict())
    model.text_encoder.load_state_dict(loaded.pipeline.text_encoder.state_dict())
    install_ip_adapter(model.unet, loaded.adapter_parts)
    autoencoder = load_autoencoder(folder / "vae/diffusion_pytorch_model.safetensors")
    return model, autoencoder, FaceEncoder(*read_statistics(folder / STATISTICS_PATH))
