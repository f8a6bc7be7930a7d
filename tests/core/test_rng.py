"""Random numbers of a training step."""

from __future__ import annotations

import torch

from tenth.core.rng import StepRNG


def test_a_repeated_stream_gives_each_call_several_times_in_turn() -> None:
    plain, repeated = StepRNG(0, 3, 4, slice(1, 3)), StepRNG(0, 3, 4, slice(1, 3)).repeated(2)
    assert torch.equal(repeated.normal(5), torch.cat([plain.normal(5), plain.normal(5)]))
    assert torch.equal(repeated.uniform(), torch.cat([plain.uniform(), plain.uniform()]))
    assert torch.equal(repeated.integers(9, 2), torch.cat([plain.integers(9, 2), plain.integers(9, 2)]))
    assert repeated.scalar() == plain.scalar()


def test_a_repeated_stream_goes_on_where_the_other_is() -> None:
    one, other = StepRNG(0, 0, 2), StepRNG(0, 0, 2)
    one.normal(3)
    other.normal(3)
    one.repeated(2).normal(3)
    other.normal(3)
    other.normal(3)
    assert torch.equal(one.normal(3), other.normal(3))


def test_selected_rows_are_those_of_the_whole_stream() -> None:
    plain, selected = StepRNG(0, 3, 4), StepRNG(0, 3, 4).selected(torch.tensor([3, 1]))
    for _ in range(2):
        assert torch.equal(plain.normal(2)[[3, 1]], selected.normal(2))
    assert plain.scalar() == selected.scalar()
