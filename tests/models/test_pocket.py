"""The pocket model: its autoencoder, its tokenizer, what a training step sees, and the weights that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tenth.core.errors import ModelError
from tenth.data.captions.templates import vocabulary
from tenth.data.faces.crops import PhotoDataset
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.pocket.autoencoder import AutoencoderLoss, psnr
from tenth.training.pocket.dataset import PocketConditioningDropout, leave_one_out_means
from tenth.training.pocket.diffusion import DiffusionRecipe, training_loss
from tenth.training.pocket.modules import PocketModules
from tenth.training.schedule import TrainingConfig
from toy_latents import pocket_dataset, step_rng

WEIGHTS_BYTES = 31_300_000


def test_the_autoencoder_learns() -> None:
    torch.manual_seed(0)
    model = PocketAutoencoder(widths=(16, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    faces = nn.functional.interpolate(torch.rand(8, 3, 4, 4), size=64, mode="bilinear") * 2 - 1
    crops = ((faces + 1) * 127.5).byte()
    before = float(psnr(model, crops).mean())
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=3e-3), AutoencoderLoss()
    for step in range(60):
        optimizer.zero_grad()
        loss(model, faces, step_rng(8, step)).backward()
        optimizer.step()
    assert float(psnr(model, crops).mean()) > before + 5
    assert model.encode(faces).latents.shape == (8, 8, 8, 8)


def test_psnr_of_a_known_error() -> None:
    class Off(PocketAutoencoder):
        def __init__(self) -> None:
            super().__init__(widths=(16, 16))
            self.encoder, self.decoder = nn.Identity(), nn.Identity()

    crops = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.isinf(psnr(Off(), crops)).all()
    model = Off()
    model.decoder = nn.Hardtanh(-1, 0)  # what is brighter than the middle becomes the middle
    assert psnr(model, torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))[0] == pytest.approx(6.0, abs=0.1)


def test_every_caption_word_is_one_token() -> None:
    parts = PocketModules.create(MODEL_DIR)
    for word in vocabulary():
        pieces = word.count("-") * 2 + 1
        assert len(parts.tokenizer(word).input_ids) == 2 + pieces, word
    assert parts.tokenize(["a man", ""]).shape == (2, 32)


def test_references_are_the_person_s_own_or_another_photo_of_the_same_person() -> None:
    made = pocket_dataset()
    indices = torch.arange(6).repeat(200)
    own = made.reference_embeddings(indices, PocketConditioningDropout(p_self_reference=1.0), step_rng(1200))[:, 0, 0]
    assert torch.equal(own, indices.float())
    other = (
        made.reference_embeddings(indices, PocketConditioningDropout(p_self_reference=0.0), step_rng(1200))[:, 0, 0]
        .long()
        .view(200, 6)
    )
    assert set(other[:, 0].tolist()) == {0}  # alone: there is no other
    assert set(other[:, 2].tolist()) == {1, 3}
    assert set(other[:, 4].tolist()) == {5}
    several = made.reference_embeddings(
        indices, PocketConditioningDropout(p_self_reference=0.5, p_mean_reference=1.0), step_rng(1200)
    )[:, 0, 0].view(200, 6)
    assert {round(each, 4) for each in several[:, 1].tolist()} == {1, 2.5}  # itself, or the mean of 2 and 3


def test_the_mean_of_a_person_s_other_photos_is_as_long_as_they_are() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, -1.0], [2.0, 2.0]])
    others = torch.tensor([[0, 1], [1, 3], [1, 3], [1, 3], [4, 1]])
    found = leave_one_out_means(embeddings, others)
    assert torch.equal(found[[0, 4]], embeddings[[0, 4]])  # alone
    assert torch.allclose(found[1], torch.tensor([0.0, 2.0]))  # the mean of (0, 3) and (0, -1) has length 1, they have 3 and 1
    assert torch.allclose(found[3], torch.tensor([1.0, 1.0]) * 3 / 2**0.5)


def test_a_training_step_is_a_function_of_its_draws_and_reaches_every_part(toy_configs: Path) -> None:
    torch.manual_seed(0)
    parts, made = PocketModules.create(toy_configs), pocket_dataset()
    install_ip_adapter(parts.unet, init_ip_adapter(parts.unet, 128))
    recipe = DiffusionRecipe(
        PhotoDataset(Path(), Path()), Path(), TrainingConfig(1), PocketConditioningDropout(p_no_adapter=0.0)
    )
    indices = torch.tensor([0, 3])
    losses = [training_loss(parts, made, recipe, indices, step_rng(2, 7)) for _ in range(2)]
    assert losses[0].item() == losses[1].item()
    assert losses[0].item() != training_loss(parts, made, recipe, indices, step_rng(2, 8)).item()
    losses[0].backward()
    still = [name for name, parameter in parts.unet.named_parameters() if parameter.grad is None]
    assert still == []
    parts.unet.zero_grad(set_to_none=True)
    without = DiffusionRecipe(
        PhotoDataset(Path(), Path()), Path(), TrainingConfig(1), PocketConditioningDropout(p_no_adapter=1.0)
    )
    training_loss(parts, made, without, indices, step_rng(2, 7)).backward()
    assert {"_ip" in name or "encoder_hid_proj" in name for name, p in parts.unet.named_parameters() if p.grad is None} == {
        True
    }


def test_the_shipped_weights_fit_and_load() -> None:
    files = list(MODEL_DIR.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < WEIGHTS_BYTES
    model = load_pocket()
    assert model.name.startswith("pocket@")
    assert model.adapter_name.startswith("ip-adapter@")


def test_missing_and_damaged_weights_are_said(toy_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder: Any = shutil.copytree(toy_folder, tmp_path / "model")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"model cannot be loaded|damaged"):
        load_pocket(folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no unet/diffusion_pytorch_model\.safetensors"):
        load_pocket(folder)
