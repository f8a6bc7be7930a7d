"""What a small model's images look like: sharpness, colour casts, identity, diversity and seconds, beside real photos.

    python benchmarks/pocket_images.py PEOPLE.jsonl PHOTOS RECOGNIZER.toml [SPLIT] [--model MODEL] [--sheet SHEET.png] ...

Of each person of the split a method reads nine photos and draws portraits, seeds 0 to n - 1. Up to ten others are held out,
and stand for what is real: their aligned crops, which the images imitate, at the images' size. An image is taken as drawn.
sharpness: median variance of the Laplacian in the middle half, of images over held-out crops. colour_cast: share whose mean
colour is outside the 1st to 99th percentile of training crops in light, red minus green or blue minus yellow. identity: mean
cosine to the held-out photos by the recognizer, 0 without a face, with a 95 % interval over people. faces: share of images in
which the recognizer's detector, and dlib's, find one. diversity: 1 - cosine, and mean absolute difference of pixel values, of
two seeds of a person. colour_spread: standard deviations of the mean colours. seconds_per_image: the median, networks warm.

MODEL is a name, a model's folder or that of a run. --sheet writes SHEET-1.png, ...: a row for each person, two real photos and
the images. It shows real people: keep it out of the repository. --images-to writes the images, a folder for each person. Prints
one JSON object as its last line. `--tiny` is for a test of this file: the example photos, in one step, and dlib for a judge.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import to_table
from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import save_sample
from tenth.core.marks.png import write_png
from tenth.core.types import DiffusionModel, Features, Person, Photo, Pixels, Sample
from tenth.data.captions.person_attributes import PersonAttributes
from tenth.data.faces.crops import CROPS_NAMESPACE, PhotoDataset, compute_crops
from tenth.data.faces.detection import crop_face, find_faces
from tenth.data.photo_folder import read_person
from tenth.data.splits import ReferenceSplit
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder, dlib_recognizer, load_recognizer
from tenth.evaluation.metrics.bootstrap import bootstrap_interval
from tenth.evaluation.metrics.diversity import diversity_per_person
from tenth.experiments.protocol import attributes_by_id, face_crop, person_attributes, split_people
from tenth.methods.registry import method
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.pocket.augmentation import LUMA_WEIGHTS
from tenth.training.pocket.decoder import laplacian_variance

NEUTRAL = "a portrait photo of a person"
REFERENCES, HELD_OUT = 9, 10
TILE, SHEET_ROWS, SHEET_PHOTOS = 192, 12, 2  # pixels a side of a picture on a sheet, people, real photos of each
AXES = ("light", "red minus green", "blue minus yellow")


@dataclass(frozen=True, eq=False)
class Drawn:
    """One person's images and photos, and the recognizer's rows, NaN for an image without a face. group: men, women, unknown.

    real: crops of the held-out photos, of the images' size. photos: the first references.
    """

    person: str
    group: str
    samples: list[Sample]
    real: list[Pixels]
    photos: list[Pixels]
    embedded: np.ndarray  # (images, D)
    held_out: np.ndarray  # (held-out, D), those with a face

    @property
    def images(self) -> list[Pixels]:
        return [sample.pixels for sample in self.samples]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "recognizer"):
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument("split", nargs="?", default="validation")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--method", default="ip-adapter-consensus")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, help="the model's own if left out")
    for name in ("guidance-scale", "guidance-rescale", "text-guidance-scale"):
        parser.add_argument(f"--{name}", type=float, help="the default if left out")
    parser.add_argument("--scheduler", default="")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--images-to", type=Path)
    parser.add_argument("--max-people", type=int)
    parser.add_argument("--training-crops", type=int, metavar="N", help="of so many training photos, not of all")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.recognizer is None and not args.tiny:
        parser.error("PEOPLE.jsonl, PHOTOS and RECOGNIZER.toml are needed")
    return args


def people_of(args: argparse.Namespace) -> tuple[Iterator[tuple[str, ReferenceSplit]], PersonAttributes, list[Pixels]]:
    """The photos of each person, what the captions say of the people, and the training crops."""
    if args.tiny:
        photos = read_person(EXAMPLE_PHOTOS_DIR).photos
        sides = {"000": (photos[:5], photos[5:]), "001": (photos[5:], photos[:5])}
        parted = iter([(person, ReferenceSplit(*each)) for person, each in sides.items()])
        return parted, {}, [face_crop(photo) for photo in photos]
    dataset = PhotoDataset(args.people, args.photos)
    parted = split_people(dataset, args.split, references=REFERENCES, held_out=HELD_OUT)
    return parted, attributes_by_id(dataset, args.split), training_crops(dataset, args.training_crops)


def training_crops(dataset: PhotoDataset, most: int | None) -> list[Pixels]:
    """As `load_face_crops`, from at most so many photos, which are spread over the list."""
    entries = dataset.entries("train")
    entries = entries[:: max(1, -(-len(entries) // most))] if most else entries
    cache, digests = ArrayCache(default_cache_dir()), [row.digest for row in entries]
    arrays = cache.get_or_compute(CROPS_NAMESPACE, digests, partial(compute_crops, dataset, entries))
    return [crop for crop in arrays if crop.size]


def draw_people(args: argparse.Namespace, model: DiffusionModel, sampling: SamplingConfig) -> tuple[list[Drawn], np.ndarray]:
    """Everybody's images, and the mean colours (N, 3) of the training crops. The first person's are drawn twice: to be warm."""
    parted, listed, crops = people_of(args)
    recognizer: FaceEmbedder = dlib_recognizer() if args.tiny else load_recognizer(args.recognizer)
    drawn: list[Drawn] = []
    for person, photos in track(islice(parted, args.max_people), "people", "person"):
        held_out, references = (list(map(face_crop, side)) for side in (photos.held_out, photos.references))
        rows = recognizer(held_out)
        rows = rows[~np.isnan(rows).any(1)]
        if not len(rows):
            continue  # nothing to compare with, as in an experiment

        # The images, and for warmth the first person's once before.
        identity = method(args.method)(Person(person, photos.references), model).identity
        requests = [Request(identity, NEUTRAL, seed) for seed in range(args.images)]
        if not drawn:
            list(generate(model, requests, sampling))
        samples = list(generate(model, requests, sampling))

        # What is known of the person; the sheet has the first references.
        male = person_attributes(listed, person, references).get("male")
        group = {True: "men", False: "women", None: "unknown"}[male]
        real = [crop_of(photo, len(samples[0].pixels)) for photo in photos.held_out]
        embedded = recognizer([sample.pixels for sample in samples])
        drawn.append(Drawn(person, group, samples, real, references[:SHEET_PHOTOS], embedded, rows))
    return drawn, mean_colours(crops)


def crop_of(photo: Photo, side: int) -> Pixels:
    """As `face_crop`, of so many pixels a side: sharpness depends on the scale."""
    assert photo.face is not None
    return crop_face(photo.pixels, photo.face, size=side)


def mean_colours(images: Sequence[Pixels]) -> np.ndarray:
    """AXES of each image's mean colour, 0 to 255: (N, 3). Light: the gray value."""
    red, green, blue = np.stack([image.mean((0, 1)) for image in images]).T
    return np.stack([np.stack([red, green, blue], 1) @ LUMA_WEIGHTS, red - green, blue - (red + green) / 2], 1)


def median_laplacian(images: Sequence[Pixels]) -> float:
    """The median of `laplacian_variance` over images of one size."""
    batches = (torch.from_numpy(np.stack(images[start : start + 64])) for start in range(0, len(images), 64))
    return float(torch.cat([laplacian_variance(batch.permute(0, 3, 1, 2).float()) for batch in batches]).median())


def identities(people: Sequence[Drawn]) -> dict[str, dict[str, object]]:
    """Mean cosine to held-out photos, of everybody and by group, with the interval over people."""
    of = {each.person: float(np.nan_to_num(each.embedded @ each.held_out.T).mean()) for each in people}
    found: dict[str, dict[str, object]] = {}
    for group in ("everybody", "men", "women", "unknown"):
        values = [of[each.person] for each in people if group in ("everybody", each.group)]
        if values:
            interval = bootstrap_interval(values)
            found[group] = {"mean": interval.value, "interval": [interval.low, interval.high], "people": interval.n}
    return found


def diversity(people: Sequence[Drawn]) -> dict[str, dict[str, float]]:
    """How far two images of one person are apart, beside two held-out photos."""
    sides = {
        "images": [(each.embedded, each.images, each.person) for each in people],
        "held_out": [(each.held_out, each.real, each.person) for each in people],
    }
    found = {}
    for side, rows in sides.items():
        names = tuple(person for vectors, _, person in rows for _ in vectors)
        cosines = diversity_per_person(Features(np.concatenate([vectors for vectors, _, _ in rows]), names))
        pixels = [np.mean(list(map(pixel_distance, combinations(images, 2)))) for _, images, _ in rows if len(images) > 1]
        known = {"identity": list(cosines.values()), "pixels": pixels}
        found[side] = {name: float(np.mean(values)) for name, values in known.items() if values}
    return found


def pixel_distance(pair: tuple[Pixels, Pixels]) -> float:
    """Mean absolute difference of pixel values, 0 to 255."""
    first, second = (pixels.astype(np.float64) for pixels in pair)
    return float(np.abs(first - second).mean())


def colour_spread(people: Sequence[Drawn]) -> dict[str, list[float]]:
    """Standard deviations of AXES: of all images, of the seeds' means, within a seed, of held-out crops."""
    images = np.stack([mean_colours(each.images) for each in people])  # (people, seeds, 3)
    spread = {
        "images": images.std((0, 1)),
        "between_seeds": images.mean(0).std(0),
        "within_seed": np.sqrt(images.var(0).mean(0)),
        "held_out": mean_colours([crop for each in people for crop in each.real]).std(0),
    }
    return {name: [float(value) for value in values] for name, values in spread.items()}


def measure(people: Sequence[Drawn], training: np.ndarray) -> dict[str, object]:
    """All figures. training: mean colours of the training crops, (N, 3)."""
    images = [pixels for each in people for pixels in each.images]
    real = [crop for each in people for crop in each.real]
    laplacian = {"images": median_laplacian(images), "held_out": median_laplacian(real)}

    # Of the colours, those beyond nearly all training crops in any axis.
    low, high = np.quantile(training, [0.01, 0.99], axis=0)  # (3,)
    colours = {"images": mean_colours(images), "held_out": mean_colours(real), "training": training}
    casts = {name: float(((rows < low) | (rows > high)).any(1).mean()) for name, rows in colours.items()}

    seen = {"recognizer": [not np.isnan(row).any() for each in people for row in each.embedded]}
    seen["dlib"] = [bool(find_faces(pixels)) for pixels in images]
    return {
        "sharpness": laplacian["images"] / laplacian["held_out"],
        "laplacian_variance": laplacian,
        "colour_cast": casts | {"training_crops": len(training)},
        "identity": identities(people),
        "faces": {name: float(np.mean(found)) for name, found in seen.items()},
        "diversity": diversity(people),
        "colour_spread": {"axes": AXES} | colour_spread(people),
        "seconds_per_image": statistics.median(sample.seconds for each in people for sample in each.samples),
    }


def write_sheets(path: Path, people: Sequence[Drawn]) -> None:
    """PATH-1.png and on: of each person two photos and the images in a row."""
    for number, start in enumerate(range(0, len(people), SHEET_ROWS), 1):
        rows = [[*each.photos, *each.images] for each in people[start : start + SHEET_ROWS]]
        sheet = Image.new("RGB", (TILE * max(map(len, rows)), TILE * len(rows)), "white")
        for top, row in enumerate(rows):
            for left, pixels in enumerate(row):
                tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
                sheet.paste(tile, (TILE * left, TILE * top))
        write_png(path.with_name(f"{path.stem}-{number}.png"), sheet)


def main() -> None:
    args = options()
    run = Path(args.model) / "final"  # of a training run: its model
    model = load_model(run if run.is_dir() else args.model)
    kinds = ("steps", "guidance_scale", "guidance_rescale", "text_guidance_scale", "scheduler", "precision")
    given = {name: getattr(args, name) for name in kinds if getattr(args, name) is not None}
    sampling = SamplingConfig(**given).for_model(model)
    people, training = draw_people(args, model, sampling)
    if not people:
        found, needed = f"nobody of {args.split} in {args.people}", f"people with more than {REFERENCES} photos are needed"
        raise DataError(found, needed, "Choose another split, or a larger list")
    if args.images_to:
        for each in people:
            for sample in each.samples:
                save_sample(sample, args.images_to / each.person / f"{sample.seed:02}.png")
    if args.sheet:
        write_sheets(args.sheet, people)

    result = {"name": "pocket_images", "model": model.name, "method": args.method, "split": args.split}
    result |= {"people": len(people), "images": sum(len(each.samples) for each in people)}
    result |= measure(people, training) | {"backend": people[0].samples[0].settings["backend"]}
    result |= {"sampling": {name: to_table(sampling).get(name) for name in kinds}}
    print(json.dumps(json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))))


main()
