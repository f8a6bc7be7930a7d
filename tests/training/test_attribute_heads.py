"""Heads that see face attributes in noisy latents: trained, kept, and used with the UNet that they were trained on alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenth.core.errors import DataError, ModelError
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import FaceCrops, PhotoDataset
from tenth.models.denoiser import Conditioning
from tenth.models.pocket.paths import MODEL_DIR
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.pocket.discriminator import UNetFeatures
from tenth.training.pocket.finetuning import attribute_heads as training
from tenth.training.pocket.finetuning.attribute_heads import (
    AttributeHeadsRecipe,
    load_attribute_heads,
    requested_loss,
    train_attribute_heads,
)
from tenth.training.pocket.modules import load_modules
from toy_people import ATTRIBUTE_SCHEDULE, attribute_dataset, write_attribute_table

OUTDOOR = FACE_ATTRIBUTES.index("outdoor")


@pytest.mark.slow
def test_light_and_dark_are_told_in_noisy_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, crops = attribute_dataset(24)
    monkeypatch.setattr(training, "load_face_crops", lambda *_: FaceCrops(rows, crops))
    monkeypatch.setattr(training, "default_cache_dir", lambda: tmp_path / "store")
    write_attribute_table(tmp_path / "attributes.csv", rows)
    photos = PhotoDataset(tmp_path / "people.jsonl", tmp_path)
    recipe = AttributeHeadsRecipe(photos, tmp_path / "attributes.csv", MODEL_DIR, ATTRIBUTE_SCHEDULE)
    train_attribute_heads(recipe, tmp_path / "out")
    assert "320 images: balanced accuracy 1.000" in capsys.readouterr().err

    # What was written tells them too, and gradients reach the latents alone.
    model, autoencoder, _ = load_modules(MODEL_DIR)
    features = UNetFeatures(model.unet)
    heads = load_attribute_heads(tmp_path / "out/final/attribute_heads.safetensors", features)
    with torch.no_grad():
        latents = autoencoder.encoder(crops[:2].float() / 127.5 - 1)
        prompt = PromptEmbeddings(model.text_encoder(model.tokenize(["", ""])).last_hidden_state)
    latents.requires_grad_()
    logits = heads(features(latents, torch.tensor([0, 0]), Conditioning(prompt, torch.zeros(2, 1, 128))))
    assert logits[0, OUTDOOR] < 0 < logits[1, OUTDOOR]
    requested = torch.full_like(logits, float("nan"))
    requested[0, OUTDOOR] = 1.0
    losses = requested_loss(logits, requested)
    assert losses[0] > 0
    assert losses[1] == 0
    losses.sum().backward()
    assert latents.grad is not None
    assert latents.grad[0].any()
    assert not latents.grad[1].any()
    assert all(weights.grad is None for weights in [*heads.parameters(), *model.unet.parameters()])

    # Another UNet's features mean something else.
    with torch.no_grad():
        model.unet.conv_in.weight.mul_(1.01)
    with pytest.raises(ModelError, match="was trained on the features of another UNet"):
        load_attribute_heads(tmp_path / "out/final/attribute_heads.safetensors", features)
    write_attribute_table(tmp_path / "attributes.csv", [])
    with pytest.raises(DataError, match="knows none of 24 photos"):
        train_attribute_heads(recipe, tmp_path / "other")


def test_a_file_that_is_not_heads_is_refused(tmp_path: Path) -> None:
    model, _, _ = load_modules(MODEL_DIR)
    (tmp_path / "heads.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="heads that `tenth train` trained"):
        load_attribute_heads(tmp_path / "heads.safetensors", UNetFeatures(model.unet))
