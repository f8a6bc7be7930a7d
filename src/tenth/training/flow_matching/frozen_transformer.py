"""A frozen transformer beside which low-rank matrices or an adapter are trained: its encoders, and the loss of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError, RecipeError
from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import installed_ip_adapter, ip_adapter_state_dict
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import TransformerFamily
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.flow_matching.time_sampling import TimeSampling, schedule_shift
from tenth.training.flow_matching.velocity_loss import velocity_loss
from tenth.training.frozen_network import (
    autocast,
    cast_frozen_weights,
    gradient_checkpointing,
    restored_modes,
    swapped_out,
    weights_digest,
)

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@contextmanager
def frozen_transformer(
    model: Any, times: TimeSampling, adapter_parts: Mapping[str, Mapping[str, Tensor]] | None = None
) -> Iterator[FrozenTransformer]:
    """A model of a family with all parameters frozen and the transformer in training mode; as before when the block ends.

    adapter_parts: an IP-Adapter to train, as `load_ip_adapter` gives it, installed until the block ends, in float32.
    Raises ModelError if layers are fetched one by one from where they are kept: nothing is trained through these.
    """
    modules = [module for module in vars(model.pipeline).values() if isinstance(module, nn.Module)]
    if any(parameter.is_meta for parameter in model.pipeline.transformer.parameters()):
        needed = "all of a transformer's weights on the device are needed to train beside them"
        action = "Choose a memory profile with smaller weights, such as 4 bits, or a larger GPU"
        raise ModelError("the transformer is fetched layer by layer", needed, action)
    with restored_modes(modules):
        for module in modules:
            module.requires_grad_(False)
        transformer = model.pipeline.transformer
        with nullcontext() if adapter_parts is None else installed_ip_adapter(transformer, adapter_parts):
            transformer.train()
            yield FrozenTransformer(model, times)


class FrozenTransformer:
    """Text encoders, autoencoder and transformer of a model that `frozen_transformer` has frozen."""

    def __init__(self, model: Any, times: TimeSampling) -> None:
        self.model, self.times = model, times
        self.family: TransformerFamily = model.family
        self.pipeline, self.transformer, self.network = model.pipeline, model.pipeline.transformer, model.pipeline.transformer
        self._freed: ExitStack | None = None

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        device: torch.device = self.model.device
        return device

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the model generates."""
        return int(self.model.native_resolution)

    def digest(self, *names: str) -> str:
        """First 16 hexadecimal digits of the sha256 over the weights of these parts, for cache keys."""
        return weights_digest(*(part for name in names if (part := getattr(self.pipeline, name, None)) is not None))

    @property
    def has_pooled_text(self) -> bool:
        """Whether the transformer also reads a pooled text embedding."""
        return self.family.empty_conditioning(self.pipeline).prompts.pooled is not None

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """The adapter in the official layout."""
        return ip_adapter_state_dict(self.transformer)

    def encode_prompts(self, prompts: Sequence[str], *, with_gradients: bool = False) -> PromptEmbeddings:
        """Each prompt as it is encoded for drawing, without photos in context. Raises RecipeError for gradients."""
        if with_gradients:
            needed = "the text encoders of transformers are never trained"
            raise RecipeError("train_text_encoder is true", needed, "Leave it out")
        with self.model.text_encoders.freed_after():
            embeddings: PromptEmbeddings = self.model.prompt_encoder(prompts, {}, self.device)
        return embeddings.to(torch.device("cpu"))

    @torch.no_grad()
    def encode_with_flip(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents of the images as they are and mirrored (B, 2, C, h, w), float32 on the CPU."""
        both = (pixels.to(self.device), pixels.flip(-1).to(self.device))
        return torch.stack([self.family.encode(self.pipeline, each).float().cpu() for each in both], 1)

    def sample_latents(self, moments: Tensor, rng: StepRNG) -> Tensor:  # noqa: ARG002 - as of FrozenDiffusion
        """The latents as they are: the most likely ones are trained on, as in the published scripts."""
        return moments

    def per_sample_loss(
        self,
        latents: Tensor,
        prompt_embeddings: PromptEmbeddings,
        image_embeddings: Tensor | None,
        rng: StepRNG,
        min_snr_gamma: float = 0.0,  # noqa: ARG002 - as of FrozenDiffusion: all times count alike
    ) -> Tensor:
        """`velocity_loss` of each image, (B,). latents: (B, C, h, w). prompt_embeddings: B of them.

        image_embeddings: (B, M, D), or None where no adapter is installed.
        """
        conditioning = Conditioning(prompt_embeddings, image_embeddings, guidance=self._guidance(len(latents)))

        def predict(noisy_latents: Tensor, timesteps: Tensor) -> Tensor:
            return self.family.predict(self.transformer, noisy_latents, timesteps, conditioning)

        channels, height, width = latents.shape[1:]
        shift = schedule_shift(self.family, self.pipeline.scheduler, (channels, height, width))
        return velocity_loss(predict, latents, rng, self.times, shift)

    def _guidance(self, count: int) -> Tensor | None:
        """The guidance scale (B,) that training gives to a transformer with a layer for it."""
        if not getattr(self.transformer.config, "guidance_embeds", False):
            return None
        return torch.full((count,), self.family.training.guidance or 1.0, device=self.device)

    def cast_frozen_weights(self, precision: torch.dtype) -> AbstractContextManager[None]:
        """The transformer's frozen layers in the precision in which autocast uses them.

        Raises RecipeError for float32 beside weights in fewer bits.
        """
        if precision == torch.float32 and self.transformer.dtype != precision:
            needed = "beside weights in 16 bits it is bf16 or fp16"
            raise RecipeError("precision is fp32", needed, 'Say precision = "bf16", or set TENTH_MEMORY_PROFILE=float32')
        return cast_frozen_weights(self.transformer, precision)

    def autocast(self, precision: torch.dtype) -> torch.autocast:
        """Autocast as in a training step, for sampling between steps: cast layers run in nothing else."""
        return autocast(self.device, precision)

    def gradient_checkpointing(self, enabled: bool) -> AbstractContextManager[None]:
        """With gradient checkpointing, if enabled."""
        return gradient_checkpointing(self.transformer, enabled)

    @contextmanager
    def text_encoders_freed(self) -> Iterator[None]:
        """A block in which text encoders take no memory where the transformer computes: all prompts were encoded before.

        On a GPU they wait in the CPU's memory, on a CPU in a file (`swapped_out`). They are back to the last bit at its end.
        """
        self._free()
        try:
            yield
        finally:
            self._load()

    @contextmanager
    def text_encoders_loaded(self) -> Iterator[None]:
        """A block inside the one above in which they are back, for drawing."""
        was_freed = self._freed is not None
        self._load()
        try:
            yield
        finally:
            if was_freed:
                self._free()

    def _free(self) -> None:
        encoders = [encoder for name in TEXT_ENCODERS if (encoder := getattr(self.pipeline, name, None)) is not None]
        weights = list({id(weight): weight for encoder in encoders for weight in encoder.parameters()}.values())
        weights = [weight for weight in weights if weight.device == self.device]  # not those that a memory profile freed
        stack = ExitStack()
        stack.enter_context(swapped_out(weights))
        self._freed = stack
        for weight in weights:
            weight.data = weight.data.new_empty(0)

    def _load(self) -> None:
        if self._freed is not None:
            stack, self._freed = self._freed, None
            stack.close()
