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
from tenth.models.adapters.ip_adapter import ADAPTER, adapter_name, check_adapter, install_adapter, read_adapter
from tenth.models.adapters.weight_deltas import put_on
from tenth.models.memory.half_precision import narrow
from tenth.models.memory.planner import PLAIN, Fit, below
from tenth.models.pipelines import place, stays_mapped
from tenth.models.prompt_encoder import Texts

PROJECTION = "encoder_hid_proj."  # where an adapter's projection is in the UNet


class LatentDiffusion:
    """A diffusion model with its image encoder and adapters.

    name and adapter_name, the adapter of methods that learn nothing, are "name@digest" over the weights. An adapter is
    installed only inside `applied`. trained: folders of methods that learnt an adapter or aggregator for it, by method.
    fit: the rung on which the pipeline stands (memory.py).
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        name: str,
        encoder: Encoder,
        adapter: Path,
        trained: Mapping[str, Path],
        fit: Fit = PLAIN,
    ) -> None:
        self.pipeline, self.name, self.encoder, self.trained, self.fit = pipeline, name, encoder, trained, fit
        self.texts = Texts(pipeline)
        self.adapters: dict[str, Path] = {}  # files of the known ones, by "name@digest"
        self._plain = _conditioning(pipeline.unet)
        self._adapted: dict[str, tuple[Any, ...]] = {}
        self._adapter = adapter
        self.adapter_name = self.add_adapter(adapter)

    @property
    def adapter_parts(self) -> dict[str, dict[str, Tensor]]:
        """The model's own adapter, read anew: training begins from it, and of SDXL it is more than a gigabyte."""
        return read_adapter(self._adapter)

    def add_adapter(self, path: Path) -> str:
        """Make an adapter of the official layout known; the model's own weights stay. Gives its "name@digest".

        Raises ModelError if it cannot be read, or is not whole and made for the encoder and the UNet, to the last shape.
        """
        name = adapter_name(path)
        if name not in self._adapted:
            narrower = self.fit.device == "cpu" and self.fit.rung.weights != "float32"
            parts = read_adapter(path, whole=not narrower)
            check_adapter(self.pipeline.unet, parts, self.encoder, path)
            with _unmoved(self.pipeline.unet):
                install_adapter(self.pipeline.unet, parts, shared=narrower)
            self._adapted[name], self.adapters[name] = _conditioning(self.pipeline.unet), path
            self._place_adapter(self._adapted[name])
            _set_conditioning(self.pipeline.unet, self._plain)
        return name

    def lower(self) -> None:
        """One rung down, after a GPU ran out of memory. Raises ModelError if this is the last."""
        self.fit = below(self.fit)
        place(self.pipeline, self.fit)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _place_adapter(self, conditioning: tuple[Any, ...]) -> None:
        """An adapter's layers where the UNet runs, and as narrow as the UNet's."""
        processors, projection, _ = conditioning
        modules = [module for module in processors.values() if isinstance(module, torch.nn.Module)]
        unet, device = self.pipeline.unet, self.pipeline._execution_device
        projection.to(device, unet.dtype)
        for module in modules:
            if self.fit.device != "cpu" or self.fit.rung.weights == "float32":
                module.to(device, unet.dtype)
            elif not stays_mapped(module, self.fit):
                narrow(module)

    @contextmanager
    def applied(self, identities: Sequence[Identity]) -> Iterator[Tensor | None]:
        """Put identities, one an image of the batch, on the model. Gives their embeddings for `sample`, if any.

        (B, M, D), or (B, M, T, D) where the adapter reads patch tokens.

        All are of one adapter and shape, and of the same weights. The model is as before when the block ends, by whatever way.
        Raises IdentityError if one was made for another model, or their weights are not the same.
        """
        for identity in identities:
            self.check(identity)
        weights = identities[0].weights
        if any(identity.weights is not weights for identity in identities if identity.weights or weights):
            raise IdentityError(
                f"{len(identities)} identities with weights of their own", "one is on the model at a time", "Draw them in turn"
            )
        with put_on(self.pipeline, weights), self.texts.apart(weights):
            if identities[0].embeddings is None:
                yield None
                return
            rows = [identity.embeddings for identity in identities if identity.embeddings is not None]
            _set_conditioning(self.pipeline.unet, self._adapted[identities[0].adapter])
            try:
                # (B, M, D) or (B, M, T, D)
                yield torch.stack(rows).to(self.pipeline._execution_device, self.pipeline.unet.dtype)
            finally:
                _set_conditioning(self.pipeline.unet, self._plain)

    def check(self, identity: Identity) -> None:
        """Raises IdentityError if the identity was made for another model, encoder or adapter.

        The adapter of a method that was trained for this model is made known when an identity first asks for it.
        """
        own = self.trained.get(identity.method)
        if identity.adapter not in self._adapted and own is not None and (own / ADAPTER).is_file():
            self.add_adapter(own / ADAPTER)
        ours = {"model": [self.name]}
        if identity.embeddings is not None:
            ours |= {"encoder": [self.encoder.name], "adapter": list(self._adapted)}
        for kind, names in ours.items():
            made_for = getattr(identity, kind)
            if made_for not in names:
                raise IdentityError(
                    f"this identity was made for {kind} {made_for}",
                    f"the {kind} in use is {' or '.join(names)}",
                    "Make it again from the photos, or choose that model, its --adapter, or the folder of that method",
                )
        wanted = (self.encoder.tokens, self.encoder.width) if self.encoder.tokens else (self.encoder.width,)
        if identity.embeddings is not None and identity.embeddings.shape[1:] != wanted:
            raise IdentityError(
                f"this identity has embeddings of shape {tuple(identity.embeddings.shape)}",
                f"{self.encoder.name} gives {' x '.join(map(str, wanted))} for each photo",
                "Make it again from the photos",
            )

    def beside_nobody(self, embeddings: Tensor) -> Tensor:
        """Embeddings of people (B, M, ...) below those of nobody: (2B, M, ...), as diffusers' guidance takes them."""
        return torch.cat([self.encoder.nobody().to(embeddings).expand_as(embeddings), embeddings])


@contextmanager
def _unmoved(unet: Any) -> Iterator[None]:
    """diffusers casts a whole UNet to one type when it installs an adapter; this one's stay as they are, and where."""
    unet.to = lambda *_, **__: unet
    try:
        yield
    finally:
        del unet.to


def _conditioning(unet: UNet2DConditionModel) -> tuple[Any, ...]:
    processors = {name: each for name, each in unet.attn_processors.items() if not name.startswith(PROJECTION)}
    return processors, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type


def _set_conditioning(unet: UNet2DConditionModel, conditioning: tuple[Any, ...]) -> None:
    processors, projection, kind = conditioning
    unet.encoder_hid_proj = None  # while processors are set: they are counted, and a resampler has some of its own
    unet.set_attn_processor(dict(processors))
    unet.encoder_hid_proj = projection
    unet.config.encoder_hid_dim_type = kind
