"""Features of photos by Inception and face recognizers: as they were computed image by image, and by tenth[fast].

Usage: python benchmarks/features.py --photos DIR [--recognizer FILE] [--count N] [--rounds R] [--tiny]. One side computes as
before: Inception by torch in a thread for each core, detection and recognizers one image after the other. The other is today's
with the backend openvino. Both decode the files. Rounds take turns; the shortest counts. Prints one JSON object as its last
line. ratio: seconds of the first over the second. fid: of the first half of the photos against the second by both, with
Inception's random weights. cosine: the least between the rows of a face by both.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tenth.core.types import FeatureArray, Photo, Pixels
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import find_faces
from tenth.evaluation.extractors.face_recognizer import OnnxFaceRecognizer, dlib_recognizer, l2_normalize, load_recognizer
from tenth.evaluation.extractors.inception import features_of
from tenth.evaluation.extractors.inception_weights import random_inception
from tenth.evaluation.extractors.openvino_networks import FastDlibRecognizer, FastInception
from tenth.evaluation.metrics.frechet import frechet_distance
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

THREADS, TINY = 2, 4
Parts = dict[str, Callable[[list[Pixels]], FeatureArray]]


def dlib_one_by_one(images: list[Pixels]) -> FeatureArray:
    """As DlibRecognizer was: detection and descriptor of an image after the other."""
    rows = np.full((len(images), 128), np.nan)
    for row, image in enumerate(images):
        if faces := find_faces(image):
            rows[row] = face_descriptor(Photo(image, "", face=faces[0])) - dlib_recognizer().center
    return l2_normalize(rows)


def onnx_one_by_one(recognizer: OnnxFaceRecognizer) -> Callable[[list[Pixels]], FeatureArray]:
    def rows(images: list[Pixels]) -> FeatureArray:
        torch.set_num_threads(1)
        try:
            return recognizer(images)
        finally:
            torch.set_num_threads(THREADS)

    return rows


def measure(parts: Parts, paths: list[Path]) -> tuple[dict[str, float], dict[str, FeatureArray]]:
    """Seconds and rows of each part; decoding is one."""
    begin = time.perf_counter()
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    seconds, rows = {"decoding": time.perf_counter() - begin}, {}
    for name, part in parts.items():
        begin = time.perf_counter()
        rows[name] = part(images)
        seconds[name] = time.perf_counter() - begin
    return seconds, rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, default=EXAMPLE_PHOTOS_DIR)
    parser.add_argument("--recognizer", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    paths = sorted(path for path in args.photos.rglob("*") if path.suffix in (".jpg", ".png"))
    count, rounds = (TINY, 1) if args.tiny else (args.count, args.rounds)
    paths = paths[:: max(1, len(paths) // count)][:count]

    # Both sides, compiled before they are timed.
    inception = random_inception("0")
    before: Parts = {"inception": inception, "dlib": dlib_one_by_one}
    now: Parts = {"inception": FastInception(inception), "dlib": FastDlibRecognizer(dlib_recognizer())}
    if args.recognizer:
        recognizer = load_recognizer(args.recognizer)
        before["recognizer"], now["recognizer"] = onnx_one_by_one(recognizer), recognizer
    for parts in (before, now):
        measure(parts, paths[:2])

    # In turns.
    seconds: dict[str, dict[str, float]] = {"before": {}, "now": {}}
    rows: dict[str, dict[str, FeatureArray]] = {}
    for _ in range(rounds):
        for side, parts in (("before", before), ("now", now)):
            taken, rows[side] = measure(parts, paths)
            seconds[side] = {name: min(value, seconds[side].get(name, value)) for name, value in taken.items()}
    half = len(paths) // 2
    halves = (features_of(rows[side]["inception"]) for side in seconds)
    cosines = np.nanmin((rows["before"]["dlib"] * rows["now"]["dlib"]).sum(1))
    result = {
        "name": "features",
        "images": len(paths),
        "ratio": round(sum(seconds["before"].values()) / sum(seconds["now"].values()), 2),
        "milliseconds": {
            side: {name: round(1000 * value / len(paths), 1) for name, value in each.items()} for side, each in seconds.items()
        },
        "fid": [round(frechet_distance(each[:half], each[half:]), 5) for each in halves],
        "cosine": round(float(cosines), 6),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
