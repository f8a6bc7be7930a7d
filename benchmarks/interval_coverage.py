"""How often a 95 % interval over people (evaluate/bootstrap.py) covers the truth, on simulated people whose truth is known.

A person's value is drawn around 0.4 with a standard deviation of 0.1, an image's around its person's with 0.15; people are
normal, or skewed (a gamma distribution of shape 4, skewness -1). Images are averaged by person. percentile: plain quantiles of
resampled means, on the same people. over_images: what a plain interval over images covers, 20 people with 20 images each.
Prints a line a case, and one JSON object as its last line. `--tiny` is for a test of this file.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable

import numpy as np

from tenth.evaluation.metrics.bootstrap import bootstrap_interval

TRUTH, BETWEEN, WITHIN, SHAPE = 0.4, 0.1, 0.15, 4.0
PEOPLE, IMAGES = (5, 10, 20, 40, 53), (4, 20)
TRIALS, RESAMPLES = (5, 200) if "--tiny" in sys.argv else (4_000, 4_000)

Ends = tuple[float, float]


def expanded(values: np.ndarray, seed: int) -> Ends:
    found = bootstrap_interval(values, seed=seed, resamples=RESAMPLES)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def percentile(values: np.ndarray, seed: int) -> Ends:
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def simulated(skewed: bool, people: int, images: int, trial: int) -> np.ndarray:
    draw = np.random.default_rng([people, images, trial])
    own = (SHAPE - draw.gamma(SHAPE, size=people)) / math.sqrt(SHAPE) if skewed else draw.normal(size=people)
    return TRUTH + BETWEEN * own[:, None] + draw.normal(0, WITHIN, (people, images))  # (P, N)


def share(way: Callable[[np.ndarray, int], Ends], trials: Iterable[np.ndarray]) -> float:
    ends = [way(values, seed) for seed, values in enumerate(trials)]
    return float(np.mean([low <= TRUTH <= high for low, high in ends]))


def main() -> None:
    cases = []
    for skewed in (False, True):
        for people in PEOPLE:
            for images in IMAGES:
                trials = [simulated(skewed, people, images, trial).mean(1) for trial in range(TRIALS)]
                case = {"people": people, "images": images, "skewed": skewed}
                case |= {"coverage": share(expanded, trials), "percentile": share(percentile, trials)}
                cases.append(case)
                print(*(f"{name} {value}" for name, value in case.items()), flush=True)
    over_images = share(percentile, (simulated(False, 20, 20, trial).ravel() for trial in range(TRIALS // 4)))
    result = {"name": "interval_coverage", "stated": 0.95, "trials": TRIALS, "resamples": RESAMPLES}
    print(json.dumps(result | {"over_images": over_images, "cases": cases}))


main()
