"""What tests share: no network, example photos of a person who does not exist, and a toy model of the pocket's layout.

Large libraries are imported by what needs them: the process that hands tests out to others loads this file, and runs none.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import pytest

from checked_networks import checked_once
from fresh import Fresh, fresh_server, skip_flush
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR, MODEL_DIR

if TYPE_CHECKING:
    from toy_hub import Hub

FAMILIES = ("sd15", "sdxl")
FACES_TESTED = {"data", "models", "evaluation"}  # folders
FRESH = "TENTH_TESTS_FRESH"  # of the environment: the address of the server of fresh processes


def pytest_configure(config: pytest.Config) -> None:
    """One server of fresh processes for all processes that run tests."""
    os.environ["TENTH_PEOPLE_DIR"] = os.path.join(os.sep, "nobody", "is", "saved")  # noqa: PTH118 - a place that is none
    os.environ["TENTH_BACKEND"] = "torch"  # toys are made anew again and again; compiled networks have tests of their own
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        os.environ["TENTH_DATA_DIR"] = stack.enter_context(TemporaryDirectory())  # one key for all: equal pictures, equal bytes
        os.environ[FRESH] = stack.enter_context(fresh_server())
        config.add_cleanup(stack.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The documents come first, then what else takes seconds, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.name != "test_documents.py"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What is loaded stays to the end: a million objects, not to be looked through for garbage again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to this machine is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test wanted to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def faces_remembered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A face takes a tenth of a second to find and describe; where faces themselves are tested, each takes it."""
    if "tenth.data.faces.descriptors" in sys.modules and not FACES_TESTED & set(request.path.parts):
        from remembered_faces import remembered

        for name, function in remembered().items():
            monkeypatch.setattr(name, function)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No flush takes its milliseconds, of which there are tens of thousands; processes from the start have the system's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", skip_flush)
        yield


@pytest.fixture(scope="session", autouse=True)
def networks_checked_once() -> Iterator[None]:
    """Networks with the same configurations and headers of weights: the step of shapes takes longer than all other loading."""
    pipelines = sys.modules.get("tenth.models.pipelines")
    with pytest.MonkeyPatch.context() as patch:
        if pipelines is not None:  # else no test loads a model
            patch.setattr(pipelines, "check_networks", checked_once(pipelines.check_networks, Path(os.environ[FRESH]).parent))
        yield


@pytest.fixture(scope="session")
def face_photos() -> list[Path]:
    """Nine example photos, 128 x 128, all of one person who does not exist."""
    return sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the pocket's layout, tiny, with random weights."""
    from toy_models import write_toy

    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def pocket_sized_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `toy_folder`, with networks of the pocket model's own size, which training begins with."""
    from toy_models import write_toy

    return write_toy(tmp_path_factory.mktemp("pocket-sized"), MODEL_DIR)


@pytest.fixture
def toy_configs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stages of training make networks of the toy's sizes."""
    from toy_models import write_toy_configs

    configs = write_toy_configs(tmp_path_factory.mktemp("configs"))
    for stage in ("autoencoder", "diffusion", "export", "packed_dataset"):
        monkeypatch.setattr(f"tenth.training.pocket.{stage}.MODEL_DIR", configs)
    return configs


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Processes that have loaded nothing of tenth."""
    store = str(tmp_path_factory.mktemp("store"))
    places = {"TENTH_CACHE_DIR": store, "TENTH_MODELS": store, "TENTH_PEOPLE_DIR": str(tmp_path_factory.mktemp("people"))}
    return Fresh(os.environ[FRESH], tmp_path_factory.mktemp("said"), places)


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Any:
    """The toy folder, loaded: a LatentDiffusion that draws noise in a few steps."""
    from tenth.models.pocket.loader import load_pocket

    return load_pocket(toy_folder, name="toy")


@pytest.fixture(scope="session", params=FAMILIES)
def stable_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the layout of Stable Diffusion 1.5 and of SDXL, tiny, with random weights."""
    from toy_models import write_stable

    return write_stable(request.param, tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `stable_folder`, of Stable Diffusion 1.5 alone."""
    from toy_models import with_published_tokenizers, write_stable

    return with_published_tokenizers(write_stable("sd15", tmp_path_factory.mktemp("sd15-alone") / "model"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `stable_folder`, of SDXL alone."""
    from toy_models import with_published_tokenizers, write_stable

    return with_published_tokenizers(write_stable("sdxl", tmp_path_factory.mktemp("sdxl-alone") / "model"))


@pytest.fixture(params=[*FAMILIES, "toy"])
def any_folder(request: pytest.FixtureRequest) -> Path:
    """A model folder of each layout: Stable Diffusion 1.5's, SDXL's and the pocket's."""
    return Path(request.getfixturevalue(f"{request.param}_folder"))


@pytest.fixture
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloaded models go: nothing is there yet, nor in the cache of huggingface_hub."""
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def hub(models_here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, which is the one that is asked."""
    from toy_hub import Hub, run_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with run_hub(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def sd15(hub: Hub, sd15_folder: Path) -> Hub:
    """The hub with a toy of Stable Diffusion 1.5."""
    from toy_hub import publish

    publish(hub, "sd15", sd15_folder)
    return hub
