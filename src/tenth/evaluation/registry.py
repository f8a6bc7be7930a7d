"""Every metric: its name, what it needs, its label and direction. One row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenth.core.types import Entry, Metric
from tenth.evaluation.metrics.diversity import identity_diversity
from tenth.evaluation.metrics.frechet import face_frechet_distance, fid, fid_infinity
from tenth.evaluation.metrics.identity import (
    copy_paste_index,
    face_detection_rate,
    identity_similarity,
    impostor_similarity,
)
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.kid import kid
from tenth.evaluation.metrics.precision_recall import coverage, density, precision, recall


@dataclass(frozen=True)
class Column:
    """A metric as readers see it. text: what it is, in a line."""

    name: str
    text: str


# fmt: off
IDENTITY_COLUMNS = {
    "identity":           Column("identity",        "cosine of each image to the person's held-out photos"),
    "stranger":           Column("stranger",        "the same against other people's photos: its floor"),
    "acceptance":         Column("acceptance",      "share of pairs that the recogniser takes for one person"),
    "detection":          Column("face found",      "share of images with a face; one without counts as a stranger"),
    "copy-index":         Column("copy index",      "1 a copied reference, 0 a new photo"),
    "identity-diversity": Column("diversity",       "how unlike each other one person's images are"),
    "face-distance":      Column("face distance",   "Fréchet distance of the recogniser's features; not an FID"),
}
PROMPT_COLUMNS = {
    "prompt-adherence":   Column("adherence",       "share of what the prompt asks for that is to be seen"),
    "prompt-retrieval":   Column("retrieval",       "share of images that fit their own prompt best of the track's"),
    "clip-score":         Column("CLIP score",      "2.5 times the cosine of image and prompt, by CLIP"),
    "clip-retrieval":     Column("CLIP retrieval",  "the same share, by CLIP"),
}
IMAGE_SET_COLUMNS = {
    "fid":                Column("FID",             "Fréchet distance of Inception features; only equal n compare"),
    "fid-infinity":       Column("FID∞",            "FID extrapolated to endlessly many images"),
    "kid":                Column("KID",             "kernel distance of Inception features; does not depend on n"),
    "inception-score":    Column("Inception score", "how sure and how varied Inception's classes are; means little on faces"),
    "precision":          Column("precision",       "share of images within the real photos' neighbourhood"),
    "recall":             Column("recall",          "share of real photos within the images' neighbourhood"),
    "density":            Column("density",         "how deep in the real photos' neighbourhood the images are; may exceed 1"),
    "coverage":           Column("coverage",        "share of real photos that have an image nearby"),
}
# fmt: on
COLUMN_GROUPS = (("The person", IDENTITY_COLUMNS), ("The prompt", PROMPT_COLUMNS), ("The pictures as a set", IMAGE_SET_COLUMNS))


@dataclass(frozen=True)
class FolderMetric:
    """A metric and what it reads of both sides.

    'people': rows of faces, where both folders say who is who; 'found': the same in any case; both NaN without a face.
    'faces': the rows of faces found. 'features', 'logits': of Inception.
    """

    name: str
    direction: str
    metric: Metric
    view: str


# fmt: off
FOLDER_METRICS = (
    FolderMetric("identity",           "higher", identity_similarity,           "people"),
    FolderMetric("stranger",           "lower",  impostor_similarity,           "people"),
    FolderMetric("detection",          "higher", face_detection_rate,          "found"),
    FolderMetric("identity-diversity", "higher", identity_diversity, "found"),
    FolderMetric("face-distance",      "lower",  face_frechet_distance,      "faces"),
    FolderMetric("precision",          "higher", precision,          "faces"),
    FolderMetric("recall",             "higher", recall,             "faces"),
    FolderMetric("density",            "higher", density,            "faces"),
    FolderMetric("coverage",           "higher", coverage,           "faces"),
    FolderMetric("fid",                "lower",  fid,                "features"),
    FolderMetric("fid-infinity",       "lower",  fid_infinity,       "features"),
    FolderMetric("kid",                "lower",  kid,                "features"),
    FolderMetric("inception-score",    "higher", inception_score,    "logits"),
)
# fmt: on


# fmt: off
FACE_METRICS: Mapping[str, tuple[str, Metric]] = {  # of a recogniser's rows: which way is better, the metric
    "identity":           ("higher", identity_similarity),
    "stranger":           ("lower",  impostor_similarity),
    "detection":          ("higher", face_detection_rate),
    "copy-index":         ("lower",  copy_paste_index),
    "identity-diversity": ("higher", identity_diversity),
    "face-distance":      ("lower",  face_frechet_distance),
}
IMAGE_SET_METRICS: Mapping[str, tuple[str, Metric]] = {  # of Inception's features; of its logits for the Inception Score
    "fid":                ("lower",  fid),
    "fid-infinity":       ("lower",  fid_infinity),
    "kid":                ("lower",  kid),
    "inception-score":    ("higher", inception_score),
    "precision":          ("higher", precision),
    "recall":             ("higher", recall),
    "density":            ("higher", density),
    "coverage":           ("higher", coverage),
}
# fmt: on


METRICS: Mapping[str, Entry[Metric]] = {
    "identity": Entry(identity_similarity, "cosine of generated images to held-out photos of the same person"),
    "stranger": Entry(impostor_similarity, "cosine of generated images to held-out photos of other people: the floor"),
    "detection": Entry(face_detection_rate, "share of generated images with a face"),
    "copy-index": Entry(copy_paste_index, "1 for a copied reference, 0 for a new photo"),
    "identity-diversity": Entry(identity_diversity, "1 - cosine between generated images of the same person"),
    "face-distance": Entry(face_frechet_distance, "distance of a face recogniser's Gaussians: never called FID"),
    "fid": Entry(fid, "distance of Inception features' Gaussians: compare at equal counts"),
    "fid-infinity": Entry(fid_infinity, "the same for endlessly many generated images, extrapolated"),
    "kid": Entry(kid, "kernel distance of Inception features: unbiased at any count"),
    "inception-score": Entry(inception_score, "clear and varied ImageNet classes; means little on faces"),
    "precision": Entry(precision, "share of generated images that lie among held-out photos"),
    "recall": Entry(recall, "share of held-out photos that lie among generated images"),
    "density": Entry(density, "how deep generated images lie among held-out photos: 1 for photos"),
    "coverage": Entry(coverage, "share of held-out photos with a generated image near"),
}
