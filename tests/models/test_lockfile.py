"""Downloaded models: only the locked bytes are loaded, only safetensors of the two families come, all without the network."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from tenth.cli.main import main
from tenth.core.errors import ModelError
from tenth.models.hub.lockfile import LOCK_FILE, read_lock
from tenth.models.registry import load_model
from toy_hub import SD15, UNET, Files, Hub, download_model, generate_image, with_file

Output = pytest.CaptureFixture[str]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# Locked


def test_the_locked_revision_stays_until_an_update(sd15: Hub, models_here: Path, capsys: Output) -> None:
    download_model("sd15")
    first, locked = generate_image("sd15"), read_lock(models_here)
    unet = bytearray(sd15.newest(SD15)[UNET])
    unet[-1] ^= 128  # a sign
    second = sd15.add(SD15, with_file(sd15, SD15, UNET, bytes(unet)))

    shutil.rmtree(models_here / "sd15")
    download_model("sd15")  # the lock alone is enough to get the same bytes again
    assert read_lock(models_here) == locked
    assert generate_image("sd15")[0] == first[0]

    assert main(["models", "update", "sd15"]) == 0
    assert f"{SD15} at {second}" in capsys.readouterr().err
    assert read_lock(models_here)["sd15"].repositories[SD15].revision == second
    assert (models_here / "sd15" / UNET).read_bytes() == bytes(unet)
    assert generate_image("sd15")[0] != first[0]


def test_other_bytes_under_the_locked_revision_are_refused(sd15: Hub, models_here: Path) -> None:
    download_model("sd15")
    revision = read_lock(models_here)["sd15"].repositories[SD15].revision
    shutil.rmtree(models_here / "sd15")
    unet = sd15.newest(SD15)[UNET]
    sd15.repositories[SD15][revision] = with_file(sd15, SD15, UNET, unet[:-1] + bytes([unet[-1] ^ 1]))
    with pytest.raises(
        ModelError, match=f"{UNET} of {SD15} came with other bytes; those .* locked with are needed.*models update NAME"
    ):
        download_model("sd15")
    assert not (models_here / "sd15").exists()


def test_a_locked_revision_that_is_gone_is_said(sd15: Hub, models_here: Path) -> None:
    download_model("sd15")
    revision = read_lock(models_here)["sd15"].repositories[SD15].revision
    shutil.rmtree(models_here / "sd15")
    files = sd15.repositories[SD15].pop(revision)
    sd15.add(SD15, {**files, "README.md": b"rewritten"})
    with pytest.raises(ModelError, match=f"no longer has .* of {SD15} at revision {revision}; .*models update NAME"):
        download_model("sd15")


@pytest.mark.parametrize("damage", ["flipped", "shorter", "missing"])
def test_a_damaged_file_is_refused_and_got_again(damage: str, sd15: Hub, models_here: Path) -> None:
    download_model("sd15")
    load_model("sd15")
    path = models_here / "sd15" / UNET
    if damage == "flipped":
        flip(path)
    elif damage == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    found = f"has no {UNET}" if damage == "missing" else f"{UNET} has other bytes"
    for name in ("sd15", str(models_here / "sd15")):
        with pytest.raises(ModelError, match=f"{found}; sd15 was locked .*`tenth models download sd15` gets those again"):
            load_model(name)
    asked = len(sd15.requests)
    download_model("sd15")
    assert sd15.requests[asked:] == [(UNET, 0)]
    assert load_model("sd15").name.startswith("sd15@")


def test_a_file_is_read_again_only_when_it_was_touched(sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    download_model("sd15")
    monkeypatch.setattr("tenth.models.hub.lockfile.sha256_of", _counting(read))
    load_model("sd15")
    assert read == []
    os.utime(models_here / "sd15" / UNET)
    load_model("sd15")
    load_model("sd15")
    assert read == ["diffusion_pytorch_model.safetensors"]


def _counting(read: list[str]) -> Callable[[Path], str]:
    from tenth.core.files.reading import sha256_of

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    return counted


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "models": {}}', '{"format": 1, "models": {"sd15": {}}}'])
def test_a_damaged_lock_is_said(text: str, models_here: Path) -> None:
    models_here.mkdir()
    (models_here / LOCK_FILE).write_text(text)
    with pytest.raises(ModelError, match=r"models\.lock cannot be read .*it says which bytes each model had"):
        load_model("sd15")


def test_a_lock_names_no_file_outside_its_model(models_here: Path) -> None:
    models_here.mkdir()
    file = {"repository": "a/b", "path": "x", "bytes": 1, "sha256": "0" * 64}
    origin = {"revision": "0" * 40, "licence": "mit"}
    table = {"sd15": {"repositories": {"a/b": origin}, "files": {"../../x": file}}}
    (models_here / LOCK_FILE).write_text(json.dumps({"format": 1, "models": table}))
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_model("sd15")


# Offline, and repositories that are refused


def test_offline_a_model_that_is_here_draws_and_one_that_is_not_says_so(
    sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    download_model("sd15")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert generate_image("sd15")[1].shape == (16, 16, 3)
    assert main(["models", "download", "sd15"]) == 0  # every byte compared, without the hub
    assert "every byte was compared" in capsys.readouterr().err
    asked = len(sd15.requests)
    assert main(["models", "download", "sdxl"]) == 1
    assert "HF_HUB_OFFLINE is set and stabilityai/" in capsys.readouterr().err
    assert len(sd15.requests) == asked


def test_a_file_in_the_cache_of_huggingface_hub_is_used(sd15: Hub, models_here: Path, tmp_path: Path) -> None:
    revision = list(sd15.repositories[SD15])[-1]
    snapshot = tmp_path / "cache" / f"models--{SD15.replace('/', '--')}" / "snapshots" / revision / "unet"
    snapshot.mkdir(parents=True)
    (snapshot / Path(UNET).name).write_bytes(sd15.newest(SD15)[UNET])
    download_model("sd15")
    assert UNET not in {path for path, _ in sd15.requests}
    assert (models_here / "sd15" / UNET).samefile(snapshot / Path(UNET).name)


def _without(files: Files, *ends: str) -> Files:
    return {path: content for path, content in files.items() if not path.endswith(ends)}


def _index(files: Files, **values: str) -> Files:
    return {**files, "model_index.json": json.dumps(values).encode()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: _without(files, ".safetensors"), r"weights as pickles alone \(unet/diffusion_pytorch_model\.bin\)"),
        (
            lambda files: {"v1.ckpt": files["v1.ckpt"]},
            r"weights as pickles alone \(v1\.ckpt\); safetensors are needed: a pickle",
        ),
        (lambda files: {"v1.safetensors": b"x"}, r"has no model_index\.json, unet/config\.json; a model in diffusers' layout"),
        (lambda files: _without(files, "scheduler_config.json"), r"has no scheduler/scheduler_config\.json; all files"),
        (lambda files: _without(files, "text_encoder/model.safetensors"), r"has no text_encoder/model\.safetensors; all files"),
        (
            lambda files: _index(files, _class_name="AuraFlowPipeline"),
            "is a AuraFlowPipeline; Stable Diffusion 1.5 or SDXL",
        ),
        (
            lambda files: {**files, "unet/config.json": b'{"cross_attention_dim": 1024}'},
            "is Stable Diffusion 2; Stable Diffusion 1.5",
        ),
        (lambda files: {**files, "model_index.json": b"{"}, r"model_index\.json of toy/other is not JSON"),
    ],
    ids=["pickles", "one pickle", "one file", "scheduler", "weights", "other", "sd2", "json"],
)
def test_a_repository_that_does_not_fit_is_refused(
    change: Callable[[Files], Files], said: str, sd15: Hub, models_here: Path
) -> None:
    sd15.add("toy/other", change(sd15.newest(SD15)))
    with pytest.raises(ModelError, match=said):
        download_model("toy/other")
    assert not (models_here / "toy--other").exists()
    assert not {path for path, _ in sd15.requests} - {"model_index.json", "unet/config.json"}


def test_what_the_hub_does_not_give(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="the hub has no repository toy/none, or hides it"):
        download_model("toy/none")
    with pytest.raises(ModelError, match=r"gated/one is open only to those who accepted .*then set HF_TOKEN"):
        download_model("gated/one")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"toy/none did not come .*Run the same command"):
        download_model("toy/none")


@pytest.mark.parametrize("name", ["sd15", "toy/other", "sd15+ip-adapter-plus_sd15"])
def test_what_is_not_downloaded_says_how_it_comes(name: str, models_here: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(f"Run `tenth models download {name}`")):
        load_model(name)
    assert not models_here.exists()


def test_a_name_that_is_none_is_said(models_here: Path, capsys: Output) -> None:
    assert main(["models", "download", "pocket"]) == 1
    assert "'pocket' is not a model; choose one of: sd15, sdxl, flux2-klein-4b, " in capsys.readouterr().err
