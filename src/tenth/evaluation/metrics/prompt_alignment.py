"""Does an image show what its prompt asks for, and its own prompt rather than another one? By whoever can read both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import Features, Pixels, Score
from tenth.data.captions.prompt_parser import SIGNS, asked_for
from tenth.evaluation.extractors.features import Extractor, Rows
from tenth.evaluation.metrics.identity import score_over_people


class ReadsPrompts(Extractor, Protocol):
    """An extractor whose rows (N, D) can be held against prompts. metrics: what adherence and retrieval by it are called."""

    metrics: tuple[str, str]

    def adherence(self, rows: Rows, prompts: Sequence[str]) -> Rows:
        """How well each image shows its own prompt, (N,); NaN where the prompt asks for nothing that can be read."""

    def fit(self, rows: Rows, prompts: Sequence[str]) -> Rows:
        """How well each image fits each of P prompts, (N, P); NaN where a prompt asks for nothing that can be read."""


class SignPrompts:
    """Prompts by the signs that they ask for, read off faces by a small network (pocket/signs.py).

    reader: gives logits (N, S). Only signs that it tells on real photos of new people are judged. A prompt's adherence is the
    share of what it asks for that is there; its fit the mean log-likelihood of that.
    """

    metrics = ("prompt-adherence", "prompt-retrieval")

    def __init__(self, reader: Extractor, trusted: Sequence[str]) -> None:
        self.reader, self.trusted = reader, frozenset(trusted)
        self.name, self.width = reader.name, reader.width

    def __call__(self, pictures: Sequence[Pixels], /) -> Rows:
        return self.reader(pictures)

    def adherence(self, rows: Rows, prompts: Sequence[str]) -> Rows:
        """(N,) in [0, 1]."""
        return np.array([_mean(self._towards(row[None], prompt)[0] > 0) for row, prompt in zip(rows, prompts, strict=True)])

    def fit(self, rows: Rows, prompts: Sequence[str]) -> Rows:
        """(N, P), at most 0."""
        likelihoods = [-np.logaddexp(0, -self._towards(rows, prompt)) for prompt in prompts]  # (N, signs) each
        return np.stack([each.mean(1) if each.shape[1] else np.full(len(rows), np.nan) for each in likelihoods], 1)

    def _towards(self, rows: Rows, prompt: str) -> Rows:
        """Logits of what the prompt asks for being so, (N, signs)."""
        asked = {sign: wanted for sign, wanted in asked_for(prompt).items() if sign in self.trusted}
        signs = [1.0 if wanted else -1.0 for wanted in asked.values()]
        towards: Rows = rows[:, [SIGNS.index(sign) for sign in asked]] * np.array(signs)
        return towards


def prompt_adherence(generated: Features, reader: ReadsPrompts) -> Score:
    """Mean adherence of each image to its own prompt, over people. Higher is better.

    generated: rows (N, D) of `reader`, each with its prompt. Prompts that ask for nothing readable are left out. Anchors, for
    signs: 1 where everything asked for is there, 0 where nothing is. What is common is there without being asked for, so read
    it beside the same images' retrieval. Unavailable if no prompt asks for anything readable.
    """
    values = reader.adherence(generated.rows, generated.prompts)
    return _over_people(reader.metrics[0], generated, values, "no prompt asks for anything that can be read")


def prompt_retrieval(generated: Features, reader: ReadsPrompts) -> Score:
    """Share of images that fit their own prompt better than any other of the track's prompts, over people. Higher is better.

    generated: rows (N, D) of `reader`, each with its prompt; the candidates are all the different prompts among them that the
    reader can tell apart from nothing. Ties share: of k best ones, the own counts 1/k. Anchors: 1 where every image fits
    its own best; one over the number of prompts by chance, also where words do nothing, since signs that are there anyway
    help each prompt alike. Source of the idea: R-precision in Xu et al. 2018, AttnGAN, arXiv:1711.10485.
    Unavailable with fewer than two such prompts.
    """
    candidates = list(dict.fromkeys(generated.prompts))
    fit = reader.fit(generated.rows, candidates)  # (N, P)
    readable: npt.NDArray[np.bool_] = np.logical_not(np.isnan(fit).any(0))
    own = np.array([candidates.index(prompt) for prompt in generated.prompts])
    best = np.nanmax(np.where(readable, fit, -np.inf), axis=1, keepdims=True)
    winners = np.equal(fit, best) & readable  # (N, P)
    values = np.where(readable[own], winners[np.arange(len(own)), own] / np.maximum(winners.sum(1), 1), np.nan)
    if readable.sum() < 2:
        values = np.full(len(own), np.nan)
    return _over_people(reader.metrics[1], generated, values, "fewer than two prompts ask for anything that can be read")


def _over_people(metric: str, generated: Features, values: Rows, otherwise: str) -> Score:
    if len(values) != len(generated.people) or len(generated.prompts) != len(values):
        raise DataError(
            f"{len(values)} images with {len(generated.prompts)} prompts", "one prompt an image is needed", "Tag each row"
        )
    people = np.array(generated.people, dtype=object)
    means = {}
    for person in sorted(set(generated.people)):
        own = values[people == person]
        if not np.isnan(own).all():
            means[person] = float(np.nanmean(own))
    return score_over_people(metric, means, "higher") if means else Score(metric, None, unavailable=otherwise)


def _mean(found: npt.NDArray[np.bool_]) -> float:
    return float(found.mean()) if len(found) else float("nan")
