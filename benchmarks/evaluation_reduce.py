"""An evaluation in shards beside one process that has all images at once: the same figures, in how much memory.

Usage: python benchmarks/evaluation_reduce.py [--images N N] [--shard N] [--tiny]. The batch is real files, with random rows in
the place of features: of faces, 32 wide, one in 97 without, and of networks, such as 48 features and 16 classes. 1,000 people
with two held-out photos and two references each, whatever the number of images. Each evaluation is a process of its own, whose
largest resident memory the system counts. Prints one JSON object as its last line. largest_difference: of any value or bound
from that of one process, at the most images, relative where it is above 1. megabytes: beyond what the process had when all its
code was loaded. ratio: of an evaluation's megabytes at the most images over those at the fewest.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.types import FeatureArray, Features, Pixels
from tenth.core.workers.attempts import Workers
from tenth.evaluation.extractors.inception import features_of, logits_of
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, RECOGNIZER
from tenth.evaluation.folders import RealFolders
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.metrics.inputs import score_or_unavailable
from tenth.evaluation.registry import METRICS
from tenth.experiments.batch.evaluation import evaluate_batch
from tenth.experiments.batch.features import FeatureCollector
from tenth.experiments.batch.plan import plan_batch
from tenth.experiments.batch.shards import DrawnRow, read_shard_rows, write_shard
from tenth.experiments.batch.store import open_store

FACE_DIM, FEATURES, CLASSES, DINOV2_DIM = 32, 48, 16, 24
THRESHOLD, FACELESS = 0.4, 97
GENERATED, HELD_OUT, REFERENCES = range(3)  # sides

# A narrower network in Inception's place.
for module in ("evaluation.extractors.inception", "experiments.batch.shard_statistics", "experiments.batch.evaluation"):
    vars(sys.modules[f"tenth.{module}"]).update(NUM_FEATURES=FEATURES, NUM_CLASSES=CLASSES)


def row(width: int, side: int, person: int, index: int) -> FeatureArray:
    """The features of an image: near those of the person's others. No face in one of FACELESS generated ones."""
    if width == FACE_DIM and side == GENERATED and index % FACELESS == FACELESS - 1:
        return np.full(width, np.nan)
    center = np.random.default_rng([width, person]).normal(size=width)
    noise = np.random.default_rng([width, person, side, index]).normal(size=width)
    return np.asarray((center + noise).astype(np.float32), np.float64)


class Rows:
    """Photos whose pixels say whose they are -> the rows of these. name: of the extractor."""

    threshold, licence = THRESHOLD, ""

    def __init__(self, name: str, feature_dim: int) -> None:
        self.name, self.feature_dim = name, feature_dim

    def __call__(self, images: Sequence[Pixels]) -> FeatureArray:
        marks = [image[0, :2].astype(int) for image in images]
        return np.stack([row(self.feature_dim, each[0, 0], 256 * each[0, 1] + each[0, 2], each[1, 0]) for each in marks])


def load() -> dict[str, Rows]:
    dims = {RECOGNIZER: FACE_DIM, INCEPTION: FEATURES + CLASSES, DINOV2: DINOV2_DIM, FACE_QUALITY: 1}
    return {name: Rows(f"{name}@0", dim) for name, dim in dims.items()}


class Made(FeatureCollector):
    """Features of pictures that nobody drew: a picture's bytes say whose it is."""

    def add(self, picture: bytes) -> None:
        for name, extractor in load().items():
            self._rows[name].append(row(extractor.feature_dim, GENERATED, *map(int, picture.split()))[None])


def write_photos(place: Path, side: int, people: int) -> Path:
    for person in range(people):
        (place / f"p{person:05}").mkdir(parents=True)
        for index in range(2):
            pixels = np.array([[side, person // 256, person % 256], [index, 0, 0]], np.uint8)
            Image.fromarray(np.tile(pixels, (8, 4, 1))).save(place / f"p{person:05}" / f"{index}.png")
    return place


def write_batch(place: Path, people: int, images: int, shard: int) -> None:
    plan, store = place.with_suffix(".jsonl"), open_store(str(place))
    with plan.open("w") as file:
        for person in range(people):
            for index in range(images // people):
                file.write(json.dumps({"person": f"p{person:05}", "prompt": "x", "seed": index}) + "\n")
    for number in range(plan_batch(plan, store, {"rows_per_shard": shard}).shards):
        rows = read_shard_rows(store, number)
        drawn = (DrawnRow(each, f"{int(each.person[1:])} {each.seed}".encode()) for each in rows)
        write_shard(store, number, drawn, Made(load()))


def in_one_process(place: Path, people: int, images: int) -> dict[str, Any]:
    """Every metric, by its own function, of all rows at once."""

    def side(number: int, each: int, width: int) -> Features:
        keys = [(person, index) for person in range(people) for index in range(each)]
        rows = np.stack([row(width, number, *key) for key in keys])
        return Features(rows, tuple(f"p{person:05}" for person, _ in keys))

    del place
    counts = (images // people, 2, 2)
    faces = [side(number, each, FACE_DIM) for number, each in enumerate(counts)]
    network = [side(number, each, FEATURES + CLASSES) for number, each in enumerate(counts[:2])]
    views = {"faces": faces[:2], "references": faces, "features": [drop_missing_faces(each) for each in faces[:2]]}
    views["inception"] = [Features(features_of(each.vectors), each.people) for each in network]
    views["logits"] = [Features(logits_of(each.vectors), each.people) for each in network]
    views["dinov2"] = [side(number, each, DINOV2_DIM) for number, each in enumerate(counts[:2])]
    views["face-quality"] = [side(number, each, 1) for number, each in enumerate(counts[:2])]
    scores = {}
    for name, metric in METRICS.items():
        if not {"prompts", "attributes"} & set(metric.needs):
            function = partial(metric.function, threshold=THRESHOLD) if "threshold" in metric.needs else metric.function
            view = "references" if metric.needs[0] == "faces" else metric.needs[0]
            scores[name] = score_or_unavailable(function, *views[view])
    return scores


def in_shards(place: Path, people: int, images: int) -> dict[str, Any]:
    del people, images
    photos = RealFolders(place.parent / "held-out", place.parent / "references")
    cache = ArrayCache(place.parent / "cache")
    return dict(evaluate_batch(str(place), load=load, cache=cache, workers=Workers(), photos=photos).scores)


def child(kind: str, place: Path, people: int, images: int) -> None:
    """One evaluation, and what it took."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    scores = {"shards": in_shards, "one": in_one_process}[kind](place, people, images)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = {name: asdict(score) for name, score in scores.items()}
    print(json.dumps({"seconds": round(seconds, 1), "megabytes": round((after - before) / 1024, 1), "scores": values}))


def measure(kind: str, place: Path, people: int, images: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, str(place), str(people), str(images)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(kind, images, result["seconds"], "seconds", result["megabytes"], "MB", flush=True)
    return result


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> tuple[float, str]:
    """The largest, and of which metric. Infinity where one of them has no value."""
    differences = []
    for name, score in expected.items():
        for key in ("value", "low", "high", "n"):
            a, b = found[name][key], score[key]
            both = a is not None and b is not None
            difference = abs(a - b) / max(1, abs(b)) if both else float("inf")
            differences.append((0.0 if a is None and b is None else difference, name))
    return max(differences)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs=2, default=[10_000, 100_000])
    parser.add_argument("--shard", type=int, default=1_000)
    parser.add_argument("--child", nargs=4)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.child:
        kind, place, people, images = args.child
        child(kind, Path(place), int(people), int(images))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Two evaluations in shards, the larger one a second time, and that of one process."""
    counts, people, shard = ([60, 120], 6, 20) if args.tiny else (args.images, 1_000, args.shard)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_photos(place / "held-out", HELD_OUT, people)
        write_photos(place / "references", REFERENCES, people)
        runs = {}
        for images in counts:
            write_batch(place / f"batch-{images}", people, images, shard)
            runs[f"shards, {images}"] = measure("shards", place / f"batch-{images}", people, images)
        runs["again"] = measure("shards", place / f"batch-{counts[1]}", people, counts[1])
        runs[f"one process, {counts[1]}"] = measure("one", place, people, counts[1])
    few, many, again, one = runs.values()
    difference, metric = largest_difference(many["scores"], one["scores"])
    result = {"name": "evaluation_reduce", "ratio": round(many["megabytes"] / few["megabytes"], 3)}
    result |= {"largest_difference": difference, "of": metric, "metrics": len(one["scores"]), "images": counts}
    result["missing"] = [name for name, score in many["scores"].items() if score["value"] is None]
    for key in ("megabytes", "seconds"):
        result[key] = {name: run[key] for name, run in runs.items()}
    print(json.dumps(result | {"same_again": again["scores"] == many["scores"], "shard": shard, "people": people}))


if __name__ == "__main__":
    main()
