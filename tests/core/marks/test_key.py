"""The key that signs pictures: made once, private, and never another's in silence."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.core.marks.key import key_path, own_certificates, own_key
from tenth.core.marks.verify import verify
from toy_marks import assert_marked, marked, noise


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has no key yet."""
    monkeypatch.setenv("TENTH_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_it_is_made_at_first_use_for_its_owner_alone(data: Path, tmp_path: Path) -> None:
    assert own_certificates() == b""
    assert not data.exists()
    first = own_key()
    assert key_path() == data / "marks/key.pem"
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(key_path().parent.stat().st_mode) == 0o700
    assert own_key() is first
    assert own_certificates() == first.certificates
    assert b"PRIVATE" not in first.certificates


def write_one(folder: str, number: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    Path(folder, f"{number}.png").write_bytes(marked(noise()))


def test_processes_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    """By what they write: the same picture has the same bytes only with the same key."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=write_one, args=(str(tmp_path), number, barrier)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len({(tmp_path / f"{number}.png").read_bytes() for number in range(4)}) == 1
    assert_marked(tmp_path / "0.png")
    assert [path.name for path in key_path().parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"x" * 70_000]
)
def test_a_damaged_key_is_named_and_stays(content: bytes, tmp_path: Path) -> None:
    key_path().parent.mkdir(parents=True)
    key_path().write_bytes(content)
    with pytest.raises(DataError, match=r"key\.pem .*Remove it: a new one is made"):
        marked(noise())
    assert key_path().read_bytes() == content


def test_half_a_key_file_is_none() -> None:
    own_key()
    content = key_path().read_bytes()
    own_key.__globals__["_read_or_make"].cache_clear()
    for half in (content[: content.index(b"-----BEGIN CERT")], content[content.index(b"-----BEGIN CERT") :], content[:-900]):
        key_path().write_bytes(half)
        with pytest.raises(DataError, match="is no key of tenth's"):
            own_key()


def test_where_no_key_can_be_kept_that_is_said(data: Path, tmp_path: Path) -> None:
    data.write_text("a file where the folder would be")
    with pytest.raises(DataError, match=r"a folder for the key that signs pictures is needed\. Set TENTH_DATA_DIR"):
        marked(noise())


def test_another_users_picture_is_marked_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(marked(noise()))
    assert verify(path).own_key
    for other in ("without", "with"):
        monkeypatch.setenv("TENTH_DATA_DIR", str(tmp_path / other))
        if other == "with":
            own_key()
        mark = verify(path)
        assert (mark.state, mark.own_key) == ("marked", False)
    assert not (tmp_path / "without").exists()  # to look makes no key
    assert marked(noise()) != path.read_bytes()
