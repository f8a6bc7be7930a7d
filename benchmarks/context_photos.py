"""Which photos are chosen for a model that reads a few: `choose_photos` against the first ones, random ones, agreement alone.

    python benchmarks/context_photos.py PEOPLE.jsonl PHOTOS JUDGE.toml [--counts 3 4] [--strangers 0 1 2 4] [--draws 20]

Each of SPLIT's people: DRAWS times nine photos are given, some of them STRANGERS, all of one other person; COUNT of the nine
are chosen, and up to ten others of the person are held out. near: cosine of the mean of the chosen to the held-out photos, by
the judge, which chooses nothing, and by dlib; covered: that of each held-out photo to the nearest chosen one; angle: degrees
between the poses of two chosen ones; sharpness: its logarithm; stranger: share of draws in which one is chosen. Differences to
random photos, and of `choose_photos` to the consensus, with 95 % intervals over people. Prints a line for each choice, and one
JSON object as its last line. `--tiny` is for a test of this file: the example photos, and dlib for a judge.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from tenth.core.console import track
from tenth.core.types import Photo
from tenth.data.faces.crops import PhotoDataset
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.photo_folder import read_person
from tenth.data.splits import split_by_name
from tenth.evaluation.extractors.face_recognizer import dlib_recognizer, l2_normalize, load_recognizer
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.experiments.protocol import face_crop
from tenth.methods.photo_choice import FaceFeatures, choose_photos
from tenth.models.aggregators.pooling import consensus_weights
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

MEASURES = ("near", "near_dlib", "covered", "angle", "sharpness", "stranger")
HELD_OUT = 10


@dataclass(frozen=True, eq=False)
class Measured:
    """A photo, and what is known of it: unit embeddings of the judge's and of dlib's, pose and sharpness."""

    photo: Photo
    descriptor: np.ndarray
    judged: np.ndarray
    embedding: np.ndarray
    pose: np.ndarray
    log_sharpness: float


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "judge"):
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument("--split", default="validation", choices=["train", "validation"])
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--strangers", type=int, nargs="+", default=[0, 1, 2, 4])
    for name, default in {"given": 9, "draws": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.tiny:
        args.given, args.counts, args.strangers, args.draws = 4, [2], [0, 1], 2
    return args


def people_of(args: argparse.Namespace) -> Iterator[tuple[str, list[Photo]]]:
    """The photos of everybody who has more than are given."""
    if args.tiny:
        photos = read_person(EXAMPLE_PHOTOS_DIR).photos
        yield from {"0": list(photos[:5]), "1": list(photos[4:])}.items()
        return
    dataset, by_person = PhotoDataset(args.people, args.photos), {}
    for entry in dataset.entries(args.split):
        assert split_by_name(entry.person) == args.split, entry.person  # no test person, whatever the file says
        by_person.setdefault(entry.person, []).append(entry)
    for name, entries in by_person.items():
        if len(entries) > args.given:
            yield name, [photo for entry in entries if (photo := dataset.open_with_central_face(entry)) is not None]


def measure(photos: Sequence[Photo], judge: Callable, dlib: Callable) -> list[Measured]:
    """All that is known of photos; those without a face to the judge are left out."""
    descriptors = {photo.digest: face_descriptor(photo) for photo in photos}
    features = FaceFeatures.of(photos, lambda photo: descriptors[photo.digest])
    crops = [face_crop(photo) for photo in photos]
    rows = zip(photos, features.descriptors, judge(crops), l2_normalize(features.descriptors - dlib.center), strict=True)
    measured = [
        Measured(*row, features.poses[index], float(np.log(features.sharpness[index]))) for index, row in enumerate(rows)
    ]
    return [each for each in measured if not np.isnan(each.judged).any()]


Choose = Callable[[Sequence[Measured]], Sequence[int]]


def choices(count: int, rng: np.random.Generator) -> dict[str, Choose]:
    """What chooses `count` of the given photos, by name."""

    def consensus(given: Sequence[Measured]) -> Sequence[int]:
        weights = consensus_weights(torch.from_numpy(np.stack([each.embedding for each in given])))
        return np.argsort(-weights.numpy(), kind="stable")[:count]

    def ours(given: Sequence[Measured]) -> Sequence[int]:
        known = {each.photo.digest: each.descriptor for each in given}
        return choose_photos([each.photo for each in given], count, lambda photo: known[photo.digest]).indices

    return {
        "random": lambda given: rng.permutation(len(given))[:count],
        "first": lambda _: range(count),
        "sharpest": lambda given: np.argsort([-each.log_sharpness for each in given], kind="stable")[:count],
        "consensus": consensus,
        "choose_photos": ours,
    }


def figures(chosen: Sequence[Measured], held_out: Sequence[Measured], own: set[str]) -> list[float]:
    """MEASURES of one choice. own: the digests of the person's photos."""

    def near(name: str) -> float:
        rows, kept = (np.stack([getattr(each, name) for each in side]) for side in (chosen, held_out))
        return float((kept @ l2_normalize(rows.mean(0, keepdims=True))[0]).mean())

    judged, kept = (np.stack([each.judged for each in side]) for side in (chosen, held_out))
    poses = np.stack([each.pose for each in chosen])
    angles = np.linalg.norm(poses[:, None] - poses[None], axis=2)[~np.eye(len(poses), dtype=bool)]
    stranger = any(each.photo.digest not in own for each in chosen)
    sharpness = float(np.mean([each.log_sharpness for each in chosen]))
    covered = float((kept @ judged.T).max(1).mean())
    return [near("judged"), near("embedding"), covered, float(angles.mean()), sharpness, float(stranger)]


def measure_case(
    people: dict[str, list[Measured]],
    chooses: dict[str, Choose],
    strangers: int,
    args: argparse.Namespace,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """MEASURES of each choice, of each person the mean over the draws: (people, measures)."""
    means: dict[str, list[np.ndarray]] = {name: [] for name in chooses}
    for name, photos in people.items():
        others, own = [other for other in people if other != name], {each.photo.digest for each in photos}
        rows: dict[str, list[list[float]]] = {each: [] for each in chooses}
        for _ in range(args.draws):
            order, split = rng.permutation(len(photos)), args.given - strangers
            stranger = people[str(rng.choice(others))]
            planted = [stranger[index] for index in rng.choice(len(stranger), strangers, replace=False)]
            given = [photos[index] for index in order[:split]] + planted
            given = [given[index] for index in rng.permutation(len(given))]
            held_out = [photos[index] for index in order[split : split + HELD_OUT]]
            for each, choose in chooses.items():
                rows[each].append(figures([given[index] for index in choose(given)], held_out, own))
        for each, values in rows.items():
            means[each].append(np.mean(values, 0))
    return {name: np.stack(values) for name, values in means.items()}


def main() -> None:
    args = options()
    rng, dlib = np.random.default_rng(args.seed), dlib_recognizer()
    judge = dlib if args.tiny else load_recognizer(args.judge)
    people = {name: measure(photos, judge, dlib) for name, photos in track(list(people_of(args)), "people", "person")}
    people = {name: photos for name, photos in people.items() if len(photos) > args.given}
    settings = {name: getattr(args, name) for name in ("split", "given", "draws", "seed")}
    result: dict[str, object] = {"name": "context_photos", "people": len(people), **settings}

    # One line each.
    for count, strangers in product(args.counts, args.strangers):
        case: dict[str, object] = {}
        measured = measure_case(people, choices(count, rng), strangers, args, rng)
        for name, rows in measured.items():
            row: dict[str, object] = dict(zip(MEASURES, map(float, rows.mean(0)), strict=True))
            for other in {"random": (), "choose_photos": ("random", "consensus")}.get(name, ("random",)):
                for column, measure_name in enumerate(MEASURES[:4]):
                    found = paired_difference(rows[:, column], measured[other][:, column])
                    row[f"{measure_name} less {other}"] = [found.value, found.low, found.high]
            case[name] = json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 4))
            print(f"{count} of {args.given}, {strangers} strangers, {name}: {case[name]}", flush=True)
        result[f"{count} of {args.given}, {strangers} strangers"] = case
    print(json.dumps(result))


main()
