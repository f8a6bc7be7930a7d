"""The image encoder and IP-Adapters of a transformer, from files: its folder's own, or given ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tenth.core.cache import ArrayCache
from tenth.core.errors import ModelError
from tenth.core.files.reading import without_system_files
from tenth.models.adapters.ip_adapter import ImageConditioning, uses_patch_tokens
from tenth.models.adapters.model_adapters import LoadedAdapters, ModelAdapters
from tenth.models.adapters.networks.registry import ADAPTED_NETWORKS
from tenth.models.aggregators.checkpoint import AGGREGATOR_FILE
from tenth.models.encoders.clip import ClipEncoder
from tenth.models.encoders.siglip import MODEL_TYPE, SiglipEncoder
from tenth.models.memory.planner import DEFAULT_PLAN, MemoryPlan
from tenth.models.model_folder import read_config
from tenth.models.pipelines import quiet
from tenth.models.stable_diffusion import ADAPTER_PATH, IMAGE_ENCODER, place_encoder


def load_adapters(
    folder: Path, transformer: Any, adapter: Path | None, cache: ArrayCache | None, plan: MemoryPlan = DEFAULT_PLAN
) -> LoadedAdapters | None:
    """What the methods of ip-adapter's need, placed by a plan.

    folder: of the model, perhaps with an image_encoder/, an adapter as ip-adapter/ip-adapter.safetensors and folders of trained
    methods. adapter: another file, with its encoder in an image_encoder/ beside it, if there is one. cache: for photo
    embeddings. None without an image encoder. Raises ModelError if an adapter has none, or does not go with it or the model.
    """
    own = folder / ADAPTER_PATH
    path = adapter or (own if own.is_file() else None)
    folders = [each / IMAGE_ENCODER for each in ([] if path is None else [path.parent]) + [folder]]
    encoder_dir = next((each for each in folders if each.is_dir()), None)
    if path is not None and type(transformer).__name__ not in ADAPTED_NETWORKS:
        needed = f"adapters are for {', '.join(ADAPTED_NETWORKS)}"
        raise ModelError(f"the adapter {path.name} for {type(transformer).__name__}", needed, "Leave --adapter out")
    if path is not None and not path.is_file():
        raise ModelError(f"there is no file {path}", "an adapter's file is needed", "Correct --adapter")
    if encoder_dir is None:
        if path is None:
            return None
        needed = f"its image encoder is needed in {IMAGE_ENCODER}/ beside it, or in the model's folder"
        raise ModelError(
            f"the adapter {path} without an image encoder", needed, "Put the encoder there that it was trained with"
        )

    encoder = load_encoder(encoder_dir, cache, patch_tokens=path is not None and uses_patch_tokens(path))
    place_encoder(encoder, plan)
    trained = {each.parent.name: each.parent for each in without_system_files(folder, folder.glob(f"*/{AGGREGATOR_FILE}"))}

    def place(conditioning: ImageConditioning) -> None:
        # Where it computes: its weights may be elsewhere until a block runs, and a training moves them on the CPU's plan.
        device = next(transformer.parameters()).device if plan.device == "cpu" else torch.device(plan.device)
        for module in conditioning.modules:
            module.to(device, transformer.dtype)

    adapters = ModelAdapters(transformer, trained, place)
    return LoadedAdapters(encoder, adapters, "" if path is None else adapters.add(path, encoder))


def load_encoder(folder: Path, cache: ArrayCache | None = None, *, patch_tokens: bool = False) -> ClipEncoder | SiglipEncoder:
    """SigLIP, if the folder's configuration says so; else CLIP. Raises ModelError if it holds neither."""
    config = read_config(folder / "config.json")
    kinds = [table.get("model_type") for table in (config, config.get("vision_config")) if isinstance(table, dict)]
    with quiet():
        if MODEL_TYPE in kinds:
            return SiglipEncoder(folder)
        return ClipEncoder(folder, cache=cache, patch_tokens=patch_tokens)
