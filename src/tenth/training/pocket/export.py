"""Trained weights -> the folder that ships: diffusers' layout, half precision, adapter and encoder beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tenth.core.file_writing import write_bytes, write_tensors, written_folder
from tenth.models.adapters.ip_adapter import adapter_weights, install_adapter, untrained_adapter
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.paths import ADAPTER, CONFIGS, ENCODER
from tenth.training.pocket.modules import Trainable


def write_model(folder: Path, average: Mapping[str, Tensor], autoencoder: Path, encoder: FaceEncoder) -> None:
    """Write a model to `folder`, whole or not at all, in half precision.

    average: "unet.*" and "text_encoder.*", adapter included.
    """
    parts = Trainable.create(CONFIGS)
    plain = set(parts.unet.state_dict())
    install_adapter(parts.unet, untrained_adapter(parts.unet, encoder.width))
    for name, module in (("unet", parts.unet), ("text_encoder", parts.text_encoder)):
        module.load_state_dict(
            {key.removeprefix(f"{name}."): value for key, value in average.items() if key.startswith(f"{name}.")}, strict=False
        )
    unet = {name: value for name, value in parts.unet.state_dict().items() if name in plain}
    with written_folder(folder) as new:
        for config in CONFIGS.rglob("*"):
            if config.suffix in (".json", ".txt"):
                write_bytes(new / config.relative_to(CONFIGS), config.read_bytes())
        save(new / "vae/diffusion_pytorch_model.safetensors", load_file(autoencoder))
        save(new / "unet/diffusion_pytorch_model.safetensors", unet)
        save(new / "text_encoder/model.safetensors", parts.text_encoder.state_dict())
        save(new / ADAPTER, adapter_weights(parts.unet))
        write_tensors(new / ENCODER, {"centre": encoder.centre, "scale": torch.tensor(encoder.scale)})


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Floating-point tensors as float16, others as they are."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    write_tensors(path, half, {"format": "pt"})
