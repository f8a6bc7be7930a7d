"""Do words work where a person is asked for, and whom is the model like: ten attributes, and identity by gender and age.

    python benchmarks/words_and_groups.py PEOPLE.jsonl PHOTOS RECOGNIZER.toml [SPLIT] [--method NAME] [--text-guidance-scale W]

For each person of the split a method reads nine photos and draws neutral portraits, then each of ten attributes. present:
share of those pictures on which the attribute is seen by the network that classifies attributes (docs/metrics.md). drop: by
how much the cosine to held-out photos of the person, by the recognizer, is below the neutral portraits'. A picture without a
face counts as a stranger's: cosine 0. Groups are by what most of a person's captions say. Prints a line each and one JSON
object as its last line.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from tenth.core.console import track
from tenth.core.types import Person
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, parse_prompt_attributes
from tenth.data.faces.crops import PhotoDataset
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import load_recognizer
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.registry import method
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

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
SAMPLING_OPTIONS: dict[str, type] = {
    "steps": int,
    "guidance_scale": float,
    "guidance_rescale": float,
    "text_guidance_scale": float,
    "ip_adapter_scale": float,
    "precision": str,
}
MEN_ALONE = ("beard",)  # captions say it of men alone


def group_of(captions: list[str]) -> tuple[str, str]:
    """(gender, age) by most captions: man, woman or unknown; young, old or neither."""
    said = [parse_prompt_attributes(caption) for caption in captions]
    gender = Counter(signs["male"] for signs in said if "male" in signs).most_common(1)
    ages = Counter(next((age for age in ("youth", "senior") if signs.get(age)), "") for signs in said)
    names = {"youth": "young", "senior": "old", "": "neither young nor old"}
    return {True: "men", False: "women", None: "unknown"}[gender[0][0] if gender else None], names[ages.most_common(1)[0][0]]


@dataclass
class Tally:
    """What was seen, by attribute or group."""

    cosines: dict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )  # of each picture, to the held-out photos
    present: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    accepted: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))  # of each pair with a held-out photo
    faces: list[bool] = field(default_factory=list)

    def add(self, names: list[str], pairs: np.ndarray, read: np.ndarray, group: tuple[str, str], threshold: float) -> None:
        """One person's pictures: cosines to held-out photos (pictures, held-out), NaN without a face, and attribute logits."""
        self.faces += list(~np.isnan(pairs).any(1))
        for place, (name, row) in enumerate(zip(names, np.nan_to_num(pairs), strict=True)):
            self.cosines[name].append(float(row.mean()))
            if name == "neutral":
                for each in ("everybody", *group):
                    self.cosines[each].append(float(row.mean()))
                    self.accepted[each] += list(row >= threshold)
            else:
                wanted = group[0] == "men" if name == "male" else True
                self.present[name].append(bool((read[place, FACE_ATTRIBUTES.index(name)] > 0) == wanted))

    def words(self) -> dict[str, dict[str, float]]:
        neutral = np.mean(self.cosines["neutral"])
        return {
            name: {"present": rounded(seen), "drop": round(float(neutral - np.mean(self.cosines[name])), 3)}
            for name, seen in self.present.items()
        }

    def groups(self, images: int) -> dict[str, dict[str, float]]:
        return {
            name: {
                "people": len(self.cosines[name]) // images,
                "identity": rounded(self.cosines[name]),
                "accepted": rounded(pairs),
            }
            for name, pairs in self.accepted.items()
        }


def rounded(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def prompts_for(gender: str) -> dict[str, str]:
    """Neutral, and each attribute that can be asked of this person."""
    noun = {"men": "man", "women": "woman"}.get(gender)
    asked = {
        sign: prompt.format(noun=noun)
        for sign, prompt in ATTRIBUTES.items()
        if not (sign in MEN_ALONE and gender != "men") and not (sign == "male" and noun is None)
    }
    return {"neutral": NEUTRAL} | asked


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "recognizer"):
        parser.add_argument(name, type=Path)
    parser.add_argument("split", nargs="?", default="validation")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--method", default="ip-adapter-consensus")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--count", type=int, default=None, help="only the first so many people")
    parser.add_argument("--threshold", type=float, default=0.376, help="the recognizer's least cosine of one person")
    for name, kind in SAMPLING_OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help="the model's default without it")
    return parser.parse_args()


def main() -> None:
    args = options()
    people, model, recognizer, signs = (
        PhotoDataset(args.people, args.photos),
        load_model(args.model),
        load_recognizer(args.recognizer),
        load_face_attributes(),
    )
    given = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    sampling = SamplingConfig(**{name: value for name, value in given.items() if value is not None})
    captions = {row.file: row.caption for row in people.entries(args.split)}
    tally, seconds = Tally(), []
    parted = islice(split_people(people, args.split, references=9, held_out=10), args.count)
    for number, photos in track(parted, "people", "person"):
        group = group_of([captions[photo.file] for photo in (*photos.references, *photos.held_out)])
        start = time.process_time()
        identity = method(args.method)(Person(number, photos.references), model).identity
        seconds.append(time.process_time() - start)
        held_out = recognizer([face_crop(photo) for photo in photos.held_out])
        held_out = held_out[~np.isnan(held_out).any(1)]
        prompts = prompts_for(group[0])
        requests = [Request(identity, prompt, seed) for prompt in prompts.values() for seed in range(args.images)]
        pictures = [sample.pixels for sample in generate(model, requests, sampling)]
        names = [name for name in prompts for _ in range(args.images)]
        tally.add(names, recognizer(pictures) @ held_out.T, signs(pictures), group, args.threshold)

    words, groups = tally.words(), tally.groups(args.images)
    for name, each in (words | groups).items():
        print(f"{name:24}", *(f"{key} {value}" for key, value in each.items()))
    result = {
        "name": "words_and_groups",
        "present": rounded([each["present"] for each in words.values()]),
        "drop": rounded([each["drop"] for each in words.values()]),
        "identity": rounded(tally.cosines["neutral"]),
        "accepted": groups["everybody"]["accepted"],
        "faces": round(float(np.mean(tally.faces)), 4),
        "pictures": len(tally.faces),
        "cpu_seconds_per_person": round(float(np.median(seconds)), 2),
    }
    print(
        json.dumps(result | {"method": args.method, "split": args.split, "model": model.name, "words": words, "groups": groups})
    )


main()
