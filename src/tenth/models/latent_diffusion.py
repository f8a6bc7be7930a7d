"""A diffusion model in use: sample, and put an identity on the model and off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.core.types import Encoder, Identity
from tenth.models.adapters.ip_adapter import (
    ADAPTER_FILE,
    adapter_name,
    install_ip_adapter,
    load_ip_adapter,
    validate_ip_adapter,
)
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.memory.half_precision import store_in_half
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan, next_profile
from tenth.models.pipelines import apply_memory_plan, is_memory_mapped
from tenth.models.prompt_encoder import PromptEncoder

PROJECTION_PREFIX = "encoder_hid_proj."  # where an adapter's projection is in the UNet


class LatentDiffusion:
    """A diffusion model with its image encoder and adapters.

    name and adapter_name, the adapter of methods that learn nothing, are "name@digest" over the weights. An adapter is
    installed only inside `applied`. trained_methods: folders of methods that learnt an adapter or aggregator for it, by method.
    memory_plan: how the pipeline's weights are held (memory/planner.py).
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        name: str,
        encoder: Encoder,
        adapter: Path,
        trained_methods: Mapping[str, Path],
        memory_plan: MemoryPlan = DEFAULT_PLAN,
    ) -> None:
        self.pipeline, self.name, self.encoder, self.trained_methods, self.memory_plan = (
            pipeline,
            name,
            encoder,
            trained_methods,
            memory_plan,
        )
        self.prompt_encoder = PromptEncoder(pipeline)
        self.adapter_paths: dict[str, Path] = {}  # files of the known ones, by "name@digest"
        self._base_conditioning = _conditioning(pipeline.unet)
        self._adapter_conditioning: dict[str, tuple[Any, ...]] = {}
        self._default_adapter = adapter
        self.adapter_name = self.add_adapter(adapter)

    @property
    def adapter_parts(self) -> dict[str, dict[str, Tensor]]:
        """The model's own adapter, read anew: training begins from it, and of SDXL it is more than a gigabyte."""
        return load_ip_adapter(self._default_adapter)

    def add_adapter(self, path: Path) -> str:
        """Make an adapter of the official layout known; the model's own weights stay. Gives its "name@digest".

        Raises ModelError if it cannot be read, or is not whole and made for the encoder and the UNet, to the last shape.
        """
        name = adapter_name(path)
        if name not in self._adapter_conditioning:
            keep_half = self.memory_plan.device == "cpu" and self.memory_plan.profile.weights != "float32"
            parts = load_ip_adapter(path, as_float32=not keep_half)
            validate_ip_adapter(self.pipeline.unet, parts, self.encoder, path)
            with _without_casting(self.pipeline.unet):
                install_ip_adapter(self.pipeline.unet, parts, share_memory=keep_half)
            self._adapter_conditioning[name], self.adapter_paths[name] = _conditioning(self.pipeline.unet), path
            self._place_adapter(self._adapter_conditioning[name])
            _set_conditioning(self.pipeline.unet, self._base_conditioning)
        return name

    def reduce_memory(self) -> None:
        """Change to the next memory profile, after a GPU ran out of memory. Raises ModelError if this is the last."""
        self.memory_plan = next_profile(self.memory_plan)
        apply_memory_plan(self.pipeline, self.memory_plan)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _place_adapter(self, conditioning: tuple[Any, ...]) -> None:
        """An adapter's layers where the UNet runs, and as narrow as the UNet's."""
        processors, projection, _ = conditioning
        modules = [module for module in processors.values() if isinstance(module, torch.nn.Module)]
        unet, device = self.pipeline.unet, self.pipeline._execution_device
        projection.to(device, unet.dtype)
        for module in modules:
            if self.memory_plan.device != "cpu" or self.memory_plan.profile.weights == "float32":
                module.to(device, unet.dtype)
            elif not is_memory_mapped(module, self.memory_plan):
                store_in_half(module)

    @contextmanager
    def applied(self, identities: Sequence[Identity]) -> Iterator[Tensor | None]:
        """Put identities, one an image of the batch, on the model. Gives their embeddings for `sample`, if any.

        (B, M, D), or (B, M, T, D) where the adapter reads patch tokens.

        All are of one adapter and shape, and of the same weights. The model is as before when the block ends, by whatever way.
        Raises IdentityError if one was made for another model, or their weights are not the same.
        """
        for identity in identities:
            self.validate(identity)
        weights = identities[0].weights
        if any(identity.weights is not weights for identity in identities if identity.weights or weights):
            raise IdentityError(
                f"{len(identities)} identities with weights of their own", "one is on the model at a time", "Draw them in turn"
            )
        with applied_weights(self.pipeline, weights), self.prompt_encoder.isolated(weights):
            if identities[0].embeddings is None:
                yield None
                return
            embeddings = [identity.embeddings for identity in identities if identity.embeddings is not None]
            _set_conditioning(self.pipeline.unet, self._adapter_conditioning[identities[0].adapter])
            try:
                # (B, M, D) or (B, M, T, D)
                yield torch.stack(embeddings).to(self.pipeline._execution_device, self.pipeline.unet.dtype)
            finally:
                _set_conditioning(self.pipeline.unet, self._base_conditioning)

    def validate(self, identity: Identity) -> None:
        """Raises IdentityError if the identity was made for another model, encoder or adapter.

        The adapter of a method that was trained for this model is made known when an identity first asks for it.
        """
        trained_folder = self.trained_methods.get(identity.method)
        if (
            identity.adapter not in self._adapter_conditioning
            and trained_folder is not None
            and (trained_folder / ADAPTER_FILE).is_file()
        ):
            self.add_adapter(trained_folder / ADAPTER_FILE)
        available = {"model": [self.name]}
        if identity.embeddings is not None:
            available |= {"encoder": [self.encoder.name], "adapter": list(self._adapter_conditioning)}
        for kind, names in available.items():
            made_for = getattr(identity, kind)
            if made_for not in names:
                raise IdentityError(
                    f"this identity was made for {kind} {made_for}",
                    f"the {kind} in use is {' or '.join(names)}",
                    "Make it again from the photos, or choose that model, its --adapter, or the folder of that method",
                )
        expected_shape = (
            (self.encoder.num_tokens, self.encoder.embedding_dim) if self.encoder.num_tokens else (self.encoder.embedding_dim,)
        )
        if identity.embeddings is not None and identity.embeddings.shape[1:] != expected_shape:
            raise IdentityError(
                f"this identity has embeddings of shape {tuple(identity.embeddings.shape)}",
                f"{self.encoder.name} gives {' x '.join(map(str, expected_shape))} for each photo",
                "Make it again from the photos",
            )

    def with_unconditional(self, embeddings: Tensor) -> Tensor:
        """Embeddings of people (B, M, ...) below those of nobody: (2B, M, ...), as diffusers' guidance takes them."""
        return torch.cat([self.encoder.null_embedding().to(embeddings).expand_as(embeddings), embeddings])


@contextmanager
def _without_casting(unet: Any) -> Iterator[None]:
    """diffusers casts a whole UNet to one type when it installs an adapter; this one's stay as they are, and where."""
    unet.to = lambda *_, **__: unet
    try:
        yield
    finally:
        del unet.to


def _conditioning(unet: UNet2DConditionModel) -> tuple[Any, ...]:
    processors = {name: each for name, each in unet.attn_processors.items() if not name.startswith(PROJECTION_PREFIX)}
    return processors, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type


def _set_conditioning(unet: UNet2DConditionModel, conditioning: tuple[Any, ...]) -> None:
    processors, projection, kind = conditioning
    unet.encoder_hid_proj = None  # while processors are set: they are counted, and a resampler has some of its own
    unet.set_attn_processor(dict(processors))
    unet.encoder_hid_proj = projection
    unet.config.encoder_hid_dim_type = kind
