"""Recipes of images sampled inside of a training step: what they refuse, and a training by one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenth.core.errors import RecipeError
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.pocket.discriminator import UNetFeatures
from tenth.training.pocket.finetuning.adversarial import train_adversarial
from tenth.training.pocket.finetuning.attribute_heads import AttributeHeads, save_attribute_heads
from tenth.training.pocket.finetuning.recipe import SampledImages
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer
from tenth.training.pocket.modules import load_modules
from tenth.training.schedule import TrainingConfig
from toy_latents import photo_dataset, with_sampled


@pytest.mark.parametrize(
    ("sampled", "message"),
    [
        ({"attribute_weight": 0.5, "fraction": 0.5}, r"attribute_weight is 0.5.*left out without attribute_heads"),
        ({"attribute_weight": 0.5, "attribute_heads": Path("heads")}, r"attribute_weight is 0.5.*left out without a fraction"),
        ({"attribute_heads": Path("heads"), "fraction": 0.5}, r"attribute_heads is .*left out without attribute_weight"),
        ({"guided_model": Path("model"), "fraction": 0.5}, r"guided_model is .*left out without guided_weight"),
        (
            {"hard_attributes": ("hat",), "fraction": 0.5},
            r"hard_attributes is .*left out without hard_weight above 1, or guide",
        ),
        ({"hard_weight": 2, "fraction": 0.5}, r"hard_weight is 2.*left out without hard_attributes"),
        (
            {"hard_attributes": ("hat",), "guide_hard_alone": True, "fraction": 0.5},
            r"guide_hard_alone is True.*left out without hard_attributes, guided_weight and text_guidance_scale",
        ),
        ({"p_without_person": 0.1}, r"p_without_person is 0.1.*left out without a fraction"),
        ({"hard_attributes": ("smiling", "monocle")}, r"hard_attributes is \['monocle'\].*some of .*smiling"),
        ({"hard_attributes": ("male",)}, r"hard_attributes is \['male'\].*some of "),
        ({"max_timestep": 1_000}, r"max_timestep is 1000.*less than 1000"),
        ({"min_timestep": 480}, r"min_timestep is 480.*less than max_timestep, 480"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(sampled: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SampledImages(**sampled)


def test_a_step_samples_at_least_one_image_or_none() -> None:
    with pytest.raises(RecipeError, match=r"sampled.fraction is 0.1.*at least one image of a batch of 8"):
        with_sampled(fraction=0.1)


def changed_model(folder: Path, bias: float) -> Path:
    """The package's, a bias of its UNet larger."""
    file = Path(shutil.copytree(MODEL_DIR, folder)) / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file(weights | {"conv_in.bias": weights["conv_in.bias"] + bias}, file)
    return folder


@pytest.mark.slow
def test_a_training_samples_images_from_its_files_alone(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    guide, read = (changed_model(tmp_path / name, bias) for name, bias in (("guide", 0.01), ("read", 0.02)))
    features, seen = UNetFeatures(load_modules(read)[0].unet), list[float]()
    heads = AttributeHeads(features.channels, 300, dict.fromkeys(FACE_ATTRIBUTES, 0.9))
    save_attribute_heads(heads, features, tmp_path / "heads.safetensors")
    plain = AdversarialTrainer._sampled_loss

    def sampled_loss(self: AdversarialTrainer, *given: Any) -> Tensor:
        loss = plain(self, *given)
        seen.append(loss.item())
        others = (self.guided_unet, self.discriminator.features.unet)
        for unet, folder in zip(others, (guide, read), strict=True):
            assert torch.equal(unet.conv_in.bias, load_modules(folder)[0].unet.conv_in.bias)
        return loss

    monkeypatch.setattr(AdversarialTrainer, "_sampled_loss", sampled_loss)
    recipe = replace(
        with_sampled(
            fraction=0.5,
            attribute_heads=tmp_path / "heads.safetensors",
            guided_weight=1.0,
            guided_model=guide,
            hard_attributes=("eyeglasses",),
            hard_weight=2,
        ),
        data=photo_dataset(tmp_path, face_photos),
        autoencoder=MODEL_DIR / "vae/diffusion_pytorch_model.safetensors",
        init_from=MODEL_DIR,
        feature_model=read,
        schedule=TrainingConfig(8, 4, warmup_images=0, learning_rate=1e-4),
    )
    train_adversarial(recipe, tmp_path / "run")
    assert len(seen) == 2
    assert all(np.isfinite(seen))
    load_pocket(tmp_path / "run/final")
