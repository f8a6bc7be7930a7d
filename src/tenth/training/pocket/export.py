"""Trained weights -> the model folder that ships: diffusers' layout, half precision, with adapter and encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tenth.core.files.writing import atomic_folder, write_bytes, write_tensors
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter, ip_adapter_state_dict
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.paths import ADAPTER_PATH, MODEL_DIR, STATISTICS_PATH
from tenth.training.pocket.modules import PocketModules
from tenth.training.state import tensors_under


def export_model(folder: Path, weights: Mapping[str, Tensor], autoencoder: Path, encoder: FaceEncoder) -> None:
    """Write a model in half precision, whole or not at all. weights: "unet.*" with the adapter's, "text_encoder.*"."""
    model = PocketModules.create(MODEL_DIR)
    base_names = set(model.unet.state_dict())
    install_ip_adapter(model.unet, init_ip_adapter(model.unet, encoder.embedding_dim))
    for name, module in (("unet", model.unet), ("text_encoder", model.text_encoder)):
        module.load_state_dict(tensors_under(weights, name), strict=False)
    unet = {name: value for name, value in model.unet.state_dict().items() if name in base_names}
    with atomic_folder(folder) as new:
        for config in MODEL_DIR.rglob("*"):
            if config.suffix in (".json", ".txt"):
                write_bytes(new / config.relative_to(MODEL_DIR), config.read_bytes())
        write_half(new / "vae/diffusion_pytorch_model.safetensors", load_file(autoencoder))
        write_half(new / "unet/diffusion_pytorch_model.safetensors", unet)
        write_half(new / "text_encoder/model.safetensors", model.text_encoder.state_dict())
        write_half(new / ADAPTER_PATH, ip_adapter_state_dict(model.unet))
        write_tensors(new / STATISTICS_PATH, {"centre": encoder.mean, "scale": torch.tensor(encoder.std)})


def write_half(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write floating-point tensors as float16, others as they are."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    write_tensors(path, half, {"format": "pt"})
