"""Which files of which published repositories, by their lists, make a folder of Stable Diffusion 1.5 or SDXL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import InputError, ModelError
from tenth.core.wording import abbreviate, did_you_mean
from tenth.models.hub.client import RepoListing

IP_ADAPTER, IP_ADAPTER_LICENCE = "h94/IP-Adapter", {"h94/IP-Adapter": "apache-2.0"}
VIT_H, VIT_BIGG = "models/image_encoder", "sdxl_models/image_encoder"  # CLIP ViT-H/14 and bigG/14, of 1024 and 1280 numbers
INDEX, UNET = "model_index.json", "unet/config.json"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
TOKENIZER_FILES = (
    *("merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
REPOSITORY_PATTERN = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
MAX_NAME_CHARS = 200  # of repository and adapter; a hub allows 96 for the former
SD2_CROSS_ATTENTION_DIM = 1024  # of Stable Diffusion 2's text encoder; SDXL's two have 2048, 1.5's has 768


@dataclass(frozen=True)
class ModelFamily:
    """What the models of a family have in common. parts: weight file stem by folder. adapter: the default one."""

    pipeline: str
    parts: Mapping[str, str]
    adapter: str


@dataclass(frozen=True)
class AdapterSpec:
    """A published IP-Adapter: family of its UNet, and its file and its image encoder's folder in h94/IP-Adapter."""

    family: str
    file: str
    encoder: str


@dataclass(frozen=True)
class HubModel:
    """A model with a short name. licence: from the repository's card."""

    repository: str
    licence: str
    description: str


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model name. adapter: the requested one, or "" for the family's default."""

    name: str
    repository: str
    adapter: str


_MODEL, _DIFFUSION = "model", "diffusion_pytorch_model"
_SD15 = {"text_encoder": _MODEL, "unet": _DIFFUSION, "vae": _DIFFUSION}
# fmt: off
FAMILIES: Mapping[str, ModelFamily] = {
    "sd15": ModelFamily("StableDiffusionPipeline",   _SD15,                               "ip-adapter_sd15"),
    "sdxl": ModelFamily("StableDiffusionXLPipeline", _SD15 | {"text_encoder_2": _MODEL},  "ip-adapter_sdxl_vit-h"),
}
ADAPTERS: Mapping[str, AdapterSpec] = {
    "ip-adapter_sd15":                 AdapterSpec("sd15", "models/ip-adapter_sd15.safetensors",                      VIT_H),
    "ip-adapter-plus_sd15":            AdapterSpec("sd15", "models/ip-adapter-plus_sd15.safetensors",                 VIT_H),
    "ip-adapter-plus-face_sd15":       AdapterSpec("sd15", "models/ip-adapter-plus-face_sd15.safetensors",            VIT_H),
    "ip-adapter_sdxl_vit-h":           AdapterSpec("sdxl", "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",           VIT_H),
    "ip-adapter_sdxl":                 AdapterSpec("sdxl", "sdxl_models/ip-adapter_sdxl.safetensors",                 VIT_BIGG),
    "ip-adapter-plus_sdxl_vit-h":      AdapterSpec("sdxl", "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",      VIT_H),
    "ip-adapter-plus-face_sdxl_vit-h": AdapterSpec("sdxl", "sdxl_models/ip-adapter-plus-face_sdxl_vit-h.safetensors", VIT_H),
}
PUBLISHED: Mapping[str, HubModel] = {
    "sd15": HubModel("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m",
                      "Stable Diffusion 1.5, 512 x 512, with the published IP-Adapter"),
    "sdxl": HubModel("stabilityai/stable-diffusion-xl-base-1.0",    "openrail++",
                      "Stable Diffusion XL, 1024 x 1024, with the published IP-Adapter"),
}
# fmt: on


def parse_model_name(name: str) -> ModelSpec | None:
    """Parse sd15, sdxl or owner/name, alone or with +ADAPTER; None for others. Raises InputError for an unknown adapter."""
    model, plus, adapter = name.partition("+")
    repository = PUBLISHED[model].repository if model in PUBLISHED else model
    if not REPOSITORY_PATTERN.fullmatch(repository) or len(name) > MAX_NAME_CHARS:
        return None
    if plus and adapter not in ADAPTERS:
        found, action = f"{adapter!r} is no published IP-Adapter", did_you_mean(adapter, list(ADAPTERS)) + "See docs/models.md"
        raise InputError(found, f"choose one of: {', '.join(ADAPTERS)}", action)
    return ModelSpec(name, repository, adapter)


def detect_family(repository: str, index: Any, unet: Any) -> str:
    """The family of a repository, by its model_index.json and its UNet's config. Raises ModelError if it is of neither."""
    class_name = index.get("_class_name") if isinstance(index, dict) else None
    family = next((name for name, each in FAMILIES.items() if each.pipeline == class_name), None)
    found = f"a {class_name:.50}" if isinstance(class_name, str) else "of no kind that its model_index.json says"
    if family is not None and isinstance(unet, dict) and unet.get("cross_attention_dim") == SD2_CROSS_ATTENTION_DIM:
        found, family = "Stable Diffusion 2", None
    if family is None:
        needed = "Stable Diffusion 1.5 or SDXL, as text to image, is needed"
        raise ModelError(f"{repository} is {found}", needed, "Choose another repository")
    return family


def check_layout(listing: RepoListing) -> None:
    """Raises ModelError if a repository is no folder of diffusers'."""
    if INDEX in listing.files and UNET in listing.files:
        return
    weights = [path for path in listing.files if path.endswith((*PICKLE_SUFFIXES, ".safetensors"))]
    if weights and all(path.endswith(PICKLE_SUFFIXES) for path in weights):
        raise _pickle_error(listing.repository, weights)
    missing = [path for path in (INDEX, UNET) if path not in listing.files]
    action = "Choose another repository, or convert the file to a folder with diffusers"
    raise ModelError(f"{listing.repository} has no {abbreviate(missing)}", "a model in diffusers' layout is needed", action)


def model_files(listing: RepoListing, family: str) -> dict[str, str]:
    """Path in the model's folder -> path in the repository, of all that loading needs and nothing else. Raises ModelError."""
    parts = FAMILIES[family].parts
    required = {path: path for path in (INDEX, "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in parts))}
    for part, stem in parts.items():
        required |= _weight_files(listing, part, stem)
        if part.startswith("text_encoder"):
            folder = part.replace("text_encoder", "tokenizer")
            found = {f"{folder}/{name}" for name in TOKENIZER_FILES} & listing.files.keys()
            one_file = f"{folder}/tokenizer.json" in found
            needed = set() if one_file else {f"{folder}/merges.txt", f"{folder}/vocab.json"}
            required |= {path: path for path in sorted(found | needed)}
    return _require_files(listing, required)


def adapter_files(listing: RepoListing, adapter: AdapterSpec) -> dict[str, str]:
    """As `model_files`, for an IP-Adapter and its image encoder. Raises ModelError."""
    config = f"{adapter.encoder}/config.json"
    encoder = {config: config} | _weight_files(listing, adapter.encoder, _MODEL)
    local = {path.replace(adapter.encoder, "image_encoder", 1): remote for path, remote in encoder.items()}
    return _require_files(listing, local | {"ip-adapter/ip-adapter.safetensors": adapter.file})


def choose_adapter(model_spec: ModelSpec, family: str) -> AdapterSpec:
    """The requested adapter, or the family's default. Raises ModelError if it is for the other family."""
    adapter = ADAPTERS[model_spec.adapter or FAMILIES[family].adapter]
    if adapter.family != family:
        known = [name for name, each in ADAPTERS.items() if each.family == family]
        found = f"{model_spec.adapter} is for {adapter.family} and {model_spec.repository} is of {family}"
        raise ModelError(found, f"one of {', '.join(known)} is needed", "Choose one of these")
    return adapter


def _weight_files(listing: RepoListing, folder: str, stem: str) -> dict[str, str]:
    """The weight files of a component: one file, else shards, else half precision under the plain name."""
    plain, half, index = (f"{folder}/{stem}{end}" for end in (".safetensors", ".fp16.safetensors", ".safetensors.index.json"))
    if plain in listing.files:
        return {plain: plain}
    if index in listing.files:
        shard = re.compile(rf"{re.escape(f'{folder}/{stem}')}-\d+-of-\d+\.safetensors")
        return {path: path for path in sorted(listing.files) if path == index or shard.fullmatch(path)}
    if half in listing.files:
        return {plain: half}
    if pickles := [path for path in listing.files if path.startswith(f"{folder}/") and path.endswith(PICKLE_SUFFIXES)]:
        raise _pickle_error(listing.repository, pickles)
    return {plain: plain}


def _require_files(listing: RepoListing, required: Mapping[str, str]) -> dict[str, str]:
    if missing := [remote for remote in required.values() if remote not in listing.files]:
        found = f"{listing.repository} at {listing.revision} has no {abbreviate(missing)}"
        action = "Choose another repository, or put the folder together yourself: docs/models.md"
        raise ModelError(found, "all files of a model are needed", action)
    return dict(required)


def _pickle_error(repository: str, paths: list[str]) -> ModelError:
    found = f"{repository} has weights as pickles alone ({abbreviate(sorted(paths))})"
    needed = "safetensors are needed: a pickle may run code when it is read"
    return ModelError(found, needed, "Choose a repository with safetensors, or convert it yourself")
