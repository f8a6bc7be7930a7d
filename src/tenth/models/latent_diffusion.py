"""A latent diffusion pipeline with its image encoder and IP-Adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from tenth.core.cache import default_cache_dir
from tenth.core.cache_contents import OPENVINO
from tenth.core.errors import DataError, IdentityError
from tenth.core.types import DefaultSampling, Encoder, Identity, Pixels
from tenth.core.wording import pluralize
from tenth.models.adapters.adapter_scale import AdapterScale, set_scale
from tenth.models.adapters.ip_adapter import ImageConditioning, load_ip_adapter
from tenth.models.adapters.model_adapters import ModelAdapters, check_made_for
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.compiled import CompiledNetworks
from tenth.models.denoiser import Conditioning, Conditions, Denoiser, predict, unet_conditionings
from tenth.models.latents import decode, encode, exceeds_untiled
from tenth.models.memory.half_precision import store_in_half
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan, next_profile
from tenth.models.pipelines import apply_memory_plan, is_memory_mapped
from tenth.models.prompt_encoder import PromptEncoder
from tenth.models.trained_resolutions import DEFAULT_SAMPLING, TrainedResolutions, preview_colors


class LatentDiffusion:
    """A diffusion model with its image encoder and IP-Adapters.

    name and adapter_name, of the default adapter, are "name@digest" over the weights. An adapter is in the UNet only inside
    `applied`. trained_methods: folders with an aggregator, and perhaps an adapter, trained for this model, by method.
    memory_plan: how the pipeline was loaded (memory/planner.py).
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
        self.pipeline, self.name, self.encoder, self.memory_plan = pipeline, name, encoder, memory_plan
        self.trained_methods, self.prompt_encoder = trained_methods, PromptEncoder(pipeline)
        self.adapters = ModelAdapters(pipeline.unet, trained_methods, self._place)
        self.compiled = None
        if memory_plan.backend == "openvino":
            self.compiled = CompiledNetworks(pipeline, name, default_cache_dir() / OPENVINO)
        self.family, self.max_context_photos, self.size_multiple = None, 0, 8  # pixels
        self._uses_torch = False
        self._default_adapter = adapter
        self.adapter_name = self.add_adapter(adapter)

    @property
    def trained_resolutions(self) -> TrainedResolutions:
        """At which sizes the model was trained."""
        if getattr(self.pipeline.vae, "single_square", False):  # as the pocket model's says
            return TrainedResolutions.SINGLE_SQUARE
        multi_aspect = self.pipeline.unet.config.addition_embed_type == "text_time"  # it is conditioned on the size
        return TrainedResolutions.MULTI_ASPECT if multi_aspect else TrainedResolutions.NEAR_SQUARE

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        if self.memory_plan.profile.cpu_offload:  # the weights are elsewhere until their layer runs
            return torch.device(self.memory_plan.device)
        parameter: Tensor = next(self.pipeline.unet.parameters())  # `unet.device` looks at every module
        return parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and embeddings."""
        dtype: torch.dtype = self.pipeline.unet.dtype
        return dtype

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of the latents (C, h, w) of an image."""
        scale = int(self.pipeline.vae_scale_factor)
        return int(self.pipeline.unet.config.in_channels), height // scale, width // scale

    def set_timesteps(self, scheduler: Any, steps: int, _: tuple[int, int, int]) -> None:
        """Set a scheduler to so many steps, for latents of any shape."""
        scheduler.set_timesteps(steps, device=self.device)

    def conditionings(self, conditions: Conditions) -> dict[str, Conditioning]:
        """What each of guidance's terms is conditioned on (denoiser.py)."""
        return unet_conditionings(self, conditions)

    def set_adapter_scale(self, scale: AdapterScale) -> None:
        """Of the adapter that is in the UNet. Raises RecipeError for a block that is not there."""
        set_scale(self.pipeline, scale)

    @property
    def native_resolution(self) -> int:
        """Side of the square, in pixels, that the model generates by default."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def is_guidance_distilled(self) -> bool:
        """Whether the UNet is conditioned on the guidance scale, and needs one prediction a step (LCM)."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    def encode_photos(self, photos: Sequence[Pixels]) -> Mapping[str, Tensor]:
        """Raises DataError: a UNet reads no photos beside the prompt."""
        needed = f"{self.name.partition('@')[0]} takes none"
        raise DataError(f"{pluralize(len(photos), 'photo')} in context", needed, "Choose another method or model")

    def denoiser(self, precision: str = "fp32") -> Denoiser:
        """The network that sampling calls in each step. precision: that of the compiled one; "auto" for the quickest."""
        if self.compiled is None or not self._weights_as_loaded:
            return partial(predict, self.pipeline.unet)
        return partial(self.compiled.predict, self.adapters.applied, self.compiled.precision(precision))

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) in the UNet's scale."""
        return encode(self.pipeline.vae, pixels.to(self.device)).to(self.dtype)

    def decode(self, latents: Tensor, precision: str = "fp32") -> Tensor:
        """Latents (B, C, h, w) in the UNet's scale -> (B, 3, H, W), about [-1, 1]. precision: as of `denoiser`."""
        if self.compiled is None or not self._weights_as_loaded or exceeds_untiled(self.pipeline.vae, latents):
            return decode(self.pipeline.vae, latents)
        return self.compiled.decode(self.compiled.precision(precision), latents)

    @property
    def _weights_as_loaded(self) -> bool:
        """Whether compiled networks compute the same: no person's weights are on the model, no regions, nothing trains it."""
        return not self._uses_torch and not self.pipeline.unet.training

    def backend_name(self, identity: Identity | None, precision: str) -> str:
        """What an image of this identity is computed by, for its settings: images differ slightly between backends."""
        if self.compiled is None or (identity is not None and identity.weights):
            return "torch"
        return f"openvino-{self.compiled.precision(precision)}"

    def decode_preview(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> small images (B, 3, h', w'), about [-1, 1]: the pocket model's are decoded, others mapped."""
        colors = preview_colors(self.trained_resolutions, latents)
        return self.decode(latents) if colors is None else colors

    def unconditional_like(self, embeddings: Tensor) -> Tensor:
        """What guidance leads away from, in the shape of embeddings (B, M, D): zeros, or a black image's patch tokens."""
        return self.encoder.null_embedding().to(embeddings).expand_as(embeddings)

    @property
    def default_sampling(self) -> DefaultSampling:
        """How it is sampled where nothing else is asked for. Of the pocket model: benchmarks/samplers.py, docs/log.md."""
        return DEFAULT_SAMPLING[self.trained_resolutions]

    @property
    def adapter_parts(self) -> dict[str, dict[str, Tensor]]:
        """The default adapter's weights, from its file: training begins from them, and SDXL's take more than a gigabyte."""
        return load_ip_adapter(self._default_adapter)

    def add_adapter(self, path: Path) -> str:
        """Load an adapter in the official layout, unless it is loaded. Gives its "name@digest".

        Raises ModelError if it cannot be read, or is not whole and made for the encoder and the UNet, to the last shape.
        """
        return self.adapters.add(path, self.encoder, keep_half=self._keeps_half)

    def ensure_adapter(self, name: str) -> None:
        """Load the adapter of this "name@digest", if it is a trained method's that was not loaded yet."""
        if name not in self.adapters and name in self.adapters.trained:
            self.add_adapter(self.adapters.trained[name])

    @property
    def _keeps_half(self) -> bool:
        """Whether weights in 16 bits stay so, on a CPU."""
        return self.memory_plan.device == "cpu" and self.memory_plan.profile.weights != "float32"

    def reduce_memory(self) -> None:
        """Go to the next smaller memory profile, after a GPU ran out of memory. Raises ModelError if this is the last."""
        self.memory_plan = next_profile(self.memory_plan)
        apply_memory_plan(self.pipeline, self.memory_plan)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _place(self, conditioning: ImageConditioning) -> None:
        """Move an adapter's layers to the UNet's device and precision; on a CPU, keep half-precision weights as the UNet's."""
        for module in conditioning.modules:
            if module is conditioning.projection or not self._keeps_half:
                module.to(self.device, self.dtype)
            elif not is_memory_mapped(module, self.memory_plan):
                store_in_half(module)

    @contextmanager
    def applied(self, identities: Sequence[Identity], *, torch_only: bool = False) -> Iterator[Tensor | None]:
        """Attach identities, one for each image of a batch, until the block ends. Gives their embeddings for `sample`, if any.

        (B, M, D), or (B, M, T, D) where the adapter reads patch tokens. torch_only: compute by no compiled network.

        All are of one adapter and shape, with the same weights. When the block ends, in whatever way, the model is as before.
        Raises IdentityError if one was made for another model, or their weights are not the same.
        """
        for identity in identities:
            self.validate(identity)
        first = identities[0]
        if len(identities) > 1 and len({identity.weights_digest for identity in identities}) > 1:
            raise IdentityError(
                f"{len(identities)} identities with weights of their own", "one is on the model at a time", "Draw them in turn"
            )

        with (
            applied_weights(self.pipeline, first.weights),
            self.prompt_encoder.isolated(first.weights),
            self._torch_only(torch_only or bool(first.weights)),
        ):
            if first.embeddings is None:
                yield None
                return
            self.ensure_adapter(first.adapter)
            embeddings = torch.stack([each.embeddings for each in identities if each.embeddings is not None])
            with self.adapters.in_network(first.adapter):
                yield embeddings.to(self.device, self.dtype)  # (B, M, D) or (B, M, T, D)

    @contextmanager
    def _torch_only(self, active: bool) -> Iterator[None]:
        """A block in which compiled networks do not compute what is asked for: a person's weights are on the model, say."""
        before, self._uses_torch = self._uses_torch, self._uses_torch or active
        try:
            yield
        finally:
            self._uses_torch = before

    def validate(self, identity: Identity) -> None:
        """Raises IdentityError if the identity was made for another model, encoder or adapter. Loads nothing.

        Adapters of methods that were trained for this model count as the model's, whether they are loaded or not.
        """
        check_made_for("model", identity.model, [self.name])
        self.adapters.validate(identity, self.encoder)
