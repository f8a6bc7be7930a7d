"""Who reads an experiment's images: recognisers of faces, and readers that hold them against their prompts."""

from __future__ import annotations

from tenth.conditions import ExperimentRecipe, check
from tenth.diffusion import LatentDiffusion
from tenth.encode.face import FaceEncoder
from tenth.evaluate.clip_prompts import ClipPrompts
from tenth.evaluate.prompts import ReadsPrompts, SignPrompts
from tenth.evaluate.recogniser import DlibRecogniser, Recognises, open_recogniser
from tenth.findings import CHOOSING
from tenth.pocket.signs import open_signs


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
