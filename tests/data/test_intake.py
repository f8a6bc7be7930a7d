"""Folders of people by several workers, stopped at any moment, with files that change, vanish or cannot be read."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.types import Photo
from tenth.data.image_folder import PHOTOS_PER_TASK, prepare_folder
from tenth.data.intake import person_folders
from tenth.data.intake.journal import JOURNAL_FILE
from tenth.data.manifest import read_manifest
from tenth.data.photo import open_photo
from tenth.data.photo_sources import name_of_key, natural_sort_key
from toy_commands import run_forked

PEOPLE, PHOTOS = 24, 5
Opened = Counter[str]


def put(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(tiles).resize((40, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """People with copies, copies of others' photos, captions, files that are no photos, and names of every kind."""
    folder = tmp_path / "people"
    for person in range(PEOPLE):
        for number in range(PHOTOS):
            put(folder / f"person {person}/{number}.png", 100 * person + number)
        (folder / f"person {person}/0.txt").write_text(f"a photo of number {person}")
    shutil.copy(folder / "person 1/0.png", folder / "person 1/copy.png")
    shutil.copy(folder / "person 1/1.png", folder / "person 20/of another.png")
    Image.open(folder / "person 2/1.png").save(folder / "person 3/saved again.jpg", quality=95)
    (folder / "person 4/broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "person 5/gone.png").symlink_to("nowhere")
    put(folder / os.fsdecode(b"Andr\xe9/\xff.png"), 9_000)
    (folder / os.fsdecode(b"Andr\xe9/\xfe.png")).write_text("")
    (folder / "nobody").mkdir()
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """How often each photo was opened in this process."""
    counts: Opened = Counter()

    def counted(path: Path) -> Photo:
        counts[f"{path.parent.name}/{path.name}"] += 1
        return open_photo(path)

    monkeypatch.setattr(person_folders, "open_photo", counted)
    return counts


def content(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "people.jsonl").read_bytes(), (folder / "report.json").read_bytes()


def test_the_report_says_of_each_dropped_file_whose_it_is_and_why(source: Path, tmp_path: Path) -> None:
    summary = prepare_folder(source, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    named = {each["file"]: (each["person"], each["code"], each["other"]) for each in report["dropped"]}
    assert named == {
        os.fsdecode(b"Andr\xe9/\xfe.png"): (os.fsdecode(b"Andr\xe9"), "empty", ""),
        "person 1/1.png": ("person 1", "of-two-people", "person 20/of another.png"),
        "person 1/copy.png": ("person 1", "copy", "person 1/0.png"),
        "person 2/1.png": ("person 2", "of-two-people", "person 3/saved again.jpg"),
        "person 3/saved again.jpg": ("person 3", "of-two-people", "person 2/1.png"),
        "person 4/broken.jpg": ("person 4", "not-a-photo", ""),
        "person 5/gone.png": ("person 5", "missing", ""),
        "person 20/of another.png": ("person 20", "of-two-people", "person 1/1.png"),
    }
    assert report["num_dropped"] == {"copy": 1, "empty": 1, "missing": 1, "not-a-photo": 1, "of-two-people": 4}
    assert (summary.num_dropped, list(summary.notes)) == (8, report["notes"])
    assert sum(report["photos"].values()) == len(read_manifest(tmp_path / "out/people.jsonl")) == PEOPLE * PHOTOS - 2 + 1


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for workers in (0, 1, 2, 5):
        prepare_folder(source, tmp_path / str(workers), workers=workers)
        assert content(tmp_path / str(workers)) == content(tmp_path / "0")


# Stopped, and begun again


def killed(source: Path, output: Path, rng: random.Random, log: Path) -> bool:
    """Whether a process was killed, which would have prepared the folder: at a file that it opens, or at any moment."""
    at_file, after = (rng.randrange(200), 60.0) if rng.random() < 0.5 else (-1, rng.random() * 0.4)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def run() -> int:
        count = 0
        with log.open("a") as file:

            def audit(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal count
                if event == "open" and str(arguments[0]).startswith(str(source)):
                    if str(arguments[0]).endswith(".png"):
                        os.write(file.fileno(), os.fsencode(f"{arguments[0]}\n"))
                    count += 1
                    if count == at_file:
                        die()

            sys.addaudithook(audit)
            timer = threading.Timer(after, die)
            timer.daemon = True
            timer.start()
            prepare_folder(source, output)
        return 0

    status = run_forked(run, log.with_name("said"))
    assert os.WIFSIGNALED(status) or status == 0, log.with_name("said").read_text()
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing_and_opens_no_photo_again(source: Path, tmp_path: Path) -> None:
    prepare_folder(source, tmp_path / "undisturbed")
    rng, kills = random.Random(1), 0
    for trial in range(6):
        output, log, kills_here = tmp_path / f"out {trial}", tmp_path / "log", 0
        log.write_text("")
        while killed(source, output, rng, log):
            kills_here += 1
        assert content(output) == content(tmp_path / "undisturbed")
        assert sorted(path.name for path in output.iterdir()) == [JOURNAL_FILE, "people.jsonl", "report.json"]
        times = Counter(line for line in log.read_text(errors="surrogateescape").splitlines() if "broken" not in line)
        assert len(times) >= PEOPLE * PHOTOS
        assert sum(times.values()) - len(times) <= (kills_here + 1) * (PHOTOS_PER_TASK + 2)  # and what cannot be opened
        kills += kills_here
    assert kills > 5


def test_what_was_opened_is_opened_again_only_if_it_changed(source: Path, tmp_path: Path, opened: Opened) -> None:
    prepare_folder(source, tmp_path / "out")
    first = content(tmp_path / "out")
    assert opened["person 0/0.png"] == 1
    opened.clear()
    prepare_folder(source, tmp_path / "out")
    assert content(tmp_path / "out") == first
    cannot_be_opened = {"person 4/broken.jpg", "person 5/gone.png", os.fsdecode(b"Andr\xe9/\xfe.png")}
    assert set(opened) == cannot_be_opened  # they might be mended

    # Another photo, a changed one that seems as old as before, and one less.
    changed, old = source / "person 7/2.png", (source / "person 7/2.png").stat()
    put(changed, 12_345)
    with changed.open("ab") as file:
        file.write(b"\0" * max(0, old.st_size - changed.stat().st_size))
    os.utime(changed, ns=(old.st_atime_ns, old.st_mtime_ns))
    put(source / "person 7/new.png", 12_346)
    (source / "person 8/3.png").unlink()
    shutil.rmtree(source / "person 9")
    opened.clear()
    prepare_folder(source, tmp_path / "out")
    assert set(opened) - cannot_be_opened == {"person 7/2.png", "person 7/new.png"}
    prepare_folder(source, tmp_path / "anew")
    assert content(tmp_path / "out") == content(tmp_path / "anew") != first


def test_captions_are_read_anew_though_the_photo_is_not(source: Path, tmp_path: Path, opened: Opened) -> None:
    prepare_folder(source, tmp_path / "out")
    opened.clear()
    (source / "person 6/0.txt").write_text("another text")
    prepare_folder(source, tmp_path / "out")
    rows = {row.file: row.caption for row in read_manifest(tmp_path / "out/people.jsonl")}
    assert rows["person 6/0.png"] == "another text"
    assert opened["person 6/0.png"] == 0


def test_a_journal_of_another_source_or_a_damaged_one_is_not_believed(source: Path, tmp_path: Path, opened: Opened) -> None:
    prepare_folder(source, tmp_path / "expected")
    shutil.copytree(source, tmp_path / "other", symlinks=True, copy_function=shutil.copy2)
    prepare_folder(tmp_path / "other", tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL_FILE
    middle = journal.read_bytes()[:20_000] + os.urandom(4_000) + journal.read_bytes()[24_000:]
    for damage in (lambda: None, lambda: journal.write_bytes(b"no database" * 500), lambda: journal.write_bytes(middle)):
        damage()
        opened.clear()
        prepare_folder(source, tmp_path / "out")
        assert opened["person 0/0.png"] == 1
        assert content(tmp_path / "out") == content(tmp_path / "expected")


# What cannot be read


def test_a_folder_that_cannot_be_read_costs_itself_alone(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(folder: Path, system: Callable[[Path], list[str]] = os.listdir) -> list[str]:
        if folder.name == "person 3":
            raise PermissionError(13, "Permission denied")
        return system(folder)

    monkeypatch.setattr(person_folders.os, "listdir", listed)
    summary = prepare_folder(source, tmp_path / "out")
    (dropped,) = (photo for photo in summary.dropped if photo.code == "unreadable-folder")
    assert (dropped.file, dropped.person) == ("person 3", "person 3")
    assert dropped.reason.startswith("person 3 cannot be read (Permission denied); ")
    assert "1 person has a folder that cannot be read (person 3): left out" in summary.notes
    assert {row.person for row in read_manifest(tmp_path / "out/people.jsonl")} >= {"person 2", "person 4"}


def test_a_photo_that_vanishes_and_one_that_shows_a_fault_of_ours_cost_themselves_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opens(path: Path) -> Photo:
        if path.parent.name == "person 6" and path.name == "1.png":
            path.unlink(missing_ok=True)
        if path.parent.name == "person 6" and path.name == "2.png":
            raise RuntimeError("a fault")
        return open_photo(path)

    monkeypatch.setattr(person_folders, "open_photo", opens)
    summary = prepare_folder(source, tmp_path / "out")
    found = {photo.file: (photo.code, photo.reason) for photo in summary.dropped if photo.person == "person 6"}
    assert found["person 6/1.png"][0] == "missing"
    assert found["person 6/2.png"][0] == "failed"
    assert "a fault" in found["person 6/2.png"][1]
    assert len(found) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1, 30, 60, 90])
def test_a_full_disk_is_told_and_the_same_command_goes_on(source: Path, tmp_path: Path, kilobytes: int) -> None:
    prepare_folder(source, tmp_path / "expected")

    def run() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))
        try:
            prepare_folder(source, tmp_path / "out")
        except DataError as error:
            return 3 if "out" in error.found and "Make room" in error.action else 4
        return 0

    status = os.waitstatus_to_exitcode(run_forked(run, tmp_path / "said"))
    assert status == 3, (tmp_path / "said").read_text()
    assert not (tmp_path / "out/people.jsonl").exists()
    prepare_folder(source, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "expected")


def test_a_link_to_the_folder_of_all_or_to_another_person_is_no_danger(source: Path, tmp_path: Path) -> None:
    (source / "all").symlink_to(source)
    (source / "twin").symlink_to(source / "person 10")
    summary = prepare_folder(source, tmp_path / "out")
    assert {row.person for row in read_manifest(tmp_path / "out/people.jsonl")}.isdisjoint({"all", "twin", "person 10"})
    assert {photo.code for photo in summary.dropped if photo.person in ("twin", "person 10")} == {"of-two-people"}
    assert any(note.startswith(f"{PEOPLE + 4} folders lie inside people's folders (all)") for note in summary.notes)


# Names


def test_keys_sort_as_lists_of_text_and_numbers_would() -> None:
    def parts(name: str) -> tuple[list[str | int], str]:
        import re

        found: list[str | int] = list(re.split(r"(\d+)", name.casefold()))
        found[1::2] = [int(each) for each in found[1::2]]
        return found, name

    rng = random.Random(3)
    names = ["".join(rng.choices("aAbB01 9_.ß٣\udce9é\x01", k=rng.randrange(1, 9))) for _ in range(3_000)]
    ordered = sorted(names, key=parts)
    assert sorted(names, key=natural_sort_key) == ordered
    assert sorted(names, key=lambda name: natural_sort_key(name).encode(errors="surrogatepass")) == ordered
    assert [name_of_key(natural_sort_key(name)) for name in names] == names
