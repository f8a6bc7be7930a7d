"""The doctor: what it finds here, what it says of what is missing, and what the verdict depends on."""

from __future__ import annotations

import builtins
import json
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tenth.cli.commands import doctor
from tenth.cli.commands.doctor import CheckResult, is_working, results_to_json, results_to_table
from tenth.core.marks.key import own_key
from tenth.models.memory.system import AvailableMemory

FINE = CheckResult("torch", True, "2", required=True)
OPTIONAL = CheckResult("HEIC photos", False, "not installed", action="Run `pip`")
BROKEN = CheckResult("faces", False, "no weights", required=True, action="Install them")


def test_only_what_is_needed_decides() -> None:
    assert is_working([FINE, OPTIONAL])
    assert not is_working([FINE, BROKEN])


def test_the_table_says_what_to_do() -> None:
    table = results_to_table([FINE, OPTIONAL, BROKEN])
    assert "HEIC photos  missing  not installed\n                      -> Run `pip`\n" in table
    assert table.endswith("tenth does not work here: see MISSING above")
    assert results_to_table([FINE]).endswith("tenth works here")


def test_json_has_every_finding() -> None:
    said = json.loads(json.dumps(results_to_json([FINE, BROKEN])))
    assert said["works"] is False
    assert said["findings"][1] == {
        "name": "faces",
        "ok": False,
        "detail": "no weights",
        "required": True,
        "action": "Install them",
    }


def test_faces_are_found_by_models_that_are_there() -> None:
    found = {finding.name: finding for finding in doctor.faces()}
    assert found["face detector"].ok
    assert "dlib-resnet@" in found["face recognizer"].detail


def test_missing_face_models_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_dlib(name: str, *rest: Any) -> Any:
        if name == "tenth.data.faces.detection":
            raise ImportError("No module named 'dlib'")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_dlib)
    findings = list(doctor.faces())
    assert [finding.ok for finding in findings] == [False]
    assert "pip install dlib-bin" in findings[0].action


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    assert [finding.detail for finding in doctor.libraries()] == ["not installed"]
    assert not doctor._optional_package("recognizer", ("no_such_module",), "recognizer").ok


def test_whether_plots_can_be_drawn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def plots() -> CheckResult:
        return next(finding for finding in doctor.optional_packages() if "plots" in finding.name)

    assert plots().detail.startswith("matplotlib ")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not plots().ok
    assert not plots().required
    assert plots().action == "Run `pip install 'tenth[report]'` if you want it"


def test_the_server_is_optional_and_all_of_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def server() -> CheckResult:
        return next(finding for finding in doctor.optional_packages() if finding.name == "server")

    assert server().ok
    monkeypatch.setitem(sys.modules, "sse_starlette", None)
    assert (server().ok, server().required) == (False, False)
    assert server().action == "Run `pip install 'tenth[server]'` if you want it"


def test_how_images_are_marked_is_said_and_no_key_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENTH_DATA_DIR", str(tmp_path / "data"))
    assert [finding.detail for finding in doctor.marks()] == [f"signed by {tmp_path}/data/marks/key.pem, made at first use"]
    assert not (tmp_path / "data").exists()
    own_key()
    assert [finding.detail for finding in doctor.marks()] == [f"signed by {tmp_path}/data/marks/key.pem"]
    monkeypatch.setenv("TENTH_SIGNER", "ours:signer")
    assert [finding.detail for finding in doctor.marks()] == ["signed as TENTH_SIGNER says"]
    monkeypatch.setenv("TENTH_MARKS", "off")
    assert [finding.detail for finding in doctor.marks()] == ["off, by TENTH_MARKS"]
    monkeypatch.setitem(sys.modules, "c2pa", None)
    (finding,) = doctor.marks()
    assert (finding.ok, finding.required) == (False, True)


def test_the_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8_192_000_000, available=4_096_000_000))
    assert [(finding.ok, finding.detail) for finding in doctor.memory(tmp_path)] == [(True, "8.2 GB, 4.1 GB free")]
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("500000000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("100000000\n")
    assert [(finding.ok, finding.detail) for finding in doctor.memory(tmp_path)] == [(False, "0.5 GB, 0.4 GB free")]


def test_the_store_is_looked_for_where_it_will_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "not" / "yet"))
    assert all(finding.ok for finding in doctor.disk())
    assert not (tmp_path / "not").exists()


def test_a_hub_set_offline_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(doctor, "can_connect", lambda *_: pytest.fail("asked"))
    assert [finding.ok for finding in doctor.hub()] == [False]


@pytest.mark.parametrize("answers", [True, False])
def test_the_hub_is_the_one_that_the_library_is_set_to(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.test:81")
    monkeypatch.setattr(doctor, "can_connect", lambda *address: asked.append(address) or answers)
    assert [finding.ok for finding in doctor.hub()] == [answers]
    assert asked == [("hub.test", 81)]


@pytest.mark.parametrize("address", ["http://localhost:secret@[", "http://localhost:secret@127.0.0.1:99999"])
def test_an_address_that_is_none_is_said_without_its_password(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    (finding,) = doctor.hub()
    assert (finding.ok, finding.detail) == (False, "optional; HF_ENDPOINT is no address")


def test_connects_tells_an_open_port_from_a_closed_one() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert doctor.can_connect("127.0.0.1", port)
    assert not doctor.can_connect("127.0.0.1", port)


@pytest.mark.parametrize(
    ("cpu", "gpu", "model", "reason"),
    [
        (64, 24, "sdxl", "24.0 GB of the GPU are free, and about 12.1 GB are needed"),
        (64, 8, "sd15", "8.0 GB of the GPU are free, and about 4.9 GB are needed"),
        (64, 2, "pocket", "a large model needs about 4.9 GB"),
        (16, None, "pocket", "no GPU; sd15 fits into the memory, and takes minutes"),
        (4, None, "pocket", "no GPU, and sd15 needs about 5.4 GB"),
    ],
)
def test_a_model_is_recommended_with_the_reason(
    cpu: int, gpu: int | None, model: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path))
    memory = AvailableMemory(cpu * 10**9, None if gpu is None else gpu * 10**9)
    monkeypatch.setattr("tenth.models.memory.system.available_memory", lambda: memory)
    (finding,) = doctor.model_choice()
    assert finding.detail.startswith(f"{model}: ")
    assert reason in finding.detail
    assert finding.ok == (model == "pocket")  # the others are not here
    assert f"tenth models download {model}" in finding.action
    assert not finding.required


@pytest.mark.parametrize(("free", "ok"), [(20, True), (10, False)])
def test_transformers_need_their_files_on_the_disk_too(
    free: int, ok: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where weights stay in their files: memory alone says too little."""
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("tenth.models.memory.system.available_memory", lambda: AvailableMemory(8 * 10**9))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 10**9))
    (finding,) = doctor.transformers()
    found = dict(text.split(": ", 1) for text in finding.detail.split("; "))
    assert finding.ok == ok
    assert found["qwen-image-edit"] == f"mapped on cpu, 5.5 GB of memory, 57.7 GB of disk, where {free}.0 GB are free"
    assert found["flux2-klein-4b"].endswith("16.0 GB of disk" + ("" if ok else ", where 10.0 GB are free"))
    assert "TENTH_MODELS" in finding.action
