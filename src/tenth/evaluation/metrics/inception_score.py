"""Inception Score: whether images are each of a clear ImageNet class and together of many. It means little on faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.inputs import validated_rows

SPLITS, SEED = 10, 2020  # torch-fidelity's


def inception_score(
    *,
    generated: Features,
    held_out: Features | None = None,
    references: Features | None = None,
    splits: int = SPLITS,
    seed: int = SEED,
) -> Score:
    """Mean over splits of exp(mean KL(p(y|x) || p(y))) of Inception's classes. Higher is better, from 1 to their number.

    generated: (N, 1008) logits without bias; no photo of the person is compared. Compare only at equal N and splits. The spread
    over splits, `inception_scores(...).std()`, is no interval over people. Source: Salimans et al. 2016, arXiv:1606.03498,
    section 4; equals torch-fidelity 0.4 to 1e-6. Raises DataError for fewer images than splits, or a row that is not finite.
    """
    del held_out, references
    rows = validated_rows(generated, "generated", 1)
    return Score(float(inception_scores(rows, splits=splits, seed=seed).mean()), n=len(rows))


def inception_scores(logits: FeatureArray, *, splits: int = SPLITS, seed: int = SEED) -> FeatureArray:
    """The score of each split, (splits,), of logits (N, C) in an order shuffled by the seed."""
    split = splits_of_images(len(logits), splits=splits, seed=seed)
    return np.array([_split_score(logits[split == number]) for number in range(splits)])


def splits_of_images(count: int, *, splits: int = SPLITS, seed: int = SEED) -> npt.NDArray[np.uint16]:
    """Which split each of so many images is in, (count,). Raises DataError for fewer images than splits."""
    require_splits(count, splits)
    order = np.random.RandomState(seed).permutation(count)  # torch-fidelity's generator
    numbers = np.empty(count, np.uint16)
    for number, part in enumerate(np.split(order, [number * count // splits for number in range(1, splits)])):
        numbers[part] = number
    return numbers


def require_splits(count: int, splits: int = SPLITS) -> None:
    """Raises DataError for fewer images than splits, or no split."""
    if not 1 <= splits <= count:
        found = f"{count} images for {splits} splits"
        raise DataError(found, "1 to N splits are needed", "Add images, or take fewer splits")


def _split_score(logits: FeatureArray) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))  # (N, C)
    p = np.exp(log_p)
    marginal = p.mean(0)  # (C,)
    log_marginal = np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)  # p is 0 too: such a class adds nothing
    return float(np.exp((p * (log_p - log_marginal)).sum(1).mean()))
