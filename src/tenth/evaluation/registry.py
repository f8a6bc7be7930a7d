"""Every metric, one row each: what it is called, which way is better, what it needs, and the function that measures it.

Whoever measures, prints or lists metrics reads this table, so a new metric is a function in metrics/ and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenth.core.types import Score
from tenth.evaluation.metrics.diversity import identity_diversity
from tenth.evaluation.metrics.face_quality import face_quality
from tenth.evaluation.metrics.frechet import face_frechet_distance, fd_dinov2, fid, fid_infinity
from tenth.evaluation.metrics.identity import (
    copy_paste_index,
    face_detection_rate,
    identity_similarity,
    impostor_similarity,
    true_accept_rate,
)
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.kid import kid
from tenth.evaluation.metrics.mind import mind
from tenth.evaluation.metrics.precision_recall import coverage, density, precision, recall
from tenth.evaluation.metrics.prompt_alignment import prompt_adherence, prompt_retrieval
from tenth.evaluation.metrics.recognition.groups import gender_gap, men_similarity, women_similarity
from tenth.evaluation.metrics.recognition.identification import (
    RANK_METRICS,
    lookalike_rank_one_rate,
    lookalike_reciprocal_rank,
    mean_reciprocal_rank,
    rank_one_rate,
)
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES, true_accept_rate_1e3, true_accept_rate_1e4


@dataclass(frozen=True)
class MetricSpec:
    """A metric as the table has it.

    name: in records, in JSON and on the command line. label: a column's heading. decimals: of its numbers in a table.
    function: a `Metric` of metrics/inputs.py; one that needs prompts takes (generated, scorer). text: what it is, in a line.

    needs: what the images must come with; without it the metric is unavailable.
      faces            features of a face recognizer for both sides, NaN where it finds no face
      people           who is who on both sides
      references       the recognizer's features of the photos that a method was given
      attributes       who of the people is a man and who a woman
      threshold        the least cosine at which the recognizer accepts a pair
      features         of any extractor: of Inception in an experiment, of faces between two folders
      inception        features of the standard Inception network
      logits           its class logits
      dinov2           features of DINOv2
      face-quality     a network's one number for each face, NaN where it finds none
      prompts          each image's prompt, and a scorer of the kind that is named beside it
    """

    name: str
    label: str
    higher_is_better: bool
    needs: tuple[str, ...]
    decimals: int
    function: Callable[..., Score]
    text: str

    @property
    def arrow(self) -> str:
        """Towards what is better, as a heading has it."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def group(self) -> str:
        """The question it answers: the title of its table."""
        if "prompts" in self.needs:
            return "Prompts"
        if self.name in TOLD_APART:
            return "Told apart from others"
        return "Identity" if "faces" in self.needs else "Image quality and diversity"


HIGHER, LOWER = True, False
TOLD_APART = {*RANK_METRICS, *FALSE_ACCEPT_RATES, "true-accept-rate"}  # the right person against all others
# fmt: off
ROWS = (
    MetricSpec("identity-similarity", "ID similarity", HIGHER, ("faces", "people"), 3, identity_similarity,
               "mean cosine of each generated image to held-out photos of the same person"),
    MetricSpec("impostor-similarity", "impostor similarity", LOWER, ("faces", "people"), 3, impostor_similarity,
               "the same to held-out photos of other people: the floor of the ID similarity"),
    MetricSpec("mean-reciprocal-rank", "MRR", HIGHER, ("faces", "people"), 3, mean_reciprocal_rank,
               "mean of 1 / rank of the right person among all people, by the cosine to their held-out photos"),
    MetricSpec("rank-1-rate", "rank-1", HIGHER, ("faces", "people"), 3, rank_one_rate,
               "share of images that are nearest to the right person among all people"),
    MetricSpec("lookalike-reciprocal-rank", "look-alike MRR", HIGHER, ("faces", "people"), 3, lookalike_reciprocal_rank,
               "MRR among the right person and the ten people who look most alike"),
    MetricSpec("lookalike-rank-1-rate", "look-alike rank-1", HIGHER, ("faces", "people"), 3, lookalike_rank_one_rate,
               "rank-1 among the right person and the ten people who look most alike"),
    MetricSpec("true-accept-rate-1e-3", "TAR@FAR=1e-3", HIGHER, ("faces", "people"), 3, true_accept_rate_1e3,
               "share of pairs, image and held-out photo, above a cosine that 1 in 1,000 pairs of two real people exceeds"),
    MetricSpec("true-accept-rate-1e-4", "TAR@FAR=1e-4", HIGHER, ("faces", "people"), 3, true_accept_rate_1e4,
               "the same with a cosine that 1 in 10,000 pairs of two real people exceeds"),
    MetricSpec("men-similarity", "ID similarity, men", HIGHER, ("faces", "people", "attributes"), 3, men_similarity,
               "ID similarity of the people who are men"),
    MetricSpec("women-similarity", "ID similarity, women", HIGHER, ("faces", "people", "attributes"), 3, women_similarity,
               "ID similarity of the people who are women"),
    MetricSpec("gender-gap", "gender gap", LOWER, ("faces", "people", "attributes"), 3, gender_gap,
               "how far the ID similarities of men and of women are apart"),
    MetricSpec("true-accept-rate", "true accept rate", HIGHER, ("faces", "people", "threshold"), 3, true_accept_rate,
               "share of pairs of a generated image and a held-out photo that the recognizer accepts as one person"),
    MetricSpec("face-detection-rate", "face detection", HIGHER, ("faces",), 3, face_detection_rate,
               "share of generated images with a face; one without counts as an impostor"),
    MetricSpec("copy-paste-index", "copy-paste index", LOWER, ("faces", "people", "references"), 3, copy_paste_index,
               "1 for a copied reference photo, 0 for a new image"),
    MetricSpec("identity-diversity", "diversity", HIGHER, ("faces",), 3, identity_diversity,
               "1 - cosine between generated images of the same person"),
    MetricSpec("face-frechet-distance", "face Fréchet distance", LOWER, ("faces",), 3, face_frechet_distance,
               "Fréchet distance of the recognizer's features; not an FID"),
    MetricSpec("attribute-accuracy", "attribute accuracy", HIGHER, ("prompts", "face attributes"), 3, prompt_adherence,
               "share of the attributes in the prompt that the image shows"),
    MetricSpec("attribute-r-precision", "attribute R-precision", HIGHER, ("prompts", "face attributes"), 3, prompt_retrieval,
               "share of images that match their own prompt best among the prompts of the set"),
    MetricSpec("clip-score", "CLIP score", HIGHER, ("prompts", "CLIP"), 3, prompt_adherence,
               "2.5 times the cosine of image and prompt, by CLIP"),
    MetricSpec("clip-r-precision", "CLIP R-precision", HIGHER, ("prompts", "CLIP"), 3, prompt_retrieval,
               "R-precision by CLIP's cosines"),
    MetricSpec("precision", "precision", HIGHER, ("features",), 3, precision,
               "share of generated images within the neighbourhood of held-out photos"),
    MetricSpec("recall", "recall", HIGHER, ("features",), 3, recall,
               "share of held-out photos within the neighbourhood of generated images"),
    MetricSpec("density", "density", HIGHER, ("features",), 3, density,
               "how many neighbourhoods of held-out photos an image lies in, over k; may exceed 1"),
    MetricSpec("coverage", "coverage", HIGHER, ("features",), 3, coverage,
               "share of held-out photos with a generated image in their neighbourhood"),
    MetricSpec("fid", "FID", LOWER, ("inception",), 2, fid,
               "Fréchet distance of Inception features; comparable only at equal numbers of images"),
    MetricSpec("fid-infinity", "FID∞", LOWER, ("inception",), 2, fid_infinity,
               "FID extrapolated to infinitely many generated images"),
    MetricSpec("kid", "KID", LOWER, ("inception",), 4, kid,
               "kernel distance of Inception features; unbiased at any number of images"),
    MetricSpec("mind", "MIND", LOWER, ("inception",), 2, mind,
               "sliced Wasserstein distance of Inception features; sees more than means and covariances"),
    MetricSpec("fd-dinov2", "FD-DINOv2", LOWER, ("dinov2",), 2, fd_dinov2,
               "Fréchet distance of DINOv2's features; comparable only at equal numbers of images"),
    MetricSpec("face-quality", "face quality", HIGHER, ("face-quality",), 3, face_quality,
               "how good a recognizer's input the faces are; reported, nothing is chosen by it"),
    MetricSpec("inception-score", "Inception Score", HIGHER, ("logits",), 2, inception_score,
               "how clear and how varied the ImageNet classes are; means little on faces"),
)
# fmt: on
METRICS = {row.name: row for row in ROWS}


def metrics_for(*needs: str) -> list[MetricSpec]:
    """The rows that need one of these, in the table's order."""
    return [row for row in METRICS.values() if set(needs) & set(row.needs)]
