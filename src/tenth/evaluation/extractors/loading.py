"""The networks that a comparison may need beside a face recognizer, by the names of their tensors and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tenth.core.types import FeatureArray, Features
from tenth.evaluation.extractors.face_quality import load_face_quality
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.inception import features_of, logits_of
from tenth.evaluation.extractors.inception_weights import load_inception
from tenth.evaluation.extractors.openvino_networks import FastInception

OPENVINO = "openvino"
RECOGNIZER, INCEPTION, DINOV2, FACE_QUALITY = "recognizer", "inception", "dinov2", "face-quality"


@dataclass(frozen=True)
class View:
    """What a metric reads of a network's rows. network: its name; rows: of (N, D) those that are meant."""

    network: str
    rows: Callable[[FeatureArray], FeatureArray]

    def of(self, features: Features) -> Features:
        """The rows that are meant, of the same images."""
        return replace(features, vectors=self.rows(features.vectors))


VIEWS = {  # by the need in the metrics' table
    "inception": View(INCEPTION, features_of),
    "logits": View(INCEPTION, logits_of),
    "dinov2": View(DINOV2, lambda rows: rows),
    "face-quality": View(FACE_QUALITY, lambda rows: rows),
}
MISSING = {  # network -> why a metric is unavailable without it
    INCEPTION: "needs the Inception file; give it with --inception FILE (docs/metrics.md says where it is)",
    DINOV2: "needs DINOv2's folder; give it with --dinov2 DIR (docs/metrics.md says where it is)",
    FACE_QUALITY: "needs a face quality network; give its TOML file with --face-quality FILE (docs/metrics.md has one)",
}


@dataclass(frozen=True)
class NetworkSources:
    """Where the networks are, "" for none.

    inception: as `load_inception` takes it; dinov2: a folder; face_quality: a TOML file. backend: openvino for quicker features
    by Inception, and by dlib's recognizer, within a tolerance (openvino_networks.py).
    """

    inception: str = ""
    dinov2: str = ""
    face_quality: str = ""
    backend: str = ""

    @property
    def absolute(self) -> NetworkSources:
        """The same for a process that works in another folder; addresses and seeds stay."""
        sources = (getattr(self, field.name) for field in fields(self))
        return NetworkSources(*(str(Path(at).absolute()) if at and Path(at).exists() else at for at in sources))


def load_networks(sources: NetworkSources) -> dict[str, Extractor]:
    """The networks that are given, by name. Raises ModelError as their loaders do."""
    networks: dict[str, Extractor] = {}
    if sources.inception:
        inception = load_inception(sources.inception)
        networks[INCEPTION] = FastInception(inception) if sources.backend == OPENVINO else inception
    if sources.dinov2:
        from tenth.evaluation.extractors.dinov2 import Dinov2  # transformers, which the others do without

        networks[DINOV2] = Dinov2(Path(sources.dinov2))
    if sources.face_quality:
        networks[FACE_QUALITY] = load_face_quality(Path(sources.face_quality))
    return networks


def disclaimers(networks: Mapping[str, Extractor]) -> str:
    """What belongs above every figure by these networks, or ''."""
    return " ".join(filter(None, (getattr(network, "disclaimer", "") for network in networks.values())))
