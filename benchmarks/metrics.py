"""FID, KID and Inception Score of 1,000 images against 1,000 others, from PNG files, beside torch-fidelity 0.4.0.

Usage: python benchmarks/metrics.py [--count N] [--rounds R] [--tiny]. Drawn pictures and seeded random weights, the same for
both, so the figures mean nothing but must be equal; they are printed side by side. Cold: features are computed, the network is
made within the time of each side. Warm: ours again, features from the store. Two threads for both; rounds take turns. Prints
one JSON object as its last line. ratio: torch-fidelity's seconds over ours, cold.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from PIL import Image, ImageDraw

from tenth.core.cache import ArrayCache
from tenth.core.types import Features
from tenth.evaluation.extractors.features import extract_features
from tenth.evaluation.extractors.inception import Inception, features_of, logits_of
from tenth.evaluation.extractors.inception_weights import random_inception, random_weights
from tenth.evaluation.image_set import list_images
from tenth.evaluation.metrics.frechet import fid
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.kid import kid

SEED, PIXELS, THREADS, SHAPES = "0", 128, 2, 8
TINY = 12
THEIRS = {
    "fid": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "inception-score": "inception_score_mean",
}


def draw(folder: Path, count: int, seed: int) -> Path:
    """`count` PNGs of ellipses, of seed 1 small and dark: the sides differ, as a model's images and photos do."""
    folder.mkdir()
    for index in range(count):
        random = np.random.default_rng([seed, index])
        image = Image.new("RGB", (PIXELS, PIXELS), tuple(random.integers(0, 256 // (1 + seed), 3).tolist()))
        for _ in range(SHAPES):
            left, top = random.integers(-PIXELS // 4, PIXELS, 2).tolist()
            width, height = random.integers(4, PIXELS // (1 + seed), 2).tolist()
            colour = tuple(random.integers(0, 256 // (1 + seed), 3).tolist())
            ImageDraw.Draw(image).ellipse((left, top, left + width, top + height), fill=colour)
        image.save(folder / f"{index:05}.png")
    return folder


def ours(generated: Path, held_out: Path, store: Path, inception: Inception) -> dict[str, float | None]:
    rows = [
        extract_features(list_images(folder), [inception], ArrayCache(store))[inception.name]
        for folder in (generated, held_out)
    ]
    pooled = [Features(features_of(each), ("",) * len(each)) for each in rows]
    logits = Features(logits_of(rows[0]), ("",) * len(rows[0]))
    scores = {"fid": fid(generated=pooled[0], held_out=pooled[1]), "kid": kid(generated=pooled[0], held_out=pooled[1])}
    scores["inception-score"] = inception_score(generated=logits)
    return {name: score.value for name, score in scores.items()}


def theirs(generated: Path, held_out: Path, weights: Path, count: int) -> dict[str, float]:
    found = torch_fidelity.calculate_metrics(
        input1=str(generated), input2=str(held_out), fid=True, kid=True, isc=True, cuda=False, cache=False, verbose=False,
        kid_subset_size=min(1000, count), feature_extractor_weights_path=str(weights),
    )  # fmt: skip
    return {ours: found[name] for ours, name in THEIRS.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    count, rounds = (TINY, 1) if args.tiny else (args.count, args.rounds)
    torch.set_num_threads(THREADS)
    seconds: dict[str, list[float]] = {"theirs": [], "cold": [], "warm": []}
    values = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        sides, weights = (draw(place / "generated", count, 0), draw(place / "held-out", count, 1)), place / "weights.pth"
        torch.save(dict(random_weights(int(SEED))), weights)
        for number in range(rounds):
            store = place / f"store-{number}"
            start = time.perf_counter()
            values["torch-fidelity"] = theirs(*sides, weights, count)
            seconds["theirs"].append(time.perf_counter() - start)
            start = time.perf_counter()
            inception = random_inception(SEED)
            values["tenth"] = ours(*sides, store, inception)
            seconds["cold"].append(time.perf_counter() - start)
            start = time.perf_counter()
            values["tenth, warm"] = ours(*sides, store, inception)
            seconds["warm"].append(time.perf_counter() - start)
    for name in THEIRS:
        print(f"{name:<16}" + "".join(f"  {side} {found[name]:.10g}" for side, found in values.items()))
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    result = {"name": "metrics", "ratio": round(middle["theirs"] / middle["cold"], 3)}
    result |= {"warm_times_as_fast": round(middle["theirs"] / middle["warm"], 1)}
    result |= {"seconds": {name: round(value, 3) for name, value in middle.items()}, "values": values}
    result |= {"images": [count, count], "pixels": PIXELS, "threads": THREADS, "rounds": rounds, "weights": f"random:{SEED}"}
    print(json.dumps(result | {"against": f"torch-fidelity {version('torch-fidelity')}", "torch": torch.__version__}))


if __name__ == "__main__":
    main()
