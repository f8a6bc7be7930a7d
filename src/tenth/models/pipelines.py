"""A pipeline of diffusers <-> a folder in its layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from tenth.core.errors import ModelError
from tenth.core.files.writing import PRIVATE_FOLDER_MODE, as_os_error, atomic_folder
from tenth.models.adapters.lora_file import load_lora
from tenth.models.memory.footprint import count_weights
from tenth.models.memory.half_precision import store_in_half
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan
from tenth.models.model_folder import first_line, invalid_model, sanitized_folder, weight_files
from tenth.models.pipeline_parts import (
    PIPELINES,
    TEXT_ENCODERS,
    UNUSED_COMPONENTS,
    check_networks,
    check_pipeline,
    component_spec,
    pipeline_class_name,
    read_index,
)

HALF_COMPONENTS = ("unet", *TEXT_ENCODERS)
DTYPES = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a pipeline as a new folder in diffusers' layout, whole or not at all, for its owner alone: it may know a person.

    Raises CheckpointError if another one is there meanwhile.
    """
    unet = getattr(pipeline, "unet", None)
    with quiet(), atomic_folder(folder, PRIVATE_FOLDER_MODE, no_overwrite=True) as new:
        if unet is not None:
            unet.to(memory_format=torch.contiguous_format)  # the only one that safetensors writes
        try:
            pipeline.save_pretrained(new, safe_serialization=True)
        except SafetensorError as problem:
            raise as_os_error(problem) from problem
        finally:
            if unet is not None:
                unet.to(memory_format=torch.channels_last)


def load_pipeline(folder: Path, plan: MemoryPlan = DEFAULT_PLAN, lora: Path | None = None) -> StableDiffusionPipeline:
    """A pipeline from a local folder in diffusers' layout, placed by `plan`, safetensors only.

    lora: a LoRA's file, whose matrices are added to the weights once. Raises ModelError if either cannot be loaded.
    """
    class_name = pipeline_class_name(folder)
    matrices = None if lora is None else load_lora(lora)  # small, and refused before the model is read
    if matrices is not None and plan.profile.weights == "mapped":
        raise ModelError(f"a LoRA with the memory profile {plan.profile.name}", "merging it needs memory", "Free memory for it")
    index, classes = read_index(folder, class_name)
    unused = {name: None for name in UNUSED_COMPONENTS if name in PIPELINES[class_name]._optional_components}
    with sanitized_folder(folder, {name: component_spec(name, cls) for name, cls in classes.items()}, index) as safe, quiet():
        check_networks(folder, safe, classes)
        try:
            pipeline = PIPELINES[class_name].from_pretrained(
                safe,
                local_files_only=True,
                use_safetensors=True,
                dtype=component_dtypes(folder, plan),
                low_cpu_mem_usage=not plan.small,
                **unused,
            )
        except Exception as problem:  # whatever a library raises of a foreign file
            raise invalid_model(folder, f"cannot be loaded: {first_line(problem).replace(str(safe), str(folder))}") from problem
        check_pipeline(folder, pipeline, classes)
        if matrices is not None:
            matrices.merge_into(pipeline)
        apply_memory_plan(pipeline, plan)
    return pipeline


def component_dtypes(folder: Path, plan: MemoryPlan) -> Any:
    """What each part is loaded in: what its file has where weights stay in 16 bits or in the file, so that nothing is copied.

    On a CPU the autoencoder is float32 in every profile: it is small, and 16 bits show in its pixels.
    """
    if plan.profile.weights == "float32" or plan.device != "cpu":
        return component_dtype(folder / "unet", plan)
    dtypes = {part: component_dtype(folder / part, plan) for part in HALF_COMPONENTS if (folder / part).is_dir()}
    return {**dtypes, "default": torch.float32}


def component_dtype(folder: Path, plan: MemoryPlan) -> torch.dtype:
    """What one part is loaded in."""
    if plan.profile.weights == "float32":
        return torch.float32
    dtype: torch.dtype = (
        DTYPES[count_weights(weight_files(folder)).dtype] if plan.device == "cpu" else getattr(torch, plan.half_dtype)
    )
    return dtype


def apply_memory_plan(pipeline: Any, plan: MemoryPlan) -> None:
    """Apply a memory profile to a pipeline as it was loaded, or as a profile that needs more memory left it."""
    if plan.device == "cpu" and plan.profile.weights != "float32":
        for part in (getattr(pipeline, name, None) for name in HALF_COMPONENTS):
            if part is not None and not is_memory_mapped(part, plan):
                store_in_half(part)
    if plan.profile.weights != "mapped":  # whose kernels this would copy
        pipeline.unet.to(memory_format=torch.channels_last)
    if plan.profile.vae_tiling:
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
        tile_size = pipeline.unet.config.sample_size // 2
        pipeline.vae.tile_latent_min_size, pipeline.vae.tile_sample_min_size = tile_size, tile_size * pipeline.vae_scale_factor
    if plan.profile.cpu_offload:
        pipeline.enable_sequential_cpu_offload(device=plan.device)
    else:
        pipeline.to(plan.device)


def is_memory_mapped(module: Any, plan: MemoryPlan) -> bool:
    """Whether a part's weights stay as they lie in its float32 file."""
    return plan.profile.weights == "mapped" and all(value.dtype == torch.float32 for value in module.parameters())


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
