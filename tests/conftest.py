"""What tests share: no network, example photos of a person who does not exist, and a toy model of the pocket's layout."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tenth.encode.face import FaceEncoder
from tenth.pocket.load import PHOTOS, load_pocket


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to this machine is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test wanted to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def face_photos() -> list[Path]:
    """Nine example photos, 128 x 128, all of one person who does not exist."""
    return sorted(PHOTOS.glob("*.png"))


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the pocket's layout and sizes with random weights."""
    from safetensors.torch import save_file

    from tenth.adapt.ip_adapter import untrained_adapter
    from tenth.diffusion import Trainable, install_adapter
    from tenth.pocket.autoencoder import PocketAutoencoder
    from tenth.pocket.pack import CONFIGS, write_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("toy")
    parts = Trainable.create(CONFIGS)
    install_adapter(parts.unet, untrained_adapter(parts.unet, FaceEncoder.width))
    weights = {f"unet.{name}": value for name, value in parts.unet.state_dict().items()}
    weights |= {f"text_encoder.{name}": value for name, value in parts.text_encoder.state_dict().items()}
    autoencoder = PocketAutoencoder.from_config(PocketAutoencoder.load_config(CONFIGS / "vae"))
    save_file(autoencoder.state_dict(), folder / "autoencoder.safetensors")
    write_model(folder / "model", weights, folder / "autoencoder.safetensors", FaceEncoder(torch.zeros(128), 0.1))
    add_trained(folder / "model", parts.unet)
    return folder / "model"


def add_trained(model: Path, unet: Any) -> None:
    """Trained methods whose weights are far from where training begins: one with an adapter of its own, one without."""
    from safetensors.torch import save_file

    from tenth.adapt.ip_adapter import untrained_adapter
    from tenth.adapter import adapter_weights
    from tenth.aggregate.attention import PhotoAttention, SetAggregator
    from tenth.aggregate.saved import Trained, save_aggregator
    from tenth.diffusion import adapter_name, install_adapter
    from tenth.pocket.pack import ADAPTER

    own = model / "ip-adapter-attention" / "ip-adapter.safetensors"
    own.parent.mkdir()
    install_adapter(unet, untrained_adapter(unet, FaceEncoder.width))
    save_file(adapter_weights(unet), own)
    adapters = {"ip-adapter-attention": own, "ip-adapter-set": model / ADAPTER}
    for aggregator, (name, adapter) in zip((PhotoAttention(128), SetAggregator(128)), adapters.items(), strict=True):
        with torch.no_grad():
            for parameter in aggregator.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        trained = Trained(aggregator, FaceEncoder(torch.zeros(128), 0.1).name, adapter_name(adapter))
        save_aggregator(trained, model / name / "aggregator.safetensors")


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Any:
    """The toy folder, loaded: a LatentDiffusion that draws noise in a few steps."""
    return load_pocket(toy_folder, name="toy")
