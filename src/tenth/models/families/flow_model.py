"""A transformer trained by flow matching, as methods and sampling read every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenth.core.errors import DataError, IdentityError, ModelError, RecipeError
from tenth.core.types import DefaultSampling, Encoder, Identity, Pixels
from tenth.core.wording import pluralize
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.denoiser import CONDITIONAL, UNCONDITIONAL, Conditioning, Conditions, Denoiser
from tenth.models.families.family import LatentShape, TransformerFamily
from tenth.models.families.no_encoder import NoEncoder
from tenth.models.families.prompts import FlowPromptEncoder
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan, next_profile
from tenth.models.trained_resolutions import TrainedResolutions


class FlowModel:
    """A transformer with its text encoders and autoencoder.

    name: "name@digest" over the weights. memory_plan: how the pipeline was loaded (memory/planner.py).
    """

    def __init__(self, family: TransformerFamily, pipeline: Any, name: str, memory_plan: MemoryPlan = DEFAULT_PLAN) -> None:
        self.family, self.pipeline, self.name, self.memory_plan = family, pipeline, name, memory_plan
        self.adapter_name, self.max_context_photos, self.size_multiple = "", family.max_context_photos, family.size_multiple
        self.trained_methods: Mapping[str, Path] = {}
        self.prompt_encoder = FlowPromptEncoder(family, pipeline)
        self.encoder: Encoder = NoEncoder(self.short_name)
        self.adapters: Mapping[str, Any] = {}
        self.adapter_parts: dict[str, dict[str, Tensor]] = {}

    @property
    def short_name(self) -> str:
        """The name for messages."""
        return self.name.partition("@")[0]

    @property
    def trained_resolutions(self) -> TrainedResolutions:
        """At which sizes the model was trained."""
        return TrainedResolutions.ANY_ASPECT

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        parameter: Tensor = next(self.pipeline.transformer.parameters())
        return torch.device(self.memory_plan.device) if parameter.is_meta else parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and embeddings."""
        dtype: torch.dtype = self.pipeline.transformer.dtype
        return dtype

    @property
    def native_resolution(self) -> int:
        """Side of the square, in pixels, that the model generates by default: the family's, or the autoencoder's if less."""
        resolution, trained = self.family.resolution, getattr(self.pipeline.vae.config, "sample_size", None)
        side = min(resolution, trained) // self.size_multiple * self.size_multiple if isinstance(trained, int) else 0
        return side if side > 0 else resolution

    @property
    def default_sampling(self) -> DefaultSampling:
        """How it is sampled where nothing else is asked for."""
        return self.family.default_sampling(self.pipeline)

    @property
    def is_guidance_distilled(self) -> bool:
        """Whether guidance is in the weights, and one prediction a step is enough."""
        return self.family.is_guidance_distilled(self.pipeline)

    def latent_shape(self, height: int, width: int) -> LatentShape:
        """Of the latents (C, h, w) of an image."""
        return self.family.latent_shape(self.pipeline, height, width)

    def set_timesteps(self, scheduler: Any, steps: int, latent_shape: LatentShape) -> None:
        """Set a scheduler to so many steps, with the family's shift for latents of this shape."""
        self.family.set_timesteps(scheduler, steps, latent_shape, self.device)

    def conditionings(self, conditions: Conditions) -> dict[str, Conditioning]:
        """What each of guidance's terms is conditioned on. Guidance leads away from the negative, with the same photos."""
        context = {name: self._placed(tensor) for name, tensor in conditions.context.items()}
        prompts, guidance = self.prompt_encoder(conditions.prompts, context, self.device), None
        if getattr(self.pipeline.transformer.config, "guidance_embeds", False):
            guidance = torch.full((len(conditions.prompts),), conditions.guidance_scale, device=self.device)
        person = Conditioning(prompts, conditions.embeddings, context=context, guidance=guidance)
        if not conditions.guided:
            return {CONDITIONAL: person}
        negative = self.prompt_encoder([conditions.negative_prompt] * len(conditions.prompts), context, self.device)
        return {UNCONDITIONAL: Conditioning(negative, conditions.embeddings, context=context), CONDITIONAL: person}

    def _placed(self, tensor: Tensor) -> Tensor:
        """On the device, numbers with a fraction in the transformer's type."""
        return tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)

    @torch.no_grad()
    def encode_photos(self, photos: Sequence[Pixels]) -> Mapping[str, Tensor]:
        """Photos (H, W, 3) -> an identity's context, on the CPU. Raises DataError for more than the family takes, or none."""
        if not 0 < len(photos) <= self.max_context_photos:
            needed = f"{self.short_name} takes 1 to {self.max_context_photos}" if self.max_context_photos else "it takes none"
            raise DataError(f"{pluralize(len(photos), 'photo')} in context", needed, "Choose fewer, or another model")
        return {name: tensor.cpu() for name, tensor in self.family.encode_photos(self.pipeline, photos).items()}

    def denoiser(self, precision: str = "fp32") -> Denoiser:  # noqa: ARG002 - of compiled networks alone
        """The network that sampling calls in each step."""
        return partial(self.family.predict, self.pipeline.transformer)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) in the transformer's scale."""
        return self.family.encode(self.pipeline, pixels.to(self.device)).to(self.dtype)

    def decode(self, latents: Tensor, precision: str = "fp32") -> Tensor:  # noqa: ARG002 - of compiled networks alone
        """Latents (B, C, h, w) in the transformer's scale -> (B, 3, H, W), about [-1, 1]."""
        return self.family.decode(self.pipeline, latents)

    def decode_preview(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W), about [-1, 1]."""
        return self.decode(latents)

    def unconditional_like(self, embeddings: Tensor) -> Tensor:
        """What guidance leads away from, in the shape of embeddings (B, M, D)."""
        return torch.zeros_like(embeddings)

    def backend_name(self, identity: Identity | None, precision: str) -> str:  # noqa: ARG002 - the same for all
        """What an image is computed by, for its settings."""
        return "torch"

    def set_adapter_scale(self, scale: Any) -> None:  # noqa: ARG002 - whatever it is
        """Raises RecipeError: there is no adapter."""
        needed = "only a model with an adapter has a scale for it"
        raise RecipeError(f"ip_adapter_scale for {self.short_name}", needed, "Leave it out")

    def add_adapter(self, path: Path) -> str:
        """Raises ModelError: its kind has none."""
        needed = "adapters are for Stable Diffusion's families"
        raise ModelError(f"the adapter {path.name} for {self.short_name}", needed, "Leave --adapter out")

    def ensure_adapter(self, name: str) -> None:
        """Nothing: there is none to load."""

    def reduce_memory(self) -> None:
        """Go to the next smaller memory profile, after a GPU ran out of memory. Raises ModelError if this is the last."""
        self.memory_plan = next_profile(self.memory_plan)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @contextmanager
    def applied(
        self,
        identities: Sequence[Identity],
        *,
        torch_only: bool = False,  # noqa: ARG002 - it always is
    ) -> Iterator[Tensor | None]:
        """Attach identities, one for each image of a batch, until the block ends. A batch has their photos in context itself.

        All have the same weights. When the block ends, in whatever way, the model is as before. Raises IdentityError if one was
        made for another model, or their weights are not the same.
        """
        for identity in identities:
            self.validate(identity)
        if len(identities) > 1 and len({identity.weights_digest for identity in identities}) > 1:
            raise IdentityError(
                f"{len(identities)} identities with weights of their own", "one is on the model at a time", "Draw them in turn"
            )
        weights = identities[0].weights
        with applied_weights(self.pipeline, weights), self.prompt_encoder.isolated(weights):
            yield None

    def validate(self, identity: Identity) -> None:
        """Raises IdentityError if the identity was made for another model, or by an adapter. Loads nothing."""
        if identity.model != self.name:
            raise IdentityError(
                f"this identity was made for model {identity.model}",
                f"the model in use is {self.name}",
                "Make it again from the photos, or choose that model",
            )
        if identity.embeddings is not None:
            needed = f"{self.short_name} has no adapter"
            raise IdentityError("this identity has an adapter's embeddings", needed, "Make it again by another method")
        if identity.context:
            self._check_context(identity.context)

    def _check_context(self, context: Mapping[str, Tensor]) -> None:
        """Raises IdentityError for photos in context that this model does not read."""
        try:
            self.family.check_context(self.pipeline, context)
        except ValueError as problem:
            needed = f"{self.short_name} reads those of 1 to {self.max_context_photos} photos"
            if not self.max_context_photos:
                needed = f"{self.short_name} reads no photos"
            raise IdentityError(
                f"this identity has photos in context {problem}", needed, "Make it again from the photos"
            ) from None
