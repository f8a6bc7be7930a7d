"""A frozen diffusion model beside which an adapter or LoRA is trained: its encoders, and the denoising loss of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import installed_ip_adapter, ip_adapter_state_dict
from tenth.models.denoiser import Conditioning, predict, sdxl_time_ids
from tenth.models.latents import to_unet_scale
from tenth.models.memory.half_precision import require_float32
from tenth.models.pipeline_parts import NETWORKS
from tenth.models.pipelines import training_scheduler
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.diffusion_loss import denoising_loss
from tenth.training.frozen_network import (
    autocast,
    cast_frozen_weights,
    gradient_checkpointing,
    restored_modes,
    weights_digest,
)

FUSED_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# Positions in the latents up to which plain attention is faster on a CPU; for more, its matrices are too large.
MAX_PLAIN_ATTENTION_POSITIONS = 256


@contextmanager
def frozen_diffusion(
    pipeline: Any, adapter_parts: Mapping[str, Mapping[str, Tensor]] | None = None
) -> Iterator[FrozenDiffusion]:
    """A pipeline with all parameters frozen and the UNet in training mode; both as before when the block ends.

    adapter_parts: an IP-Adapter to train, as `load_ip_adapter` gives it, installed until the block ends. The UNet's parameters
    that require gradients are then exactly the adapter's. Raises ModelError if layers hold their weights in 16 bits.
    """
    require_float32(pipeline.unet)
    modules = [module for name in NETWORKS if (module := getattr(pipeline, name, None)) is not None]
    with restored_modes(modules):
        for module in modules:
            module.requires_grad_(False)
        with nullcontext() if adapter_parts is None else installed_ip_adapter(pipeline.unet, adapter_parts):
            pipeline.unet.train()
            yield FrozenDiffusion(pipeline)


class FrozenDiffusion:
    """Text encoder, autoencoder and UNet of a pipeline that `frozen_diffusion` has frozen."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.unet, self.network = pipeline, pipeline.unet, pipeline.unet
        self.scheduler = training_scheduler(pipeline)

    def cast_frozen_weights(self, precision: torch.dtype) -> AbstractContextManager[None]:
        """The UNet's frozen layers in the precision in which autocast uses them."""
        return cast_frozen_weights(self.unet, precision)

    def autocast(self, precision: torch.dtype) -> torch.autocast:
        """Autocast as in a training step, for sampling between steps: cast layers run in nothing else."""
        return autocast(self.device, precision)

    def gradient_checkpointing(self, enabled: bool) -> AbstractContextManager[None]:
        """With gradient checkpointing, if enabled."""
        return gradient_checkpointing(self.unet, enabled)

    def text_encoders_freed(self) -> AbstractContextManager[None]:
        """Nothing is freed: a UNet's text encoders are small, and may be trained."""
        return nullcontext()

    def text_encoders_loaded(self) -> AbstractContextManager[None]:
        """Nothing was freed."""
        return nullcontext()

    @property
    def device(self) -> torch.device:
        """Where the UNet computes."""
        device: torch.device = self.unet.device
        return device

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the model generates."""
        return int(self.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def has_pooled_text(self) -> bool:
        """Whether the UNet also reads a pooled text embedding (SDXL)."""
        return getattr(self.pipeline, "text_encoder_2", None) is not None

    def digest(self, *names: str) -> str:
        """First 16 hexadecimal digits of the sha256 over the weights of these parts, for cache keys."""
        return weights_digest(*(part for name in names if (part := getattr(self.pipeline, name, None)) is not None))

    def encode_prompts(self, prompts: Sequence[str], *, with_gradients: bool = False) -> PromptEmbeddings:
        """Each prompt as the pipeline encodes it. with_gradients: for text encoders that are trained."""
        with torch.set_grad_enabled(with_gradients):
            hidden, _, *pooled = self.pipeline.encode_prompt(
                list(prompts), device=self.pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        return PromptEmbeddings(hidden, pooled[0] if pooled else None)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> moments (B, 2C, h, w): mean, log variance; (B, C, h, w) of a deterministic encoder."""
        vae = self.pipeline.vae
        encoded = vae.encode(pixels.to(vae.device, vae.dtype))
        moments: Tensor = encoded.latent_dist.parameters if "latent_dist" in encoded else encoded.latents
        return moments

    def encode_with_flip(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> moments as they are and mirrored (B, 2, C', h, w), float32 on the CPU."""
        return torch.stack([self.encode_pixels(pixels), self.encode_pixels(pixels.flip(-1))], 1).float().cpu()

    def sample_latents(self, moments: Tensor, rng: StepRNG) -> Tensor:
        """Latents (B, C, h, w) sampled from cached moments, in the UNet's scale."""
        channels = self.unet.config.in_channels
        mean = moments[:, :channels]
        if moments.shape[1] > channels:
            std = torch.exp(0.5 * moments[:, channels:].clamp(-30, 20))
            mean = mean + std * rng.normal(*mean.shape[1:]).to(mean)
        return to_unet_scale(self.pipeline.vae, mean)

    def per_sample_loss(
        self,
        latents: Tensor,
        prompt_embeddings: PromptEmbeddings,
        image_embeddings: Tensor | None,
        rng: StepRNG,
        min_snr_gamma: float = 5.0,
    ) -> Tensor:
        """`denoising_loss` of each image, (B,). latents: (B, C, h, w). prompt_embeddings: B of them.

        image_embeddings: (B, M, D), or None where no adapter is installed.
        """
        height, width = (side * self.pipeline.vae_scale_factor for side in latents.shape[-2:])
        conditioning = Conditioning(prompt_embeddings, image_embeddings, sdxl_time_ids(prompt_embeddings, height, width))

        def predict_noise(noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
            # Checkpointed layers run again in the backward pass, outside this block, and must then take the same kernel.
            use_plain_attention = (
                latents[0, 0].numel() <= MAX_PLAIN_ATTENTION_POSITIONS and not self.unet.is_gradient_checkpointing
            )
            with sdpa_kernel(attention_kernels(latents.device)) if use_plain_attention else nullcontext():
                return predict(self.unet, noisy_latents, timesteps, conditioning)

        return denoising_loss(predict_noise, self.scheduler, latents, rng, min_snr_gamma)

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """The adapter in the official layout."""
        return ip_adapter_state_dict(self.unet)


def attention_kernels(device: torch.device) -> list[SDPBackend]:
    """The fastest attention for training the pocket model: in bfloat16 on a CPU, the fused one's backward pass is slow."""
    return [SDPBackend.MATH] if device.type == "cpu" else FUSED_ATTENTION
