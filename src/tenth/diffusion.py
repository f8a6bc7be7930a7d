"""The one file that knows diffusers' pipelines: load, noise loss, sample, and put an identity on the model and off again."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from tenth.adapter import ADAPTER, adapter_name, check_adapter, read_adapter
from tenth.draws import Draws
from tenth.errors import IdentityError, ModelError
from tenth.noise import noise_loss
from tenth.types import Encoder, Identity, Pixels
from tenth.weights import put_on

# On a CPU the fused attention's backward pass is slow in bfloat16: the plain one trains the pocket model a seventh faster.
ATTENTION = defaultdict(
    lambda: [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], cpu=[SDPBackend.MATH]
)

PIPELINES = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
UNUSED = (
    "safety_checker",
    "feature_extractor",
    "image_encoder",
)  # parts of a pipeline that are not loaded, though it lists them

SMALL_VOCABULARY = 1_000  # tokens; a model with fewer knows only the words of its captions, each of them one token
OnStep = Callable[[int], None]  # called with the number of steps done


@dataclass(frozen=True)
class Sampling:
    """How images are drawn. The defaults were chosen on validation people for the pocket model (docs/log.md)."""

    steps: int = 25
    guidance: float = 3.0  # classifier-free, on text and image together; 1 turns it off
    rescale: float = 0.5  # of the guided prediction's contrast to the plain one's: Lin et al. 2023, arXiv:2305.08891, eq. 16
    scale: float = 1.0  # of the image cross-attention
    negative: str = ""


class LatentDiffusion:
    """A diffusion model with its image encoder and adapters.

    name and adapter_name, the adapter of methods that learn nothing, are "name@digest" over the weights. An adapter is
    installed only inside `applied`. trained: folders of methods that learnt an adapter or aggregator for it, by method.
    """

    def __init__(
        self, pipeline: StableDiffusionPipeline, name: str, encoder: Encoder, adapter: Path, trained: Mapping[str, Path]
    ) -> None:
        self.pipeline, self.name, self.encoder, self.trained = pipeline, name, encoder, trained
        self._plain = _conditioning(pipeline.unet)
        self._adapted: dict[str, tuple[Any, ...]] = {}
        self.adapter_parts = read_adapter(adapter)
        self.adapter_name = self.add_adapter(adapter)

    def add_adapter(self, path: Path) -> str:
        """Make an adapter of the official layout known; the model's own weights stay. Gives its "name@digest".

        Raises ModelError if it cannot be read or is of other widths than the encoder and the UNet.
        """
        name = adapter_name(path)
        if name not in self._adapted:
            parts = read_adapter(path)
            check_adapter(self.pipeline.unet, parts, self.encoder.width, path)
            install_adapter(self.pipeline.unet, parts)
            self._adapted[name] = _conditioning(self.pipeline.unet)
            _set_conditioning(self.pipeline.unet, self._plain)
        return name

    @contextmanager
    def applied(self, identities: Sequence[Identity]) -> Iterator[Tensor | None]:
        """Put identities, one an image of the batch, on the model. Gives their embeddings (B, M, D) for `sample`, if any.

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
        with put_on(self.pipeline, weights):
            if identities[0].embeddings is None:
                yield None
                return
            rows = [identity.embeddings for identity in identities if identity.embeddings is not None]
            _set_conditioning(self.pipeline.unet, self._adapted[identities[0].adapter])
            try:
                yield torch.stack(rows).to(self.pipeline.device, self.pipeline.dtype)  # (B, M, D)
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
                    "Make it again from the photos, or choose that model or the folder of that method",
                )

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        embeddings: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> list[Pixels]:
        """One image (H, W, 3) for each prompt and seed. embeddings: (B, M, D) from `applied`, a row an image.

        A seed is one noise, whatever stands beside it in the batch.
        """

        def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1)
            return tensors

        images: dict[str, Any] = {}
        if embeddings is not None:
            self.pipeline.set_ip_adapter_scale(sampling.scale)
            guided = torch.cat([torch.zeros_like(embeddings), embeddings]) if sampling.guidance > 1 else embeddings
            images = {"ip_adapter_image_embeds": [guided]}
        self.pipeline.set_progress_bar_config(disable=True)
        with _quiet(), _as_given(self.pipeline, images.get("ip_adapter_image_embeds")):
            drawn = self.pipeline(
                prompt=list(prompts),
                negative_prompt=[sampling.negative] * len(prompts),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                guidance_rescale=sampling.rescale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
                callback_on_step_end=step_done,
                **images,
            ).images  # (B, H, W, 3) in [0, 1]
        return [np.rint(image * 255).astype(np.uint8, order="C") for image in drawn]


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a pipeline as a folder in diffusers' layout, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        pipeline.unet.to(memory_format=torch.contiguous_format)  # the only one that safetensors writes
        pipeline.save_pretrained(partial, safe_serialization=True)
        pipeline.unet.to(memory_format=torch.channels_last)
    partial.rename(folder)


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """A pipeline from a local folder in diffusers' layout, float32, safetensors only. Raises ModelError if it is not one."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder} has no model_index.json", "a folder in diffusers' layout is needed", "Check the path")
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ModelError(f"{index} is not JSON: {problem}", "the file of diffusers is needed", "Copy it again") from problem
    kind = listed.get("_class_name") if isinstance(listed, dict) else None
    if kind not in PIPELINES:
        raise ModelError(f"{folder} is a {kind}", f"one of {', '.join(PIPELINES)} is needed", "Choose another model")
    unused = {name: None for name in UNUSED if name in PIPELINES[kind]._optional_components}
    try:
        with _quiet():
            pipeline = PIPELINES[kind].from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, low_cpu_mem_usage=False, **unused
            )
            pipeline.unet.to(memory_format=torch.channels_last)
    except (OSError, ValueError, SafetensorError) as problem:
        raise ModelError(
            f"{folder} cannot be loaded: {problem}", "whole weights are needed", "Install or download it again"
        ) from problem
    return pipeline


@contextmanager
def _as_given(pipeline: Any, embeddings: list[Tensor] | None) -> Iterator[None]:
    """diffusers repeats all rows for each image, so that every image sees every person (#9813); ours match already."""
    pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: embeddings
    try:
        yield
    finally:
        del pipeline.prepare_ip_adapter_image_embeds


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers' and transformers' remarks and progress bars are not for our users; what goes wrong is raised."""
    levels = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
    for library, _ in levels:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)
            library.enable_progress_bar()


@dataclass(frozen=True, eq=False)
class Trainable:
    """The parts of a model that learn, with what stays: made from the configs of a folder, weights random."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    @classmethod
    def create(cls, folder: Path) -> Trainable:
        return cls(
            unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        )

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers (B, T), padded as diffusers' pipelines pad."""
        length = self.tokenizer.model_max_length
        tokens: Tensor = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return tokens

    def noise_loss(self, latents: Tensor, tokens: Tensor, embeddings: Tensor, draws: Draws, gamma: float = 5.0) -> Tensor:
        """Mean of `noise.noise_loss` over the images. tokens: (B, T). embeddings: (B, M, D), zeros where it is dropped."""

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            text = self.text_encoder(tokens).last_hidden_state  # (B, T, cross-attention width)
            with sdpa_kernel(ATTENTION[latents.device.type]):
                predicted: Tensor = self.unet(noisy, steps, text, added_cond_kwargs={"image_embeds": [embeddings]}).sample
            return predicted

        return noise_loss(predict, self.scheduler, latents, draws, gamma).mean()


def training_scheduler(pipeline: Any) -> DDIMScheduler:
    """The pipeline's noise schedule as training needs it: the same betas and prediction, whatever sampler it comes with."""
    return DDIMScheduler.from_config(pipeline.scheduler.config)


def install_adapter(unet: UNet2DConditionModel, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put an adapter's processors and projection into the UNet, by diffusers' own conversion."""
    # The public way, `load_ip_adapter`, also wants to load an image encoder of the CLIP family; ours need not be one.
    with _quiet():
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)


def _conditioning(unet: UNet2DConditionModel) -> tuple[Any, ...]:
    return dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type


def _set_conditioning(unet: UNet2DConditionModel, conditioning: tuple[Any, ...]) -> None:
    processors, projection, kind = conditioning
    unet.set_attn_processor(dict(processors))
    unet.encoder_hid_proj = projection
    unet.config.encoder_hid_dim_type = kind
