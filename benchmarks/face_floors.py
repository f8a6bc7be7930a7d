"""Are drawn faces spread as the real ones? The face distance of drawn sets at equal counts, beside two floors of real photos.

    python benchmarks/face_floors.py PEOPLE.jsonl PHOTOS TOML [SPLIT] [--model MODEL] [--method ip-adapter-consensus ...]

For each person of the split a method reads nine photos and draws one picture for each held-out photo, by its caption. All are
held against the same held-out photos in the recognizer's space: the pictures; as many references of the same people; as many
photos of as many other, training, people. ratio: the distance of other people over that of the first method's pictures: above
1, drawn people are nearer than real photos of others. Prints one JSON object as its last line.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.console import track
from tenth.core.types import Features, Person, Pixels
from tenth.data.faces.crops import PhotoDataset, load_face_crops
from tenth.evaluation.extractors.face_recognizer import load_recognizer
from tenth.evaluation.metrics.frechet import drop_missing_faces, face_frechet_distance
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.registry import method
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

REFERENCES = 9


def others(people: PhotoDataset) -> Iterator[list[Pixels]]:
    """The crops of one training person after the other, those with most photos first."""
    faces = load_face_crops(people, "train", ArrayCache(default_cache_dir()))
    of: dict[str, list[int]] = {}
    for index, row in enumerate(faces.entries):
        of.setdefault(row.person, []).append(index)
    for indices in sorted(of.values(), key=len, reverse=True):
        yield [np.ascontiguousarray(faces.crops[index].permute(1, 2, 0).numpy()) for index in indices]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "recognizer"):
        parser.add_argument(name, type=Path)
    parser.add_argument("split", nargs="?", default="validation")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--method", nargs="+", default=["ip-adapter-consensus"])
    parser.add_argument("--steps", type=int, default=None, help="the model's default without it")
    parser.add_argument("--text-guidance-scale", type=float, default=0.0)
    args = parser.parse_args()
    people, model, recognizer = PhotoDataset(args.people, args.photos), load_model(args.model), load_recognizer(args.recognizer)
    captions = {row.file: row.caption for row in people.entries(args.split)}
    sides: dict[str, list[Pixels]] = {name: [] for name in ("held out", "same people", "other people", *args.method)}
    parted = split_people(people, args.split, references=REFERENCES, held_out=REFERENCES)
    sampling = SamplingConfig(steps=args.steps, text_guidance_scale=args.text_guidance_scale)
    for (number, photos), strangers in track(zip(parted, others(people), strict=False), "people", "person"):
        count = len(photos.held_out)
        sides["held out"] += map(face_crop, photos.held_out)
        sides["same people"] += map(face_crop, photos.references[:count])
        sides["other people"] += strangers[:count]
        for name in args.method:
            identity = method(name)(Person(number, photos.references), model).identity
            requests = [Request(identity, captions[photo.file], seed) for seed, photo in enumerate(photos.held_out)]
            sides[name] += [sample.pixels for sample in generate(model, requests, sampling)]

    rows = {name: drop_missing_faces(Features(recognizer(pictures), ("",) * len(pictures))) for name, pictures in sides.items()}
    least = min(len(features.vectors) for features in rows.values())
    equal = {name: Features(features.vectors[:least], features.people[:least]) for name, features in rows.items()}
    distances = {
        name: round(face_frechet_distance(generated=each, held_out=equal["held out"]).value or 0.0, 4)
        for name, each in equal.items()
        if name != "held out"
    }
    result = {"name": "face_floors", "ratio": round(distances["other people"] / distances[args.method[0]], 3), "n": least}
    print(json.dumps(result | {"distance": distances, "split": args.split, "recognizer": recognizer.name, "model": model.name}))


main()
