from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tenth import file_writing
from tenth.errors import DataError
from tenth.file_reading import DEPTH, UnreadableError, parse_json, parse_toml, read_bytes, read_json, read_text
from tenth.file_writing import claimed_folder, remove_temporary, write_bytes, write_tensors, written, written_folder
from tenth.tensor_reading import read_tensors


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
    assert read_bytes(tmp_path / "small", most=5) == b"12345"
    with pytest.raises(UnreadableError):
        read_bytes(tmp_path / "small", most=4)


def test_text_has_a_byte_order_mark_or_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffä".encode())
    assert read_text(tmp_path / "text") == "ä"
    (tmp_path / "text").write_bytes(b"a\xff")
    with pytest.raises(UnreadableError, match="byte 1"):
        read_text(tmp_path / "text")


@pytest.mark.parametrize(
    "text",
    [
        nested(DEPTH + 2),
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
    assert parse_json(nested(DEPTH)) == json.loads(nested(DEPTH))
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
    with pytest.raises(UnreadableError, match="the type F4"):
        read_tensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableError, match="damaged"):
        read_tensors(path, numbers=False)


def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def interrupted() -> None:
        with written(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_writing.os, "fsync", full)
    with pytest.raises(DataError, match=r"file cannot be written \(No space left on device\); room") as caught:
        write_bytes(tmp_path / "file", b"content")
    assert str(tmp_path / "file") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    flush, replace, rename = os.fsync, Path.replace, Path.rename
    monkeypatch.setattr(
        file_writing.os,
        "fsync",
        lambda descriptor: (happened.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())), flush(descriptor)),
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (happened.append("renamed"), replace(self, to)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (happened.append("renamed"), rename(self, to)))
    write_bytes(tmp_path / "file", b"content")
    assert [Path(each).suffix or each for each in happened] == [".part", "renamed", str(tmp_path)]
    happened.clear()
    with written_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"content")
    assert [Path(each).name for each in happened[:2]] == ["inner", "file"]
    assert [Path(each).suffix or each for each in happened[2:]] == [".part", "renamed", str(tmp_path)]


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        with written_folder(tmp_path / "folder") as folder:
            (folder / content.decode()).write_bytes(content)
    with pytest.raises(KeyError), written_folder(tmp_path / "folder") as folder:
        raise KeyError
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["folder", "folder/second"]


def _claim(folder: Path, answers: multiprocessing.Queue[str]) -> None:
    try:
        with claimed_folder(folder):
            answers.put("had it")
    except DataError as problem:
        answers.put(str(problem))


def test_a_folder_has_one_writer_at_a_time_and_no_file_says_so(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()

    def other() -> str:
        process = context.Process(target=_claim, args=(tmp_path / "out", answers))
        process.start()
        process.join()
        return answers.get(timeout=10)

    with claimed_folder(tmp_path / "out"):
        assert "another run is writing to" in other()
        assert list((tmp_path / "out").iterdir()) == []
    assert other() == "had it"


def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    for name in (".file.0123.part", "file", ".folder.0123.part/inner"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    remove_temporary(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_json_that_is_read_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "value.json") == {"a": 1}
