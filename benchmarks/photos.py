"""Nine photos of 12 megapixels become the pocket model's embeddings, with an empty cache: seconds, and where they are spent.

The example faces are pasted into large JPEGs of blotches, WIDTHS pixels wide: the small ones are found at larger scales only.
ours: the folder is read and encoded as `tenth identity` does it. one_thread: the same, a photo after the other. parts: seconds
of one thread for dlib's detector, and for all photos' decoding, the first search, the further searches with what they decode
again, and the descriptors. Options: --rounds=N (3, alternated; medians are printed), --width=N (all faces so wide), --tiny (for
a test of this file). Prints one JSON object as its last line. ratio: seconds of `one_thread` over ours, that is the gain of the
threads alone, in the same code; it says nothing of an earlier version.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.run_record import num_cores
from tenth.data import photo_folder
from tenth.data.faces.descriptors import cached_face_descriptor, face_descriptor
from tenth.data.faces.detection import face_width, find_faces
from tenth.data.faces.multiscale import open_photo_with_faces
from tenth.data.photo import open_photo
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

TINY = "--tiny" in sys.argv
SIZE = (800, 600) if TINY else (4000, 3000)
WIDTHS = (1200, 900, 700, 600, 500, 400, 300, 200, 100)  # pixels of a face; the last three are missed by the first search


def option(name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith(f"--{name}=")), default)


def write_photos(folder: Path, widths: list[int]) -> list[Path]:
    paths = []
    for number, (example, width) in enumerate(zip(sorted(EXAMPLE_PHOTOS_DIR.glob("*.png")), widths, strict=True)):
        picture = Image.open(example).convert("RGB")
        side = round(picture.width * width / face_width(find_faces(np.asarray(picture))[0]))
        blotches = np.random.default_rng(number).integers(60, 190, (SIZE[1] // 20, SIZE[0] // 20, 3), dtype=np.uint8)
        photo = Image.fromarray(blotches).resize(SIZE, Image.Resampling.BICUBIC)
        photo.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (SIZE[0] // 8 + 10 * number, SIZE[1] // 10))
        photo.save(path := folder / f"{number}.jpg", quality=95)
        paths.append(path)
    return paths


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def embeddings(folder: Path, threads: int) -> torch.Tensor:
    photo_folder.MAX_THREADS = threads
    with tempfile.TemporaryDirectory() as empty:
        cache = ArrayCache(Path(empty))
        person = photo_folder.read_person(folder, descriptor=cached_face_descriptor(cache))
        return FaceEncoder(torch.zeros(128), 1.0, cache)(person.photos)


def seconds_of_parts(paths: list[Path]) -> dict[str, float]:
    decode, photos = timed(lambda: [open_photo(path) for path in paths])
    search, _ = timed(lambda: [find_faces(photo.pixels) for photo in photos])
    whole, found = timed(lambda: [open_photo_with_faces(path) for path in paths])
    describe, _ = timed(lambda: [face_descriptor(replace(photo, face=faces[0])) for photo, faces in found])
    return {"decode": decode, "search": search, "search_again": max(0.0, whole - decode - search), "describe": describe}


def main() -> None:
    load, _ = timed(lambda: find_faces(np.zeros((80, 80, 3), np.uint8)))
    width, threads = option("width", 120 if TINY else 0), photo_folder.MAX_THREADS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_photos(folder, [width or each for each in WIDTHS])
        parts = {"load_detector": load, **seconds_of_parts(paths)}
        seconds: dict[str, list[float]] = {"ours": [], "one_thread": []}
        found = []
        for _ in range(option("rounds", 1 if TINY else 3)):
            for name, count in (("ours", threads), ("one_thread", 1)):
                elapsed, embedded = timed(lambda count=count: embeddings(folder, count))
                seconds[name].append(elapsed)
                found.append(embedded)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    result = {
        "name": "photos",
        "ratio": medians["one_thread"] / medians["ours"],
        "seconds": {name: round(each, 3) for name, each in medians.items()},
        "parts": {name: round(each, 3) for name, each in parts.items()},
        "photos": len(found[0]),
        "same": all(torch.equal(each, found[0]) for each in found),  # to the byte
        "pixels": SIZE,
        "cores": num_cores(),
    }
    print(json.dumps(result))


main()
