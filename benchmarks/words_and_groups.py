"""Do words work where a person is asked for, and whom is the model like: ten attributes, and identity by gender and age.

    python benchmarks/words_and_groups.py PEOPLE.jsonl PHOTOS JUDGE.toml [SPLIT] [--model MODEL] [--method NAME] [--words W]

For each person of the split a method reads nine photos and draws neutral portraits, then each of ten attributes. present:
share of those pictures on which the attribute is seen by the network that reads signs (docs/metrics.md). drop: by how much
the cosine to the person's held-out photos, by the judge, is below the neutral portraits'. A picture without a face counts as
a stranger's: cosine 0. Groups are by what most of a person's captions say. Prints a line each and one JSON object as its last
line.
"""

import argparse
import json
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import numpy as np

from tenth.catalog import load_model, method
from tenth.data.words import SIGNS, asked_for
from tenth.diffusion import Sampling
from tenth.evaluate.held_out import crop_of, part_people
from tenth.evaluate.recogniser import open_recogniser
from tenth.generate import Request, generate
from tenth.pocket.faces import People, progress
from tenth.pocket.signs import open_signs
from tenth.types import Person

NEUTRAL = "a portrait photo of a person"
ATTRIBUTES = {  # sign -> prompt; of gender, the person's own
    "male": "a photo of a {noun}",
    "senior": "a photo of an old person",
    "gray_hair": "a photo of a person with gray hair",
    "beard": "a photo of a man with a beard",
    "eyeglasses": "a photo of a person with glasses",
    "hat": "a photo of a person wearing a hat",
    "necktie": "a photo of a person wearing a tie",
    "smiling": "a photo of a smiling person",
    "mouth_open": "a photo of a person with an open mouth",
    "outdoor": "a picture of a person, outdoors",
}
MEN_ALONE = ("beard",)  # captions say it of men alone


def group_of(captions: list[str]) -> tuple[str, str]:
    """(gender, age) by most captions: man, woman or unknown; young, old or neither."""
    said = [asked_for(caption) for caption in captions]
    gender = Counter(signs["male"] for signs in said if "male" in signs).most_common(1)
    ages = Counter(next((age for age in ("youth", "senior") if signs.get(age)), "") for signs in said)
    names = {"youth": "young", "senior": "old", "": "neither young nor old"}
    return {True: "men", False: "women", None: "unknown"}[gender[0][0] if gender else None], names[ages.most_common(1)[0][0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "judge"):
        parser.add_argument(name, type=Path)
    parser.add_argument("split", nargs="?", default="validation")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--method", default="ip-adapter-consensus")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--count", type=int, default=None, help="only the first so many people")
    for name, value in (
        ("steps", 25),
        ("guidance", 3.0),
        ("rescale", 0.5),
        ("words", 0.0),
        ("scale", 1.0),
        ("threshold", 0.376),
    ):
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    people, model, judge, signs = (
        People(args.people, args.photos),
        load_model(args.model),
        open_recogniser(args.judge),
        open_signs(),
    )
    sampling = Sampling(
        steps=args.steps,
        guidance=args.guidance,
        rescale=args.rescale,
        scale=args.scale,
        words=args.words,
        precision=args.precision,
    )
    captions = {row.file: row.caption for row in people.rows(args.split)}
    cosines: dict[str, list[float]] = defaultdict(list)  # attribute or group -> of each picture, to the held-out photos' mean
    present: dict[str, list[bool]] = defaultdict(list)
    accepted: dict[str, list[bool]] = defaultdict(list)
    faces: list[bool] = []
    parted = islice(part_people(people, args.split, references=9, held_out=10), args.count)
    for number, photos in progress(parted, desc="people"):
        gender, age = group_of([captions[photo.file] for photo in (*photos.references, *photos.held_out)])
        identity = method(args.method)(Person(number, photos.references), model)
        held_out = judge([crop_of(photo) for photo in photos.held_out])
        held_out = held_out[~np.isnan(held_out).any(1)]
        prompts = {"neutral": NEUTRAL} | {
            sign: prompt.format(noun={"men": "man", "women": "woman"}[gender])
            for sign, prompt in ATTRIBUTES.items()
            if not (sign in MEN_ALONE and gender != "men") and not (sign == "male" and gender == "unknown")
        }
        requests = [Request(identity, prompt, seed) for prompt in prompts.values() for seed in range(args.images)]
        pictures = [sample.pixels for sample in generate(model, requests, sampling)]
        rows, read = judge(pictures), signs(pictures)
        pairs = np.nan_to_num(rows @ held_out.T)  # (pictures, held-out)
        faces += list(~np.isnan(rows).any(1))
        for place, name in enumerate(name for name in prompts for _ in range(args.images)):
            cosines[name].append(float(pairs[place].mean()))
            if name == "neutral":
                for group in ("everybody", gender, age):
                    cosines[group].append(float(pairs[place].mean()))
                    accepted[group] += list(pairs[place] >= args.threshold)
            else:
                wanted = gender == "men" if name == "male" else True
                present[name].append(bool((read[place, SIGNS.index(name)] > 0) == wanted))

    neutral = float(np.mean(cosines["neutral"]))
    words = {
        name: {"present": round(float(np.mean(seen)), 3), "drop": round(neutral - float(np.mean(cosines[name])), 3)}
        for name, seen in present.items()
    }
    groups = {
        name: {
            "people": len(cosines[name]) // args.images,
            "identity": round(float(np.mean(cosines[name])), 3),
            "accepted": round(float(np.mean(pairs)), 3),
        }
        for name, pairs in accepted.items()
    }
    for name, each in (words | groups).items():
        print(f"{name:24}", *(f"{key} {value}" for key, value in each.items()))
    result = {
        "name": "words_and_groups",
        "present": round(float(np.mean([each["present"] for each in words.values()])), 3),
        "drop": round(float(np.mean([each["drop"] for each in words.values()])), 3),
        "identity": round(neutral, 3),
        "accepted": groups["everybody"]["accepted"],
        "faces": round(float(np.mean(faces)), 4),
        "pictures": len(faces),
    }
    print(
        json.dumps(result | {"method": args.method, "split": args.split, "model": model.name, "words": words, "groups": groups})
    )


main()
