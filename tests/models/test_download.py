"""Models from a hub: a real server on this machine, toy models in the published layouts, the real command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from PIL import Image

from tenth.cli.main import main
from tenth.core.errors import InputError, ModelError
from tenth.models.hub.lockfile import LOCK_FILE, read_lock
from tenth.models.hub.published import ADAPTERS, IP_ADAPTER, PUBLISHED, parse_model_name
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model
from toy_hub import PAD, SD15, UNET, Hub, download_model, files_in, generate_image, publish, with_file

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = "models/ip-adapter_sd15.safetensors"
MIB = 1 << 20
BROKEN = 15 * MIB  # where a connection breaks or stalls
WRITTEN = 10 * MIB  # of that, at least
Output = pytest.CaptureFixture[str]


# A download, and what it makes


def test_a_model_comes_from_the_hub_and_draws_as_its_folder_does(
    sd15: Hub, sd15_folder: Path, models_here: Path, tmp_path: Path, capsys: Output
) -> None:
    assert main(["models", "download", "sd15"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{models_here / 'sd15'}\n"
    locked = read_lock(models_here)["sd15"]
    for repository, origin in locked.repositories.items():
        assert re.search(rf"{repository} at {origin.revision}: [\d,]+ bytes, toy-licence", said.err)
    assert all(f"{file.sha256}  {path}" in said.err for path, file in locked.files.items())
    whole = files_in(sd15_folder)
    assert files_in(models_here / "sd15") == whole == set(locked.files)
    assert all((models_here / "sd15" / path).read_bytes() == (sd15_folder / path).read_bytes() for path in whole)
    assert {path for path, _ in sd15.requests} == {file.path for file in locked.files.values()}  # and nothing else
    assert sorted(path.name for path in models_here.iterdir()) == [f".{LOCK_FILE}.claim", ".sd15.lock", LOCK_FILE, "sd15"]

    command = ["generate", str(EXAMPLE_PHOTOS_DIR), "--prompt", "a photo of a person", "-n", "1", "--steps", "2"]
    assert main([*command, "--model", "sd15", "-o", str(tmp_path / "by-name")]) == 0
    assert main([*command, "--model", str(sd15_folder), "-o", str(tmp_path / "by-folder")]) == 0
    pictures = [np.asarray(Image.open(tmp_path / where / "0000.png")) for where in ("by-name", "by-folder")]
    assert np.array_equal(*pictures)


def test_a_name_a_repository_and_a_folder_are_one_model(sd15: Hub, models_here: Path) -> None:
    by_name = generate_image(str(download_model("sd15")))
    asked = len(sd15.requests)
    repository = generate_image(download_model(SD15) and SD15)
    for digest, pixels in (generate_image("sd15"), repository):
        assert digest == by_name[0]
        assert np.array_equal(pixels, by_name[1])
    again = [path for path, _ in sd15.requests[asked:]]
    assert not any(path.endswith("model.safetensors") for path in again)  # large files are linked, not downloaded twice
    one, other = models_here / "sd15" / UNET, models_here / SD15.replace("/", "--") / UNET
    assert one.samefile(other)


def test_sdxl_shares_the_image_encoder(sd15: Hub, sdxl_folder: Path, models_here: Path) -> None:
    publish(sd15, "sdxl", sdxl_folder)
    download_model("sd15")
    download_model("sdxl")
    assert files_in(models_here / "sdxl") == files_in(sdxl_folder)
    assert generate_image("sdxl")[1].shape == (16, 16, 3)
    encoder = "models/image_encoder/model.safetensors"
    assert [path for path, _ in sd15.requests].count(encoder) == 1


def test_weights_in_pieces_or_in_half_precision_alone(sd15: Hub, sd15_folder: Path, models_here: Path, tmp_path: Path) -> None:
    UNet2DConditionModel.from_pretrained(sd15_folder / "unet").save_pretrained(tmp_path / "unet", max_shard_size="100KB")
    pieces = {f"unet/{path.name}": path.read_bytes() for path in (tmp_path / "unet").iterdir()}
    files = sd15.newest(SD15)
    assert len(pieces) > 3
    sd15.add("toy/pieces", {path: content for path, content in files.items() if not path.startswith("unet/")} | pieces)
    vae = "vae/diffusion_pytorch_model"
    half = {path.replace(vae, f"{vae}.fp16"): content for path, content in files.items()}
    sd15.add("toy/half", half)
    pictures = [generate_image(download_model(name) and name)[1] for name in (SD15, "toy/pieces", "toy/half")]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])
    assert set(pieces) <= files_in(models_here / "toy--pieces")


def test_another_adapter_has_a_folder_of_its_own(sd15: Hub, models_here: Path) -> None:
    files = sd15.newest(IP_ADAPTER)
    sd15.add(IP_ADAPTER, files | {ADAPTERS["ip-adapter-plus_sd15"].file: b"plus"})
    folder = download_model("sd15+ip-adapter-plus_sd15")
    assert folder.name == "sd15+ip-adapter-plus_sd15"
    assert (folder / "ip-adapter/ip-adapter.safetensors").read_bytes() == b"plus"
    with pytest.raises(ModelError, match=r"ip-adapter_sdxl is for sdxl and .* is of sd15; one of ip-adapter_sd15, "):
        download_model("sd15+ip-adapter_sdxl")
    with pytest.raises(InputError, match="'plus' is no published IP-Adapter; choose one of: ip-adapter_sd15, "):
        parse_model_name("sd15+plus")


def test_the_table_says_what_is_here(sd15: Hub, models_here: Path, capsys: Output) -> None:
    download_model(SD15)
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert list(rows) == ["pocket", *PUBLISHED, SD15]
    assert [name for name, row in rows.items() if row["downloaded"]] == ["pocket", SD15]
    assert rows["sd15"]["licences"] == {SD15: "creativeml-openrail-m", IP_ADAPTER: "apache-2.0"}
    folder = models_here / SD15.replace("/", "--")
    assert rows[SD15]["where"] == str(folder)
    assert rows[SD15]["bytes"] == sum((folder / path).stat().st_size for path in files_in(folder))
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "not here: `tenth models download sdxl`" in lines[2]
    assert f"GB in {folder}; {IP_ADAPTER}: toy-licence" in lines[len(rows) - 1]
    assert main(["models", "update"]) == 2


# Interrupted


def test_a_broken_connection_is_gone_on_with(hub: Hub, sd15_folder: Path, models_here: Path) -> None:
    publish(hub, "sd15", sd15_folder, pad=PAD)
    hub.cut_after[ADAPTER] = BROKEN
    download_model("sd15")
    first, second = (start for path, start in hub.requests if path == ADAPTER)
    assert first == 0
    assert WRITTEN <= second <= BROKEN
    assert (models_here / "sd15/ip-adapter/ip-adapter.safetensors").read_bytes() == hub.newest(IP_ADAPTER)[ADAPTER]


@pytest.mark.slow
def test_a_killed_command_leaves_no_model_and_goes_on_with_the_rest(
    hub: Hub, sd15_folder: Path, models_here: Path, capsys: Output
) -> None:
    publish(hub, "sd15", sd15_folder, pad=PAD)
    hub.stall_after[ADAPTER] = BROKEN
    command = [sys.executable, "-m", "tenth.cli.main", "models", "download", "sd15"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert hub.stalled.wait(240)
        part = next(each for each in iter(lambda: list(models_here.glob(".sd15.partial/*.part")), None) if each)[0]
        while part.stat().st_size < WRITTEN:
            assert process.poll() is None
        assert main(["models", "download", "sd15"]) == 1
        assert "sd15 is being downloaded already" in capsys.readouterr().err
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (models_here / "sd15").exists()
    assert not (models_here / LOCK_FILE).exists()
    with pytest.raises(ModelError, match=r"sd15 is not downloaded; its files are needed in .*Run `tenth models download sd15`"):
        load_model("sd15")

    asked = len(hub.requests)
    assert main(["models", "download", "sd15"]) == 0
    assert capsys.readouterr().out == f"{models_here / 'sd15'}\n"
    later = hub.requests[asked:]
    assert any(path == ADAPTER and WRITTEN <= start <= BROKEN for path, start in later)
    assert not [path for path, _ in later if path.startswith(("unet/diff", "vae/", "text_encoder/"))]  # they were whole
    assert (models_here / "sd15/ip-adapter/ip-adapter.safetensors").read_bytes() == hub.newest(IP_ADAPTER)[ADAPTER]
    assert read_lock(models_here)["sd15"].files.keys() == files_in(models_here / "sd15")


def test_a_killed_command_leaves_what_was_whole(sd15: Hub, models_here: Path) -> None:
    """Between the lock and the last rename of an update: the model is refused until the command has run again."""
    download_model("sd15")
    before = read_lock(models_here)
    sd15.add(
        SD15,
        with_file(sd15, SD15, "scheduler/scheduler_config.json", sd15.newest(SD15)["scheduler/scheduler_config.json"] + b"\n"),
    )
    download_model("sd15", update=True)
    scheduler = models_here / "sd15/scheduler/scheduler_config.json"
    scheduler.write_bytes(scheduler.read_bytes()[:-1])  # as it was
    with pytest.raises(ModelError, match=r"scheduler_config\.json has other bytes"):
        load_model("sd15")
    download_model("sd15")
    assert load_model("sd15").name.startswith("sd15@")
    assert read_lock(models_here) != before


def test_a_full_disk_is_noticed_before_a_large_file(sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match=r"has 0\.00 GB free; 0\.00 GB are still to come\. Make room, or set TENTH_MODELS"):
        download_model("sd15")
    assert {path for path, _ in sd15.requests} == {"model_index.json", "unet/config.json"}
