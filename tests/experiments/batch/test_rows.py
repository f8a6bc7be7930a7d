"""A row of a plan is checked as `tenth generate` checks it, and its id is that of all that it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import DataError
from tenth.experiments.batch.rows import KEYS, BatchRow, parse_rows, read_row, row_line
from tenth.sampling.prompts.rows import COLUMNS, read_prompt_rows

ROW = {"person": "people/anna", "prompt": "a photo of a person"}


def one(**more: Any) -> BatchRow:
    (row,) = parse_rows({**ROW, **more}, "plan.jsonl, row 1")
    return row


def test_a_row_takes_what_a_file_of_prompts_takes() -> None:
    assert set(COLUMNS) < set(KEYS)


def test_the_request_is_that_of_the_row() -> None:
    row = one(seed=3, size=64, method="ip-adapter", negative_prompt="a hat", sampling={"steps": 2}, strength=0.5)
    request = row.request
    assert (request.prompts, request.seed, request.size) == (("a photo of a person",), 3, "64x64")
    assert (request.method, request.num_images, request.strength) == ("ip-adapter", 1, 0.5)
    assert (request.sampling.steps, request.sampling.negative_prompt) == (2, "a hat")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"promt": "x"}, "'promt' is not a key; known keys: .*Did you mean prompt"),
        ({"seed": -1}, "seed is -1; a whole number from 0"),
        ({"seed": 2**63 - 1, "num_images": 2}, "seed is 9223372036854775808"),
        ({"size": "wide"}, "the size 'wide'"),
        ({"size": 63}, "the size 63x63"),
        ({"strength": 0.5}, "without a size"),
        ({"prompt": "x" * 20_001}, "prompt is"),
        ({"prompt": 3}, "prompt is 3"),
        ({"num_images": 0}, "num_images is 0"),
        ({"method": "nonsense"}, "'nonsense' is not a method"),
        ({"style": "nonsense"}, "'nonsense' is not a style"),
        ({"sampling": {"steps": 0}}, "sampling.steps is 0"),
        ({"sampling": {"nonsense": 1}}, "'sampling.nonsense' is not a key"),
        ({"sampling": 3}, "sampling is 3"),
        ({"model": 3}, "model is 3"),
        ({"person": ""}, "person is ''"),
        ({"person": 3}, "person is 3"),
        ({"person": "a\0b"}, "person is"),
        ({"person": "a/" * 3_000}, "person is"),
    ],
)
def test_bad_rows_say_where_and_what(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^plan.jsonl, row 1: .*{message}"):
        one(**values)


def test_an_error_is_that_of_a_file_of_prompts(tmp_path: Path) -> None:
    bad = {"prompt": "a photo", "seed": "x"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(bad))
    with pytest.raises(DataError) as of_prompts:
        read_prompt_rows(tmp_path / "rows.jsonl")
    with pytest.raises(DataError) as of_plan:
        list(parse_rows(bad | {"person": "anna"}, f"{tmp_path / 'rows.jsonl'}, row 1"))
    assert str(of_plan.value) == str(of_prompts.value)


@pytest.mark.parametrize("missing", ["person", "prompt"])
def test_a_person_and_a_prompt_are_needed(missing: str) -> None:
    with pytest.raises(DataError, match=f"it has no {missing}"):
        list(parse_rows({key: value for key, value in ROW.items() if key != missing}, "row"))


def test_several_images_of_a_row_are_rows_with_the_next_seeds() -> None:
    rows = list(parse_rows({**ROW, "seed": 5, "num_images": 3}, "row"))
    assert [row.seed for row in rows] == [5, 6, 7]
    assert [row.id for row in rows] == [one(seed=seed).id for seed in (5, 6, 7)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"size": 64}, {"size": "64x64"}),
        ({"size": " 64 "}, {"size": "64x64"}),
        ({"seed": "7"}, {"seed": 7}),
        ({"person": "people/anna/"}, {}),
        ({"person": "./people//anna"}, {}),
        ({"model": "pocket", "method": "", "sampling": {"ip_adapter_scale": 1.0}, "seed": 0}, {}),
        ({"sampling": {"negative_prompt": "a hat"}}, {"negative_prompt": "a hat"}),
    ],
)
def test_rows_that_mean_the_same_have_one_id(written: dict[str, Any], meant: dict[str, Any]) -> None:
    assert one(**written).id == one(**meant).id
    assert one(**written).sort_key == one(**meant).sort_key


def test_each_word_of_a_row_is_in_its_id() -> None:
    others = [
        {"person": "people/bert"},
        {"prompt": "a photo"},
        {"seed": 1},
        {"method": "ip-adapter"},
        {"model": "other"},
        {"size": 64},
        {"size": 64, "strength": 0.5},
        {"size": 64, "face_detailer": False},
        {"negative_prompt": "a hat"},
        {"sampling": {"steps": 2}},
        {"sampling": {"scheduler": "euler"}},
    ]
    ids = [one(**other).id for other in ({}, *others)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)


def test_a_row_is_read_back_as_it_was_written() -> None:
    row = one(seed=3, size=64, sampling={"steps": 2, "guidance_interval": [0.2, 1.0]}, negative_prompt="a hat", model="other")
    again = read_row(row_line(row))
    assert (again.id, again.request, again.sort_key) == (row.id, row.request, row.sort_key)


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"id": 3}', '{"id": "0", "person": "a", "prompt": "b", "seed": 0}'])
def test_a_row_that_was_changed_is_refused(line: str) -> None:
    with pytest.raises(DataError, match="a row that this version planned is needed"):
        read_row(line)
