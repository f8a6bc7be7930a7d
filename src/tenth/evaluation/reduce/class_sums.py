"""The Inception Score of logits that come in parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Score
from tenth.evaluation.metrics.inception_score import SPLITS


class ClassSums:
    """Of each split s: count (S,) of images, and sums of p(y|x), (S, C), and of its negative entropy, (S,).

    The mean of KL(p(y|x) || p(y)) is that of sum p log p without sum p(y) log p(y), so the two sums suffice.
    """

    def __init__(self, classes: int, splits: int = SPLITS) -> None:
        self.count = np.zeros(splits)
        self.log_sum = np.zeros(splits)
        self.class_sum = np.zeros((splits, classes))

    def update(self, logits: FeatureArray, split: npt.NDArray[np.uint16]) -> None:
        """Add logits (N, C). split: (N,), which split each image is in (`splits_of_images`)."""
        shifted = logits - logits.max(1, keepdims=True) if len(logits) else logits
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))  # (N, C)
        p = np.exp(log_p)
        for number in np.unique(split):
            of_split = split == number
            self.count[number] += of_split.sum()
            self.log_sum[number] += (p[of_split] * log_p[of_split]).sum()
            self.class_sum[number] += p[of_split].sum(0)

    def merge(self, other: ClassSums) -> None:
        """Add all that the other has."""
        self.count += other.count
        self.log_sum += other.log_sum
        self.class_sum += other.class_sum

    def score(self) -> Score:
        """`inception_score` of all images: each split has one at least."""
        marginal = self.class_sum / self.count[:, None]  # (S, C)
        log_marginal = np.log(marginal, out=np.zeros_like(marginal), where=marginal > 0)
        divergence = self.log_sum / self.count - (marginal * log_marginal).sum(1)  # (S,)
        return Score(float(np.exp(divergence).mean()), n=int(self.count.sum()))

    def to_tensors(self) -> dict[str, Tensor]:
        """count (S,), log_sum (S,), class_sum (S, C)."""
        return {name: torch.from_numpy(value) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ClassSums:
        """The inverse of `to_tensors`."""
        sums = cls(tensors["class_sum"].shape[1], len(tensors["count"]))
        for name in vars(sums):
            setattr(sums, name, tensors[name].numpy().copy())
        return sums
