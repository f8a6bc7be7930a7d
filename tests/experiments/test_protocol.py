"""Who stands next to whom; the two sides of real people are tested with the experiment."""

from __future__ import annotations

from collections.abc import Iterator

from tenth.evaluation.attribute_table import attributes_of_crops
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.experiments.protocol import pair_with_next, person_attributes
from toy_people import face_pixels


def test_each_has_the_next_and_the_last_has_the_first() -> None:
    assert list(pair_with_next("abc")) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert list(pair_with_next("a")) == [("a", "a")]
    assert list(pair_with_next("")) == []


def test_only_the_next_one_is_fetched() -> None:
    fetched: list[int] = []

    def people() -> Iterator[int]:
        for number in range(9):
            fetched.append(number)
            yield number

    pairs = pair_with_next(people())
    assert next(pairs) == (0, 1)
    assert fetched == [0, 1]


def test_the_classifier_is_asked_only_where_the_people_list_says_nothing_of_anybody() -> None:
    crops = [face_pixels(0, number) for number in range(3)]
    read = attributes_of_crops(crops, load_face_attributes())
    assert person_attributes({"000": {}, "001": {}}, "000", crops) == read
    assert person_attributes({"000": {}, "001": {"male": True}}, "000", crops) == {}
    assert person_attributes({"000": {"male": False}}, "000", crops) == {"male": False}
