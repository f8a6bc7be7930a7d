"""The pocket model, from the package or from a folder that a recipe trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import Store
from tenth.core.errors import ModelError
from tenth.core.file_reading import UnreadableError, digest_of, reason, without_litter
from tenth.core.tensor_reading import read_tensors
from tenth.core.wording import few
from tenth.models.aggregators.checkpoint import FILE
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import Fit, chosen_device
from tenth.models.memory.system import this_machine
from tenth.models.pipelines import load_pipeline
from tenth.models.pocket.paths import ADAPTER, CONFIGS, ENCODER

WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


def load_pocket(
    folder: str | Path = CONFIGS,
    store: Store | None = None,
    *,
    name: str = "pocket",
    adapter: str | Path | None = None,
    device: str = "",
) -> LatentDiffusion:
    """The model with its face encoder and its adapter, or another file of one, float32.

    store: where embeddings are kept, if anywhere. device: "": the CPU.

    Raises ModelError if a part is missing or damaged, or torch finds no such device.
    """
    folder = Path(folder)
    missing = [part for part in (*WEIGHTS, ADAPTER, ENCODER) if not (folder / part).is_file()]
    if missing:
        found = f"{folder} has no {few(missing)}"
        raise ModelError(found, "all files of a model are needed", "Install tenth again, or train them with the recipes")
    fit = Fit(device=chosen_device(device, this_machine(), small=True))
    pipeline = load_pipeline(folder, fit)
    digest = digest_of([folder / weights for weights in WEIGHTS])
    centre, scale = read_statistics(folder / ENCODER)
    encoder = FaceEncoder(centre, scale, store)
    trained = {path.parent.name: path.parent for path in without_litter(folder, folder.glob(f"*/{FILE}"))}
    return LatentDiffusion(pipeline, f"{name}@{digest}", encoder, Path(adapter or folder / ADAPTER), trained, fit)


def read_statistics(path: Path) -> tuple[Tensor, float]:
    """Centre (128,) and scale of a face encoder. Raises ModelError if the file holds none."""
    try:
        _, statistics = read_tensors(path)
        centre, scale = (statistics.get(name, torch.empty(0)) for name in ("centre", "scale"))
        if centre.shape != (FaceEncoder.width,) or scale.numel() != 1 or not scale.item() > 0:
            raise UnreadableError("holds other statistics than a face encoder's")
    except (OSError, UnreadableError) as problem:
        raise ModelError(
            f"{path} {reason(problem)}", "the statistics of a face encoder are needed", "Get them again"
        ) from problem
    return centre, float(scale)
