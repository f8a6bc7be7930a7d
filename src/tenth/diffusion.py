"""A diffusion model in use: sample, and put an identity on the model and off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from tenth.adapter import ADAPTER, adapter_name, check_adapter, install_adapter, read_adapter
from tenth.blocks import set_scale
from tenth.errors import IdentityError
from tenth.finite import check_latents, check_pixels, decoding
from tenth.guidance import guided
from tenth.memory import PLAIN, Fit, below
from tenth.narrow import narrow
from tenth.pipelines import place, quiet, stays_mapped
from tenth.sampling import Sampling
from tenth.schedulers import SCHEDULERS, label_of, scheduled
from tenth.texts import Texts
from tenth.types import Encoder, Identity, Pixels
from tenth.weights import put_on

PROJECTION = "encoder_hid_proj."  # where an adapter's projection is in the UNet
OnStep = Callable[[int], None]  # called with the number of steps done


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

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        embeddings: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> list[Pixels]:
        """One image (H, W, 3) for each prompt and seed. embeddings: from `applied`, a row an image.

        Raises ModelError where what is drawn is no longer a number (finite.py).
        """
        with self.drawing(sampling, embeddings) as images:
            texts = self.texts(prompts, sampling.negative, guided=sampling.guidance > 1)
            drawn = self.pipeline(**asked(prompts, seeds, sampling, on_step, texts), **images).images  # (B, H, W, 3) in [0, 1]
        return to_pixels(drawn)

    @contextmanager
    def drawing(self, sampling: Sampling, embeddings: Tensor | None) -> Iterator[dict[str, Any]]:
        """Scale, scheduler, guidance and precision as asked, diffusers quiet. Gives what a pipeline takes embeddings by.

        Guidance leads away from a zero embedding, or, of patch tokens, from those of a picture of zeros.
        """
        images: dict[str, Any] = {}
        if embeddings is not None:
            set_scale(self.pipeline, sampling.scale)
            images = {"ip_adapter_image_embeds": [self.beside_nobody(embeddings) if sampling.guidance > 1 else embeddings]}
        words = sampling.words if embeddings is not None else 0.0  # of nobody, guidance is on words alone
        noisy = int(self.pipeline.scheduler.config["num_train_timesteps"])
        self.pipeline.set_progress_bar_config(disable=True)
        # Not `enabled=False`: that would end the autocast in which a model that is being trained is watched.
        half = (
            torch.autocast(self.pipeline._execution_device.type, torch.bfloat16)
            if sampling.precision == "bf16"
            else nullcontext()
        )
        with (
            quiet(),
            half,
            decoding(self.pipeline),
            _as_given(self.pipeline, images.get("ip_adapter_image_embeds")),
            scheduled(self.pipeline, sampling.scheduler),
            guided(self.pipeline.unet, sampling.guidance, words=words, within=sampling.guidance_interval, timesteps=noisy),
        ):
            yield images

    def beside_nobody(self, embeddings: Tensor) -> Tensor:
        """Embeddings of people (B, M, ...) below those of nobody: (2B, M, ...), as diffusers' guidance takes them."""
        return torch.cat([self.encoder.nobody().to(embeddings).expand_as(embeddings), embeddings])

    def sampler(self, sampling: Sampling) -> str:
        """The sampler's name as A1111 has it."""
        return SCHEDULERS[sampling.scheduler].label if sampling.scheduler else label_of(self.pipeline.scheduler)


def asked(
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    on_step: OnStep | None = None,
    texts: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """The arguments of a call of a pipeline, but for a person's. A seed is one noise, whatever its batch.

    texts: the prompts' embeddings as `Texts` gives them; None: the pipeline reads the prompts itself, no further than it can.
    """

    def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        check_latents(tensors["latents"], seeds, step + 1)
        if on_step is not None:
            on_step(step + 1)
        return tensors

    plain = {"prompt": list(prompts), "negative_prompt": [sampling.negative] * len(prompts)}
    return {
        **(plain if texts is None else texts),
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.guidance,
        "guidance_rescale": sampling.rescale,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "np",
        "callback_on_step_end": step_done,
    }


def to_pixels(drawn: Sequence[Any]) -> list[Pixels]:
    """Images (H, W, 3) in [0, 1] as diffusers gives them -> whole numbers to 255. Raises ModelError for what is no number."""
    for image in drawn:
        check_pixels(image)
    return [np.rint(image * 255).astype(np.uint8, order="C") for image in drawn]


@contextmanager
def _as_given(pipeline: Any, embeddings: list[Tensor] | None) -> Iterator[None]:
    """diffusers repeats all rows for each image, so that every image sees every person (#9813); ours match already."""
    pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del pipeline.prepare_ip_adapter_image_embeds


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
