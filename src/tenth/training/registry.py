"""The stages of training that `tenth train` knows, by the key `stage` of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.wording import did_you_mean
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.training.adapter.trainer import AdapterRecipe, train_adapter
from tenth.training.pocket.autoencoder import AutoencoderRecipe, train_autoencoder
from tenth.training.pocket.decoder import DecoderRecipe, train_decoder
from tenth.training.pocket.diffusion import DiffusionRecipe, train_diffusion
from tenth.training.pocket.face_attributes import FaceAttributesRecipe, train_face_attributes
from tenth.training.pocket.finetuning.adversarial import train_adversarial
from tenth.training.pocket.finetuning.attribute_heads import AttributeHeadsRecipe, train_attribute_heads
from tenth.training.pocket.finetuning.recipe import AdversarialRecipe


@dataclass(frozen=True)
class Stage:
    """recipe: the dataclass of the TOML file. train: writes its result to `directory`/final, last."""

    recipe: type[Any]
    train: Callable[[Any, Path], None]
    description: str


def _train_adapter(recipe: AdapterRecipe, directory: Path) -> None:
    train_adapter(recipe, load_model(recipe.model, options=LoadOptions(device="cpu", full_precision=True)), directory)


STAGES: Mapping[str, Stage] = {
    "autoencoder": Stage(AutoencoderRecipe, train_autoencoder, "the pocket model's autoencoder"),
    "decoder": Stage(DecoderRecipe, train_decoder, "the pocket model's decoder, sharper on the same latents"),
    "base-model": Stage(DiffusionRecipe, train_diffusion, "the pocket model's UNet, text encoder and IP-Adapter"),
    "adversarial": Stage(AdversarialRecipe, train_adversarial, "the pocket model's UNet, for sharper images in few steps"),
    "attribute-heads": Stage(
        AttributeHeadsRecipe, train_attribute_heads, "what noisy latents show of a face, to obey prompts by"
    ),
    "face-attributes": Stage(FaceAttributesRecipe, train_face_attributes, "what is to be seen on a face, to score prompts by"),
    "adapter": Stage(AdapterRecipe, _train_adapter, "an aggregator of several photos and its adapter"),
}


def stage(table: Mapping[str, Any], where: str = "the recipe") -> Stage:
    """The stage that a recipe's table names. Raises RecipeError, which lists the known ones, for any other."""
    name = table.get("stage")
    if not isinstance(name, str) or name not in STAGES:
        known = ", ".join(repr(each) for each in STAGES)
        action = did_you_mean(str(name), list(STAGES)) + "Correct the key `stage`"
        raise RecipeError(f"{where} has stage {name!r}", f"known stages: {known}", action)
    return STAGES[name]
