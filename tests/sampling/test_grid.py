"""Axes and grids: what is read of them, and the rows that they come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenth.core.errors import InputError
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.prompts.grid import AXES, MAX_CELLS, Grid, parse_axis
from tenth.sampling.prompts.rows import PromptRow

SCALE = {"up": {"block_0": [0, 1, 0]}}


@pytest.mark.parametrize(
    ("text", "values"),
    {
        "method=ip-adapter-avg, ip-adapter": ("ip-adapter-avg", "ip-adapter"),
        "prompt=a man, old|a woman": ("a man, old", "a woman"),
        "prompt=a {red|blue} hat|a \\| b": ("a {red|blue} hat", "a \\| b"),
        "negative-prompt=|a hat, a beard": ("", "a hat, a beard"),
        "seed=1-5": (1, 2, 3, 4, 5),
        "seed=1-9 (+4), 20": (1, 5, 9, 20),
        "seed=9223372036854775807": (2**63 - 1,),
        "size=128,64x128": (Size(128, 128), Size(64, 128)),
        "style=none,film": ("", "film"),
        "steps=1-10 [5]": (1, 3, 5, 7, 10),
        "steps=10-50 [4]": (10, 23, 36, 50),
        "guidance_scale=1-2 (+0.5)": (1, 1.5, 2),
        "adapter_scale=0.5," + str(SCALE).replace("'", '"'): (0.5, SCALE),
        "text_guidance=0,5": (0, 5),
        "scheduler=own,ddim": ("", "ddim"),
        "guidance_interval=0 1,0.2 1": ((0, 1), (0.2, 1)),
        "precision=fp32,bf16": ("fp32", "bf16"),
    }.items(),
)
def test_values_of_an_axis(text: str, values: tuple[Any, ...]) -> None:
    axis = parse_axis(text)
    assert axis.values == values
    assert len(axis.labels) == len(axis.headings) == len(values)
    assert axis.name in AXES


def test_a_row_for_each_cell_the_first_axis_side_by_side() -> None:
    grid = Grid(tuple(map(parse_axis, ("seed=1,2", "steps=4,8", "prompt=a|b"))))
    rows = grid.rows(PromptRow("c", negative_prompt="d"))
    assert grid.num_cells == len(rows) == 8
    found = [(row.prompt, row.sampling["steps"], row.seed) for row in rows]
    assert found == [(prompt, steps, seed) for prompt in "ab" for steps in (4, 8) for seed in (1, 2)]
    assert {(row.negative_prompt, row.num_images) for row in rows} == {("d", 1)}
    assert rows[5].source == "cell 6 of the grid (seed=2, steps=4, prompt=b)"
    assert grid.to_table()[1] == {"name": "steps", "values": ["4", "8"]}


@pytest.mark.parametrize(
    ("axes", "said"),
    {
        ("seed=1", "steps=1", "size=64", "method=ip-adapter"): "4 axes; 1 to 3 are needed",
        (): "0 axes",
        ("seed=1", "seed=2"): "two axes of seed",
        ("seed=1-32", "steps=1-32"): "1,024 cells; at most 1,000",
    }.items(),
)
def test_what_is_no_grid(axes: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Grid(tuple(map(parse_axis, axes)))


def test_a_grid_without_a_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="without a prompt; one is needed for all cells"):
        Grid((parse_axis("seed=1,2"),)).rows()


def test_a_grid_may_be_as_large_as_it_says() -> None:
    assert len(Grid((parse_axis(f"seed=1-{MAX_CELLS}"),)).rows(PromptRow("a"))) == MAX_CELLS
    with pytest.raises(InputError, match=f"1,001 values; at most {MAX_CELLS:,}"):
        parse_axis("seed=" + ",".join(map(str, range(1_001))))


def test_a_request_has_its_own_sampling(toy_model: Any) -> None:
    """Beside others in one series, it is what it is alone."""
    call = SamplingConfig(steps=2, negative_prompt="a hat")
    own = [None, SamplingConfig(steps=1), replace(call, scheduler="ddim"), replace(call, steps=None)]
    requests = [Request(None, "a man", 3, sampling=each) for each in own]
    together = list(generate(toy_model, requests, call))
    for sample, sampling in zip(together, (call, own[1], own[2], call), strict=True):
        alone = next(generate(toy_model, [Request(None, "a man", 3)], sampling or call))
        assert sample.settings == alone.settings
        assert np.array_equal(sample.pixels, alone.pixels)
    assert [sample.settings["steps"] for sample in together] == [2, 1, 2, 2]
    assert [sample.settings["negative_prompt"] for sample in together] == ["a hat", "", "a hat", "a hat"]
