"""The parts of a pipeline of diffusers: which classes a folder may name, and whether its networks go together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers import CLIPTextConfig

from tenth.core.errors import ModelError
from tenth.models.model_folder import TOKENIZER, Part, check_finite, check_fit, described_in, read_config, short, unfit

PIPELINES = {each.__name__: each for each in (diffusers.StableDiffusionPipeline, diffusers.StableDiffusionXLPipeline)}
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # parts that are not loaded, though an index lists them
POCKET, OWN = "PocketAutoencoder", f"{__package__}.pocket.autoencoder"  # by its name: the pocket model stands above this file
TEXTS = ("CLIPTextModel", "CLIPTextModelWithProjection")
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
CLASSES: Mapping[str, tuple[str, ...]] = {  # what an index may name, by the part
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny", POCKET),
    "text_encoder": TEXTS,
    "text_encoder_2": TEXTS,
    "tokenizer": TOKENIZERS,
    "tokenizer_2": TOKENIZERS,
    "scheduler": (*diffusers.schedulers.KarrasDiffusionSchedulers.__members__, "LCMScheduler", "TCDScheduler"),
}
LARGEST_SAMPLE = 1024  # places of the latents along one side: 8192 pixels
TEXT_PARTS = ("text_encoder", "text_encoder_2")
NETWORKS = ("unet", "vae", *TEXT_PARTS)


def kind_of(folder: Path) -> str:
    """The name of the pipeline in a folder. Raises ModelError if it is not one of PIPELINES."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder} has no model_index.json", "a folder in diffusers' layout is needed", "Check the path")
    kind = read_config(index).get("_class_name")
    if not isinstance(kind, str) or kind not in PIPELINES:
        raise ModelError(f"{folder} is a {kind!s:.100}", f"one of {', '.join(PIPELINES)} is needed", "Choose another model")
    return kind


def index_of(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a folder's index says of a pipeline, and the class of each part. Raises ModelError for a class that is not known."""
    path, version = folder / "model_index.json", diffusers.__version__
    listed, index, classes = read_config(path), {"_class_name": kind, "_diffusers_version": version}, {}
    for name in _keys(PIPELINES[kind]):
        entry = listed.get(name)
        if name in UNUSED:
            index[name] = [None, None]
        elif name in CLASSES:
            known = entry[-1] if isinstance(entry, list) and entry else None
            if known not in CLASSES[name]:
                raise unfit(path, f"names {entry!r:.100} as its {name}, and {', '.join(CLASSES[name][:3])} are known")
            library = OWN if known == POCKET else transformers if name.startswith("t") else diffusers
            module = import_module(library) if isinstance(library, str) else library
            classes[name] = getattr(module, known.removesuffix("Fast"))
            index[name] = [module.__name__, classes[name].__name__]
        elif isinstance(entry, bool):
            index[name] = entry
    return index, classes


def _keys(cls: Any) -> list[str]:
    """The settings of a class of diffusers."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


def vetted_part(name: str, cls: Any) -> Part:
    """What of one part's folder is passed on."""
    if name.startswith("tokenizer"):
        return TOKENIZER
    if name.startswith("text_encoder"):
        return Part(CLIPTextConfig.__annotations__, fixed={"model_type": CLIPTextConfig.model_type}, base="text_config")
    scheduler = name == "scheduler"
    config = "scheduler_config.json" if scheduler else "config.json"
    return Part(_keys(cls), config, {"_class_name": cls.__name__}, weights=not scheduler)


def check_networks(folder: Path, safe: Path, classes: Mapping[str, Any]) -> None:
    """Raises ModelError unless each network is what its weights are, and they go together: a step of shapes alone."""

    def build(name: str) -> nn.Module:
        cls, path = classes[name], safe / name
        config = cls.config_class.from_pretrained(path) if name in TEXT_PARTS else cls.load_config(path)
        made: nn.Module = cls(config) if name in TEXT_PARTS else cls.from_config(config)
        return made

    names = [name for name in NETWORKS if name in classes]
    made: dict[str, Any] = {name: check_fit(partial(build, name), described_in(folder / name), folder / name) for name in names}
    unet, zeros = made["unet"], partial(torch.zeros, device="meta")
    texts = [made[name].config for name in TEXT_PARTS if name in made]
    added = {"text_embeds": zeros(1, texts[-1].projection_dim), "time_ids": zeros(1, 6)} if len(texts) > 1 else None
    side, channels = unet.config.sample_size, unet.config.in_channels
    if type(side) is not int or not 0 < side <= LARGEST_SAMPLE:
        raise unfit(folder / "unet", f"has {side!r:.100} as its sample_size")
    try:
        with torch.no_grad():
            hidden = zeros(1, 7, sum(each.hidden_size for each in texts))
            drawn = unet(zeros(1, channels, side, side), zeros(()), hidden, added_cond_kwargs=added).sample
            made["vae"].decode(drawn)
            made["vae"].encode(zeros(1, 3, 64, 64))
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise unfit(folder, f"has parts that do not go together ({short(problem)})") from problem


def check_pipeline(folder: Path, pipeline: Any, classes: Mapping[str, Any]) -> None:
    """Raises ModelError unless weights are finite, tokens have an embedding each, and the scheduler steps to finite numbers."""
    for name in classes:
        if name in NETWORKS:
            check_finite(getattr(pipeline, name), folder / name)
        elif name.startswith("tokenizer"):
            tokenizer, config = getattr(pipeline, name), getattr(pipeline, name.replace("tokenizer", "text_encoder")).config
            length, ends = tokenizer.model_max_length, (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
            known = all(type(number) is int for number in (length, *ends)) and len(tokenizer) <= config.vocab_size
            if not known or not 2 < length <= config.max_position_embeddings:
                raise unfit(folder / name, "has other tokens than its text encoder")
    try:
        with torch.random.fork_rng([]):
            scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
            scheduler.set_timesteps(4)
            latents = torch.ones(1, 1, 2, 2)
            for step in scheduler.timesteps:
                latents = scheduler.step(scheduler.scale_model_input(latents, step), step, latents).prev_sample
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise unfit(folder / "scheduler", f"does not step ({short(problem)})") from problem
    if not torch.isfinite(latents).all():
        raise unfit(folder / "scheduler", "steps to numbers that are not finite")
