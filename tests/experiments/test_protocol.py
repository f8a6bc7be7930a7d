"""Who stands next to whom; the two sides of real people are tested with the experiment."""

from __future__ import annotations

from collections.abc import Iterator

from tenth.experiments.protocol import pair_with_next


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
