"""The models' folder and its lock, as others may have left them: links are not followed, what is not sound is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hub_faults as faults
from hub_faults import NO_DIGESTS, SHA1, SHA256, Table, everything, table_of
from tenth.cli.main import main
from tenth.core.errors import ModelError
from tenth.models.hub.lockfile import LOCK_FILE, read_lock
from tenth.models.registry import load_model
from toy_hub import SD15, UNET, Hub, download_model, with_file

Output = pytest.CaptureFixture[str]
CONFIG = "unet/config.json"


def test_links_in_the_models_folder_are_not_followed(sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    models_here.mkdir()
    mine, letter = tmp_path / "mine", tmp_path / "letter.txt"
    mine.mkdir()
    (mine / "new").write_text("mine")
    letter.write_text("mine")
    (models_here / ".sd15.partial").symlink_to(mine)
    download_model("sd15")
    assert (mine / "new").read_text() == "mine"
    for name in (".sd15.lock", f".{LOCK_FILE}.claim"):
        (models_here / name).unlink()
        (models_here / name).symlink_to(letter)
        with pytest.raises(ModelError, match=f"{name} cannot be opened"):
            download_model("sd15", update=True) if "claim" not in name else download_model(SD15)
        assert letter.read_text() == "mine"
        (models_here / name).unlink()


def test_a_part_that_is_a_link_is_not_written_to(sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("mine")
    parts = models_here / ".sd15.partial"
    parts.mkdir(parents=True)
    for name in {each.get("lfs", {}).get("sha256") or each["blobId"] for each in table_of(sd15)["siblings"]}:
        (parts / f"{name}.part").symlink_to(letter)
    download_model("sd15")
    assert letter.read_text() == "mine"


def test_a_model_folder_may_be_a_link_to_another_disk(
    sd15: Hub, models_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download_model("sd15")
    other = tmp_path / "other-disk"
    (models_here / "sd15").rename(other)
    (models_here / "sd15").symlink_to(other)
    (other / UNET).unlink()
    replace = Path.replace

    def crossing(path: Path, target: Path) -> Path:
        if models_here / "sd15" in Path(target).parents and path.parent.parent.name == "new":
            raise OSError(18, "Invalid cross-device link")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", crossing)
    download_model("sd15")
    assert (other / UNET).read_bytes() == sd15.newest(SD15)[UNET]
    assert "@" in load_model("sd15").name
    (other / UNET).write_bytes(b"x")
    with pytest.raises(ModelError, match="has other bytes"):  # the lock holds there too
        load_model("sd15")


def test_what_the_disk_refuses_is_one_line_that_names_the_path(sd15: Hub, models_here: Path, capsys: Output) -> None:
    models_here.write_text("a file")
    assert main(["models", "download", "sd15"]) == 1
    said = capsys.readouterr().err
    assert str(models_here) in said
    assert len(said.splitlines()) == 1


def test_an_update_that_lies_leaves_the_old_model(sd15: Hub, models_here: Path) -> None:
    download_model("sd15")
    before = read_lock(models_here)
    sd15.add(SD15, with_file(sd15, SD15, UNET, b"x" * 30_000))
    sd15.handlers[UNET] = faults.endless()
    with pytest.raises(ModelError, match="has more bytes"):
        download_model("sd15", update=True)
    assert read_lock(models_here) == before
    assert load_model("sd15").name.startswith("sd15@")


# The lock


def sound_lock() -> Table:
    file = {"repository": "a/b", "path": "unet/config.json", "bytes": 5, "sha256": SHA256}
    model = {"repositories": {"a/b": {"revision": SHA1, "licence": "mit"}}, "files": {CONFIG: file}}
    return {"format": 1, "models": {"sd15": model}}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *((("models", "sd15", "files", CONFIG, "sha256"), each) for each in (*NO_DIGESTS, SHA1, None)),
        *((("models", "sd15", "repositories", "a/b", "revision"), each) for each in (*NO_DIGESTS, "main", None)),
        *((("models", "sd15", "files", CONFIG, "bytes"), each) for each in (-1, 1.5, True, "5", 2**63, None, [])),
        *(
            (("models", "sd15", "files", CONFIG, "path"), each)
            for each in ("../x", "/x", "", "a\\b", "a\0", 5, None, "x" * 300)
        ),
        *((("models", "sd15", "files", CONFIG, "repository"), each) for each in ("../x", "c/d", 5, None, [])),
        *((("models", "sd15", "files", each), {}) for each in ("../x", "/x", "", "a\\b", "x" * 300)),
        *(
            (("models", "sd15", "repositories", each), {"revision": SHA1, "licence": ""})
            for each in ("x", "../..", "a/b/c", "")
        ),
        (("models", "sd15", "repositories", "a/b", "licence"), 5),
        *((("models", each), sound_lock()["models"]["sd15"]) for each in ("", ".", "..", "../x", "a/b/c", "a/..", "x\n", "/x")),
        *((("models",), each) for each in (5, [], None, {"sd15": 5}, {"sd15": {"repositories": {}, "files": {}}})),
        *((("format",), each) for each in (2, None, "1", [], {"a": 1})),
    ],
)
def test_a_lock_that_is_not_sound_is_refused(
    where: tuple[str, ...], value: Any, models_here: Path, tmp_path: Path, capsys: Output
) -> None:
    models_here.mkdir()
    table = sound_lock()
    inner: Any = table
    for key in where[:-1]:
        inner = inner[key]
    if value == {}:
        value = sound_lock()["models"]["sd15"]["files"][CONFIG]
    inner[where[-1]] = value
    (models_here / LOCK_FILE).write_text(json.dumps(table))
    with pytest.raises(ModelError, match=r"models\.lock cannot be read"):
        read_lock(models_here)
    assert main(["models"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert everything(tmp_path) == {"models", f"models/{LOCK_FILE}"}


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": ' + b"9" * 5_000 + b"}",
        b"\xff\xfe",
        b" " * (5 << 20),
        b'{"format": NaN}',
    ],
    ids=["deep list", "deep table", "digits", "utf-16", "large", "nan"],
)
def test_a_lock_that_no_program_wrote_is_refused(text: bytes, models_here: Path) -> None:
    models_here.mkdir()
    (models_here / LOCK_FILE).write_bytes(text)
    with pytest.raises(ModelError, match=r"models\.lock cannot be read"):
        load_model("sd15")
