"""The modules of the pocket model that are trained, UNet and text encoder: the loss of a step, and the folder that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tenth.core.files.writing import atomic_folder, write_bytes, write_tensors
from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter, ip_adapter_state_dict
from tenth.models.denoiser import Conditioning, predict
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.paths import ADAPTER_PATH, MODEL_DIR, STATISTICS_PATH
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.diffusion_loss import ExtraLoss, denoising_loss
from tenth.training.frozen_diffusion import attention_kernels
from tenth.training.state import tensors_under


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


def export_model(folder: Path, weights: Mapping[str, Tensor], autoencoder: Path, encoder: FaceEncoder) -> None:
    """Write the folder that ships, in half precision, whole or not at all.

    weights: "unet.*" with the adapter's, "text_encoder.*". autoencoder: its file.
    """
    model = PocketModules.create(MODEL_DIR)
    base_names = set(model.unet.state_dict())
    install_ip_adapter(model.unet, init_ip_adapter(model.unet, encoder.embedding_dim))
    for name, module in (("unet", model.unet), ("text_encoder", model.text_encoder)):
        module.load_state_dict(tensors_under(weights, name), strict=False)
    unet = {name: value for name, value in model.unet.state_dict().items() if name in base_names}
    with atomic_folder(folder) as new:
        for config in MODEL_DIR.rglob("*"):
            if config.suffix in (".json", ".txt"):
                write_bytes(new / config.relative_to(MODEL_DIR), config.read_bytes())
        write_half(new / "vae/diffusion_pytorch_model.safetensors", load_file(autoencoder))
        write_half(new / "unet/diffusion_pytorch_model.safetensors", unet)
        write_half(new / "text_encoder/model.safetensors", model.text_encoder.state_dict())
        write_half(new / ADAPTER_PATH, ip_adapter_state_dict(model.unet))
        write_tensors(new / STATISTICS_PATH, {"centre": encoder.mean, "scale": torch.tensor(encoder.std)})


def write_half(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write floating-point tensors as float16, others as they are."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    write_tensors(path, half, {"format": "pt"})
