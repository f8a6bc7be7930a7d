"""The frozen model beside which a person or an adapter is trained, of whatever kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from tenth.core.rng import StepRNG
from tenth.core.types import DiffusionModel
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.flow_matching.frozen_transformer import frozen_transformer
from tenth.training.flow_matching.time_sampling import TimeSampling
from tenth.training.frozen_diffusion import frozen_diffusion


class FrozenModel(Protocol):
    """FrozenDiffusion or FrozenTransformer, which explain each method. network: its UNet or transformer."""

    network: Any

    @property
    def device(self) -> torch.device: ...
    @property
    def resolution(self) -> int: ...
    @property
    def has_pooled_text(self) -> bool: ...

    def digest(self, *names: str) -> str: ...
    def encode_prompts(self, prompts: Sequence[str], *, with_gradients: bool = False) -> PromptEmbeddings: ...
    def encode_with_flip(self, pixels: Tensor) -> Tensor: ...
    def sample_latents(self, moments: Tensor, rng: StepRNG) -> Tensor: ...
    def per_sample_loss(
        self,
        latents: Tensor,
        prompt_embeddings: PromptEmbeddings,
        image_embeddings: Tensor | None,
        rng: StepRNG,
        min_snr_gamma: float = ...,
    ) -> Tensor: ...
    def adapter_state_dict(self) -> dict[str, Tensor]: ...
    def cast_frozen_weights(self, precision: torch.dtype) -> AbstractContextManager[None]: ...
    def autocast(self, precision: torch.dtype) -> torch.autocast: ...
    def gradient_checkpointing(self, enabled: bool) -> AbstractContextManager[None]: ...
    def text_encoders_freed(self) -> AbstractContextManager[None]: ...
    def text_encoders_loaded(self) -> AbstractContextManager[None]: ...


@contextmanager
def frozen_model(
    model: DiffusionModel,
    times: TimeSampling | None = None,
    adapter_parts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Iterator[FrozenModel]:
    """A frozen UNet or transformer, as before when the block ends. times: of a transformer; None for the usual ones.

    adapter_parts: an IP-Adapter to train, as `load_ip_adapter` gives it, installed until the block ends.
    """
    if model.family is None:
        with frozen_diffusion(model.pipeline, adapter_parts) as diffusion:
            yield diffusion
    else:
        with frozen_transformer(model, times or TimeSampling(), adapter_parts) as transformer:
            yield transformer
