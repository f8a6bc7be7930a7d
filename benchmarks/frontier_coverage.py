"""How often the 95 % intervals of areas under frontiers (evaluation/frontier.py) cover the truth, on simulated people.

Nine settings, text guidance by adapter scale. A person's prompt score and similarity are the settings' own, plus what is the
person's at all settings (standard deviations 0.03 and 0.1), plus what is the person's at one setting (0.03 and 0.02), plus the
noise of the mean of eight images, in which a prompt is obeyed or not and a cosine has a standard deviation of 0.08.
traded: settings apart on a frontier, along which text guidance moves. close: all within 0.01. equal: all the same,
so that chance alone says which is best.
single: one far above the others.
coverage: of the area. percentile: of plain quantiles of resampled areas. difference: between two methods, of which the second
keeps the person better by 0.02. null: how often p is at most 0.05 where two methods have the same means. exchanged: the same
where the second method's qualities are the first's in exchanged roles, so that areas are equal and frontiers differ.
flattered: coverage of the difference to a method whose settings are all equally good, where the areas are equal;
flattered_p: how often its p is at most 0.05; plugged_in: how often it is for the areas' own difference, chosen and scored on
the same people. Prints a line a case, and one JSON object as its last line. `--trials N`: so many instead of 500.
`--differences`: those two coverages alone, in a tenth of the time. `--tiny` is for a test of this file.
"""

import json
import sys

import numpy as np

from tenth.evaluation.cross_fitting import CrossFitted, difference_interval, label_swap, swap_signs
from tenth.evaluation.frontier import area, compare_frontiers
from tenth.evaluation.metrics.bootstrap import Interval, expanded_tail

PEOPLE, IMAGES = (10, 21, 53), 8
TRIALS, RESAMPLES = (3, 200) if "--tiny" in sys.argv else (500, 400)
if "--trials" in sys.argv:
    TRIALS = int(sys.argv[sys.argv.index("--trials") + 1])
TEXT, SCALE = (each.ravel() for each in np.meshgrid((0.0, 3.0, 6.0), (0.5, 0.75, 1.0)))
SETTINGS = {
    "traded": np.stack([0.55 + 0.05 * TEXT - 0.15 * (SCALE - 0.5), 0.45 * SCALE**0.7 - 0.012 * TEXT], 1),  # (S, 2)
    "close": np.stack([0.7 + 0.002 * TEXT - 0.003 * (SCALE - 0.5), 0.4 + 0.004 * SCALE - 0.0005 * TEXT], 1),
    "equal": np.tile([0.7, 0.4], (len(TEXT), 1)),
    "single": np.concatenate([[[0.7, 0.4]], np.tile([0.5, 0.3], (len(TEXT) - 1, 1))]),
}


def simulated(settings: np.ndarray, own: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(P, S, 2). own: (P, 2), of the person at all settings."""
    shape = (len(own), len(settings))
    obeyed = np.clip(settings[:, 0] + own[:, :1] + draw.normal(0, 0.03, shape), 0, 1)
    kept = settings[:, 1] + own[:, 1:] + draw.normal(0, 0.02, shape) + draw.normal(0, 0.08 / np.sqrt(IMAGES), shape)
    return np.stack([draw.binomial(IMAGES, obeyed) / IMAGES, kept], 2)


def covers(interval: Interval, truth: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


def percentile(values: np.ndarray, truth: float, draw: np.random.Generator) -> bool:
    people = len(values)
    tail = expanded_tail(0.95, people)
    weights = draw.multinomial(people, np.full(people, 1 / people), RESAMPLES) / people
    low, high = np.quantile(area(np.tensordot(weights, values, 1)), [tail, 1 - tail])
    return bool(low <= truth <= high)


def plugged_in(a: np.ndarray, b: np.ndarray, number: int) -> float:
    middle = (a.mean(0) + b.mean(0)) / 2
    half = np.tensordot(swap_signs(len(a), number, RESAMPLES), a - b, 1) / (2 * len(a))
    differences = np.abs(area(middle + half) - area(middle - half))
    return float((differences >= differences[0] * (1 - 1e-9)).mean())


def trial(settings: np.ndarray, people: int, number: int) -> dict[str, bool]:
    draw = np.random.default_rng([people, number])
    own = draw.normal(0, [0.03, 0.1], (people, 2))
    better, truth = settings + np.array([0.0, 0.02]), float(area(settings))
    level = np.tile([0.7, truth / 0.7], (len(settings), 1))  # as good, by settings that are all equally good
    first, second, tied = (simulated(each, own, draw) for each in (settings, better, level))
    fitted = [CrossFitted(each, (0.0, 0.0), seed=number, resamples=RESAMPLES) for each in (first, second, tied)]
    resampled = [each.resampled() for each in fitted]
    difference, flattered = (difference_interval(fitted[0], fitted[k], (resampled[0], resampled[k])) for k in (1, 2))
    found = {"difference": covers(difference, truth - float(area(better))), "flattered": covers(flattered, 0.0)}
    if "--differences" in sys.argv:
        return found

    # Areas, and p-values where nothing differs.
    same, exchanged = simulated(settings, own, draw), simulated(settings, own, draw)[..., ::-1]
    areas, _ = compare_frontiers({"a": first}, seed=number, resamples=RESAMPLES)
    found |= {"coverage": covers(areas["a"], truth), "percentile": percentile(first, truth, draw)}
    signs = swap_signs(people, number, RESAMPLES)
    for name, other in {"null": same, "exchanged": exchanged, "flattered_p": tied}.items():
        against = CrossFitted(other, (0.0, 0.0), seed=number, resamples=RESAMPLES)
        found[name] = label_swap(fitted[0], against, signs) <= 0.05
    return found | {"plugged_in": plugged_in(first, tied, number) <= 0.05}


def main() -> None:
    cases = []
    for name, settings in SETTINGS.items():
        for people in PEOPLE:
            trials = [trial(settings, people, number) for number in range(TRIALS)]
            shares = {each: float(np.mean([found[each] for found in trials])) for each in trials[0]}
            case = {"settings": name, "people": people, **shares}
            cases.append(case)
            print(*(f"{key} {value}" for key, value in case.items()), flush=True)
    print(json.dumps({"name": "frontier_coverage", "stated": 0.95, "trials": TRIALS, "resamples": RESAMPLES, "cases": cases}))


main()
