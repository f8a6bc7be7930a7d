"""Pictures saved again are found among many without comparing all, and no pair that the rule allows is missed."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.data import near_duplicates
from tenth.data.near_duplicates import HASH_BITS, HASH_BYTES, Hashes, Indices, are_near_duplicates, find_originals, to_hashes


def with_bits(*places: int) -> bytes:
    bits = np.zeros(HASH_BITS, dtype=bool)
    bits[list(places)] = True
    return np.packbits(bits).tobytes()


def flipped(content: Hashes, rng: np.random.Generator, count: int) -> Hashes:
    """(WORDS,) with so many bits changed."""
    mask = with_bits(*rng.choice(HASH_BITS, count, replace=False))
    return content ^ to_hashes([mask])[0]


def by_comparing_all(hashes: Hashes) -> Indices:
    """What `find_originals` promises, one hash after the other."""
    originals, kept = np.arange(len(hashes)), np.zeros(len(hashes), dtype=bool)
    for index in range(len(hashes)):
        near = np.flatnonzero(kept[:index] & are_near_duplicates(hashes[:index], hashes[index]))
        kept[index] = not len(near)
        originals[index] = near[0] if len(near) else index
    return originals


def test_the_rule_is_8_percent_of_the_bits_that_are_set_in_either() -> None:
    for union in range(HASH_BITS + 1):
        for distance in range(union + 1):
            set_bits = 2 * union - distance
            assert (near_duplicates.SET_BITS_PER_DIFFERENCE * distance <= set_bits) == (distance <= 0.08 * union)
    pairs = to_hashes([with_bits(*range(25)), with_bits(*range(23)), with_bits(*range(22))])
    assert are_near_duplicates(pairs[0], pairs).tolist() == [True, True, False]


@pytest.mark.parametrize("set_bits", [0, 3, 11, 12, 40, 128, 256, 400, 512])
def test_every_pair_at_the_limit_shares_a_band(set_bits: int) -> None:
    """The worst pairs there are, of each class of sizes: as many differing bits as the rule allows, spread by chance."""
    rng, found = np.random.default_rng(set_bits), 0
    base = to_hashes([with_bits(*rng.choice(HASH_BITS, set_bits, replace=False))])[0]
    for _ in range(40):
        distance = set_bits // near_duplicates.SET_BITS_PER_DIFFERENCE * 2 + 2
        pair = np.stack([base, flipped(base, rng, min(distance, HASH_BITS))])
        while not are_near_duplicates(*pair):
            distance -= 1
            pair = np.stack([base, flipped(base, rng, distance)])
        sizes = np.bitwise_count(pair).sum(axis=-1, dtype=np.int64)
        first = near_duplicates._first_matches(pair, sizes, np.array([0]), np.array([1]))
        assert first.tolist() == [0]
        found += 1
    assert found == 40


def test_all_classes_of_sizes_reach_as_far_as_the_rule() -> None:
    classes = list(near_duplicates._size_classes())
    for smaller in range(HASH_BITS + 1):
        for larger in range(smaller, HASH_BITS + 1):
            difference = larger - smaller  # the least, for these sizes; the most is what the rule allows
            if 24 * difference > smaller + larger:
                break
            allowed = (smaller + larger) // 24
            assert any(low <= smaller and larger <= high and allowed <= most for low, high, most in classes), (smaller, larger)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 40, 2500])
def test_it_is_what_comparing_all_gives(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random hashes of any number of set bits, copies of them, copies of copies, and equal ones."""
    rng = np.random.default_rng(count)
    densities = rng.choice([0.0, 0.02, 0.1, 0.5, 0.9], (count, 1))
    hashes = np.packbits(rng.random((count, HASH_BITS)) < densities, axis=1).view(np.uint64)
    for index in range(1, count):
        if rng.random() < 0.4:
            hashes[index] = flipped(hashes[rng.integers(index)], rng, int(rng.choice([0, 1, 5, 15, 22, 23, 40])))
    expected = by_comparing_all(hashes)
    for leaf in (2, 64, 4096):
        monkeypatch.setattr(near_duplicates, "LEAF", leaf)
        assert np.array_equal(find_originals(hashes), expected)
    assert (count < 40) or 0 < (expected != np.arange(count)).sum() < count


def test_many_copies_of_one_picture_and_little_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MAX_PAIRS", 7)
    monkeypatch.setattr(near_duplicates, "LEAF", 16)
    rng = np.random.default_rng(0)
    base = to_hashes([rng.bytes(HASH_BYTES)])[0]
    hashes = np.stack([flipped(base, rng, int(rng.integers(0, 14))) for _ in range(600)])
    assert np.array_equal(find_originals(hashes), by_comparing_all(hashes))
    assert set(find_originals(np.repeat(base[None], 300, axis=0))) == {0}


def test_what_is_kept_has_no_two_of_one_picture() -> None:
    rng = np.random.default_rng(5)
    hashes = to_hashes([rng.bytes(HASH_BYTES) for _ in range(300)]).copy()
    for index in range(1, 300):
        hashes[index] = flipped(hashes[index - 1], rng, 13)  # a chain: each near the next, not near the one after
    originals = find_originals(hashes)
    kept = hashes[originals == np.arange(300)]
    assert 1 < len(kept) < 300
    assert are_near_duplicates(kept[:, None], kept[None]).sum() == len(kept)


def test_nothing_is_nothing() -> None:
    assert find_originals(to_hashes([])).tolist() == []
