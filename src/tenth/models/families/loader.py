"""A transformer of a known family from a local folder in diffusers' layout, with everything in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.errors import ModelError
from tenth.core.files.reading import printable_name, short_sha256_of, without_system_files
from tenth.models import model_folder
from tenth.models.adapters.lora_file import load_lora
from tenth.models.families.adapters import load_adapters
from tenth.models.families.family import TransformerFamily
from tenth.models.families.flow_model import FlowModel
from tenth.models.families.registry import FAMILIES, family_of
from tenth.models.memory.flow_footprint import FlowFootprint, read_flow_footprint
from tenth.models.memory.placement import TextEncoders, load_dtypes, place_pipeline, store_weights
from tenth.models.memory.planner import DEFAULT_OPTIONS, DEFAULT_PLAN, LoadOptions, MemoryPlan, plan_memory
from tenth.models.memory.system import available_memory
from tenth.models.model_folder import ComponentSpec, first_line, invalid_model, read_config, sanitized_folder
from tenth.models.pipelines import quiet

NETWORKS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "siglip")
OF_TRANSFORMERS = ("text_encoder", "tokenizer", "siglip")  # how the names of parts from that library begin
CHECKED_TEXT = "a photo of a person"
CHECKED_SIDE, CHECKED_STEPS = 64, 4  # pixels and steps: of the image whose shapes are computed
# Of a text encoder's configuration: what names files or code, and a number of layers that only sliding windows read.
UNREAD_KEYS = {"architectures", "auto_map", "quantization_config", "max_window_layers", "torch_dtype", "dtype"}

ROPE_KEYS = ("rope_theta", "rope_scaling")  # as configurations had it before `rope_parameters`


def family_in(folder: Path) -> TransformerFamily | None:
    """The family of the pipeline in a folder; None if it is of another kind. Raises ModelError if its index cannot be read."""
    index = folder / "model_index.json"
    class_name = read_config(index).get("_class_name") if index.is_file() else None
    return family_of(class_name) if isinstance(class_name, str) else None


def load_flow_model(
    folder: Path,
    options: LoadOptions = DEFAULT_OPTIONS,
    on_message: Callable[[str], None] | None = None,
    family: TransformerFamily | None = None,
    lora: Path | None = None,
    adapter: Path | None = None,
) -> FlowModel:
    """The model in a folder. family: None for the one that its index names. on_message: gets a line about the memory profile.

    lora: a file whose matrices are added to the weights once. adapter: an IP-Adapter's file (families/adapters.py).

    Raises ModelError if it is of no family, or a part is missing, damaged, or does not go with the others.
    """
    family = family or family_in(folder)
    if family is None:
        known = ", ".join(each.pipeline_class for each in FAMILIES.values())
        raise ModelError(f"{folder} is of no known family", f"one of {known} is needed", "Choose another model")
    matrices = None if lora is None else load_lora(lora)  # refused before the model is read
    plan = plan_memory(read_family_footprint(folder, family), options, available_memory())
    if matrices is not None and plan.profile.weights == "mapped":
        raise ModelError(f"a LoRA with the memory profile {plan.profile.name}", "merging it needs memory", "Free memory for it")
    if on_message is not None and plan.message:
        on_message(plan.message)
    pipeline = load_family_pipeline(folder, family, plan)
    if matrices is not None:
        matrices.merge_into(pipeline)
    place_pipeline(pipeline, plan)
    parts = [part for part in NETWORKS if part in family.components]
    weights = without_system_files(folder, (path for part in parts for path in model_folder.weight_files(folder / part)))
    name = printable_name(folder.resolve())
    if lora is not None:
        name, weights = f"{name}+{printable_name(lora.with_suffix(''))}", [*weights, lora]
    loaded = load_adapters(folder, pipeline.transformer, adapter, ArrayCache(default_cache_dir()), plan)
    text_encoders = TextEncoders(pipeline, plan, partial(load_text_encoder, folder, family, plan, pipeline))
    return FlowModel(family, pipeline, f"{name}@{short_sha256_of(weights)}", plan, loaded, text_encoders)


def read_family_footprint(folder: Path, family: TransformerFamily) -> FlowFootprint:
    """What the memory of a model in a folder depends on. Raises ModelError."""
    distilled = read_config(folder / "model_index.json").get("is_distilled") is True  # then guidance needs no second prediction
    return read_flow_footprint(folder, family.resolution, rows=1 if distilled else 2, token_widths=family.token_widths)


def load_text_encoder(folder: Path, family: TransformerFamily, plan: MemoryPlan, pipeline: Any, name: str) -> nn.Module:
    """One text encoder of a folder for its pipeline, checked, and stored as the plan says. Raises ModelError."""
    _, classes = read_index(folder, family)
    with sanitized_folder(folder, {name: component_spec(family, name, classes[name])}) as safe, quiet():
        dtypes = load_dtypes(folder, plan)
        try:
            network: nn.Module = classes[name].from_pretrained(
                safe / name, local_files_only=True, use_safetensors=True, dtype=dtypes.get(name, dtypes["default"])
            )
        except Exception as problem:  # whatever a library raises of a foreign file
            raise invalid_model(folder, f"cannot be loaded: {first_line(problem).replace(str(safe), str(folder))}") from problem
    check_network(folder, pipeline, name, network)
    store_weights(network, plan)
    return network


def load_family_pipeline(folder: Path, family: TransformerFamily, plan: MemoryPlan = DEFAULT_PLAN) -> Any:
    """The pipeline of a folder on the CPU, safetensors only, checked before and after it is read.

    plan: for the precision of its weights; on a CPU a text encoder that it frees is there without weights, on the device meta.
    """
    index, classes = read_index(folder, family)
    specs = {name: component_spec(family, name, cls) for name, cls in classes.items()}
    with sanitized_folder(folder, specs, index) as safe, quiet():
        networks = check_networks(folder, safe, family, classes)
        freed = plan.device == "cpu" and plan.profile.frees_text_encoder
        later = {name: network for name, network in networks.items() if freed and name.startswith("text_encoder")}
        try:
            pipeline = getattr(diffusers, family.pipeline_class).from_pretrained(
                safe,
                local_files_only=True,
                use_safetensors=True,
                dtype=load_dtypes(folder, plan),
                low_cpu_mem_usage=not plan.small,
                **dict.fromkeys(family.made_parts),
                **later,
            )
        except Exception as problem:  # whatever a library raises of a foreign file
            raise invalid_model(folder, f"cannot be loaded: {first_line(problem).replace(str(safe), str(folder))}") from problem
    check_pipeline(folder, pipeline, family)
    pipeline.register_modules(**{name: make(pipeline) for name, make in family.made_parts.items()})
    return pipeline


def read_index(folder: Path, family: TransformerFamily) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pipeline's index, reduced to what is known, and the class of each part. Raises ModelError for an unknown class."""
    path = folder / "model_index.json"
    listed, classes = read_config(path), {}
    index: dict[str, Any] = {"_class_name": family.pipeline_class, "_diffusers_version": diffusers.__version__}
    for name, known in family.components.items():
        entry = listed.get(name)
        class_name = entry[-1] if isinstance(entry, list) and entry else None
        if class_name not in known:
            raise invalid_model(path, f"names {entry!r:.100} as its {name}, and {', '.join(known)} are known")
        module = transformers if name.startswith(OF_TRANSFORMERS) else diffusers
        classes[name] = getattr(module, class_name)
        index[name] = [module.__name__, class_name]
    settings = set(_init_parameters(getattr(diffusers, family.pipeline_class))) - set(family.components)
    index |= {name: listed[name] for name in settings if isinstance(listed.get(name), bool)}
    return index, classes


def component_spec(family: TransformerFamily, name: str, cls: Any) -> ComponentSpec:
    """What of one part's folder is passed on."""
    if name.startswith("tokenizer"):
        template = {"chat_template": family.chat_template} if family.chat_template else {}
        return ComponentSpec(
            model_folder.TOKENIZER.keys,
            model_folder.TOKENIZER.config_file,
            template,
            weights=False,
            tokenizer_files=model_folder.TOKENIZER.tokenizer_files,
        )
    if name == "siglip_processor":
        keys, fixed = ("patch_size", "max_num_patches", "image_mean", "image_std"), {"image_processor_type": cls.__name__}
        return ComponentSpec(keys, "preprocessor_config.json", fixed, weights=False)
    if name.startswith(OF_TRANSFORMERS):
        return network_spec(cls.config_class)
    file = "scheduler_config.json" if name == "scheduler" else "config.json"
    return ComponentSpec(_init_parameters(cls), file, {"_class_name": cls.__name__}, weights=name != "scheduler")


def network_spec(config: Any) -> ComponentSpec:
    """Of a network of transformers. Its tables are copied; older files have the text's in no table."""
    tables = {name: _config_keys(table.config_class) for name, table in getattr(config, "sub_configs_defaults", {}).items()}
    keys = _config_keys(config).union(*tables.values()) - tables.keys()
    return ComponentSpec(keys, fixed_values={"model_type": config.model_type}, nested_keys=tables)


def _config_keys(config: Any) -> set[str]:
    """The settings of a class of transformers."""
    return {*config.__annotations__, *ROPE_KEYS} - UNREAD_KEYS


def _init_parameters(cls: Any) -> list[str]:
    """The settings of a class of diffusers."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


def check_networks(folder: Path, safe: Path, family: TransformerFamily, classes: Mapping[str, Any]) -> dict[str, Any]:
    """The networks on the device meta. Raises ModelError unless each is what its weights are, and they go together.

    Checked by a step of shapes alone.
    """

    def build(name: str) -> nn.Module:
        cls, path = classes[name], safe / name
        if name.startswith(OF_TRANSFORMERS):
            made: nn.Module = cls(cls.config_class.from_pretrained(path))
        else:
            made = cls.from_config(cls.load_config(path))
        return made

    # Each network by itself. What shares its weights with the embedding of a text encoder is not in the file.
    parts: dict[str, Any] = {}
    for name in (each for each in classes if each in NETWORKS):
        infos = model_folder.folder_tensor_infos(folder / name)
        if name.startswith("text_encoder"):
            ties = getattr(classes[name].config_class, "tie_word_embeddings", True)
            ties = read_config(safe / name / "config.json").get("tie_word_embeddings", ties)
            tied = (getattr(classes[name], "_tied_weights_keys", None) or {}) if ties else {}
            infos = {each: infos[source] for each, source in tied.items() if source in infos} | infos
        parts[name] = model_folder.check_weights_match(partial(build, name), infos, folder / name)
        known = parts[name].state_dict().keys()
        unread = min(infos.keys() - known, default="") if name == "transformer" else model_folder.left_out_layer(infos, known)
        if unread:  # such as those of layers that the configuration leaves out
            raise invalid_model(folder / name, f"has {unread}, for which its configuration has no place")

    # All of them together.
    try:
        index = read_config(safe / "model_index.json")
        settings = {name: value for name, value in index.items() if isinstance(value, bool)}
        pipeline = getattr(diffusers, family.pipeline_class)(**dict.fromkeys([*classes, *family.made_parts]) | settings | parts)
        with torch.no_grad(), torch.device("meta"):
            zeros = torch.zeros(1, *family.latent_shape(pipeline, CHECKED_SIDE, CHECKED_SIDE))
            velocity = family.predict(pipeline.transformer, zeros, torch.zeros(()), family.empty_conditioning(pipeline))
            decoded = family.decode(pipeline, velocity)
            if family.encode(pipeline, decoded).shape != zeros.shape:
                raise ValueError(f"latents of shape {tuple(zeros.shape)}, which come back as another one")
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise invalid_model(folder, f"has parts that do not go together ({first_line(problem)})") from problem
    return parts


def check_network(folder: Path, pipeline: Any, name: str, network: Any) -> None:
    """Raises ModelError unless a part's weights are finite, if they are here, and tokens have an embedding each."""
    tokens = name.replace("text_encoder", "tokenizer")
    tokenizer = getattr(pipeline, tokens, None)
    if network.device.type != "meta":
        model_folder.check_finite(network, folder / name)
    if name.startswith("text_encoder") and tokenizer is not None:
        known = len(tokenizer) <= network.config.get_text_config().vocab_size
        if not known or tokenizer.pad_token_id is None:
            raise invalid_model(folder / tokens, "has other tokens than its text encoder")
        if not {*tokenizer(CHECKED_TEXT, add_special_tokens=False).input_ids} - {*tokenizer.all_special_ids}:
            raise invalid_model(folder / tokens, "has no words: all prompts would be read as the same")


def check_pipeline(folder: Path, pipeline: Any, family: TransformerFamily) -> None:
    """Raises ModelError unless weights are finite, tokens have an embedding each, and the scheduler steps to finite numbers."""
    for name in (each for each in family.components if each in NETWORKS):
        check_network(folder, pipeline, name, getattr(pipeline, name))
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    shape = family.latent_shape(pipeline, CHECKED_SIDE, CHECKED_SIDE)
    try:
        family.set_timesteps(scheduler, CHECKED_STEPS, shape, torch.device("cpu"))
        latents = torch.ones(1, *shape)
        for timestep in scheduler.timesteps:
            latents = scheduler.step(latents, timestep, latents, return_dict=False)[0]
    except Exception as problem:  # whatever a library raises of a foreign configuration
        raise invalid_model(folder / "scheduler", f"does not step ({first_line(problem)})") from problem
    if not torch.isfinite(latents).all():
        raise invalid_model(folder / "scheduler", "steps to numbers that are not finite")
