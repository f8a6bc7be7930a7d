"""Samplers and their steps on one model, for the same people, prompts and seeds: what do fewer steps lose?

    python benchmarks/samplers.py PEOPLE.jsonl PHOTOS JUDGE.toml ddim:25 unipc:8 unipc:6 [--count 24] [--sheet SHEET.png]

The first setting is the one that the others are compared with. Each of SPLIT's first people: nine photos, by --method; of
each, four neutral portraits and four images of each of five attributes. identity: the judge's cosine to held-out photos, over
the neutral ones, with the paired difference's 95 % interval over people. attributes: share that the attribute network sees.
face_distance: the judge's Fréchet distance to held-out photos. diversity: 1 - cosine between one person's neutral images.
Diversity and attributes too have paired differences. A setting is NAME:STEPS[:BACKEND[:FROM-TO[:SCALE]]]: backend torch or
openvino, guidance interval, guidance scale. Prints a line each, and one JSON object as its last line.
"""

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tenth.core.console import track
from tenth.core.types import Features, Person
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import load_recognizer
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.evaluation.metrics.diversity import diversity_per_person
from tenth.evaluation.metrics.frechet import face_frechet_distance
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.registry import method
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

NEUTRAL, IMAGES = "a portrait photo of a person", 4
ATTRIBUTES = {
    "senior": "a photo of an old person",
    "eyeglasses": "a photo of a person with glasses",
    "hat": "a photo of a person wearing a hat",
    "smiling": "a photo of a smiling person",
    "mouth_open": "a photo of a person with an open mouth",
}


def quality(generated: Features, held_out: Features) -> dict[str, float]:
    distance = face_frechet_distance(generated=generated, held_out=held_out).value
    return {"face_distance": distance, "diversity": float(np.mean(list(diversity_per_person(generated).values())))}


def sampling_config(setting: str) -> SamplingConfig:
    """What NAME:STEPS[:BACKEND[:FROM-TO[:SCALE]]] says of sampling."""
    name, steps, _, interval, scale = [*setting.split(":"), *["", "", ""]][:5]
    given: dict[str, Any] = {"guidance_interval": tuple(map(float, interval.split("-")))} if interval else {}
    given |= {"guidance_scale": float(scale)} if scale else {}
    return SamplingConfig(steps=int(steps), scheduler=name, **given)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "judge"):
        parser.add_argument(name, type=Path)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--method", default="ip-adapter-consensus")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--sheet", type=Path)
    return parser.parse_args()


def main() -> None:
    args = options()
    recognizer, see_attributes = load_recognizer(args.judge), load_face_attributes()
    backends = {setting: [*setting.split(":"), "torch"][2] for setting in args.settings}
    models = {backend: load_model(options=LoadOptions(backend=backend)) for backend in set(backends.values())}

    # Images of every person by every setting, measured as they come.
    vectors: dict[str, list[np.ndarray]] = {setting: [] for setting in args.settings}
    cosines: dict[str, list[float]] = {setting: [] for setting in args.settings}
    present: dict[str, list[list[bool]]] = {setting: [] for setting in args.settings}
    seconds, rows, names = dict.fromkeys(args.settings, 0.0), [], []
    real: list[np.ndarray] = []
    people = split_people(PhotoDataset(args.people, args.photos), args.split, references=9, held_out=10)
    for person, photos in track(islice(people, args.count), "people", "person"):
        held_out = recognizer([face_crop(photo) for photo in photos.held_out])
        held_out = held_out[~np.isnan(held_out).any(1)]
        real.append(held_out)
        names.append(person)
        row = []
        for setting in args.settings:
            model = models[backends[setting]]
            identity = method(args.method)(Person(person, photos.references), model).identity
            requests = [Request(identity, NEUTRAL, seed) for seed in range(IMAGES)]
            requests += [Request(identity, prompt, seed) for prompt in ATTRIBUTES.values() for seed in range(IMAGES)]
            start = time.perf_counter()
            images = [sample.pixels for sample in generate(model, requests, sampling_config(setting))]
            seconds[setting] += (time.perf_counter() - start) / len(requests)
            vectors[setting].append(recognizer(images[:IMAGES]))
            cosines[setting].append(float(np.nan_to_num(vectors[setting][-1] @ held_out.T).mean()))
            seen, wanted = see_attributes(images[IMAGES:]), np.repeat(list(ATTRIBUTES), IMAGES)
            present[setting].append(
                [bool(found[FACE_ATTRIBUTES.index(name)] > 0) for name, found in zip(wanted, seen, strict=True)]
            )
            row += images[:2] + images[-2 * IMAGES :: IMAGES]
        rows.append(np.concatenate(row, 1))

    # One line each.
    result: dict[str, object] = {"name": "samplers", "people": len(names), "split": args.split, "method": args.method}
    photos_of_all = Features(np.concatenate(real), tuple(np.repeat(names, [len(each) for each in real])))
    for setting in args.settings:
        found = paired_difference(cosines[setting], cosines[args.settings[0]])
        generated = Features(np.concatenate(vectors[setting]), tuple(np.repeat(names, IMAGES)))
        measured = {"identity": float(np.mean(cosines[setting])), "difference": [found.value, found.low, found.high]}
        spread = list(diversity_per_person(generated).values())
        first = list(diversity_per_person(Features(np.concatenate(vectors[args.settings[0]]), generated.people)).values())
        compared = paired_difference(spread, first) if len(spread) == len(first) else None
        asked = paired_difference(*(np.mean(present[each], 1).tolist() for each in (setting, args.settings[0])))
        measured |= quality(generated, photos_of_all) | {"attributes": float(np.mean(present[setting]))}
        measured |= {"diversity_difference": [compared.value, compared.low, compared.high] if compared else None}
        measured |= {"attributes_difference": [asked.value, asked.low, asked.high]}
        measured["seconds"] = seconds[setting] / len(names)
        result[setting] = json.loads(json.dumps(measured), parse_float=lambda text: round(float(text), 4))
        print(f"{setting:20}", result[setting], flush=True)
    if args.sheet:
        Image.fromarray(np.concatenate(rows[:8])).save(args.sheet)
    print(json.dumps(result))


main()
