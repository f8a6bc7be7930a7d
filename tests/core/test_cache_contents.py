"""How large the cache is, what goes when it is too large, and what of some photos is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core import cache_contents
from tenth.core.cache import ArrayCache, photo_key
from tenth.core.cache_contents import (
    CHECKED_FILE,
    DEFAULT_LIMIT,
    cache_entries,
    cache_limit,
    cache_sizes,
    clear_cache,
    parse_size,
    remove_photo_entries,
    trim_cache,
)
from tenth.core.errors import DataError
from tenth.core.files.writing import try_lock

ONE, OTHER = "1" * 64, "1" + "2" * 63
ENTRY_BYTES = 128 + 8 * 100 + 12 + 32  # numpy's header, a hundred numbers, marker and digest


def fill(directory: Path, count: int = 10) -> list[Path]:
    """Entries of one namespace, the first one used longest ago."""
    cache, now = ArrayCache(directory), time.time()
    paths = [cache.path("space", f"{number:064x}") for number in range(count)]
    for number, path in enumerate(paths):
        cache.write("space", f"{number:064x}", np.zeros(100))
        os.utime(path, (now - 100 + number,) * 2)
    return paths


def training(directory: Path, name: str) -> Path:
    folder = directory / "dreambooth" / name
    (folder / "step-00000009").mkdir(parents=True)
    (folder / "step-00000009" / "weights").write_bytes(b"x" * 5000)
    return folder


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_contents, "_unmeasured", {})
    monkeypatch.delenv("TENTH_CACHE_LIMIT", raising=False)


def test_sizes_are_of_entries_alone(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    training(tmp_path, "ab12")
    for other in ("models/sd15/unet/weights.safetensors", "models/sd15/ab/wrong.npy", "space/zz/zz.txt", "inception.pth"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_bytes(b"x" * 1000)
    sizes = {size.name: (size.entries, size.bytes) for size in cache_sizes(tmp_path)}
    assert sizes.keys() == {"dreambooth", "space"}
    assert sizes["space"] == (3, 3 * ENTRY_BYTES)
    assert sizes["dreambooth"][0] == 1
    assert sizes["dreambooth"][1] >= 5000
    assert cache_sizes(tmp_path / "none") == []


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    assert ArrayCache(tmp_path).read("space", f"{0:064x}") is not None  # which is a use
    assert trim_cache(tmp_path, 5 * ENTRY_BYTES) == (6, 6 * ENTRY_BYTES)  # a tenth below the limit
    assert [path.exists() for path in paths] == [True, *[False] * 6, *[True] * 3]
    assert trim_cache(tmp_path, 5 * ENTRY_BYTES) == (0, 0)


@contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    """As another process locks a folder: this thread may lock its own again."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def test_a_run_that_goes_on_and_another_trimming_process_are_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    busy, idle = training(tmp_path, "busy"), training(tmp_path, "idle")
    with locked_elsewhere(busy):
        assert clear_cache(tmp_path)[0] == 2 + 1
    assert (busy.exists(), idle.exists()) == (True, False)
    assert [path.name for path in busy.parent.iterdir()] == ["busy"]
    paths = fill(tmp_path, 2)
    with locked_elsewhere(tmp_path):
        assert trim_cache(tmp_path, 1) == (0, 0)
    assert all(path.exists() for path in paths)
    assert trim_cache(tmp_path, 1)[0] == 3
    assert not list(cache_entries(tmp_path))


def test_the_limit_is_kept_while_a_process_writes_and_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_LIMIT", f"{50 * ENTRY_BYTES}")
    for number in range(200):
        ArrayCache(tmp_path).write("space", f"{number:064x}", np.zeros(100))
    assert 40 <= len(list(cache_entries(tmp_path))) <= 53

    # A process that writes little measures if nobody did for a day.
    monkeypatch.setenv("TENTH_CACHE_LIMIT", f"{30 * ENTRY_BYTES}")
    for age, most in ((3600, 100), (100_000, 30)):
        os.utime(tmp_path / CHECKED_FILE, (time.time() - age,) * 2)
        monkeypatch.setattr(cache_contents, "_unmeasured", {})
        ArrayCache(tmp_path).write("space", "ff", np.zeros(1))
        assert (len(list(cache_entries(tmp_path))) <= 30) == (most == 30)


def test_sizes_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [parse_size(text) for text in ("7", "500 MB", "2G", "1.5kb")] == [7, 500_000_000, 2_000_000_000, 1500]
    assert cache_limit() == DEFAULT_LIMIT == 20_000_000_000
    for text in ("", "many", "-1", "1XB", "1e9"):
        with pytest.raises(DataError, match="a number of bytes is needed"):
            parse_size(text)


def test_a_limit_that_is_none_is_said_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TENTH_CACHE_LIMIT", "much")
    assert main(["cache"]) == 1
    assert "$TENTH_CACHE_LIMIT 'much'; a number of bytes is needed, such as 500MB or 20GB" in capsys.readouterr().err


def test_all_of_a_photo_goes_and_nothing_of_another(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    for digest in (ONE, OTHER):
        cache.write("crops", digest, np.zeros(2))
        cache.write("faces", photo_key(digest, "ab"), np.zeros(2))
    cache.write("faces", photo_key("", ONE[:10]), np.zeros(2))  # an image that is no file's
    leftover = cache.path("faces", ONE).with_name(f".{photo_key(ONE, 'ab')}.npy"[:101] + f".{'0' * 16}.part")
    leftover.write_bytes(b"half")
    assert remove_photo_entries(tmp_path, [ONE]) == 2
    assert not leftover.exists()
    assert {entry.path.stem for entry in cache_entries(tmp_path)} == {OTHER, f"{OTHER}-ab", ONE[:10]}
    assert remove_photo_entries(tmp_path, [ONE], also=["", ONE[:10]][1:]) == 1


def test_the_command_shows_and_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    fill(tmp_path, 3)
    assert main(["cache"]) == 0
    said = capsys.readouterr()
    assert "3 entries" in said.out
    assert f"of 20 GB in {tmp_path}" in said.err
    assert main(["cache", "clear"]) == 0
    assert "removed 3 entries" in capsys.readouterr().out
    assert main(["cache", "--json"]) == 0
    assert '"bytes": 0' in capsys.readouterr().out
    assert main(["cache", "--json", "clear"]) == 2
