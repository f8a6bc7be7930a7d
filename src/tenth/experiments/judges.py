"""Who reads an experiment's images: recognisers of faces, and readers that hold them against their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenth.evaluation.extractors.clip_score import ClipPrompts
from tenth.evaluation.extractors.face_attributes import open_signs
from tenth.evaluation.extractors.face_recognizer import DlibRecogniser, Recogniser, Recognises, open_recogniser
from tenth.evaluation.metrics.prompt_alignment import ReadsPrompts, SignPrompts
from tenth.experiments.recipe import ExperimentRecipe, check
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion


def open_recognisers(recipe: ExperimentRecipe, model: LatentDiffusion) -> dict[str, Recognises]:
    """The judge, if any, then dlib's own if it is wanted and the model reads it. Raises RecipeError if that leaves none."""
    found: dict[str, Recognises] = {}
    if recipe.judge is not None:
        judge = open_recogniser(recipe.judge)
        found[judge.name] = judge
    if recipe.dlib and isinstance(model.encoder, FaceEncoder):
        found[CHOOSING] = DlibRecogniser(model.encoder.centre.double().numpy())
    check("judge", None, bool(found), "a recogniser's TOML file, since dlib's is left out or this model does not read it")
    return found


def open_readers(recipe: ExperimentRecipe, model: LatentDiffusion) -> list[ReadsPrompts]:
    """Who holds images against prompts: signs of faces where images are framed as crops are, and CLIP if the recipe has it."""
    signs = open_signs() if isinstance(model.encoder, FaceEncoder) else None
    found: list[ReadsPrompts] = [] if signs is None else [SignPrompts(signs, signs.trusted)]
    if recipe.clip is not None:
        found.append(ClipPrompts(recipe.clip))
    return found


CHOOSING = "dlib (conditions the model: for choosing only)"
Plain = dict[str, Any]  # a line of run.json


def threshold_of(recogniser: Recognises) -> float | None:
    """The least cosine of one person, where the recogniser's file says it."""
    return recogniser.settings.accept if isinstance(recogniser, Recogniser) else None


def judges_of(recognisers: Mapping[str, Recognises]) -> list[Plain]:
    """Who judged. The one that the model's own methods read gives no headline."""
    judges = []
    for label, recogniser in recognisers.items():
        own = label == CHOOSING
        licence = recogniser.settings.licence if isinstance(recogniser, Recogniser) else ""
        note = "the model's methods read it: for choosing only" if own else ""
        judges.append(
            {"name": label, "licence": licence, "threshold": threshold_of(recogniser), "headline": not own, "note": note}
        )
    return judges
