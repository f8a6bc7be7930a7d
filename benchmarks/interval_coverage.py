"""How often a stated 95 % interval covers the truth, for every metric with an interval, on simulated people.

means: values of people drawn around 0.4, normal or skewed (a gamma distribution of shape 4, skewness -1), and shares of four
images near 1; `bootstrap_interval`. groups: the difference of two groups of such people; `independent_difference`.
metrics: people are directions of 64 dimensions around a common one, with 12 real photos and four images each, of which one in
ten has no face; how well they are met differs by person. Each metric's function measures them as it measures features. The
truth of an interval is the mean over all trials, each of other people; of a true accept rate, whose threshold errs in
one direction where pairs are few, that of many people. percentile, fixed: what plain quantiles of resampled means, and a
threshold without an error of its own, would cover. Prints a line a case, and one JSON object as its last line. `means`,
`groups` or `metrics` as an argument measures these alone, `--people=21` only of so many; `--tiny` is for a test of this file.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from tenth.core.types import Features, Score
from tenth.evaluation.metrics.bootstrap import bootstrap_interval, independent_difference
from tenth.evaluation.metrics.identity import by_person, true_accept_rate
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES, STATED, ImpostorPairs
from tenth.evaluation.registry import METRICS

TINY = "--tiny" in sys.argv
TRUTH, BETWEEN, WITHIN, SHAPE = 0.4, 0.1, 0.15, 4.0
PEOPLE, IMAGES, GROUPS = (5, 10, 20, 40, 53), (4, 20), ((5, 16), (10, 43), (20, 33))
TRIALS, RESAMPLES = (5, 200) if TINY else (2_000, 2_000)
ONLY = [int(each.removeprefix("--people=")) for each in sys.argv if each.startswith("--people=")]
OF_METRICS, MANY = ((14,), 60) if TINY else (tuple(ONLY) or (21, 53), 400)  # people of a trial; of the true accept rate's truth
METRIC_TRIALS = 3 if TINY else 400
DIM, REAL, GENERATED, NO_FACE = 64, 12, 4, 0.1
NAMES = [
    name for name, row in METRICS.items() if "people" in row.needs or name in ("face-detection-rate", "identity-diversity")
]

Ends = tuple[float, float]


def ends_of(interval: object) -> Ends:
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    assert low is not None
    assert high is not None
    return low, high


def percentile(values: np.ndarray, seed: int) -> Ends:
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def bootstrapped(values: np.ndarray, seed: int) -> Ends:
    return ends_of(bootstrap_interval(values, seed=seed, resamples=RESAMPLES))


def drawn_people(draw: np.random.Generator, people: int, kind: str) -> np.ndarray:
    if kind == "skewed":
        return TRUTH + BETWEEN * (SHAPE - draw.gamma(SHAPE, size=people)) / math.sqrt(SHAPE)
    return TRUTH + BETWEEN * draw.normal(size=people)


def simulated(kind: str, people: int, images: int, trial: int) -> np.ndarray:
    draw = np.random.default_rng([people, images, trial])
    if kind == "shares":
        return draw.binomial(images, draw.beta(8, 1, people)) / images
    return drawn_people(draw, people, kind) + draw.normal(0, WITHIN, (people, images)).mean(1)


def covered(truth: float, ends: Iterable[Ends]) -> float:
    return float(np.mean([low <= truth <= high for low, high in ends]))


def of_means() -> Iterator[dict[str, object]]:
    for kind in ("normal", "skewed", "shares"):
        for people in PEOPLE[2:] if kind == "shares" else PEOPLE:
            for images in IMAGES:
                trials = [simulated(kind, people, images, trial) for trial in range(TRIALS)]
                truth = 8 / 9 if kind == "shares" else TRUTH
                ways: dict[str, Callable[[np.ndarray, int], Ends]] = {"coverage": bootstrapped, "percentile": percentile}
                shares = {
                    name: covered(truth, (way(values, seed) for seed, values in enumerate(trials)))
                    for name, way in ways.items()
                }
                yield {"people": people, "images": images, "kind": kind, **shares}


def of_groups() -> Iterator[dict[str, object]]:
    for kind in ("normal", "skewed"):
        for first, second in GROUPS:
            draw, ends = np.random.default_rng(first), []
            for trial in range(TRIALS):
                values = drawn_people(draw, first, kind) + 0.05, drawn_people(draw, second, kind)
                ends.append(ends_of(independent_difference(*values, seed=trial, resamples=RESAMPLES)))
            yield {"people": [first, second], "kind": kind, "coverage": covered(0.05, ends)}


def photographed(people: int, trial: int) -> dict[str, Features]:
    draw = np.random.default_rng([people, trial])
    persons = 0.4 * np.eye(1, DIM) + draw.normal(0, 1, (people, DIM)) / math.sqrt(DIM)
    real = persons[:, None] + 0.7 * draw.normal(0, 1, (people, REAL, DIM)) / math.sqrt(DIM)
    noise = 1.7 * np.exp(0.4 * draw.normal(size=(people, 1, 1)))
    images = persons[:, None] + noise * draw.normal(0, 1, (people, GENERATED, DIM)) / math.sqrt(DIM)
    images[draw.random((people, GENERATED)) < NO_FACE] = np.nan

    def side(rows: np.ndarray) -> Features:
        return Features(rows.reshape(-1, DIM), tuple(f"{index:04}" for index in range(people) for _ in range(rows.shape[1])))

    return {"generated": side(images), "held_out": side(real[:, 6:]), "references": side(real[:, :6])}


def measured(name: str, sides: dict[str, Features]) -> Score:
    people = dict.fromkeys(sides["generated"].people)
    options = {
        "threshold": {"threshold": 0.4},
        "attributes": {"attributes": {who: {"male": int(who) % 3 > 0} for who in people}},
    }
    function = METRICS[name].function
    for need in METRICS[name].needs:
        function = partial(function, **options.get(need, {}))
    return function(**sides)


def fixed_threshold(rate: float, sides: dict[str, Features]) -> Score:
    """As the metric, but for the threshold's own error."""
    held, given = by_person(sides["held_out"]), by_person(sides["references"])
    pairs = ImpostorPairs.of({who: np.concatenate([held[who], given[who]]) for who in held}, rate)
    return true_accept_rate(**sides, threshold=float(np.nextafter(pairs.thresholds[STATED], 2)))


def of_metrics() -> Iterator[dict[str, object]]:
    for people in OF_METRICS:
        measures = {name: partial(measured, name) for name in NAMES}
        measures |= {f"{name}, fixed": partial(fixed_threshold, rate) for name, rate in FALSE_ACCEPT_RATES.items()}
        pairs = people * (people - 1) // 2 * REAL**2
        for name, measure in measures.items():
            rate = FALSE_ACCEPT_RATES.get(name.removesuffix(", fixed"))
            if rate is not None and pairs * rate < 10:
                continue
            scores = [measure(photographed(people, trial)) for trial in range(METRIC_TRIALS)]
            truth = float(np.mean([score.value for score in scores]))
            if rate is not None:
                truth = float(np.mean([measure(photographed(MANY, trial)).value for trial in range(2)]))
            if name == "gender-gap":  # its size; the truth is 0
                truth = 0.0
            yield {"people": people, "metric": name, "truth": truth, "coverage": covered(truth, map(ends_of, scores))}


def main() -> None:
    cases = {"means": of_means, "groups": of_groups, "metrics": of_metrics}
    result: dict[str, object] = {"name": "interval_coverage", "stated": 0.95, "trials": TRIALS, "resamples": RESAMPLES}
    chosen = [kind for kind in cases if kind in sys.argv] or list(cases)
    for kind, of in ((kind, cases[kind]) for kind in chosen):
        rows = []
        for row in of():
            rows.append(row)
            print(kind, *(f"{name} {value}" for name, value in row.items()), flush=True)
        result[kind] = rows
    if "means" in chosen:
        images = (simulated_images(trial) for trial in range(TRIALS // 4))
        result["over_images"] = covered(TRUTH, (percentile(values, seed) for seed, values in enumerate(images)))
    print(json.dumps(result | {"metric_trials": METRIC_TRIALS}))


def simulated_images(trial: int) -> np.ndarray:
    """Twenty images of each of twenty people, as if they were of 400."""
    draw = np.random.default_rng([20, 20, trial])
    return (drawn_people(draw, 20, "normal")[:, None] + draw.normal(0, WITHIN, (20, 20))).ravel()


main()
