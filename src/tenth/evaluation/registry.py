"""Every metric, one row each: what it is called, which way is better, what it needs, and the function that measures it.

Whoever measures, prints or lists metrics reads this table, so a new metric is a function in metrics/ and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenth.core.types import Score
from tenth.evaluation.metrics.diversity import identity_diversity
from tenth.evaluation.metrics.frechet import face_frechet_distance, fid, fid_infinity
from tenth.evaluation.metrics.identity import (
    copy_paste_index,
    face_detection_rate,
    identity_similarity,
    impostor_similarity,
    true_accept_rate,
)
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.kid import kid
from tenth.evaluation.metrics.precision_recall import coverage, density, precision, recall
from tenth.evaluation.metrics.prompt_alignment import prompt_adherence, prompt_retrieval


@dataclass(frozen=True)
class MetricSpec:
    """A metric as the table has it.

    name: in records, in JSON and on the command line. label: a column's heading. text: what it is, in a line.
    decimals: of its numbers in a table. function: a `Metric` of core/types.py; one that needs prompts takes
    (generated, scorer) instead.

    needs: what the images must come with; without it the metric is unavailable.
      faces            rows of a face recognizer for both sides, NaN where it finds no face
      people           who is who on both sides
      references       the recognizer's rows of the photos that a method was given
      threshold        the least cosine at which the recognizer accepts a pair
      features         rows of any extractor: of Inception in an experiment, of faces between two folders
      inception        features of the standard Inception network
      logits           its class logits
      prompts          each image's prompt, and a scorer of the kind that is named beside it
    """

    name: str
    label: str
    text: str
    higher_is_better: bool
    needs: tuple[str, ...]
    decimals: int
    function: Callable[..., Score]

    @property
    def arrow(self) -> str:
        """Towards what is better, as a heading has it."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def group(self) -> str:
        """The question it answers: the title of its table."""
        if "prompts" in self.needs:
            return "Prompts"
        return "Identity" if "faces" in self.needs else "Image quality and diversity"


HIGHER, LOWER = True, False
# fmt: off
ROWS = (
    MetricSpec("identity-similarity", "ID similarity",
               "mean cosine of each generated image to held-out photos of the same person",
               HIGHER, ("faces", "people"), 3, identity_similarity),
    MetricSpec("impostor-similarity", "impostor similarity",
               "the same to held-out photos of other people: the floor of the ID similarity",
               LOWER, ("faces", "people"), 3, impostor_similarity),
    MetricSpec("true-accept-rate", "true accept rate",
               "share of pairs of a generated image and a held-out photo that the recognizer accepts as one person",
               HIGHER, ("faces", "people", "threshold"), 3, true_accept_rate),
    MetricSpec("face-detection-rate", "face detection",
               "share of generated images with a face; one without counts as an impostor",
               HIGHER, ("faces",), 3, face_detection_rate),
    MetricSpec("copy-paste-index", "copy-paste index",
               "1 for a copied reference photo, 0 for a new picture",
               LOWER, ("faces", "people", "references"), 3, copy_paste_index),
    MetricSpec("identity-diversity", "diversity",
               "1 - cosine between generated images of the same person",
               HIGHER, ("faces",), 3, identity_diversity),
    MetricSpec("face-frechet-distance", "face Fréchet distance",
               "Fréchet distance of the recognizer's features; not an FID",
               LOWER, ("faces",), 3, face_frechet_distance),
    MetricSpec("attribute-accuracy", "attribute accuracy",
               "share of the attributes in the prompt that the image shows",
               HIGHER, ("prompts", "face attributes"), 3, prompt_adherence),
    MetricSpec("attribute-r-precision", "attribute R-precision",
               "share of images that match their own prompt best among the prompts of the set",
               HIGHER, ("prompts", "face attributes"), 3, prompt_retrieval),
    MetricSpec("clip-score", "CLIP score",
               "2.5 times the cosine of image and prompt, by CLIP",
               HIGHER, ("prompts", "CLIP"), 3, prompt_adherence),
    MetricSpec("clip-r-precision", "CLIP R-precision",
               "R-precision by CLIP's cosines",
               HIGHER, ("prompts", "CLIP"), 3, prompt_retrieval),
    MetricSpec("precision", "precision",
               "share of generated images within the neighbourhood of held-out photos",
               HIGHER, ("features",), 3, precision),
    MetricSpec("recall", "recall",
               "share of held-out photos within the neighbourhood of generated images",
               HIGHER, ("features",), 3, recall),
    MetricSpec("density", "density",
               "how many neighbourhoods of held-out photos an image lies in, over k; may exceed 1",
               HIGHER, ("features",), 3, density),
    MetricSpec("coverage", "coverage",
               "share of held-out photos with a generated image in their neighbourhood",
               HIGHER, ("features",), 3, coverage),
    MetricSpec("fid", "FID",
               "Fréchet distance of Inception features; comparable only at equal numbers of images",
               LOWER, ("inception",), 2, fid),
    MetricSpec("fid-infinity", "FID∞",
               "FID extrapolated to infinitely many generated images",
               LOWER, ("inception",), 2, fid_infinity),
    MetricSpec("kid", "KID",
               "kernel distance of Inception features; unbiased at any number of images",
               LOWER, ("inception",), 4, kid),
    MetricSpec("inception-score", "Inception Score",
               "how clear and how varied the ImageNet classes are; means little on faces",
               HIGHER, ("logits",), 2, inception_score),
)
# fmt: on
METRICS = {row.name: row for row in ROWS}


def metrics_for(*needs: str) -> list[MetricSpec]:
    """The rows that need one of these, in the table's order."""
    return [row for row in METRICS.values() if set(needs) & set(row.needs)]
