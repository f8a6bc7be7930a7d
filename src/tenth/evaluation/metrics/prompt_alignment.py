"""Does an image show what its prompt asks for, and its own prompt rather than another one? By whoever can read both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, parse_prompt_attributes
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.metrics.identity import score_over_people


class PromptScorer(Extractor, Protocol):
    """An extractor whose rows (N, D) can be held against prompts. kind: what metrics that need it say they need."""

    kind: str

    def adherence(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """How well each image shows its own prompt, (N,); NaN where the prompt asks for nothing that can be read."""

    def score_matrix(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """How well each image fits each of P prompts, (N, P); NaN where a prompt asks for nothing that can be read."""


class AttributePromptScorer:
    """Prompts by the signs that they ask for, read off faces by a small network (pocket/signs.py).

    classifier: gives logits (N, S). Only signs that it tells on real photos of new people are judged. A prompt's adherence
    is the share of what it asks for that is there; its fit the mean log-likelihood of that.
    """

    kind = "face attributes"

    def __init__(self, classifier: Extractor, reliable: Sequence[str]) -> None:
        self.classifier, self.reliable = classifier, frozenset(reliable)
        self.name, self.feature_dim = classifier.name, classifier.feature_dim

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        return self.classifier(images)

    def adherence(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """(N,) in [0, 1]."""
        return np.array(
            [_mean_or_nan(self._requested_logits(row[None], prompt)[0] > 0) for row, prompt in zip(rows, prompts, strict=True)]
        )

    def score_matrix(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """(N, P), at most 0."""
        likelihoods = [-np.logaddexp(0, -self._requested_logits(rows, prompt)) for prompt in prompts]  # (N, signs) each
        return np.stack([each.mean(1) if each.shape[1] else np.full(len(rows), np.nan) for each in likelihoods], 1)

    def _requested_logits(self, rows: FeatureArray, prompt: str) -> FeatureArray:
        """Logits of what the prompt asks for being so, (N, signs)."""
        requested = {sign: wanted for sign, wanted in parse_prompt_attributes(prompt).items() if sign in self.reliable}
        signs = [1.0 if wanted else -1.0 for wanted in requested.values()]
        logits: FeatureArray = rows[:, [FACE_ATTRIBUTES.index(sign) for sign in requested]] * np.array(signs)
        return logits


def prompt_adherence(generated: Features, scorer: PromptScorer) -> Score:
    """Mean adherence of each image to its own prompt, over people. Higher is better.

    generated: rows (N, D) of `scorer`, each with its prompt. Prompts that ask for nothing readable are left out. Anchors, for
    signs: 1 where everything asked for is there, 0 where nothing is. What is common is there without being asked for, so read
    it beside the same images' retrieval. Unavailable if no prompt asks for anything readable.
    """
    values = scorer.adherence(generated.vectors, generated.prompts)
    return _score_over_people(generated, values, "no prompt asks for anything that can be read")


def prompt_retrieval(generated: Features, scorer: PromptScorer) -> Score:
    """Share of images that fit their own prompt better than any other of the track's prompts, over people. Higher is better.

    generated: rows (N, D) of `scorer`, each with its prompt; the candidates are all the different prompts among them that the
    reader can tell apart from nothing. Ties share: of k best ones, the own counts 1/k. Anchors: 1 where every image fits
    its own best; one over the number of prompts by chance, also where words do nothing, since signs that are there anyway
    help each prompt alike. Source of the idea: R-precision in Xu et al. 2018, AttnGAN, arXiv:1711.10485.
    Unavailable with fewer than two such prompts.
    """
    candidates = list(dict.fromkeys(generated.prompts))
    scores = scorer.score_matrix(generated.vectors, candidates)  # (N, P)
    readable: npt.NDArray[np.bool_] = np.logical_not(np.isnan(scores).any(0))
    own_index = np.array([candidates.index(prompt) for prompt in generated.prompts])
    best = np.nanmax(np.where(readable, scores, -np.inf), axis=1, keepdims=True)
    winners = np.equal(scores, best) & readable  # (N, P)
    values = np.where(
        readable[own_index], winners[np.arange(len(own_index)), own_index] / np.maximum(winners.sum(1), 1), np.nan
    )
    if readable.sum() < 2:
        values = np.full(len(own_index), np.nan)
    return _score_over_people(generated, values, "fewer than two prompts ask for anything that can be read")


def _score_over_people(generated: Features, values: FeatureArray, unavailable: str) -> Score:
    if len(values) != len(generated.people) or len(generated.prompts) != len(values):
        raise DataError(
            f"{len(values)} images with {len(generated.prompts)} prompts", "one prompt an image is needed", "Tag each row"
        )
    people = np.array(generated.people, dtype=object)
    means = {}
    for person in sorted(set(generated.people)):
        person_values = values[people == person]
        if not np.isnan(person_values).all():
            means[person] = float(np.nanmean(person_values))
    return score_over_people(means) if means else Score(None, unavailable=unavailable)


def _mean_or_nan(matches: npt.NDArray[np.bool_]) -> float:
    return float(matches.mean()) if len(matches) else float("nan")
