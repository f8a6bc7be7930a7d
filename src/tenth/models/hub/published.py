"""Which files of which published repositories, by their lists, make a folder of a model of a known family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import InputError, ModelError
from tenth.core.wording import abbreviate, did_you_mean
from tenth.models.families.registry import FAMILIES as TRANSFORMERS
from tenth.models.families.registry import family_of
from tenth.models.hub.client import RepoListing

IP_ADAPTER, IP_ADAPTER_LICENCE = "h94/IP-Adapter", {"h94/IP-Adapter": "apache-2.0"}
VIT_H, VIT_BIGG = "models/image_encoder", "sdxl_models/image_encoder"  # CLIP ViT-H/14 and bigG/14, of 1024 and 1280 numbers
INDEX, UNET, TRANSFORMER = "model_index.json", "unet/config.json", "transformer/config.json"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
TOKENIZER_FILES = (
    *("merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "spiece.model",
)
SCHEDULER = "scheduler/scheduler_config.json"
TEXT_FOLDERS = ("tokenizer", "processor", "siglip_processor")  # how the names of parts without weights begin
PROCESSOR_FILES = (*TOKENIZER_FILES, "preprocessor_config.json", "processor_config.json", "chat_template.jinja")
REPOSITORY_PATTERN = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
MAX_NAME_CHARS = 200  # of repository and adapter; a hub allows 96 for the former
SD2_CROSS_ATTENTION_DIM = 1024  # of Stable Diffusion 2's text encoder; SDXL's two have 2048, 1.5's has 768


@dataclass(frozen=True)
class ModelFamily:
    """What the models of a family have in common. parts: weight file stem by folder. adapter: the default one, if it has any.

    texts: folders of tokenizers and processors, which have no weights.
    """

    name: str
    pipeline: str
    parts: Mapping[str, str]
    adapter: str = ""
    texts: tuple[str, ...] = ("tokenizer",)


@dataclass(frozen=True)
class AdapterSpec:
    """A published IP-Adapter: family of its UNet, and its file and its image encoder's folder in h94/IP-Adapter."""

    family: str
    file: str
    encoder: str


@dataclass(frozen=True)
class HubModel:
    """A model with a short name: open to everybody, commercial use included. licence: from the repository's card.

    gigabytes: of its files and the adapter's, about: the weights of memory/recommendation.py, of UNets in full precision.
    """

    repository: str
    licence: str
    gigabytes: float
    description: str

    @property
    def terms(self) -> str:
        """What to know before anything is downloaded: repository, size and licence."""
        return f"{self.repository}: about {self.gigabytes:.3g} GB, {self.licence}"


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model name. adapter: the requested one, or "" for the family's default."""

    name: str
    repository: str
    adapter: str


_MODEL, _DIFFUSION = "model", "diffusion_pytorch_model"
_SD15 = {"text_encoder": _MODEL, "unet": _DIFFUSION, "vae": _DIFFUSION}
# fmt: off
UNETS: Mapping[str, ModelFamily] = {  # those of transformers: models/families/registry.py
    "sd15": ModelFamily("sd15", "StableDiffusionPipeline",   _SD15,                               "ip-adapter_sd15"),
    "sdxl": ModelFamily("sdxl", "StableDiffusionXLPipeline", _SD15 | {"text_encoder_2": _MODEL},  "ip-adapter_sdxl_vit-h", ("tokenizer", "tokenizer_2")),  # noqa: E501
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
    "sd15": HubModel("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", 6.8,
                      "Stable Diffusion 1.5, 512 x 512, with the published IP-Adapter"),
    "sdxl": HubModel("stabilityai/stable-diffusion-xl-base-1.0",    "openrail++", 17.8,
                      "Stable Diffusion XL, 1024 x 1024, with the published IP-Adapter"),
    "flux2-klein-4b":      HubModel("black-forest-labs/FLUX.2-klein-4B",      "apache-2.0", 16.0,
                      "FLUX.2 klein 4B, 1024 x 1024, four steps, up to four photos in context"),
    "flux2-klein-base-4b": HubModel("black-forest-labs/FLUX.2-klein-base-4B", "apache-2.0", 16.0,
                      "FLUX.2 klein 4B before distillation, 1024 x 1024, to train on; up to four photos in context"),
    "qwen-image-edit":     HubModel("Qwen/Qwen-Image-Edit-2511",              "apache-2.0", 57.7,
                      "Qwen-Image-Edit, 1024 x 1024, up to three photos in context; 20 billion weights"),
    "z-image":             HubModel("Tongyi-MAI/Z-Image",                     "apache-2.0", 20.5,
                      "Z-Image, 1024 x 1024, text only; 6 billion weights"),
}
# fmt: on


def parse_model_name(name: str) -> ModelSpec | None:
    """Parse a short name or owner/name, alone or with +ADAPTER; None for others. Raises InputError for an unknown adapter."""
    model, plus, adapter = name.partition("+")
    repository = PUBLISHED[model].repository if model in PUBLISHED else model
    if not REPOSITORY_PATTERN.fullmatch(repository) or len(name) > MAX_NAME_CHARS:
        return None
    if plus and adapter not in ADAPTERS:
        found, action = f"{adapter!r} is no published IP-Adapter", did_you_mean(adapter, list(ADAPTERS)) + "See docs/models.md"
        raise InputError(found, f"choose one of: {', '.join(ADAPTERS)}", action)
    return ModelSpec(name, repository, adapter)


def detect_family(listing: RepoListing, index: Any, unet: Any) -> ModelFamily:
    """The family of a repository, by its model_index.json and its UNet's config, if any. Raises ModelError for another."""
    class_name = index.get("_class_name") if isinstance(index, dict) else None
    family = _family_of(class_name) if isinstance(class_name, str) else None
    found = f"a {class_name:.50}" if isinstance(class_name, str) else "of no kind that its model_index.json says"
    if family is not None and isinstance(unet, dict) and unet.get("cross_attention_dim") == SD2_CROSS_ATTENTION_DIM:
        found, family = "Stable Diffusion 2", None
    if family is None:
        needed = f"Stable Diffusion 1.5 or SDXL, as text to image, or one of {', '.join(TRANSFORMERS)} is needed"
        raise ModelError(f"{listing.repository} is {found}", needed, "Choose another repository")
    return family


def _family_of(class_name: str) -> ModelFamily | None:
    """The family whose pipeline is of this class."""
    if transformer := family_of(class_name):
        networks = [part for part in transformer.components if not part.startswith(("scheduler", *TEXT_FOLDERS))]
        stems = {part: _DIFFUSION if part in ("transformer", "vae") else _MODEL for part in networks}
        texts = tuple(part for part in transformer.components if part.startswith(TEXT_FOLDERS))
        return ModelFamily(transformer.name, class_name, stems, texts=texts)
    return next((each for each in UNETS.values() if each.pipeline == class_name), None)


def check_layout(listing: RepoListing) -> None:
    """Raises ModelError if a repository is no folder of diffusers'."""
    missing = [path for path in (INDEX,) if path not in listing.files]
    if UNET not in listing.files and TRANSFORMER not in listing.files:
        missing.append(UNET)
    if not missing:
        return
    weights = [path for path in listing.files if path.endswith((*PICKLE_SUFFIXES, ".safetensors"))]
    if weights and all(path.endswith(PICKLE_SUFFIXES) for path in weights):
        raise _pickle_error(listing.repository, weights)
    action = "Choose another repository, or convert the file to a folder with diffusers"
    raise ModelError(f"{listing.repository} has no {abbreviate(missing)}", "a model in diffusers' layout is needed", action)


def model_files(listing: RepoListing, family: ModelFamily) -> dict[str, str]:
    """Path in the model's folder -> path in the repository, of all that loading needs and nothing else. Raises ModelError."""
    required = {path: path for path in (INDEX, SCHEDULER, *(f"{part}/config.json" for part in family.parts))}
    for part, stem in family.parts.items():
        required |= _weight_files(listing, part, stem)
    for folder in family.texts:
        found = {f"{folder}/{name}" for name in PROCESSOR_FILES} & listing.files.keys()
        one_file = {f"{folder}/tokenizer.json", f"{folder}/preprocessor_config.json"} & found
        needed = set() if one_file else {f"{folder}/merges.txt", f"{folder}/vocab.json"}
        required |= {path: path for path in sorted(found | needed)}
    return _require_files(listing, required)


def adapter_files(listing: RepoListing, adapter: AdapterSpec) -> dict[str, str]:
    """As `model_files`, for an IP-Adapter and its image encoder. Raises ModelError."""
    config = f"{adapter.encoder}/config.json"
    encoder = {config: config} | _weight_files(listing, adapter.encoder, _MODEL)
    local = {path.replace(adapter.encoder, "image_encoder", 1): remote for path, remote in encoder.items()}
    return _require_files(listing, local | {"ip-adapter/ip-adapter.safetensors": adapter.file})


def choose_adapter(model_spec: ModelSpec, family: ModelFamily) -> AdapterSpec | None:
    """The requested adapter, or the family's default, if it has one. Raises ModelError if it is for another family."""
    name = model_spec.adapter or family.adapter
    if not name:
        return None
    adapter = ADAPTERS[name]
    if adapter.family != family.name:
        known = [each for each, row in ADAPTERS.items() if row.family == family.name]
        found = f"{name} is for {adapter.family} and {model_spec.repository} is of {family.name}"
        needed = f"one of {', '.join(known)} is needed" if known else "it has no published adapter here"
        raise ModelError(found, needed, "Choose one of these" if known else "Leave +ADAPTER out")
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
