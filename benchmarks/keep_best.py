"""Which selector picks well: the kept of several candidates against the first ones, by a recognizer that selects nothing.

    python benchmarks/keep_best.py PEOPLE.jsonl PHOTOS JUDGE.toml [--split validation] [--candidates 12] [--keep 4]

Each of SPLIT's first people: nine photos, by --method; of each, so many candidates of each of five prompts. identity: the
judge's cosine to held-out photos; copy: the copy-paste index; prompt: share of images with the attribute asked for; of each
selector less that of the first seeds, with the paired difference's 95 % interval over people. Each seed is the first once, and
the mean is taken. seconds: of an image, and of measuring one. Prints a line for each selector, and one JSON object as its last
line. `--tiny` is for a test of this file: the example photos, in one step, and dlib for a judge.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tenth.core.console import track
from tenth.core.types import Features, Person
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset
from tenth.data.photo_folder import read_person
from tenth.data.splits import ReferenceSplit
from tenth.evaluation.candidates import CandidateFigures, ReferenceFaces, measure_candidates, rank_candidates
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import dlib_recognizer, load_recognizer
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.evaluation.metrics.identity import copy_paste_index
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.registry import method
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

PROMPTS = {  # and the attribute that each asks for
    "a portrait photo of a person": "",
    "a portrait photo of a smiling person": "smiling",
    "a photo of an old person": "senior",
    "a photo of a person wearing a hat": "hat",
    "a photo of a person with glasses": "eyeglasses",
}
Figures = Sequence[CandidateFigures]


def by(value: Callable[[CandidateFigures], float]) -> Callable[[Figures], list[int]]:
    """Indices by one value alone, the largest first; without a face last."""
    return lambda figures: sorted(range(len(figures)), key=lambda index: -value(figures[index]))


SELECTORS: dict[str, Callable[[Figures], list[int]]] = {
    "identity": by(lambda image: -1.0 if image.identity is None else image.identity),
    "sharpness": by(lambda image: image.sharpness or 0.0),
    "identity+sharpness": by(lambda image: -1.0 if not image.sharpness else image.identity + 0.07 * np.log(image.sharpness)),
    "all": rank_candidates,
}


@dataclass
class Measured:
    """One person's candidates: by prompt the figures, the judge's cosines and the copy-paste index of each."""

    figures: list[list[CandidateFigures]]
    cosines: np.ndarray  # (prompts, candidates)
    copying: np.ndarray
    present: np.ndarray  # whether the attribute is seen; NaN where none is asked for


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "judge"):
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--method", default="ip-adapter-consensus")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.tiny:
        args.candidates, args.keep = 3, 1
    return args


def copying(images: np.ndarray, held_out: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The copy-paste index of each image; NaN without a face."""
    sides = {"held_out": held_out, "references": references}
    given = {name: Features(rows, ("p",) * len(rows)) for name, rows in sides.items()}
    scores = (copy_paste_index(generated=Features(row[None], ("p",)), **given).value for row in images)
    return np.array([np.nan if score is None else score for score in scores])


def kept_minus_first(people: list[Measured], args: argparse.Namespace, select: Callable[[Figures], list[int]]) -> dict:
    """identity, copy and prompt of the kept, and their difference to the first ones, each a mean per person."""
    rows: dict[str, list[list[float]]] = {"identity": [], "copy": [], "prompt": []}
    for person in people:
        sums = {name: [] for name in rows}
        for prompt, figures in enumerate(person.figures):
            for start in range(args.candidates):
                turned = [(start + step) % args.candidates for step in range(args.candidates)]
                best = [turned[rank] for rank in select([figures[seed] for seed in turned])[: args.keep]]
                sides = {"identity": person.cosines, "copy": person.copying, "prompt": person.present}
                for name, values in sides.items():
                    kept, first = values[prompt][best], values[prompt][turned[: args.keep]]
                    if not (np.isnan(kept).all() or np.isnan(first).all()):
                        sums[name].append((np.nanmean(kept), np.nanmean(first)))
        for name, values in rows.items():
            values.append(list(np.mean(sums[name], 0)))
    result = {}
    for name, pairs in rows.items():
        kept, first = zip(*pairs, strict=True)
        found = paired_difference(kept, first)
        result |= {name: float(np.mean(kept)), f"first_{name}": float(np.mean(first))}
        result[f"{name}_difference"] = [found.value, found.low, found.high]
    return result


def main() -> None:
    args = options()
    model, judge = load_model(), dlib_recognizer() if args.tiny else load_recognizer(args.judge)
    if args.tiny:
        photos = read_person(EXAMPLE_PHOTOS_DIR).photos
        people = [
            (name, ReferenceSplit(*sides))
            for name, sides in {"0": (photos[:5], photos[5:]), "1": (photos[5:], photos[:5])}.items()
        ]
    else:
        people = split_people(PhotoDataset(args.people, args.photos), args.split, references=9, held_out=10)

    see_attributes = load_face_attributes()

    # Candidates of every person, measured as they come.
    measured, seconds = [], {"image": 0.0, "measuring": 0.0}
    for person, photos in track(islice(people, args.count), "people", "person"):
        identity = method(args.method)(Person(person, photos.references), model).identity
        requests = [Request(identity, prompt, seed) for prompt in PROMPTS for seed in range(args.candidates)]
        start = time.perf_counter()
        images = [sample.pixels for sample in generate(model, requests, SamplingConfig(steps=1 if args.tiny else None))]
        drawn = time.perf_counter()
        figures = measure_candidates(images, ReferenceFaces.from_photos(photos.references))
        seconds["image"] += (drawn - start) / len(images)
        seconds["measuring"] += (time.perf_counter() - drawn) / len(images)
        held_out, references = (judge([face_crop(photo) for photo in side]) for side in (photos.held_out, photos.references))
        rows, shape = judge(images), (len(PROMPTS), args.candidates)
        cosines = np.nan_to_num(rows @ held_out[~np.isnan(held_out).any(1)].T).mean(1)
        grouped = [figures[first : first + args.candidates] for first in range(0, len(figures), args.candidates)]
        seen = np.asarray(see_attributes(images)).reshape(*shape, -1) > 0
        present = [
            seen[row, :, FACE_ATTRIBUTES.index(asked)].astype(float) if asked else np.full(args.candidates, np.nan)
            for row, asked in enumerate(PROMPTS.values())
        ]
        copied = copying(rows, held_out, references).reshape(shape)
        measured.append(Measured(grouped, cosines.reshape(shape), copied, np.stack(present)))

    # One line each.
    result: dict[str, object] = {"name": "keep_best", "split": args.split, "people": len(measured), "method": args.method}
    result |= {"candidates": args.candidates, "keep": args.keep, "prompts": len(PROMPTS)}
    result["seconds"] = {name: round(value / len(measured), 4) for name, value in seconds.items()}
    for name, select in SELECTORS.items():
        found = kept_minus_first(measured, args, select)
        result[name] = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))
        print(f"{name:20}", result[name], flush=True)
    print(json.dumps(result))


main()
