"""Verification: how many generated images pass a threshold that few pairs of two people's real photos pass.

The threshold is of the same recognizer and the same real photos, held-out ones and references, so it needs no stated one. Its
own uncertainty is in the interval: people are resampled, and with them their pairs and the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.bootstrap import Values, expanded_tail, lowest_share
from tenth.evaluation.metrics.identity import by_person, rows_with_face

FALSE_ACCEPT_RATES = {"true-accept-rate-1e-3": 1e-3, "true-accept-rate-1e-4": 1e-4}  # by metric
MIN_FALSE_ACCEPTS = 10  # pairs above the threshold: fewer leave its rate unknown by more than a factor of two
MAX_REAL_PHOTOS = 20_000  # all pairs of them are compared
LEVELS = 2.0 ** np.arange(-3, 3.25, 0.25)  # of the stated rate: where a resampled threshold may lie
STATED = int(np.flatnonzero(LEVELS == 1)[0])
MAX_RANKED_PAIRS = 4_096  # of the pairs with the highest cosines, evenly, for the resampled thresholds
RESAMPLES = 4_000
CHUNK = 1_000_000  # values at a time: 8 MB


def true_accept_rate_1e3(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Share of pairs, generated and held-out, above the threshold of a false-accept rate of 1e-3. Higher is better.

    generated, held_out, references: (N, D), rows of any length. The threshold is the cosine that one in a thousand pairs of
    two people's real photos exceeds; no face is no match. 1 for the held-out photos of people whom the recognizer tells apart,
    1e-3 for another person. Source: Klare et al. 2015, doi:10.1109/CVPR.2015.7298803, its verification.
    Raises DataError for fewer than 10,000 such pairs, too many photos, or a person without a held-out face.
    """
    return _score(generated, held_out, references, 1e-3)


def true_accept_rate_1e4(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """`true_accept_rate_1e3` at a false-accept rate of 1e-4. Raises DataError for fewer than 100,000 pairs of two people."""
    return _score(generated, held_out, references, 1e-4)


@dataclass(frozen=True, eq=False)
class ImpostorPairs:
    """Pairs of real photos of two people, best first, down to eight times the false-accept rate.

    people: P, sorted, with photos, (P,), of each. cosines, first, second: (T,), of the pairs and their people; the last pair is
    the first that is left out. count: of all pairs.
    """

    rate: float
    people: tuple[str, ...]
    photos: Values
    count: int
    cosines: Values
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]

    @classmethod
    def of(cls, real: Mapping[str, FeatureArray], rate: float) -> ImpostorPairs:
        """Of unit rows by person, NaN without a face. Raises DataError for too few pairs, or too many photos."""
        rows = {person: each[~np.isnan(each[:, 0])] for person, each in real.items()}
        photos = np.array([len(each) for each in rows.values()])
        total, count = int(photos.sum()), int(photos.sum() ** 2 - np.square(photos).sum()) // 2
        if total > MAX_REAL_PHOTOS:
            found, needed = f"{total:,} real photos", f"it compares all pairs of at most {MAX_REAL_PHOTOS:,}"
            raise DataError(found, needed, "Evaluate fewer, or read the other figures")
        if count * rate < MIN_FALSE_ACCEPTS:
            found = f"{count:,} pairs of two people's real photos"
            needed = f"a false-accept rate of {rate:g} needs {round(MIN_FALSE_ACCEPTS / rate):,}"
            raise DataError(found, needed, "Add people or real photos, or read a larger rate")
        highest = _highest_pairs(np.concatenate(list(rows.values())), np.repeat(np.arange(len(photos)), photos), count, rate)
        return cls(rate, tuple(rows), photos.astype(np.float64), count, *highest)

    @cached_property
    def allowed(self) -> npt.NDArray[np.int64]:
        """How many pairs are above the threshold of each level, (L,)."""
        return np.minimum((self.count * self.rate * LEVELS).astype(np.int64), len(self.cosines) - 1)

    @cached_property
    def thresholds(self) -> Values:
        """The cosine that so many pairs exceed, (L,)."""
        return self.cosines[self.allowed]

    def accepted(self, faces: FeatureArray, held_out: FeatureArray) -> Values:
        """Pairs of unit rows (N, D) and (K, D) above the threshold of each level, (L,)."""
        cosines = np.sort((faces @ held_out.T).ravel())
        return (len(cosines) - np.searchsorted(cosines, self.thresholds, side="right")).astype(np.float64)

    def score(self, shares: Mapping[str, Values]) -> Score:
        """Of each person's shares of accepted pairs, (L,), people sorted: the mean, and its interval over people."""
        values = np.stack([shares[person] for person in sorted(shares)])  # (P, L)
        mean = float(values[:, STATED].mean())
        if len(shares) == 1:
            return Score(mean, n=1)
        place = {person: index for index, person in enumerate(self.people)}
        means = _at(self.resampled[1], self.allowed, self.resampled[0][:, [place[person] for person in sorted(shares)]], values)
        tail = expanded_tail(0.95, len(shares))
        low, high = np.quantile(means, [tail, 1 - tail])
        if mean in (0.0, 1.0):  # nobody of so few people differs
            low, high = (lowest_share(len(shares)), 1.0) if mean else (0.0, 1 - lowest_share(len(shares)))
        return Score(mean, min(float(low), mean), max(float(high), mean), len(shares))

    @cached_property
    def resampled(self) -> tuple[Values, Values]:
        """How often each resample has each person, (R, P), and how many of the pairs exceed its threshold, (R,)."""
        size, rng = len(self.people), np.random.default_rng(0)
        weights = rng.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float64)  # (R, P)
        totals = (weights @ self.photos) ** 2 - (weights**2) @ (self.photos**2)
        step = -(-len(self.cosines) // MAX_RANKED_PAIRS)
        first, second = self.first[step // 2 :: step], self.second[step // 2 :: step]
        above = np.empty(RESAMPLES)
        for start in range(0, RESAMPLES, chunk := max(1, CHUNK // len(first))):
            part = slice(start, start + chunk)
            ranked = (weights[part][:, first] * weights[part][:, second]).cumsum(1)  # (., T)
            above[part] = step * (ranked * step <= self.rate * totals[part, None] / 2).sum(1)
        return weights, above


def real_faces(held_out: Mapping[str, FeatureArray], references: Mapping[str, FeatureArray] | None) -> dict[str, FeatureArray]:
    """All unit rows of each person with a held-out photo: (K, D) and (R, D) together."""
    given = references or {}
    return {person: np.concatenate([rows, given.get(person, rows[:0])]) for person, rows in held_out.items()}


def _highest_pairs(
    rows: FeatureArray, owners: npt.NDArray[np.int64], count: int, rate: float
) -> tuple[Values, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cosines and people of the pairs of two people that are as many as the last level allows, and one more; best first."""
    most = min(int(count * rate * LEVELS[-1]) + 1, count)
    cosines, first, second = np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    for start in range(0, len(rows), chunk := max(1, CHUNK // len(rows))):
        part = rows[start : start + chunk] @ rows.T  # (., N)
        a, b = np.nonzero(owners[start : start + chunk, None] < owners)  # rows of one person are neighbours: each pair once
        cosines = np.concatenate([cosines, part[a, b]])
        first, second = np.concatenate([first, owners[start + a]]), np.concatenate([second, owners[b]])
        if len(cosines) > most:
            best = np.argpartition(-cosines, most - 1)[:most]
            cosines, first, second = cosines[best], first[best], second[best]
    order = np.lexsort((second, first, -cosines))
    return cosines[order], first[order], second[order]


def _at(above: Values, allowed: npt.NDArray[np.int64], weights: Values, values: Values) -> Values:
    """Weighted means of values (P, L) where so many pairs, (R,), exceed the threshold, between levels: (R,)."""
    counts = weights.sum(1, keepdims=True)
    drawn = counts[:, 0] > 0
    means, at = weights[drawn] @ values / counts[drawn], np.clip(above[drawn], allowed[0], allowed[-1])  # (R, L) (R,)
    right = np.clip(np.searchsorted(allowed, at), 1, len(allowed) - 1)
    left, rows = right - 1, np.arange(len(at))
    share = (at - allowed[left]) / np.maximum(allowed[right] - allowed[left], 1)
    return np.asarray(means[rows, left] * (1 - share) + means[rows, right] * share)


def _score(generated: Features, held_out: Features, references: Features | None, rate: float) -> Score:
    photos = by_person(held_out)
    pairs, shares = ImpostorPairs.of(real_faces(photos, by_person(references) if references is not None else None), rate), {}
    for person, rows in by_person(generated).items():
        held = rows_with_face(photos, person, "held-out")
        shares[person] = pairs.accepted(rows[~np.isnan(rows[:, 0])], held) / (len(rows) * len(held))
    return pairs.score(shares)
