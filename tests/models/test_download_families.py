"""Transformers from a hub: a real server on this machine, toys in the published layouts, licences and terms."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core.errors import ModelError
from tenth.models.hub.client import NON_COMMERCIAL
from tenth.models.hub.lockfile import read_lock
from tenth.models.hub.published import PUBLISHED, UNETS
from tenth.models.memory.recommendation import FLOW_FOOTPRINTS, HALF_PRECISION_BYTES
from tenth.models.registry import MODELS
from toy_families import MAKERS, toy_family
from toy_hub import Hub, download_model, files_in, generate_image, publish_folder

KLEIN = PUBLISHED["flux2-klein-4b"].repository
DEV = "black-forest-labs/FLUX.2-dev"
CARD = {"license": "other", "license_name": "flux-dev-non-commercial-license", "license_link": "LICENSE.txt"}
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("flux2-klein", tmp_path_factory.mktemp("toy") / "klein")


def test_a_transformer_comes_from_the_hub_and_draws_as_its_folder_does(
    hub: Hub, toy: Path, models_here: Path, capsys: Output
) -> None:
    publish_folder(hub, KLEIN, toy)
    assert main(["models", "download", "flux2-klein-4b"]) == 0
    said = capsys.readouterr()
    locked = read_lock(models_here)["flux2-klein-4b"]
    assert said.out == f"{models_here / 'flux2-klein-4b'}\n"
    assert list(locked.repositories) == [KLEIN]  # no adapter
    licence, first = said.err.index("toy-licence"), said.err.index("not here: ")
    assert licence < first
    assert files_in(models_here / "flux2-klein-4b") == set(locked.files)
    assert not {"README.md", "whole-model.safetensors", "transformer/x.bin"} & set(locked.files)
    by_name, by_folder = generate_image("flux2-klein-4b"), generate_image(str(toy))
    assert by_name[0] == by_folder[0]
    assert np.array_equal(by_name[1], by_folder[1])


def test_weights_in_pieces_come_whole(hub: Hub, models_here: Path, tmp_path: Path) -> None:
    toy_family("flux2-klein", tmp_path / "whole")
    MAKERS["flux2-klein"]().from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "pieces", max_shard_size="40KB")
    assert len(list((tmp_path / "pieces/transformer").glob("*-of-*.safetensors"))) > 1
    publish_folder(hub, KLEIN, tmp_path / "pieces")
    folder = download_model("flux2-klein-4b")
    assert (folder / "text_encoder/model.safetensors.index.json").is_file()
    assert np.array_equal(generate_image("flux2-klein-4b")[1], generate_image(str(tmp_path / "whole"))[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "flux2-klein"])
def test_every_family_comes_whole(name: str, hub: Hub, models_here: Path, tmp_path: Path) -> None:
    toy_family(name, tmp_path / "toy")
    publish_folder(hub, "owner/model", tmp_path / "toy")
    download_model("owner/model")
    assert generate_image("owner/model")[0] == generate_image(str(tmp_path / "toy"))[0]


def test_terms_are_said_before_anything_is_asked_for(
    hub: Hub, toy: Path, models_here: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_folder(hub, DEV, toy)
    hub.cards[DEV], terms = CARD, "flux-dev-non-commercial-license; by its licence not for commercial use; gated: "
    hub.gated.add(DEV)
    assert main(["models", "download", DEV]) == 1
    said = capsys.readouterr().err
    page = f"{hub.url}/{DEV}"
    assert f"{DEV}: {terms}its terms are accepted at {page}\n" in said
    assert re.search(rf"is open only to those who accepted its licence; .*Accept it at {page}, then set HF_TOKEN", said)
    assert not hub.requests
    assert not read_lock(models_here)

    monkeypatch.setenv("HF_TOKEN", "a-token")
    assert main(["models", "download", DEV]) == 0
    said = capsys.readouterr().err
    assert said.index(terms) < said.index("not here: ")
    assert read_lock(models_here)[DEV].repositories[DEV].licence == CARD["license_name"]
    assert main(["models", "--json"]) == 0
    (record,) = (each for each in json.loads(capsys.readouterr().out)["models"] if each["name"] == DEV)
    assert record["licences"] == {DEV: CARD["license_name"]}


def test_short_names_are_of_models_for_everybody(hub: Hub, models_here: Path, capsys: Output) -> None:
    assert {"flux2-klein-4b", "flux2-klein-base-4b", "qwen-image-edit", "z-image"} <= set(PUBLISHED)
    assert not [row for row in PUBLISHED.values() if NON_COMMERCIAL.search(row.licence) or row.licence == "other"]
    for licence in ("flux-1-dev-non-commercial-license", "cc-by-nc-4.0", "Noncommercial"):
        assert NON_COMMERCIAL.search(licence)
    for licence in ("apache-2.0", "openrail++", "stabilityai-ai-community", "commercial"):
        assert not NON_COMMERCIAL.search(licence)
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    for name in PUBLISHED.keys() - UNETS.keys():
        (line,) = (line for line in listed.splitlines() if line.split()[0] == name)
        size = f"{PUBLISHED[name].gigabytes:.3g} GB"
        assert line.endswith(f"not here: `tenth models download {name}` ({size}); {PUBLISHED[name].repository}: apache-2.0")
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out == listed


def test_size_and_licence_are_said_before_the_hub_is_asked(
    models_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr("tenth.models.hub.client.is_offline_mode", lambda: True)
    assert main(["models", "download", "qwen-image-edit"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Qwen/Qwen-Image-Edit-2511: about 57.7 GB, apache-2.0"
    assert "HF_HUB_OFFLINE is set" in last


def test_sizes_are_those_of_the_published_weights() -> None:
    for name, footprint in FLOW_FOOTPRINTS.items():
        assert {part.dtype for part in footprint.parts.values()} == {"BF16"}
        assert PUBLISHED[name].gigabytes == pytest.approx(2 * footprint.num_weights / 1e9, abs=0.05)
    assert PUBLISHED["flux2-klein-base-4b"].gigabytes == PUBLISHED["flux2-klein-4b"].gigabytes
    for name, num_bytes in HALF_PRECISION_BYTES.items():
        assert PUBLISHED[name].gigabytes == pytest.approx(2 * num_bytes / 1e9)


def test_a_model_of_ones_own_ends_without_a_licence(models_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setitem(MODELS, "studio", replace(MODELS["sd15"], description="our own"))
    assert main(["models"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("studio "))
    assert line.split(maxsplit=1)[1] == "our own"


def test_what_is_no_model_of_a_known_family_is_refused(hub: Hub, toy: Path, models_here: Path) -> None:
    publish_folder(hub, KLEIN, toy)
    with pytest.raises(ModelError, match=r"ip-adapter_sd15 is for sd15 and .* is of flux2-klein; .*Leave \+ADAPTER out"):
        download_model("flux2-klein-4b+ip-adapter_sd15")
    index = json.loads((toy / "model_index.json").read_text()) | {"_class_name": "Flux3KleinPipeline"}
    hub.add(KLEIN, hub.newest(KLEIN) | {"model_index.json": json.dumps(index).encode()})
    with pytest.raises(ModelError, match=r"is a Flux3KleinPipeline; Stable Diffusion 1.5 or SDXL, .*flux2-klein"):
        download_model("flux2-klein-4b")
    hub.add(KLEIN, {path: content for path, content in hub.newest(KLEIN).items() if not path.startswith("transformer/")})
    with pytest.raises(ModelError, match=r"has no unet/config\.json"):
        download_model("flux2-klein-4b")
