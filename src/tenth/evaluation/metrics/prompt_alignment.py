"""Prompt alignment: whether an image shows what its prompt asks for, and matches its own prompt better than others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, parse_prompt_attributes
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.metrics.identity import PersonScores, score_of_shares, score_over_people


class PromptScorer(Extractor, Protocol):
    """An extractor whose features (N, D) can be compared with prompts.

    kind: the need of the metrics that it serves. gives_shares: whether adherence is a share of what a prompt asks for.
    """

    kind: str
    gives_shares: bool

    def adherence(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """How well each image follows its own prompt, (N,); NaN where the prompt asks for nothing that can be recognized."""

    def score_matrix(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """How well each image matches each of P prompts, (N, P); NaN where a prompt asks for nothing that can be recognized."""


class AttributePromptScorer:
    """Prompts by the face attributes that they ask for, of those that a classifier recognizes reliably on real photos.

    classifier: gives logits (N, S). Adherence is the fraction of a prompt's attributes that the image has; the score matrix has
    their mean log-likelihood.
    """

    kind = "face attributes"
    gives_shares = True

    def __init__(self, classifier: Extractor, reliable: Sequence[str]) -> None:
        self.classifier, self.reliable = classifier, frozenset(reliable)
        self.name, self.feature_dim = classifier.name, classifier.feature_dim

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        return self.classifier(images)

    def adherence(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """(N,) in [0, 1]."""
        requested = [self._requested_logits(row[None], prompt)[0] for row, prompt in zip(rows, prompts, strict=True)]
        return np.array([(logits > 0).mean() if len(logits) else np.nan for logits in requested])

    def score_matrix(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """(N, P), at most 0."""
        likelihoods = [-np.logaddexp(0, -self._requested_logits(rows, prompt)) for prompt in prompts]  # (N, signs) each
        return np.stack([each.mean(1) if each.shape[1] else np.full(len(rows), np.nan) for each in likelihoods], 1)

    def _requested_logits(self, rows: FeatureArray, prompt: str) -> FeatureArray:
        """Logits (N, A) of the prompt's A attributes being as it asks."""
        requested = {name: value for name, value in parse_prompt_attributes(prompt).items() if name in self.reliable}
        signs = np.array([1.0 if value else -1.0 for value in requested.values()])
        logits: FeatureArray = rows[:, [FACE_ATTRIBUTES.index(name) for name in requested]] * signs
        return logits


def prompt_adherence(generated: Features, scorer: PromptScorer) -> Score:
    """Mean adherence of each image to its own prompt, over people. Higher is better.

    generated: features (N, D) of `scorer`, each with its prompt. Prompts without recognizable requests are left out;
    unavailable if there is no other. Common attributes are there unasked: read it beside the R-precision.
    """
    values = prompt_adherence_per_person(generated, scorer)
    if not values:
        return Score(None, unavailable="no prompt asks for anything that can be read")
    return score_of_shares(values) if scorer.gives_shares else score_over_people(values)


def prompt_retrieval(generated: Features, scorer: PromptScorer) -> Score:
    """Fraction of images that match their own prompt better than any other of the prompt set, over people. Higher is better.

    generated: features (N, D) of `scorer`, each with its prompt; the candidates are their distinct prompts with recognizable
    requests, two at least. Of k equally good ones, the own counts 1/k. Source of the idea: R-precision in Xu et al. 2018,
    AttnGAN, arXiv:1711.10485.
    """
    values = prompt_retrieval_per_person(generated, scorer)
    reason = "fewer than two prompts ask for anything that can be read"
    return score_of_shares(values) if values else Score(None, unavailable=reason)


def prompt_adherence_per_person(generated: Features, scorer: PromptScorer) -> PersonScores:
    """Person -> mean adherence; a person of whom no prompt asks for anything that can be recognized is left out."""
    return _means_per_person(generated, scorer.adherence(generated.vectors, generated.prompts))


def prompt_retrieval_per_person(generated: Features, scorer: PromptScorer) -> PersonScores:
    """Person -> share of images that match their own prompt best; empty with fewer than two candidates."""
    # Scores of all candidates; those with NaN are not candidates.
    candidates = list(dict.fromkeys(generated.prompts))
    scores = scorer.score_matrix(generated.vectors, candidates)  # (N, P)
    readable: npt.NDArray[np.bool_] = np.logical_not(np.isnan(scores).any(0))  # (P,)
    if readable.sum() < 2:
        return {}

    # The own prompt's share of the best ones.
    own = np.array([candidates.index(prompt) for prompt in generated.prompts])
    best = np.nanmax(np.where(readable, scores, -np.inf), axis=1, keepdims=True)
    winners = np.equal(scores, best) & readable  # (N, P)
    shares = winners[np.arange(len(own)), own] / np.maximum(winners.sum(1), 1)
    return _means_per_person(generated, np.where(readable[own], shares, np.nan))


# What each metric is the mean of.
PER_PERSON: Mapping[Callable[[Features, PromptScorer], Score], Callable[[Features, PromptScorer], PersonScores]] = {
    prompt_adherence: prompt_adherence_per_person,
    prompt_retrieval: prompt_retrieval_per_person,
}


def _means_per_person(generated: Features, values: FeatureArray) -> PersonScores:
    """The mean of each person's values (N,) that are not NaN; a person without any is left out."""
    if len(values) != len(generated.people) or len(generated.prompts) != len(values):
        found = f"{len(values)} images with {len(generated.prompts)} prompts"
        raise DataError(found, "one prompt an image is needed", "Tag each row")
    people = np.array(generated.people, dtype=object)
    known = {person: values[(people == person) & ~np.isnan(values)] for person in sorted(set(generated.people))}
    return {person: float(scores.mean()) for person, scores in known.items() if len(scores)}
