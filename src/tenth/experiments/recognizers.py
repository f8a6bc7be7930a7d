"""The recognizers and prompt scorers of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenth.core.config import require
from tenth.core.types import DiffusionModel
from tenth.evaluation.extractors.clip_score import ClipScorer
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer, FaceEmbedder, dlib_recognizer, load_recognizer
from tenth.evaluation.metrics.prompt_alignment import AttributePromptScorer, PromptScorer
from tenth.experiments.recipe import DLIB, ExperimentRecipe

SELECTION_ONLY = (
    "dlib (model selection only)"  # whose embeddings condition the pocket model, and choose checkpoints and candidates
)


def load_recognizers(recipe: ExperimentRecipe, model: DiffusionModel) -> dict[str, FaceEmbedder]:
    """The recipe's recognizers by name. Raises ModelError for one that cannot be used, RecipeError for one given twice."""
    recognizers: dict[str, FaceEmbedder] = {}
    for path in recipe.recognizers:
        if path == DLIB:
            center = model.encoder.dlib_mean
            recognizers[SELECTION_ONLY] = dlib_recognizer() if center is None else DlibRecognizer(center.double().numpy())
            continue
        recognizer = load_recognizer(path)
        require(
            recognizer.name not in recognizers, "recognizers", str(path), "each once; this one has another's name and model"
        )
        recognizers[recognizer.name] = recognizer
    return recognizers


def load_prompt_scorers(recipe: ExperimentRecipe, model: DiffusionModel) -> list[PromptScorer]:
    """Face attributes, for a model whose images are framed like face crops, and CLIP if the recipe names a model."""
    classifier = load_face_attributes() if model.encoder.crops_faces else None
    scorers: list[PromptScorer] = [] if classifier is None else [AttributePromptScorer(classifier, classifier.reliable)]
    if recipe.clip_model is not None:
        scorers.append(ClipScorer(recipe.clip_model))
    return scorers


def recognizer_records(recognizers: Mapping[str, FaceEmbedder]) -> list[dict[str, Any]]:
    """The recognizers in run.json. The one that the model's own methods are conditioned on is for model selection only."""
    return [
        {"name": name, "licence": each.licence, "threshold": each.threshold, "selection_only": name == SELECTION_ONLY}
        for name, each in recognizers.items()
    ]
