"""Seconds to find the pictures that were saved again, among hashes of many photos: how they grow, and what comparing all takes.

Photos are drawn, not real: smooth random fields whose brightness has the spectrum of photos. Nearly every hundredth is a copy
of an earlier one, with fewer differing bits than the rule allows. Seconds are the process's own, not the clock's.
By default 10,000, 100,000 and 1,000,000 of them; --largest=N ends at N; --tiny (for a test of this file). all_pairs: seconds of
comparing all with all of the smallest number, and what that comes to for the others, as pairs grow. recall: of the pairs that
comparing all finds there. dense: as many hashes of one picture, each a little changed. Prints one JSON object as its last line.
ratio: seconds of the largest number over the second largest, which for ten times as many would be 100 if all were compared.
"""

import json
import math
import resource
import sys
import time

import numpy as np

from tenth.data.near_duplicates import HASH_BITS, LEAF, Hashes, are_near_duplicates, find_originals

TINY = "--tiny" in sys.argv
SIDE = 17  # of the picture that is hashed


def option(name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith(f"--{name}=")), default)


def draw_hashes(count: int) -> Hashes:
    """(count, 8) of smooth random fields, amplitude falling with the frequency, made of bits as `near_duplicate_hash` does."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij")
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / 32)
    parts = []
    for begin in range(0, count, 4096):
        size = min(4096, count - begin)
        spectrum = rng.standard_normal((size, *amplitude.shape, 2)) @ np.array([1, 1j])
        fields = np.fft.irfft2(spectrum * amplitude, s=(32, 32))[:, :SIDE, :SIDE]  # (size, 17, 17)
        steps = np.stack([np.diff(fields[:, :-1], axis=2) > 0, np.diff(fields[:, :, :-1], axis=1) > 0], axis=1)
        parts.append(np.packbits(steps.reshape(size, HASH_BITS), axis=1).view(np.uint64))
    hashes = np.concatenate(parts)

    # Copies of earlier ones: half as many bits differ as may, or a little more than may.
    for index in range(100, count, 100):
        hashes[index] = changed(hashes[rng.integers(index)], rng, 10 if index % 1000 else 24)
    return hashes


def changed(content: Hashes, rng: np.random.Generator, bits: int) -> Hashes:
    mask = np.zeros(HASH_BITS, dtype=bool)
    mask[rng.choice(HASH_BITS, bits, replace=False)] = True
    return content ^ np.packbits(mask).view(np.uint64)


def all_pairs(hashes: Hashes) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for begin in range(0, len(hashes), LEAF):
        near = np.triu(are_near_duplicates(hashes[begin : begin + LEAF, None], hashes[None]), begin + 1)
        pairs |= {(int(first) + begin, int(second)) for first, second in zip(*np.nonzero(near), strict=True)}
    return pairs


def main() -> None:
    largest = option("largest", 3000 if TINY else 1_000_000)
    counts = [count for count in ((300, 3000) if TINY else (10_000, 100_000, 1_000_000)) if count <= largest]
    hashes, seconds, copies = draw_hashes(counts[-1]), {}, {}
    for count in counts:
        start = time.process_time()
        originals = find_originals(hashes[:count])
        seconds[count] = time.process_time() - start
        copies[count] = int((originals != np.arange(count)).sum())
        print(f"{count:,}: {seconds[count]:.2f} s, {copies[count]:,} copies", flush=True)

    # What is kept and dropped of the smallest number, against all pairs.
    smallest = counts[0]
    start = time.process_time()
    pairs = all_pairs(hashes[:smallest])
    brute = time.process_time() - start
    originals = find_originals(hashes[:smallest])
    kept = originals == np.arange(smallest)
    found = sum(not (kept[first] and kept[second]) for first, second in pairs)

    rng = np.random.default_rng(1)
    alike = np.stack([changed(hashes[0], rng, 2) for _ in range(counts[-2])])
    start = time.process_time()
    find_originals(alike)
    result = {
        "name": "near_duplicates",
        "ratio": round(seconds[counts[-1]] / seconds[counts[-2]], 2),
        "exponent": round(math.log(seconds[counts[-1]] / seconds[counts[-2]], counts[-1] / counts[-2]), 2),
        "seconds": {str(count): round(each, 2) for count, each in seconds.items()},
        "all_pairs": {str(count): round(brute * (count / smallest) ** 2, 1) for count in counts},
        "copies": {str(count): each for count, each in copies.items()},
        "recall": found / max(1, len(pairs)),
        "pairs": len(pairs),
        "dense": {str(counts[-2]): round(time.process_time() - start, 2)},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result))


main()
