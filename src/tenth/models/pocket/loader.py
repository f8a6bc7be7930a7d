"""The pocket model, from the package or from a folder that a recipe trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache
from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, reason, short_sha256_of, without_system_files
from tenth.core.files.tensors import read_tensors
from tenth.core.wording import abbreviate
from tenth.models.aggregators.checkpoint import AGGREGATOR_FILE
from tenth.models.compiled import choose_backend
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import MemoryPlan, choose_device
from tenth.models.memory.system import available_memory
from tenth.models.pipelines import load_pipeline
from tenth.models.pocket.paths import ADAPTER_PATH, MODEL_DIR, STATISTICS_PATH

WEIGHT_FILES = ("text_encoder/model.safetensors", *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")))


def load_pocket(
    folder: str | Path = MODEL_DIR,
    cache: ArrayCache | None = None,
    *,
    name: str = "pocket",
    adapter: str | Path | None = None,
    device: str = "",
    backend: str = "torch",
) -> LatentDiffusion:
    """The model with face encoder and adapter, float32. device: "": CPU. backend: of models/compiled.py, "": the quickest.

    Raises ModelError if a part is missing or damaged.
    """
    folder = Path(folder)
    missing = [part for part in (*WEIGHT_FILES, ADAPTER_PATH, STATISTICS_PATH) if not (folder / part).is_file()]
    if missing:
        found = f"{folder} has no {abbreviate(missing)}"
        raise ModelError(found, "all files of a model are needed", "Install tenth again, or train them with the recipes")
    device = choose_device(device, available_memory(), small=True)
    plan = MemoryPlan(device=device, backend=choose_backend(backend, device, small=True))
    pipeline = load_pipeline(folder, plan)
    digest = short_sha256_of([folder / weights for weights in WEIGHT_FILES])
    mean, std = read_statistics(folder / STATISTICS_PATH)
    encoder = FaceEncoder(mean, std, cache)
    trained = {path.parent.name: path.parent for path in without_system_files(folder, folder.glob(f"*/{AGGREGATOR_FILE}"))}
    return LatentDiffusion(pipeline, f"{name}@{digest}", encoder, Path(adapter or folder / ADAPTER_PATH), trained, plan)


def read_statistics(path: Path) -> tuple[Tensor, float]:
    """Centre (128,) and scale of a face encoder. Raises ModelError if the file holds none."""
    try:
        _, statistics = read_tensors(path)
        mean, std = (statistics.get(name, torch.empty(0)) for name in ("centre", "scale"))
        if mean.shape != (FaceEncoder.embedding_dim,) or std.numel() != 1 or not std.item() > 0:
            raise UnreadableError("holds other statistics than a face encoder's")
    except (OSError, UnreadableError) as problem:
        needed = "the statistics of a face encoder are needed"
        raise ModelError(f"{path} {reason(problem)}", needed, "Get them again") from problem
    return mean, float(std)
