"""Face quality by an ONNX network of the user's, such as eDifFIQA: one number for each image, NaN where no face is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tenth.core.errors import ModelError
from tenth.core.types import FeatureArray, Pixels
from tenth.evaluation.extractors.face_recognizer import OnnxFaceRecognizer, load_recognizer


class FaceQuality:
    """Images (H, W, 3) -> (N, 1), higher is better, of the largest face, aligned as for a recognizer. An Extractor.

    network: aligns and runs it; described by the same TOML file as a recognizer (recognizer_config.py), with flip = false.
    Source: Babnik, Peer and Struc 2024, IEEE T-BIOM, document 10468647 (eDifFIQA). Raises ModelError if it gives more
    than a number for each face.
    """

    feature_dim = 1

    def __init__(self, network: OnnxFaceRecognizer) -> None:
        if network.feature_dim != 1:
            found = f"{network.settings.model} gives {network.feature_dim} numbers for each face"
            raise ModelError(found, "a network that gives one, its quality, is needed", "Correct model, or set flip = false")
        self.network, self.name = network, f"face-quality-{network.name}"

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        return self.network.outputs(images)


def load_face_quality(path: Path) -> FaceQuality:
    """The network that a TOML file describes. Raises ModelError as `load_recognizer`, or if it is none for quality."""
    return FaceQuality(load_recognizer(path))
