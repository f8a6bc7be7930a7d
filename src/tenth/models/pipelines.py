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
from tenth.core.file_writing import PRIVATE_FOLDER, as_os_error, written_folder
from tenth.models.adapters.lora_file import read_lora
from tenth.models.memory.footprint import part_of
from tenth.models.memory.half_precision import narrow
from tenth.models.memory.planner import PLAIN, Fit
from tenth.models.model_folder import short, unfit, vetted, weights_in
from tenth.models.pipeline_parts import (
    PIPELINES,
    TEXT_PARTS,
    UNUSED,
    check_networks,
    check_pipeline,
    index_of,
    kind_of,
    vetted_part,
)

NARROWED = ("unet", *TEXT_PARTS)
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


def load_pipeline(folder: Path, fit: Fit = PLAIN, lora: Path | None = None) -> StableDiffusionPipeline:
    """A pipeline from a local folder in diffusers' layout, as `fit` says, safetensors only.

    lora: a LoRA's file, whose matrices are added to the weights once. Raises ModelError if either cannot be loaded.
    """
    kind = kind_of(folder)
    matrices = None if lora is None else read_lora(lora)  # small, and refused before the model is read
    if matrices is not None and fit.rung.weights == "mapped":
        raise ModelError(f"a LoRA on the rung {fit.rung.name}", "its sum with weights needs memory", "Free memory for it")
    index, classes = index_of(folder, kind)
    unused = {name: None for name in UNUSED if name in PIPELINES[kind]._optional_components}
    with vetted(folder, {name: vetted_part(name, cls) for name, cls in classes.items()}, index) as safe, quiet():
        check_networks(folder, safe, classes)
        try:
            pipeline = PIPELINES[kind].from_pretrained(
                safe,
                local_files_only=True,
                use_safetensors=True,
                dtype=precisions(folder, fit),
                low_cpu_mem_usage=not fit.small,
                **unused,
            )
        except Exception as problem:  # whatever a library raises of a foreign file
            raise unfit(folder, f"cannot be loaded: {short(problem).replace(str(safe), str(folder))}") from problem
        check_pipeline(folder, pipeline, classes)
        if matrices is not None:
            matrices.add_to(pipeline)
        place(pipeline, fit)
    return pipeline


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
