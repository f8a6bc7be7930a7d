from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tenth.core.errors import DataError, ModelError
from tenth.core.types import Person
from tenth.methods.registry import METHODS
from tenth.models.adapters.ip_adapter import (
    init_ip_adapter,
    install_ip_adapter,
    ip_adapter_state_dict,
    load_ip_adapter,
)
from tenth.models.adapters.networks.unet import cross_attention_layers
from tenth.models.pocket.paths import ADAPTER_PATH, MODEL_DIR
from tenth.training.pocket.modules import PocketModules


def test_an_untrained_adapter_starts_from_the_text_s_keys_and_values() -> None:
    unet = PocketModules.create(MODEL_DIR).unet
    parts = init_ip_adapter(unet, 128)
    assert list(parts["ip_adapter"])[:2] == ["1.to_k_ip.weight", "1.to_v_ip.weight"]
    assert list(parts["ip_adapter"])[-1] == f"{2 * len(cross_attention_layers(unet)) - 1}.to_v_ip.weight"
    assert [name.split(".")[0] for _, name, _ in cross_attention_layers(unet)] == ["down_blocks"] * 2 + ["up_blocks"] * 4 + [
        "mid_block"
    ]
    assert torch.equal(parts["ip_adapter"]["1.to_k_ip.weight"], cross_attention_layers(unet)[0][2].to_k.weight)


@pytest.mark.parametrize("tokens", [4, 1, 7])
def test_export_and_import_are_exact(tokens: int) -> None:
    torch.manual_seed(0)
    unet = PocketModules.create(MODEL_DIR).unet
    parts = init_ip_adapter(unet, 128, tokens)
    install_ip_adapter(unet, parts)
    exported = ip_adapter_state_dict(unet)
    flat = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    assert exported.keys() == flat.keys()
    assert all(torch.equal(exported[name], flat[name]) for name in flat)


def test_the_packed_adapter_is_in_the_official_layout(toy_folder: Path) -> None:
    names = set(load_file(toy_folder / ADAPTER_PATH))
    assert {"image_proj.proj.weight", "image_proj.proj.bias", "image_proj.norm.weight", "image_proj.norm.bias"} <= names
    assert "ip_adapter.13.to_v_ip.weight" in names


def test_a_damaged_adapter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="is damaged or not safetensors"):
        load_ip_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_a_person_without_photos_is_an_error(name: str, toy_model: object) -> None:
    with pytest.raises(DataError, match="anna has no usable photo"):
        METHODS[name].value(Person("anna", ()), toy_model)  # type: ignore[arg-type]
