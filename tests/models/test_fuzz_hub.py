"""Mutated answers of a hub and mutated locks: each download is whole or refused in a line, and writes nowhere else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub_faults as faults
from hub_faults import everything, table_of
from mutations import json_mutations, mutations
from tally import SEED, TIMES, Tally, tally_inputs
from tenth.core.errors import TenthError
from tenth.core.files.reading import sha256_of
from tenth.models.hub import transfer
from tenth.models.hub.download import DownloadCallbacks, download
from tenth.models.hub.lockfile import LOCK_FILE, check_folder, read_lock
from tenth.models.hub.published import ADAPTERS, IP_ADAPTER, parse_model_name
from tenth.models.registry import load_model
from toy_hub import SD15, UNET, Hub, download_model

CONFIG = "unet/config.json"
ENCODER = "models/image_encoder/model.safetensors"
NAMES = (CONFIG, UNET, "model_index.json", "vae/config.json", "tokenizer/vocab.json", ENCODER)


@pytest.fixture
def small(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with a model of the right names, of which a file has a few bytes. It need not load."""
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 1.0)
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 2.0)
    parts = ("text_encoder/model", "vae/diffusion_pytorch_model")
    hub.add(
        SD15,
        {
            "model_index.json": b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}',
            **{f"{part}/config.json": b'{"cross_attention_dim": 768}' for part in ("unet", "vae", "text_encoder")},
            **{f"tokenizer/{name}": name.encode() for name in ("merges.txt", "vocab.json")},
            **{f"{part}.safetensors": part.encode() * 5 for part in parts},
            "scheduler/scheduler_config.json": b"{}",
            UNET: random.Random(0).randbytes(30_000),
        },
    )
    hub.add(
        IP_ADAPTER, {ENCODER: b"encoder", "models/image_encoder/config.json": b"{}", ADAPTERS["ip-adapter_sd15"].file: b"a"}
    )
    return hub


def attempted(tally: Tally, what: str, models: Path) -> None:
    """A download that is tried and, where it says that it is done, whole. Beside the models there is nothing in any case."""
    before = {path: path.read_bytes() for path in models.parent.iterdir() if path.is_file()}
    folder = tally.attempt(what, lambda: download_model("sd15"))
    after = {path: path.read_bytes() for path in models.parent.iterdir() if path.is_file()}
    tally.check(f"{what}: something was written outside", after == before)
    sizes = [path.stat().st_size for path in models.rglob("*") if path.is_file()]
    tally.check(f"{what}: {sum(sizes):,} bytes were kept", sum(sizes) < 1_000_000)
    if folder is not None:
        locked = read_lock(models)["sd15"]
        digests = {path: sha256_of(folder / path) for path in locked.files}
        tally.check(f"{what}: not as locked", digests == {path: file.sha256 for path, file in locked.files.items()})
        tally.check(f"{what}: more than is locked", everything(folder) >= set(digests))


def emptied(models: Path) -> None:
    """Nothing downloaded, and nothing locked."""
    for path in sorted(models.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.slow
def test_mutated_lists(small: Hub, models_here: Path) -> None:
    with tally_inputs("lists of a hub") as tally:
        for repository in (SD15, IP_ADAPTER):
            sound = table_of(small, repository)
            texts = [
                *json_mutations(sound, SEED + 1, 80 * TIMES),
                *mutations(json.dumps(sound).encode(), SEED + 2, 40 * TIMES),
            ]
            for number, text in enumerate(texts):
                small.handlers[repository] = faults.listing(text)
                attempted(tally, f"list {number} of {repository}", models_here)
                emptied(models_here)
            del small.handlers[repository]
        assert tally.refused > tally.tried / 3


@pytest.mark.slow
def test_mutated_files(small: Hub, models_here: Path) -> None:
    """Other bytes than were listed, as they may come: with the right size or another, at once or after a broken beginning."""
    with tally_inputs("files of a hub") as tally:
        chance = random.Random(SEED + 3)
        for number in range(150 * TIMES):
            name = chance.choice(NAMES)
            sound = next(files[name] for each in small.repositories.values() for files in each.values() if name in files)
            small.handlers[name] = odd_answer(sound, chance)
            attempted(tally, f"file {number}, {name}", models_here)
            del small.handlers[name]
            if number % 3:  # else the next one goes on with what is there
                emptied(models_here)
        attempted(tally, "the sound ones after all", models_here)
        assert read_lock(models_here).keys() == {"sd15"}
        assert tally.refused > tally.tried / 3


def odd_answer(sound: bytes, chance: random.Random) -> faults.Fault:
    """An answer in which the file, its length, its status, its headers or the bytes on the wire are not what they should be."""
    (body,) = mutations(sound, chance.randrange(1 << 30), 1)
    header = f"HTTP/1.1 200 OK\r\nContent-Length: {len(sound)}\r\n\r\n".encode()
    (wire,) = mutations(header + sound, chance.randrange(1 << 30), 1)
    status = chance.choice((200, 201, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 416, 429, 500, 503, 999))
    place = chance.choice(("", "/", "//", "x", "http://127.0.0.1:9/", "http://[", "ftp://x", "\x7f", "http://127.0.0.1:99999/"))
    span = chance.choice(("", "bytes 0-9/10", "bytes */5", "bytes -", "x", "bytes 9999999999999999999-1/2"))
    half = sound[: len(sound) // 2]
    answers = (
        faults.answer(200, body, length=chance.choice((None, -1, len(sound)))),
        faults.answer(status, body, Location=place, Content_Range=span),
        faults.answer(status, b"", X_Error_Code=chance.choice(("GatedRepo", "RepoNotFound", "x", ""))),
        faults.answer(200, sound, Content_Encoding=chance.choice(("gzip", "br", "identity", "x, gzip"))),
        faults.raw(wire),
        faults.in_turn(faults.answer(200, half, length=len(sound)), faults.answer(status, body, Content_Range=span)),
        faults.in_turn(faults.answer(200, half, length=len(sound)), faults.raw(wire)),
    )
    return chance.choice(answers)


def test_mutated_locks(small: Hub, models_here: Path) -> None:
    """Loading and downloading by a lock that someone else wrote: refused, or by the book."""
    download_model("sd15")
    sound = (models_here / LOCK_FILE).read_bytes()
    with tally_inputs("locks") as tally:
        for number, text in enumerate(locks(sound)):
            (models_here / LOCK_FILE).write_bytes(text)
            tally.attempt(f"lock {number}, read", lambda: check_folder(models_here / "sd15"))
            attempted(tally, f"lock {number}", models_here)
            if number % 10 == 0:
                emptied(models_here)
                (models_here / LOCK_FILE).write_bytes(text)
                attempted(tally, f"lock {number} alone", models_here)
                (models_here / LOCK_FILE).write_bytes(sound)
                attempted(tally, f"the sound lock after {number}", models_here)
        assert tally.refused > tally.tried / 3


def locks(sound: bytes) -> Iterator[bytes]:
    yield from json_mutations(json.loads(sound), SEED + 4, 150 * TIMES)
    yield from mutations(sound, SEED + 5, 100 * TIMES)


ODD_NAMES = """
. .. ../x a/.. ../.. / a/ /b a/b/c a//b a/b+ + sd15+ +x a_b/c\n http://127.0.0.1/a/b a/b?x=1 a/b#c a/b%2e \0 a/\0 \ud800 é/é
models.lock/x --/-- a/- -/b a--b/c .a/.b datasets/a/b a/b@main sd15/.. con/nul ~/x
"""


def test_names_of_models(hub: Hub, models_here: Path) -> None:
    """What a user may type, or a recipe hold: no name leads out of the models' folder, or to another host."""
    odd = ("", "a b/c", "x" * 5000, "x/" + "y" * 5000, *ODD_NAMES.split())
    with tally_inputs("names of models") as tally:
        for name in odd:
            source = tally.attempt(f"name {name[:20]!r}", lambda name=name: parse_model_name(name))  # type: ignore[misc]
            if source is not None:
                tally.attempt(f"download {name[:20]!r}", lambda source=source: download(source, DownloadCallbacks()))  # type: ignore[misc]
            tally.attempt(f"load {name[:20]!r}", lambda name=name: load_model(name))  # type: ignore[misc]
            tally.check(
                f"{name[:20]!r} is in no other place", {path.name for path in models_here.parent.iterdir()} <= {"models"}
            )
        with pytest.raises(TenthError):
            download_model("a/..")
