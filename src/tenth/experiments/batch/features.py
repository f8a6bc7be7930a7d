"""The features of a shard's pictures, from which an evaluation is made later: a row each, in the order of the pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tenth.core.types import FeatureArray, Pixels
from tenth.evaluation.extractors.face_recognizer import dlib_recognizer, load_recognizer
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.loading import OPENVINO, RECOGNIZER, NetworkSources, load_networks
from tenth.evaluation.extractors.openvino_networks import FastDlibRecognizer

METADATA_KEY = "tenth"  # one entry, JSON: the library writes several in no fixed order
AT_ONCE = 32  # pictures


def load_extractors(recognizer: str, sources: NetworkSources) -> dict[str, Extractor]:
    """By the name of their tensor. recognizer: a TOML file, "" for dlib's. Raises ModelError."""
    faces: Extractor
    if recognizer:
        faces = load_recognizer(Path(recognizer))
    else:
        faces = FastDlibRecognizer(dlib_recognizer()) if sources.backend == OPENVINO else dlib_recognizer()
    return {RECOGNIZER: faces, **load_networks(sources)}


class FeatureCollector:
    """Collects the features of pictures as they come. extractors: by the name of their tensor."""

    def __init__(self, extractors: dict[str, Extractor]) -> None:
        self.extractors = extractors
        self._waiting: list[Pixels] = []
        self._rows: dict[str, list[FeatureArray]] = {name: [] for name in extractors}

    def add(self, picture: bytes) -> None:
        """A picture as its file has it."""
        with Image.open(BytesIO(picture)) as image:
            self._waiting.append(np.asarray(image.convert("RGB")))
        if len(self._waiting) == AT_ONCE:
            self._extract()

    def rows(self) -> dict[str, FeatureArray]:
        """By extractor (N, feature_dim), NaN where there is nothing to extract."""
        self._extract()
        return {name: _stacked(rows, self.extractors[name]) for name, rows in self._rows.items()}

    def to_bytes(self) -> bytes:
        """A safetensors file: by extractor (N, feature_dim) float64, NaN where there is nothing to extract, and their names."""
        from safetensors.torch import save

        tensors = {name: torch.from_numpy(rows) for name, rows in self.rows().items()}
        names = {name: extractor.name for name, extractor in self.extractors.items()}
        return save(tensors, {METADATA_KEY: json.dumps(names, sort_keys=True)})

    def _extract(self) -> None:
        if self._waiting:
            for name, extractor in self.extractors.items():
                self._rows[name].append(extractor(self._waiting))
            self._waiting = []


def _stacked(rows: Sequence[FeatureArray], extractor: Extractor) -> FeatureArray:
    return np.concatenate(rows) if rows else np.zeros((0, extractor.feature_dim))
