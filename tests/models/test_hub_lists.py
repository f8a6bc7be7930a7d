"""Lists of a hub that lies: what leads out of the models' folder, is no size, or has no end. One line says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hub_faults as faults
from hub_faults import NO_DIGESTS, SHA1, Table, everything, table_of
from tenth.cli.main import main
from tenth.core.errors import ModelError
from tenth.models.hub.lockfile import read_lock
from toy_hub import SD15, UNET, Hub, download_model, files_in

Output = pytest.CaptureFixture[str]
CONFIG = "unet/config.json"


def entry_of(table: Table, path: str) -> Table:
    return next(each for each in table["siblings"] if each["rfilename"] == path)


def assert_refused(hub: Hub, table: Any, said: str, tmp_path: Path) -> None:
    """The list is refused in one line, before a file is asked for; nothing is written but a claim, and nothing outside."""
    hub.handlers[SD15] = faults.listing(table)
    with pytest.raises(ModelError, match=said) as raised:
        download_model("sd15")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert hub.requests == []
    assert everything(tmp_path) == {"models", "models/.sd15.lock", "models/.sd15.partial"}


@pytest.mark.parametrize("digest", [each for each in NO_DIGESTS if each != ""])
@pytest.mark.parametrize("key", ["blobId", "sha256", "sha"])
def test_what_is_no_digest_is_refused_in_a_list(key: str, digest: Any, sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    table = table_of(sd15)
    if key == "sha":
        table["sha"] = digest
    elif key == "sha256":
        entry_of(table, UNET)["lfs"]["sha256"] = digest
    else:
        entry_of(table, CONFIG)["blobId"] = digest
    assert_refused(
        sd15, table, r"list of .*'s files makes no sense \(.*needed: (.* hexadecimal digits|a valid string)\)", tmp_path
    )


@pytest.mark.parametrize("size", [-1, 2**63, 2**70, 1.5, True, "12", [1], {}])
def test_what_is_no_size_is_refused_in_a_list(size: Any, sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    table = table_of(sd15)
    entry_of(table, CONFIG)["size"] = size
    assert_refused(sd15, table, r"makes no sense \(.*(size is .*needed: |a whole number of more than 64 bits)", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.pop("sha"),
        lambda table: table.pop("siblings"),
        lambda table: table.update(siblings=None),
        lambda table: table.update(siblings={"a": 1}),
        lambda table: table.update(siblings=[5]),
        lambda table: table.update(siblings=[{}]),
        lambda table: table["siblings"][0].update(lfs=5),
        lambda table: table["siblings"][0].update(lfs={"size": 5}),
        lambda table: table["siblings"].append(table["siblings"][0]),
    ],
    ids=["no sha", "no files", "null", "table", "number", "nothing", "lfs", "no sha256", "twice"],
)
def test_a_list_of_another_form_is_refused(
    change: Callable[[Table], Any], sd15: Hub, models_here: Path, tmp_path: Path
) -> None:
    table = table_of(sd15)
    change(table)
    assert_refused(sd15, table, "makes no sense", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>busy</html>", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{\0}\0", b'{"sha": NaN}'),
        *(b"[" * 100_000, b'{"a":' * 100_000, b'{"sha": ' + b"9" * 5_000 + b"}"),
    ],
    ids=["empty", "page", "cut", "list", "null", "text", "utf-16", "nan", "deep list", "deep table", "digits"],
)
def test_an_answer_that_is_no_list_is_one_line(
    content: bytes, sd15: Hub, models_here: Path, tmp_path: Path, capsys: Output
) -> None:
    assert_refused(sd15, content, "makes no sense", tmp_path)
    assert main(["models", "download", "sd15"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert sum(line.startswith("tenth: ") for line in said.err.splitlines()) == 1


def test_a_list_without_an_end_is_not_read_to_it(sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    sent: list[int] = []
    sd15.handlers[SD15] = faults.endless(b" " * (1 << 20), sent)
    with pytest.raises(ModelError, match=r"did not come \(the answer has more than [\d,]+ bytes\)"):
        download_model("sd15")
    assert sum(sent) < 64 << 20


def test_what_is_listed_by_a_name_that_leads_out_is_asked_for_by_nobody(
    sd15: Hub, sd15_folder: Path, models_here: Path, tmp_path: Path
) -> None:
    table, odd = table_of(sd15), "unet/diffusion_pytorch_model-00001-of-00002.safetensors"
    names = ["../../x", "/tmp/x", "unet\\..\\x", "a\0b", "a\nb", "", "a//b", ".", "unet/.", "x" * 5_000, "y/" * 2_000 + "y"]
    names += [f"../{odd}", f"/{odd}", "UNET/CONFIG.JSON", "Unet/config.json", "tokenizer/VOCAB.json", "README.MD"]
    table["siblings"] = [{"rfilename": name, "size": 5, "blobId": SHA1} for name in names] + table["siblings"]
    sd15.handlers[SD15] = faults.listing(table)
    assert files_in(download_model("sd15")) == files_in(sd15_folder)
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


@pytest.mark.parametrize(
    ("path", "most"), [("model_index.json", "1,048,576"), ("tokenizer/vocab.json", "33,554,432"), (UNET, "68,719,476,736")]
)
def test_a_file_that_is_said_to_be_too_large_is_not_asked_for(path: str, most: str, sd15: Hub, models_here: Path) -> None:
    table = table_of(sd15)
    entry_of(table, path)["size"] = 1 << 40
    sd15.handlers[SD15] = faults.listing(table)
    with pytest.raises(ModelError, match=f"{path} of {SD15} is listed with 1,099,511,627,776 bytes; .* at most {most}"):
        download_model("sd15")
    assert path not in {path for path, _ in sd15.requests}


def test_a_licence_is_one_short_line(sd15: Hub, models_here: Path, capsys: Output) -> None:
    for number, licence in enumerate([["mit", 5, "a\x1b[2Jb"], "x" * 10_000, {"a": 1}, "mit\nfoo", ["mit", "bsd"]]):
        table = table_of(sd15)
        table["cardData"] = {"license": licence}
        sd15.handlers[SD15] = faults.listing(table)
        download_model("sd15", update=number > 0)
        found = read_lock(models_here)["sd15"].repositories[SD15].licence
        assert found == ["mit", "x" * 100, "no licence stated", "no licence stated", "mit, bsd"][number]
