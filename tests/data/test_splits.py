"""The split is a function of the name and the count; references and held-out photos never meet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.data.faces.detection import NEAR_DUPLICATE_BITS
from tenth.data.splits import (
    FOLD_SALT,
    FOLDS,
    VALIDATION_SALT,
    deduplicate,
    fold_of,
    split_by_name,
    split_of,
    split_references,
)

# The people of LFW with ten photos or more, as `ls` gives them; names only.
WITH_TEN = (Path(__file__).parent / "lfw_people_with_ten.txt").read_text(encoding="utf-8").split()


@dataclass(frozen=True)
class Toy:
    digest: str


def toys(count: int) -> list[Toy]:
    return [Toy(f"{number:064x}") for number in range(count)]


def far_apart(count: int) -> list[int]:
    """Hashes that differ in at least NEAR_DUPLICATE_BITS + 1 bits, pairwise."""
    return [((1 << (NEAR_DUPLICATE_BITS + 1)) - 1) << (number * (NEAR_DUPLICATE_BITS + 1)) for number in range(count)]


def digest(salt: str, name: str) -> int:
    return int(sha256((salt + name).encode()).hexdigest(), 16)


def even(folds: Counter[int]) -> bool:
    return [folds[fold] for fold in range(3)] == [53, 53, 52]


def test_people_with_ten_photos_split_evenly() -> None:
    assert len(WITH_TEN) == len(set(WITH_TEN)) == 158
    assert even(Counter(map(fold_of, WITH_TEN)))
    assert Counter(split_of(name, 10) for name in WITH_TEN) == {"train": 84, "test": 53, "validation": 21}


def test_each_salt_is_the_first_of_its_series() -> None:
    folds = (salt for salt in map("tenth-{}".format, range(999)) if even(Counter(digest(salt, n) % 3 for n in WITH_TEN)))
    assert next(folds) == FOLD_SALT
    others = [name for name in WITH_TEN if fold_of(name)]
    fifths = (
        salt for salt in map("tenth-validation-{}".format, range(99)) if sum(digest(salt, n) % 5 == 0 for n in others) == 21
    )
    assert next(fifths) == VALIDATION_SALT


@pytest.mark.parametrize(
    ("name", "fold", "split"),
    [("George_W_Bush", 0, "test"), ("Tony_Blair", 1, "train"), ("Andy_Roddick", 2, "validation")],
)
def test_splits_that_stand_for_ever(name: str, fold: int, split: str) -> None:
    assert (fold_of(name), split_of(name, 10)) == (fold, split)
    assert split_of(name, 530) == split


@pytest.mark.parametrize(("count", "split"), [(1, "train"), (7, "train"), (8, "reserved"), (9, "reserved")])
def test_people_with_fewer_photos(count: int, split: str) -> None:
    assert {split_of(name, count) for name in WITH_TEN} == {split}


def test_own_people_split_by_the_name_alone() -> None:
    assert Counter(map(split_by_name, WITH_TEN)) == {"train": 84, "test": 53, "validation": 21}
    shares = Counter(split_by_name(f"person {number}") for number in range(3000))
    assert [round(shares[split] / 3000, 1) for split in ("train", "validation", "test")] == [0.5, 0.1, 0.3]


def test_three_folds_test_everybody_once() -> None:
    people = [f"Person_{number}" for number in range(200)]
    tested = [{name for name in people if split_of(name, 12, fold) == "test"} for fold in range(FOLDS)]
    assert set.union(*tested) == set(people)
    assert sum(map(len, tested)) == len(people)
    assert all(split_of(name, 9, 1) == "reserved" for name in people)  # set aside whatever the fold
    validation = [{name for name in people if split_of(name, 12, fold) == "validation"} for fold in range(FOLDS)]
    assert validation[0] - tested[1] <= validation[1]  # the same people validate, but for those who test


def test_a_name_has_one_fold_however_a_file_system_writes_it() -> None:
    names = [f"Zo\u00eb {number}" for number in range(20)]
    assert [fold_of(name) for name in names] == [fold_of(name.replace("\u00eb", "e\u0308")) for name in names]
    assert fold_of("Andr\udce9") in range(3)  # bytes that are no text


def test_distinct_keeps_the_first_of_equal_files_and_of_near_hashes() -> None:
    one, two, three, *_ = far_apart(4)
    assert deduplicate(["a", "a", "b", "c", "d"], [one, two, one ^ 1, two, three]) == [0, 3, 4]


@pytest.mark.parametrize(("bits", "kept"), [(3, [0]), (2, [0, 1])])
def test_distinct_has_a_sharp_edge(bits: int, kept: list[int]) -> None:
    assert deduplicate(["a", "b"], [0, 0b111], bits) == kept


def test_references_are_nested_and_held_out_photos_stay() -> None:
    parted = split_references("anna", toys(30), far_apart(30))
    assert [photo.digest for photo in parted.references] == [photo.digest for photo in toys(9)]
    assert parted.held_out == tuple(toys(30)[9:19])


def test_a_near_duplicate_of_a_reference_is_never_held_out() -> None:
    hashes = [value ^ (copy and 1) for value in far_apart(10) for copy in (0, 1)]  # every photo and a copy of it
    parted = split_references("anna", toys(20), hashes, references=5)
    value = dict(zip(toys(20), hashes, strict=True))
    nearest = min((value[one] ^ value[other]).bit_count() for one in parted.references for other in parted.held_out)
    assert nearest > NEAR_DUPLICATE_BITS
    assert len(parted.held_out) == 5


def test_too_few_photos_says_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        split_references("anna", toys(2), far_apart(2), references=3)
    assert str(caught.value) == (
        "anna has 2 photos; 3 references and a held-out photo are needed. Add photos, or lower references."
    )


def test_duplicates_do_not_count() -> None:
    with pytest.raises(DataError, match="anna has 1 photo after 9 duplicates; 9 references and a held-out photo are needed"):
        split_references("anna", toys(10), [0] * 10)
