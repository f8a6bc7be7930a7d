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
from tenth.models import model_folder
from tenth.models.model_folder import ComponentSpec, first_line, invalid_model, read_config

PIPELINES = {each.__name__: each for each in (diffusers.StableDiffusionPipeline, diffusers.StableDiffusionXLPipeline)}
UNUSED_COMPONENTS = ("safety_checker", "feature_extractor", "image_encoder")  # not loaded, though an index lists them
POCKET_AUTOENCODER = "PocketAutoencoder"  # by its name: the pocket model stands above this file
COMPONENT_CLASSES: Mapping[str, tuple[str, ...]] = {  # what an index may name, by the part
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny", POCKET_AUTOENCODER),
    **dict.fromkeys(("text_encoder", "text_encoder_2"), ("CLIPTextModel", "CLIPTextModelWithProjection")),
    **dict.fromkeys(("tokenizer", "tokenizer_2"), ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": (*diffusers.schedulers.KarrasDiffusionSchedulers.__members__, "LCMScheduler", "TCDScheduler"),
}
MAX_SAMPLE_SIZE = 1024  # places of the latents along one side: 8192 pixels
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
NETWORKS = ("unet", "vae", *TEXT_ENCODERS)


def pipeline_class_name(folder: Path) -> str:
    """The name of the pipeline in a folder. Raises ModelError if it is not one of PIPELINES."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder} has no model_index.json", "a folder in diffusers' layout is needed", "Check the path")
    class_name = read_config(index).get("_class_name")
    if not isinstance(class_name, str) or class_name not in PIPELINES:
        needed = f"one of {', '.join(PIPELINES)}, or a transformer of docs/models.md, is needed"
        raise ModelError(f"{folder} is a {class_name!s:.100}", needed, "Choose another model")
    return class_name


def read_index(folder: Path, class_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pipeline's index, reduced to what is known, and the class of each part. Raises ModelError for an unknown class."""
    path, version = folder / "model_index.json", diffusers.__version__
    listed, index, classes = read_config(path), {"_class_name": class_name, "_diffusers_version": version}, {}
    for name in _init_parameters(PIPELINES[class_name]):
        entry = listed.get(name)
        if name in UNUSED_COMPONENTS:
            index[name] = [None, None]
        elif name in COMPONENT_CLASSES:
            known = entry[-1] if isinstance(entry, list) and entry else None
            if known not in COMPONENT_CLASSES[name]:
                names = ", ".join(COMPONENT_CLASSES[name][:3])
                raise invalid_model(path, f"names {entry!r:.100} as its {name}, and {names} are known")
            module = transformers if name.startswith("t") else diffusers
            if known == POCKET_AUTOENCODER:
                module = import_module(f"{__package__}.pocket.autoencoder")
            classes[name] = getattr(module, known.removesuffix("Fast"))
            index[name] = [module.__name__, classes[name].__name__]
        elif isinstance(entry, bool):
            index[name] = entry
    return index, classes


def _init_parameters(cls: Any) -> list[str]:
    """The settings of a class of diffusers."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


def component_spec(name: str, cls: Any) -> ComponentSpec:
    """What of one part's folder is passed on."""
    if name.startswith("tokenizer"):
        return model_folder.TOKENIZER
    if name.startswith("text_encoder"):
        kind = {"model_type": CLIPTextConfig.model_type}
        return ComponentSpec(CLIPTextConfig.__annotations__, fixed_values=kind, config_table="text_config")
    fixed_values = {"_class_name": cls.__name__}
    if name == "scheduler":  # with what others read, which take its place on the same noise schedule
        classes = [getattr(diffusers, each) for each in COMPONENT_CLASSES["scheduler"]]
        keys = {key for each in classes for key in _init_parameters(each)}
        return ComponentSpec(keys, "scheduler_config.json", fixed_values, weights=False)
    return ComponentSpec(_init_parameters(cls), "config.json", fixed_values)


def check_networks(folder: Path, safe: Path, classes: Mapping[str, Any]) -> None:
    """Raises ModelError unless each network is what its weights are, and they go together: a step of shapes alone."""

    def build(name: str) -> nn.Module:
        cls, path = classes[name], safe / name
        config = cls.config_class.from_pretrained(path) if name in TEXT_ENCODERS else cls.load_config(path)
        made: nn.Module = cls(config) if name in TEXT_ENCODERS else cls.from_config(config)
        return made

    # Each network by itself.
    names = [name for name in NETWORKS if name in classes]
    modules: dict[str, Any] = {}
    for name in names:
        infos = model_folder.folder_tensor_infos(folder / name)
        modules[name] = model_folder.check_weights_match(partial(build, name), infos, folder / name)

    # All of them together.
    unet, zeros = modules["unet"], partial(torch.zeros, device="meta")
    text_configs = [modules[name].config for name in TEXT_ENCODERS if name in modules]
    added = None
    if len(text_configs) > 1:
        added = {"text_embeds": zeros(1, text_configs[-1].projection_dim), "time_ids": zeros(1, 6)}
    sample_size, channels = unet.config.sample_size, unet.config.in_channels
    if type(sample_size) is not int or not 0 < sample_size <= MAX_SAMPLE_SIZE:
        raise invalid_model(folder / "unet", f"has {sample_size!r:.100} as its sample_size")
    if channels != unet.config.out_channels:  # an inpainting model also reads a mask and a masked picture
        found = f"{folder / 'unet'} reads {channels} channels and gives {unet.config.out_channels}"
        needed = "a UNet that reads latents alone is needed, also for --mask"
        raise ModelError(found, needed, "Choose the plain model instead of the one for inpainting")
    try:
        with torch.no_grad():
            latents, hidden = zeros(1, channels, sample_size, sample_size), sum(each.hidden_size for each in text_configs)
            latents = unet(latents, zeros(()), zeros(1, 7, hidden), added_cond_kwargs=added).sample
            modules["vae"].decode(latents)
            modules["vae"].encode(zeros(1, 3, 64, 64))
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise invalid_model(folder, f"has parts that do not go together ({first_line(problem)})") from problem


def check_pipeline(folder: Path, pipeline: Any, classes: Mapping[str, Any]) -> None:
    """Raises ModelError unless weights are finite, tokens have an embedding each, and the scheduler steps to finite numbers."""
    for name in classes:
        if name in NETWORKS:
            model_folder.check_finite(getattr(pipeline, name), folder / name)
        elif name.startswith("tokenizer"):
            tokenizer, config = getattr(pipeline, name), getattr(pipeline, name.replace("tokenizer", "text_encoder")).config
            length, ends = tokenizer.model_max_length, (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
            known = all(type(number) is int for number in (length, *ends)) and len(tokenizer) <= config.vocab_size
            if not known or not 2 < length <= config.max_position_embeddings:
                raise invalid_model(folder / name, "has other tokens than its text encoder")
    try:
        with torch.random.fork_rng([]):
            scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
            scheduler.set_timesteps(4)
            latents = torch.ones(1, 1, 2, 2)
            for step in scheduler.timesteps:
                latents = scheduler.step(scheduler.scale_model_input(latents, step), step, latents).prev_sample
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise invalid_model(folder / "scheduler", f"does not step ({first_line(problem)})") from problem
    if not torch.isfinite(latents).all():
        raise invalid_model(folder / "scheduler", "steps to numbers that are not finite")
