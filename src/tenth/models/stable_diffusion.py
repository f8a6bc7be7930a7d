"""Models of the Stable Diffusion 1.5 and SDXL families, from a local folder with everything in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache
from tenth.core.errors import ModelError
from tenth.core.files.reading import printable_name, short_sha256_of, without_system_files
from tenth.core.wording import abbreviate
from tenth.models.adapters.ip_adapter import uses_patch_tokens
from tenth.models.aggregators.checkpoint import AGGREGATOR_FILE
from tenth.models.compiled import choose_backend
from tenth.models.encoders.clip import ClipEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.footprint import read_footprint
from tenth.models.memory.half_precision import store_in_half
from tenth.models.memory.planner import DEFAULT_OPTIONS, LoadOptions, MemoryPlan, plan_memory
from tenth.models.memory.system import available_memory
from tenth.models.pipeline_parts import pipeline_class_name
from tenth.models.pipelines import component_dtype, is_memory_mapped, load_pipeline, quiet

ADAPTER_PATH = "ip-adapter/ip-adapter.safetensors"
IMAGE_ENCODER = "image_encoder"
HASHED_COMPONENTS = ("text_encoder", "text_encoder_2", "unet", "vae")  # the parts whose digest is the model's


def load_stable_diffusion(
    folder: Path,
    adapter: Path | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
    on_message: Callable[[str], None] | None = None,
    cache: ArrayCache | None = None,
    lora: Path | None = None,
) -> LatentDiffusion:
    """A folder in diffusers' layout, with a CLIP vision model in image_encoder/ and its adapter in ip-adapter/.

    adapter: another file, of any published type, with its encoder in an image_encoder/ beside it, if there is one. cache: for
    photo embeddings. lora: a file whose matrices are added to the weights. on_message: gets a line about the memory profile.
    Raises ModelError if a part is missing or damaged, no profile fits, or the adapter is for another encoder or UNet.
    """
    adapter_path = adapter or folder / ADAPTER_PATH
    beside = adapter_path.parent / IMAGE_ENCODER
    encoder_dir = beside if beside.is_dir() else folder / IMAGE_ENCODER
    needed = f"a diffusers folder with a CLIP vision model in {IMAGE_ENCODER}/ and an adapter as {ADAPTER_PATH}"
    parts = {"model_index.json": folder / "model_index.json", IMAGE_ENCODER: encoder_dir, ADAPTER_PATH: adapter_path}
    if parts["model_index.json"].is_file():
        pipeline_class_name(folder)
    if missing := [part for part, path in parts.items() if not path.exists() and path != adapter]:
        raise ModelError(f"{folder} has no {abbreviate(missing)}", needed, "Copy the missing parts into it")

    # The memory profile, then the pipeline.
    patches = uses_patch_tokens(adapter_path)
    plan = plan_memory(read_footprint(folder, encoder_dir, adapter_path), options, available_memory())
    plan = replace(plan, backend=choose_backend(options.backend, plan.device, small=plan.small))
    if on_message is not None and plan.message:
        on_message(plan.message)
    pipeline = load_pipeline(folder, plan, lora)

    # Its name, with a digest of the weights, its trained methods and its image encoder.
    files = (path for part in HASHED_COMPONENTS for path in (folder / part).glob("*.safetensors"))
    weights = without_system_files(folder, files)
    trained = {path.parent.name: path.parent for path in without_system_files(folder, folder.glob(f"*/{AGGREGATOR_FILE}"))}
    name = printable_name(folder.resolve())
    if lora is not None:
        name, weights = f"{name}+{printable_name(lora.with_suffix(''))}", [*weights, lora]
    name = f"{name}@{short_sha256_of(weights)}"
    with quiet():
        encoder = ClipEncoder(encoder_dir, component_dtype(encoder_dir, plan), cache, patch_tokens=patches)
    place_encoder(encoder, plan)
    return LatentDiffusion(pipeline, name, encoder, adapter_path, trained, plan)


def place_encoder(encoder: Any, plan: MemoryPlan) -> None:
    """Apply a memory profile to the image encoder. With cpu-offload it stays on the CPU: it runs once for each photo."""
    if plan.device != "cpu" and not plan.profile.cpu_offload:
        encoder.model.to(plan.device)
    elif plan.profile.weights != "float32" and not is_memory_mapped(encoder.model, plan):
        store_in_half(encoder.model)
