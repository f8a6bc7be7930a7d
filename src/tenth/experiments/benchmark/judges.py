"""What scores a submission: face recognizers, prompt scorers and networks of images, each named in the row that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tenth.core.types import FeatureArray, Pixels
from tenth.data.faces.detection import crop_face, find_faces
from tenth.evaluation.extractors.clip_score import ClipScorer
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder, dlib_recognizer, load_recognizer
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.loading import NetworkSources, load_networks
from tenth.evaluation.metrics.prompt_alignment import AttributePromptScorer, PromptScorer
from tenth.experiments.recipe import DLIB
from tenth.experiments.recognizers import SELECTION_ONLY

NO_SOURCES = NetworkSources()


@dataclass(frozen=True, eq=False)
class Judges:
    """recognizers: by the name that the table has for them. networks: as `load_networks` gives them."""

    recognizers: Mapping[str, FaceEmbedder]
    prompt_scorers: Sequence[PromptScorer]
    networks: Mapping[str, Extractor] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all of them, as a row has them."""
        scorers, networks = ([each.name for each in self.prompt_scorers], [each.name for each in self.networks.values()])
        return [*self.recognizers, *scorers, *networks]


class LargestFace:
    """An extractor of the largest face, cropped as the face attributes' classifier was trained; zeros (D,) without a face.

    Images of any size and framing come out alike, and an image without a face shows nothing of what its prompt asks for.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.feature_dim = extractor, extractor.feature_dim
        self.name = f"largest-face-{extractor.name}"

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        rows = np.zeros((len(images), self.feature_dim))  # (N, D)
        for row, image in enumerate(images):
            if faces := find_faces(image):
                rows[row] = self.extractor([crop_face(image, faces[0])])[0]
        return rows


def load_judges(recognizers: Sequence[Path], *, sources: NetworkSources = NO_SOURCES, clip: Path | None = None) -> Judges:
    """The recognizers that TOML files describe, dlib's for `DLIB` or without any; face attributes, CLIP, networks where given.

    Raises ModelError, RecipeError or DataError for a file that is not what it should be.
    """
    files = [path for path in recognizers if path != DLIB]
    loaded: dict[str, FaceEmbedder] = {each.name: each for each in map(load_recognizer, files)}
    if len(files) < len(recognizers) or not recognizers:
        loaded[SELECTION_ONLY] = dlib_recognizer()
    networks = load_networks(sources)
    classifier = load_face_attributes()
    scorers: list[PromptScorer] = [AttributePromptScorer(LargestFace(classifier), classifier.reliable)]
    if clip is not None:
        scorers.append(ClipScorer(clip))
    return Judges(loaded, scorers, networks)
