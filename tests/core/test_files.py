from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tenth.core.files.reading import MAX_DEPTH, UnreadableError, parse_json, parse_toml, read_bytes, read_json, read_text
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import write_tensors


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, found in (
        (tmp_path / "pipe", "pipe"),
        (Path("/dev/zero"), "device"),
        (tmp_path, "folder"),
        (tmp_path / "loop", "link"),
    ):
        with pytest.raises(UnreadableError, match=found):
            read_bytes(path)


def test_a_file_of_any_size_is_measured_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(UnreadableError, match=r"10\.74 GB"):
        read_bytes(tmp_path / "sparse")
    (tmp_path / "small").write_bytes(b"12345")
    assert read_bytes(tmp_path / "small", max_bytes=5) == b"12345"
    with pytest.raises(UnreadableError):
        read_bytes(tmp_path / "small", max_bytes=4)


def test_text_has_a_byte_order_mark_or_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffä".encode())
    assert read_text(tmp_path / "text") == "ä"
    (tmp_path / "text").write_bytes(b"a\xff")
    with pytest.raises(UnreadableError, match="byte 1"):
        read_text(tmp_path / "text")


@pytest.mark.parametrize(
    "text",
    [
        nested(MAX_DEPTH + 2),
        nested(100_000),
        '{"a":' * 200 + "1" + "}" * 200,
        "1" * 5000,
        "NaN",
        "[-Infinity]",
        "1e999",
        "{",
        "",
        "\x00",
    ],
)
def test_json_that_is_no_value_to_work_with(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse_json(text)


def test_json_within_the_limits_is_read() -> None:
    assert parse_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))
    assert parse_json('{"a": [1, 2.5, null, "NaN"]}') == {"a": [1, 2.5, None, "NaN"]}


@pytest.mark.parametrize(
    "text", ["a = " + nested(100_000), ".".join("a" * 500) + " = 1", "a = " + "1" * 5000, "a = ", "a = 1\na = 2"]
)
def test_toml_that_is_no_table_to_work_with(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse_toml(text)


def test_tensors_are_finite_floating_point_numbers(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    large = torch.full((4,), 3e38)  # finite, though their sum is not
    write_tensors(path, {"a": large}, {"said": "so"})
    metadata, tensors = read_tensors(path)
    assert metadata == {"said": "so"}
    assert torch.equal(tensors["a"], large)
    for bad in (
        torch.tensor([1.0, float("nan")]),
        torch.tensor([float("inf")]),
        torch.ones(2, dtype=torch.int64),
        torch.ones(2) > 0,
        torch.ones(2).to(torch.float8_e4m3fn),
    ):
        save_file({"a": bad}, path)
        with pytest.raises(UnreadableError, match="holds a"):
            read_tensors(path)
    save_file({"a": torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}, path)
    with pytest.raises(UnreadableError, match="holds a as F4"):
        read_tensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableError, match="damaged"):
        read_tensors(path, finite_floats=False)


def test_json_that_is_read_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "value.json") == {"a": 1}
