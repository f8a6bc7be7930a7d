"""Do class images keep everybody else as they were? DreamBooth with prior preservation against the same without it.

    python benchmarks/prior_preservation.py PEOPLE.jsonl PHOTOS_FOLDER --people 4

Learns validation people both ways, then draws the class alone, "a photo of a man" without the rare word, with these weights on
the model. spread: 1 - cosine between two such images, by dlib's recognizer; the untouched model's is the goal, less is language
drift. like the person: their cosine to the person's held-out photos; the untouched model's is the floor.
Prints a line a person and one JSON object as its last line, with means over people.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np

from tenth.core.types import Person
from tenth.data.faces.crops import PhotoDataset
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.dreambooth.method import DreamBooth
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample

IMAGES = 12
WAYS = {"with class images": {"prior_loss_weight": 1.0}, "without": {"prior_loss_weight": 0.0}}
BASE = "untouched model"


def spread(rows: np.ndarray) -> float:
    """Mean of 1 - cosine over pairs of images with a face, (N, D)."""
    seen = rows[~np.isnan(rows).any(1)]
    return float(1 - (seen @ seen.T)[np.triu_indices(len(seen), 1)].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--people", dest="count", type=int, default=4)
    parser.add_argument("--images", type=int, help="photos seen in learning, instead of the default")
    args = parser.parse_args()
    model = load_model("pocket")
    recognizer = DlibRecognizer(model.encoder.mean.double().numpy())
    schedule = {"schedule": {"total_images": args.images}} if args.images else {}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*WAYS, BASE)}
    parted = split_people(PhotoDataset(args.people, args.photos), "validation", references=9, held_out=10)
    for number, sides in islice(parted, args.count):
        held_out = recognizer([face_crop(photo) for photo in sides.held_out])
        centre = held_out[~np.isnan(held_out).any(1)].mean(0)

        def judged(noun: str, centre: np.ndarray = centre) -> dict[str, float]:
            prompts = [f"a photo of a {noun}"] * IMAGES
            rows = recognizer(sample(SamplingBatch(model, SamplingConfig(), prompts, range(IMAGES))))
            faces = float((~np.isnan(rows).any(1)).mean())
            return {"spread": spread(rows), "like the person": float(np.nanmean(rows @ centre)), "faces": faces}

        noun = "person"
        for name, changes in WAYS.items():
            learn = DreamBooth("dreambooth-lora", overrides=changes | schedule)
            identity = learn(Person(number, sides.references), model)
            noun = identity.trigger_phrase.rpartition(" ")[2]
            with model.applied([identity]):
                found[name].append(judged(noun))
        found[BASE].append(judged(noun))
        print(number, noun, {name: values[-1] for name, values in found.items()}, flush=True)
    means = {
        name: {key: round(float(np.mean([value[key] for value in values])), 3) for key in values[0]}
        for name, values in found.items()
    }
    print(json.dumps({"name": "prior_preservation", "people": args.count, "images": IMAGES, **means}))


main()
