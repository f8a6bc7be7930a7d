"""A transformer trained by flow matching, as methods and sampling read every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tenth.core.errors import DataError, IdentityError, ModelError
from tenth.core.types import DefaultSampling, Identity, Pixels
from tenth.core.wording import pluralize
from tenth.models.adapters.adapter_scale import AdapterScale, set_scale
from tenth.models.adapters.ip_adapter import load_ip_adapter
from tenth.models.adapters.model_adapters import LoadedAdapters, ModelAdapters, check_made_for
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.denoiser import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL, Conditioning, Conditions, Denoiser
from tenth.models.encoders.no_encoder import NoEncoder
from tenth.models.families.family import LatentShape, TransformerFamily
from tenth.models.families.prompts import FlowPromptEncoder
from tenth.models.memory.placement import TextEncoders, place_pipeline
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan, next_profile
from tenth.models.trained_resolutions import TrainedResolutions

PREVIEW_SIDE = 256  # pixels: of an image while it is drawn, which is decoded after every step


class FlowModel:
    """A transformer with its text encoders and autoencoder, and perhaps with an image encoder and IP-Adapters.

    name: "name@digest" over the weights. memory_plan: how the pipeline was loaded (memory/planner.py). loaded: None
    without an image encoder. adapter_name: "name@digest" of the default adapter, "" if there is none.
    """

    def __init__(
        self,
        family: TransformerFamily,
        pipeline: Any,
        name: str,
        memory_plan: MemoryPlan = DEFAULT_PLAN,
        loaded: LoadedAdapters | None = None,
        text_encoders: TextEncoders | None = None,
    ) -> None:
        self.family, self.pipeline, self.name, self.memory_plan = family, pipeline, name, memory_plan
        if loaded is None:
            loaded = LoadedAdapters(NoEncoder(self.short_name), ModelAdapters(pipeline.transformer, {}, place=lambda _: None))
        self.encoder, self.adapters, self.adapter_name = loaded.encoder, loaded.adapters, loaded.default
        self.trained_methods, self.max_context_photos = loaded.adapters.trained_methods, family.max_context_photos
        self.size_multiple = family.size_multiple
        self.text_encoders = text_encoders or TextEncoders(pipeline, memory_plan)
        self.prompt_encoder = FlowPromptEncoder(family, pipeline, self.text_encoders)

    @property
    def adapter_parts(self) -> dict[str, dict[str, Tensor]]:
        """The default adapter's weights, from its file; {} if there is none."""
        return load_ip_adapter(self.adapters[self.adapter_name].path) if self.adapter_name else {}

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
        if self.memory_plan.device != "cpu":  # the transformer's weights may be elsewhere until it runs
            return torch.device(self.memory_plan.device)
        parameter: Tensor = next(self.pipeline.transformer.parameters())
        return parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of latents."""
        return torch.float32 if self.family.float32_latents else self._network_dtype

    @property
    def _network_dtype(self) -> torch.dtype:
        """Of what the transformer is given beside them."""
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
        """What each of guidance's terms is conditioned on.

        Guidance is away from the negative prompt, beside the same photos in context, and from an adapter's null embedding.
        """
        with self.text_encoders.freed_after():
            return self._conditionings(conditions)

    def _conditionings(self, conditions: Conditions) -> dict[str, Conditioning]:
        context = {name: self._placed(tensor) for name, tensor in conditions.context.items()}
        prompts, guidance = self.prompt_encoder(conditions.prompts, context, self.device), None
        if getattr(self.pipeline.transformer.config, "guidance_embeds", False):
            guidance = torch.full((len(conditions.prompts),), conditions.guidance_scale, device=self.device)
        person = Conditioning(prompts, conditions.embeddings, context=context, guidance=guidance)
        if not conditions.guided:
            return {CONDITIONAL: person}
        negative = self.prompt_encoder([conditions.negative_prompt] * len(conditions.prompts), context, self.device)
        nobody = None if conditions.embeddings is None else self.unconditional_like(conditions.embeddings)
        return {
            UNCONDITIONAL: replace(person, prompts=negative, image_embeddings=nobody),
            CONDITIONAL: person,
            TEXT_ONLY: replace(person, image_embeddings=nobody),
        }

    def _placed(self, tensor: Tensor) -> Tensor:
        """On the device, numbers with a fraction in the transformer's type."""
        return tensor.to(self.device, self._network_dtype) if tensor.is_floating_point() else tensor.to(self.device)

    @torch.no_grad()
    def encode_photos(self, photos: Sequence[Pixels]) -> Mapping[str, Tensor]:
        """Photos (H, W, 3) -> an identity's context, on the CPU. Raises DataError for more than the family takes, or none."""
        if not 0 < len(photos) <= self.max_context_photos:
            needed = f"{self.short_name} takes 1 to {self.max_context_photos}" if self.max_context_photos else "it takes none"
            raise DataError(f"{pluralize(len(photos), 'photo')} in context", needed, "Choose fewer, or another model")
        with self.text_encoders.freed_after():
            if self.family.prompts_see_photos:  # by the text encoder
                self.text_encoders.ensure()
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
        """Latents (B, C, h, w) -> images (B, 3, h', w'), about [-1, 1], of some PREVIEW_SIDE pixels, from means of them."""
        pixels_per_latent = PREVIEW_SIDE // self.latent_shape(PREVIEW_SIDE, PREVIEW_SIDE)[1]
        reduction = max(latents.shape[-2:]) * pixels_per_latent // PREVIEW_SIDE
        return self.decode(functional.avg_pool2d(latents, reduction) if reduction > 1 else latents)

    def unconditional_like(self, embeddings: Tensor) -> Tensor:
        """What guidance leads away from, in the shape of embeddings (B, M, D) or (B, M, T, D)."""
        return self.encoder.null_embedding().to(embeddings).expand_as(embeddings)

    def backend_name(self, identity: Identity | None, precision: str) -> str:  # noqa: ARG002 - the same for all
        """What an image is computed by, for its settings."""
        return "torch"

    def set_adapter_scale(self, scale: AdapterScale) -> None:
        """Of the adapter that is in the transformer. Raises RecipeError for a block that is not there."""
        set_scale(self.pipeline, scale)

    def add_adapter(self, path: Path) -> str:
        """Load an adapter, unless it is loaded. Gives its "name@digest".

        Raises ModelError if there is no image encoder, or it is not whole and made for the encoder and the transformer.
        """
        if not self.encoder.name:
            needed = "its image encoder is needed, in image_encoder/ beside it or in the model's folder"
            raise ModelError(f"{self.short_name} has no image encoder for {path.name}", needed, "Give the file as --adapter")
        return self.adapters.add(path, self.encoder)

    def ensure_adapter(self, name: str) -> None:
        """Load the adapter of this "name@digest", if it is a trained method's that was not loaded yet."""
        if name not in self.adapters and name in self.adapters.trained:
            self.add_adapter(self.adapters.trained[name])

    def reduce_memory(self) -> None:
        """Go to the next smaller memory profile, after a GPU ran out of memory. Raises ModelError if this is the last."""
        self.memory_plan = self.text_encoders.plan = next_profile(self.memory_plan)
        place_pipeline(self.pipeline, self.memory_plan)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @contextmanager
    def applied(
        self,
        identities: Sequence[Identity],
        *,
        torch_only: bool = False,  # noqa: ARG002 - it always is
    ) -> Iterator[Tensor | None]:
        """Attach identities, one for each image of a batch, until the block ends. Gives their embeddings for `sample`, if any.

        (B, M, D) or (B, M, T, D). Photos in context are not put on: a batch has them. All are of one adapter and shape, with
        the same weights. When the block ends, in whatever way, the model is as before. Raises IdentityError if one was made
        for another model or adapter, or their weights are not the same, ModelError if the memory profile cannot take weights.
        """
        for identity in identities:
            self.validate(identity)
        if len(identities) > 1 and len({identity.weights_digest for identity in identities}) > 1:
            raise IdentityError(
                f"{len(identities)} identities with weights of their own", "one is on the model at a time", "Draw them in turn"
            )
        first, profile = identities[0], self.memory_plan.profile
        if first.weights and (
            profile.weights == "float8" or profile.cpu_offload
        ):  # their layers are cast, or copied from elsewhere
            found, needed = (
                f"a person's own weights with the memory profile {profile.name}",
                "one that can change weights is needed",
            )
            raise ModelError(found, needed, "Set TENTH_MEMORY_PROFILE=int8 or nf4, or free memory on the GPU")
        with applied_weights(self.pipeline, first.weights), self.prompt_encoder.isolated(first.weights):
            if first.embeddings is None:
                yield None
                return
            self.ensure_adapter(first.adapter)
            embeddings = torch.stack([each.embeddings for each in identities if each.embeddings is not None])
            with self.adapters.in_network(first.adapter):
                yield embeddings.to(self.device, self._network_dtype)

    def validate(self, identity: Identity) -> None:
        """Raises IdentityError if the identity was made for another model, encoder or adapter. Loads nothing."""
        check_made_for("model", identity.model, [self.name])
        if identity.context:
            self._check_context(identity.context)
        if identity.embeddings is not None and not self.encoder.name:
            needed = f"{self.short_name} has no adapter"
            raise IdentityError("this identity has an adapter's embeddings", needed, "Give the --adapter that it was made with")
        self.adapters.validate(identity, self.encoder)

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
