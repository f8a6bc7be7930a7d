"""A pipeline of diffusers <-> a folder in its layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from tenth.errors import ModelError

PIPELINES = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
UNUSED = (
    "safety_checker",
    "feature_extractor",
    "image_encoder",
)  # parts of a pipeline that are not loaded, though it lists them


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a pipeline as a folder in diffusers' layout, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
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
        with quiet():
            pipeline = PIPELINES[kind].from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, low_cpu_mem_usage=False, **unused
            )
            pipeline.unet.to(memory_format=torch.channels_last)
    except (OSError, ValueError, SafetensorError) as problem:
        raise ModelError(
            f"{folder} cannot be loaded: {problem}", "whole weights are needed", "Install or download it again"
        ) from problem
    return pipeline


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
