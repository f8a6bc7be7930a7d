"""Find pictures that were saved again, among any number of photos, by their `near_duplicate_hash`, without comparing all pairs.

The rule (`are_near_duplicates`) is the last word: every pair that is reported was compared by it, and none within it is missed.
Two hashes within the rule differ in at most 2/23 of the bits that are set in the one with fewer. So many bits differ in so many
bands of the hash at most: of one band more, one is equal in both, and only hashes that share a band are compared. Photos with
few set bits, such as those before a plain background, have few and wide bands.
Source: Norouzi, Punjani and Fleet 2012 (multi-index hashing); Arasu, Ganti and Kaushik 2006 (classes of size).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

HASH_BITS = 512
HASH_BYTES, WORDS = HASH_BITS // 8, HASH_BITS // 64
# Differing bits of `near_duplicate_hash` of two whole images: at most a 24th of the bits set in the one and in the other, that
# is 8 % of the bits that are set in either. A plain background sets no bits, so a limit in bits would make duplicates of all
# passport photos of a person. Of the 87,549,528 pairs of LFW, 11 are within it, each one picture; with faces cut out on pure
# white, at most 8 of 17,765. Copies of half the size reach 0.06, at JPEG quality 60 0.09 (95 %: 0.056), at 25 mostly 0.05.
# Cropped copies are not found.
SET_BITS_PER_DIFFERENCE = 24
LEAF = 512  # hashes that are compared all with all: as quick as bands are for so few
MAX_PAIRS = 1 << 21  # in memory at a time
MOST_DIFFERENCES = (0, 1, 2, 3, 4, 6, 8, 11, 14, 18, 22, 26, 32, 38, 44)  # of each class of sizes; the last: of 512 set bits

Hashes = npt.NDArray[np.uint64]  # (N, WORDS)
Indices = npt.NDArray[np.int64]


def to_hashes(contents: Sequence[bytes]) -> Hashes:
    """(N, WORDS) of N hashes of HASH_BYTES bytes."""
    return np.frombuffer(b"".join(contents), dtype=np.uint64).reshape(-1, WORDS)


def are_near_duplicates(one: Hashes, other: Hashes) -> npt.NDArray[np.bool_]:
    """Whether two hashes are of one picture, saved again: the rule. Broadcasts (..., WORDS) to (...)."""
    distance, set_bits = _count(one ^ other), _count(one) + _count(other)
    return SET_BITS_PER_DIFFERENCE * distance <= set_bits


def find_originals(hashes: Hashes) -> Indices:
    """For each hash, the first earlier one of which it is a near-duplicate and that is itself of none; else its own index.

    So no two of the hashes that have their own index are near-duplicates. Copies of copies are not followed: what differs from
    the first more than the rule allows is an original. hashes: (N, WORDS). The result: (N,).
    Takes about N ** 1.15 operations, and fewer where many are copies of one: see benchmarks/near_duplicates.py.
    """
    originals = np.arange(len(hashes))
    _keep_originals(hashes, _count(hashes), np.arange(len(hashes)), originals)
    return originals


def _keep_originals(hashes: Hashes, sizes: Indices, indices: Indices, originals: Indices) -> Indices:
    """Those of `indices` that are no near-duplicate of an earlier one that is kept; for the others `originals` is set."""
    if len(indices) <= LEAF:
        return _keep_by_comparing_all(hashes, indices, originals)
    # The second half is compared with what is kept of the first, so that many copies of one picture cost little.
    kept, later = _keep_originals(hashes, sizes, indices[: len(indices) // 2], originals), indices[len(indices) // 2 :]
    found = _first_matches(hashes, sizes, kept, later)
    copies = found < len(kept)
    originals[later[copies]] = kept[found[copies]]
    return np.concatenate([kept, _keep_originals(hashes, sizes, later[~copies], originals)])


def _keep_by_comparing_all(hashes: Hashes, indices: Indices, originals: Indices) -> Indices:
    near = np.triu(are_near_duplicates(hashes[indices][:, None], hashes[indices][None]), 1)  # (N, N), [earlier, later]
    kept = np.ones(len(indices), dtype=bool)
    for later in np.flatnonzero(near.any(axis=0)):
        earlier = np.flatnonzero(near[:, later] & kept)
        if len(earlier):
            kept[later] = False
            originals[indices[later]] = indices[earlier[0]]
    return indices[kept]


def _first_matches(hashes: Hashes, sizes: Indices, kept: Indices, later: Indices) -> Indices:
    """For each of `later`, the position of the first near-duplicate in `kept`; len(kept) if there is none."""
    first = np.full(len(later), len(kept))
    for low, high, most in _size_classes():
        places, queries = (np.flatnonzero((sizes[side] >= low) & (sizes[side] <= high)) for side in (kept, later))
        if not len(places) or not len(queries):
            continue
        for mask in _bands(most + 1):
            keys, asked = (_band_keys(hashes[side[chosen]], mask) for side, chosen in ((kept, places), (later, queries)))
            order = np.argsort(keys)
            keys = keys[order]
            starts = np.searchsorted(keys, asked)
            hits = np.flatnonzero(keys[np.minimum(starts, len(keys) - 1)] == asked)
            ends = np.searchsorted(keys, asked[hits], side="right")
            for left, right in _pairs(starts[hits], ends):
                place, query = places[order[left]], queries[hits[right]]
                near = are_near_duplicates(hashes[kept[place]], hashes[later[query]])
                np.minimum.at(first, query[near], place[near])
    return first


def _size_classes() -> Iterator[tuple[int, int, int]]:
    """(least and most set bits, most differing bits): every two hashes within the rule are in a class together.

    Of s set bits in the smaller and s + d at most in the other, d differ, and 24 d <= 2 s + d, so d <= 2 s / 23.
    """
    low = 0
    for most in MOST_DIFFERENCES:
        largest = min(HASH_BITS, (23 * (most + 1) - 1) // 2)  # set bits of the smaller
        yield low, largest + most, most
        low = largest + 1


def _bands(count: int) -> Hashes:
    """Masks of `count` disjoint bands of a hash, together all of it, (count, WORDS). A band's bits lie far from each other.

    Neighbouring bits are alike in most photos, so that a band of neighbours would be the same in many.
    """
    shuffled = np.random.default_rng(0).permutation(HASH_BITS)
    bits = np.zeros((count, HASH_BITS), dtype=bool)
    bits[np.arange(HASH_BITS) % count, shuffled] = True
    return np.packbits(bits, axis=1).view(np.uint64)


def _band_keys(hashes: Hashes, mask: Hashes) -> Hashes:
    """(N,) from (N, WORDS): equal where the hashes are equal under the mask, and hardly ever elsewhere."""
    keys = np.zeros(len(hashes), dtype=np.uint64)
    for word in np.flatnonzero(mask):
        keys += (hashes[:, word] & mask[word]) * FACTORS[word]
    return keys


def _pairs(starts: Indices, ends: Indices) -> Iterator[tuple[Indices, Indices]]:
    """(place, query) of every place from the query's start to its end, at most about MAX_PAIRS at a time."""
    counts = ends - starts  # at least 1
    totals = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = totals[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, done + MAX_PAIRS, side="right")))
        part = counts[begin:end]
        within = np.arange(int(part.sum())) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(starts[begin:end], part) + within, np.repeat(np.arange(begin, end), part)
        begin = end


def _count(hashes: Hashes) -> Indices:
    """Set bits, (...) from (..., WORDS)."""
    counts: Indices = np.bitwise_count(hashes).sum(axis=-1, dtype=np.int64)
    return counts


FACTORS = np.random.default_rng(1).integers(0, 1 << 63, WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
