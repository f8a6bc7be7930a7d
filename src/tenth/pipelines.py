"""A pipeline of diffusers <-> a folder in its layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import logging as transformers_logging

from tenth.errors import ModelError
from tenth.estimate import part_of, weights_in
from tenth.file_writing import PRIVATE_FOLDER, as_os_error, written_folder
from tenth.memory import PLAIN, Fit
from tenth.narrow import narrow

PIPELINES = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
UNUSED = (
    "safety_checker",
    "feature_extractor",
    "image_encoder",
)  # parts of a pipeline that are not loaded, though it lists them

NARROWED = ("unet", "text_encoder", "text_encoder_2")
KINDS = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a pipeline as a folder in diffusers' layout, whole or not at all, for its owner alone: it may know a person."""
    with quiet(), written_folder(folder, PRIVATE_FOLDER) as new:
        pipeline.unet.to(memory_format=torch.contiguous_format)  # the only one that safetensors writes
        try:
            pipeline.save_pretrained(new, safe_serialization=True)
        except SafetensorError as problem:
            raise as_os_error(problem) from problem
        finally:
            pipeline.unet.to(memory_format=torch.channels_last)


def kind_of(folder: Path) -> str:
    """The name of the pipeline in a folder. Raises ModelError if it is not one of PIPELINES."""
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
    return str(kind)


def load_pipeline(folder: Path, fit: Fit = PLAIN, lora: Path | None = None) -> StableDiffusionPipeline:
    """A pipeline from a local folder in diffusers' layout, as `fit` says, safetensors only.

    lora: a LoRA's file, whose matrices are added to the weights once. Raises ModelError if either cannot be loaded.
    """
    kind = kind_of(folder)
    unused = {name: None for name in UNUSED if name in PIPELINES[kind]._optional_components}
    try:
        with quiet():
            pipeline = PIPELINES[kind].from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=precisions(folder, fit),
                low_cpu_mem_usage=not fit.small,
                **unused,
            )
            if lora is not None:
                add_lora(pipeline, lora, fit)
            place(pipeline, fit)
    except (OSError, ValueError, SafetensorError) as problem:
        raise ModelError(
            f"{folder} cannot be loaded: {problem}", "whole weights are needed", "Install or download it again"
        ) from problem
    return pipeline


def add_lora(pipeline: Any, lora: Path, fit: Fit) -> None:
    """Add a LoRA, in any layout that diffusers reads, to the pipeline's weights. Raises ModelError if it is not for them."""
    if lora.suffix != ".safetensors" or not lora.is_file():
        raise ModelError(f"{lora} is no safetensors file", "a LoRA in safetensors is needed", "Check the path, or convert it")
    if fit.rung.weights == "mapped":
        raise ModelError(f"a LoRA on the rung {fit.rung.name}", "its sum with weights needs memory", "Free memory for it")
    before = {name: value.clone() for name, value in _first_weights(pipeline)}
    try:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name, local_files_only=True)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as problem:
        raise ModelError(
            f"{lora} cannot be added: {str(problem)[:200]}", "a LoRA of this model's family is needed", "Choose another"
        ) from problem
    if all(torch.equal(value, before[name]) for name, value in _first_weights(pipeline)):
        raise ModelError(f"{lora} changes no weight", "a LoRA of this model's family is needed", "Choose another")


def _first_weights(pipeline: Any) -> Iterator[tuple[str, Tensor]]:
    """A few rows of every layer that a LoRA may change: enough to see whether one did."""
    for part in NARROWED:
        module = getattr(pipeline, part, None)
        for name, value in module.named_parameters() if module is not None else ():
            if value.ndim > 1:
                yield f"{part}.{name.replace('.base_layer', '')}", value.detach().flatten()[:64]


def precisions(folder: Path, fit: Fit) -> Any:
    """What each part is loaded in: what its file has where weights stay in 16 bits or in the file, so that nothing is copied.

    The autoencoder of a CPU is float32 on every rung: it is small, and 16 bits show in its pixels.
    """
    if fit.rung.weights == "float32" or fit.device != "cpu":
        return precision(folder / "unet", fit)
    kept = {part: precision(folder / part, fit) for part in NARROWED if (folder / part).is_dir()}
    return {**kept, "default": torch.float32}


def precision(part: Path, fit: Fit) -> torch.dtype:
    """What one part is loaded in."""
    if fit.rung.weights == "float32":
        return torch.float32
    kind: torch.dtype = KINDS[part_of(weights_in(part)).dtype] if fit.device == "cpu" else getattr(torch, fit.half)
    return kind


def place(pipeline: Any, fit: Fit) -> None:
    """Put a pipeline on a rung, from where it was loaded or from a rung above it."""
    if fit.device == "cpu" and fit.rung.weights != "float32":
        for part in (getattr(pipeline, name, None) for name in NARROWED):
            if part is not None and not stays_mapped(part, fit):
                narrow(part)
    if fit.rung.weights != "mapped":  # whose kernels this would copy
        pipeline.unet.to(memory_format=torch.channels_last)
    if fit.rung.tiled:
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
        side = pipeline.unet.config.sample_size // 2
        pipeline.vae.tile_latent_min_size, pipeline.vae.tile_sample_min_size = side, side * pipeline.vae_scale_factor
    if fit.rung.offloaded:
        pipeline.enable_sequential_cpu_offload(device=fit.device)
    else:
        pipeline.to(fit.device)


def stays_mapped(module: Any, fit: Fit) -> bool:
    """Whether a part's weights stay as they lie in its float32 file."""
    return fit.rung.weights == "mapped" and all(value.dtype == torch.float32 for value in module.parameters())


def training_scheduler(pipeline: Any) -> DDIMScheduler:
    """The pipeline's noise schedule as training needs it: the same betas and prediction, whatever sampler it comes with."""
    return DDIMScheduler.from_config(pipeline.scheduler.config)


@contextmanager
def quiet() -> Iterator[None]:
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
