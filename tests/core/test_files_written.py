"""Files written whole, onto the disk before they get their name, and folders of one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files import writing as file_writing
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary, remove_temporary_of
from tenth.core.files.writing import atomic_file, atomic_folder, write_bytes, write_json, write_tensors
from tenth.core.marks.png import write_png


def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def interrupted() -> None:
        with atomic_file(path) as file:
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
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"content")
    assert [Path(each).name for each in happened[:2]] == ["inner", "file"]
    assert [Path(each).suffix or each for each in happened[2:]] == [".part", "renamed", str(tmp_path)]


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / content.decode()).write_bytes(content)
    with pytest.raises(KeyError), atomic_folder(tmp_path / "folder") as folder:
        raise KeyError
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["folder", "folder/second"]


@pytest.mark.parametrize("write", [
    lambda path: write_bytes(path, b"content"),
    lambda path: write_json(path, {"a": 1}),
    lambda path: write_png(path, Image.new("RGB", (2, 2)), photo=True),  # no key is made on the way
    lambda path: write_tensors(path, {"a": torch.ones(2)}),
    lambda path: write_tensors(path, {"a": torch.ones(2)}, no_overwrite=True),
])  # fmt: skip
def test_what_gets_the_name_is_what_was_flushed(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    flush = os.fsync
    monkeypatch.setattr(
        file_writing.os, "fsync", lambda descriptor: (flushed.append(os.fstat(descriptor).st_ino), flush(descriptor))
    )
    write(tmp_path / "file")
    assert flushed == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_permissions_are_those_that_were_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "all", {"a": torch.ones(2)})
        write_tensors(tmp_path / "own", {"a": torch.ones(2)}, mode=file_writing.PRIVATE_FILE_MODE)
        with atomic_folder(tmp_path / "folder", file_writing.PRIVATE_FOLDER_MODE):
            pass
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"all": 0o640, "own": 0o600, "folder": 0o700}


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_replaces_none(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(file_writing.os, "link", no_links)
    path = tmp_path / "file"
    write_bytes(path, b"one", no_overwrite=True)
    before = path.stat().st_ino
    write_bytes(path, b"one", no_overwrite=True)
    assert path.stat().st_ino == before
    with pytest.raises(CheckpointError, match="exists and is not what would be written"):
        write_bytes(path, b"two", no_overwrite=True)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"one")]


def test_a_disk_that_fails_after_the_name_is_given_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    monkeypatch.setattr(file_writing.os, "fsync", second_fails)
    with pytest.raises(DataError, match=r"file cannot be written \(Input/output error\); a disk that takes it"):
        write_bytes(tmp_path / "file", b"content")


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "first").touch()
    rename, calls = Path.rename, []

    def second_fails(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(DataError), atomic_folder(tmp_path / "folder") as folder:
        (folder / "second").touch()
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["folder", "folder/first"]


def _claim(folder: Path, answers: multiprocessing.Queue[str]) -> None:
    try:
        with exclusive_folder(folder):
            answers.put("had it")
    except CheckpointError as problem:
        answers.put(str(problem))


@pytest.mark.parametrize("locks_folders", [True, False])
def test_a_folder_has_one_writer_at_a_time(locks_folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    lock = fcntl.flock

    def of_files_alone(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")  # as network disks say
        lock(descriptor, operation)

    if not locks_folders:
        monkeypatch.setattr(fcntl, "flock", of_files_alone)

    def other() -> str:
        process = context.Process(target=_claim, args=(tmp_path / "out", answers))
        process.start()
        process.join()
        return answers.get(timeout=10)

    with exclusive_folder(tmp_path / "out"):
        with exclusive_folder(tmp_path / "out"):  # once more by the same
            assert "another run is writing to" in other()
        assert "another run is writing to" in other()
        assert list_entries(tmp_path / "out") == set()
        assert not locks_folders or list((tmp_path / "out").iterdir()) == []
    assert other() == "had it"
    assert not locks_folders or not (tmp_path / "out").exists()  # nothing came into it


def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    left = (".file.0123456789abcdef.part", "inner/.folder.0123456789abcdef.part/inner")
    kept = ("file", ".browser.part", "inner/.hidden")
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    assert list_entries(tmp_path) == {"file", ".browser.part", "inner"}
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
        remove_temporary(tmp_path, recursive=False)
        assert not (tmp_path / left[0]).exists()
        assert (tmp_path / left[1]).exists()
        remove_temporary(tmp_path)
    assert {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")} == {*kept, "inner"}
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_killed_writers_of_one_file_left_goes(tmp_path: Path) -> None:
    for name in (".me.0123456789abcdef.part", ".me.too.0123456789abcdef.part"):
        (tmp_path / name).touch()
    remove_temporary_of(tmp_path / "me")
    assert [each.name for each in tmp_path.iterdir()] == [".me.too.0123456789abcdef.part"]


def test_a_folder_that_was_set_aside_when_its_writer_was_killed_is_back(tmp_path: Path) -> None:
    aside = tmp_path / ".best.0123456789abcdef.part" / "best"
    (tmp_path / ".best.fedcba9876543210.part").mkdir()
    aside.mkdir(parents=True)
    (aside / "weights").write_bytes(b"content")
    remove_temporary(tmp_path)
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["best", "best/weights"]
