"""Does a second pass help the pocket model beyond 128 pixels? It against plain enlargement of the very same pictures.

    python benchmarks/highres.py PEOPLE.jsonl PHOTOS_FOLDER RECOGNIZER.toml --people 6 --size 256 --strengths 0 0.1 0.3

For validation people, four pictures each, of `ip-adapter-consensus`. identity: cosine, by the recognizer, to the mean of the
person's held-out photos, a picture without a face counting 0; its difference to Lanczos' enlargement has a 95 % interval over
people. sharpness: variance of the Laplacian of the grey values, over that of the enlargement. Strength 0 stands for the
autoencoder alone.
--sheet FILE: the pictures, a row each, first the enlargement. They are likenesses of real people: not to be published.
Prints a line a person and one JSON object as its last line.
"""

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tenth.core.types import Person
from tenth.data.faces.crops import PhotoDataset
from tenth.data.faces.detection import sharpness
from tenth.evaluation.extractors.face_recognizer import load_recognizer
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.experiments.protocol import face_crop, split_people
from tenth.methods.registry import method
from tenth.models.latents import decode, encode
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.img2img import img2img, resize_to_cover
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import FloatImage, SamplingBatch, sample_float, to_uint8

IMAGES, PROMPT, METHOD, PLAIN = 4, "a portrait photo of a person", "ip-adapter-consensus", "enlarged"


@torch.no_grad()
def through_autoencoder(scene: SamplingBatch, image: FloatImage) -> FloatImage:
    vae = scene.model.pipeline.vae
    decoded = decode(vae, encode(vae, torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1))[0]
    return (decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()


def compared(ours: list[float], plain: list[float]) -> dict[str, object]:
    found = paired_difference(ours, plain)
    difference = [None if value is None else round(value, 4) for value in (found.value, found.low, found.high)]
    return {"identity": round(float(np.mean(ours)), 4), "difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "recognizer"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--people", dest="count", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 0.1, 0.3])
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    model, recognizer = load_model("pocket"), load_recognizer(args.recognizer)
    size = Size(args.size, args.size)
    ways = [PLAIN, *(f"{strength:g}" for strength in args.strengths)]
    likeness: dict[str, list[float]] = {way: [] for way in ways}
    sharp: dict[str, list[float]] = {way: [] for way in ways}
    faces, seconds = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    rows: list[np.ndarray] = []
    for number, sides in islice(
        split_people(PhotoDataset(args.people, args.photos), "validation", references=9, held_out=10), args.count
    ):
        real = recognizer([face_crop(photo) for photo in sides.held_out])
        centre = real[~np.isnan(real).any(1)].mean(0)
        identity = method(METHOD)(Person(number, sides.references), model).identity
        made: dict[str, list[FloatImage]] = {}
        with model.applied([identity] * IMAGES) as embeddings:
            scene = SamplingBatch(model, SamplingConfig(), [PROMPT] * IMAGES, range(IMAGES), embeddings)
            start = time.perf_counter()
            made[PLAIN] = [resize_to_cover(image, size) for image in sample_float(scene)]
            seconds[PLAIN] += time.perf_counter() - start
            for way, strength in zip(ways[1:], args.strengths, strict=True):
                start = time.perf_counter()
                made[way] = [
                    img2img(scene.single(row).with_new_noise("second pass", 0), image, strength)
                    if strength
                    else through_autoencoder(scene, image)
                    for row, image in enumerate(made[PLAIN])
                ]
                seconds[way] += time.perf_counter() - start
        plain = [sharpness(picture) for picture in to_uint8(made[PLAIN])]
        for way in ways:
            pictures = to_uint8(made[way])
            found = recognizer(pictures)
            likeness[way].append(float(np.nan_to_num(found @ centre).mean()))
            faces[way] += int((~np.isnan(found).any(1)).sum())
            sharp[way].append(float(np.mean([sharpness(one) / least for one, least in zip(pictures, plain, strict=True)])))
        rows += [np.concatenate([to_uint8([made[way][row]])[0] for way in ways], 1) for row in range(IMAGES)]
        print(number, {way: (round(likeness[way][-1], 3), round(sharp[way][-1], 2)) for way in ways}, flush=True)
        if args.sheet:
            Image.fromarray(np.concatenate(rows)).save(args.sheet)
    result: dict[str, object] = {"name": "highres", "size": str(size), "people": len(rows) // IMAGES, "images": len(rows)}
    for way in ways:
        measured = {"faces": faces[way], "seconds": round(seconds[way] / len(rows), 2)}
        measured["sharpness"] = round(float(np.mean(sharp[way])), 3)
        result[way] = compared(likeness[way], likeness[PLAIN]) | measured
    print(json.dumps(result))


main()
