"""What works on this machine, and what to do about what does not. Reads and looks; changes nothing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tenth.core.errors import TenthError
from tenth.core.file_reading import without_litter
from tenth.core.run_record import LIBRARIES, cores
from tenth.core.wording import counted

MEMORY_BYTES = 2_000_000_000  # generating with the pocket model peaks below; training needs more
DISK_BYTES = 200_000_000  # embeddings are kept: about a kilobyte a photo
HUB_SECONDS = 2.0
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
ON_CPU = "for large models; the pocket model draws on the CPU"
BROKEN = (ImportError, OSError, RuntimeError, ValueError, TenthError)  # how a library or a file that does not work shows


@dataclass(frozen=True)
class Finding:
    """One thing looked at. needed: the main job cannot work without it. action: what to do where it is not ok."""

    what: str
    ok: bool
    found: str
    needed: bool = False
    action: str = ""


def diagnose() -> list[Finding]:
    """Every finding, in the order in which one would mend them."""
    return [finding for check in CHECKS for finding in check()]


def works(findings: Sequence[Finding]) -> bool:
    """Whether the main job can: photos in, pictures out, with the pocket model."""
    return all(finding.ok for finding in findings if finding.needed)


def findings_to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """{"works": ..., "findings": [{"what", "ok", "found", "needed", "action"}]}."""
    return {"works": works(findings), "findings": [asdict(finding) for finding in findings]}


def findings_to_table(findings: Sequence[Finding]) -> str:
    """A line per finding, below it what to do where something is missing, and the verdict."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        state = "ok" if finding.ok else "MISSING" if finding.needed else "missing"
        lines.append(f"{finding.what:<{width}}  {state:<7}  {finding.found}")
        if not finding.ok and finding.action:
            lines.append(f"{'':<{width}}           -> {finding.action}")
    return "\n".join([*lines, "", "tenth works here" if works(findings) else "tenth does not work here: see MISSING above"])


def python() -> Iterator[Finding]:
    """The interpreter and the platform."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("Python", sys.version_info >= (3, 11), text, True, "Install Python 3.11 or newer")


def libraries() -> Iterator[Finding]:
    """What is installed of what a result can depend on; whether it runs is seen below."""
    for name in LIBRARIES:
        try:
            yield Finding(name, True, version(name), True)
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", True, f"Run `pip install {name}`")


def devices() -> Iterator[Finding]:
    """Cores, and a GPU that torch can use."""
    yield Finding("CPU", True, counted(cores(), "core"))
    try:
        torch = importlib.import_module("torch")
    except BROKEN as problem:
        yield Finding("torch runs", False, str(problem), True, "Install torch again")
        return
    yield Finding("torch runs", True, counted(torch.get_num_threads(), "thread"), True)
    if torch.cuda.is_available():
        yield Finding(
            "GPU", True, f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / 1e9:.1f} GB free; {ON_CPU}"
        )
    elif torch.backends.mps.is_available():
        yield Finding("GPU", True, "Apple GPU; not used for drawing")
    else:
        yield Finding("GPU", False, "none; the pocket model needs none")


def memory(limits: Sequence[Path] = CGROUP_LIMITS) -> Iterator[Finding]:
    """What the machine has, or the lower limit of the container that this process runs in."""
    most = memory_limit(limits)
    if most is None:
        yield Finding("memory", True, "this system does not say")
        return
    left = free_memory()
    text = f"{most / 1e9:.1f} GB" + ("" if left is None else f", {left / 1e9:.1f} GB free")
    yield Finding(
        "memory",
        most >= MEMORY_BYTES,
        text,
        action=f"{MEMORY_BYTES / 1e9:.0f} GB or more are safe; close programs or raise the limit",
    )


def free_memory() -> int | None:
    """Bytes that new work may take; None where nothing says it, or torch is broken."""
    try:
        from tenth.models.memory.system import free

        return free()
    except BROKEN:
        return None


def memory_limit(limits: Sequence[Path]) -> int | None:
    """Bytes that this process may use: the least of the machine's and the limits in these files; None where nothing says."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in limits:
        text = limit.read_text().strip() if limit.is_file() else ""
        if text.isdigit():
            found.append(int(text))
    return min(found, default=None)


def disk() -> Iterator[Finding]:
    """Where embeddings are kept, and how much room is left there."""
    from tenth.core.cache import default_store

    store = default_store()
    place = next(path for path in (store, *store.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    action = "Set TENTH_STORE to a folder with room that you may write to"
    yield Finding("store", os.access(place, os.W_OK), f"{store}", True, action)
    yield Finding("free disk", free >= DISK_BYTES, f"{free / 1e9:.1f} GB", True, action)


def faces() -> Iterator[Finding]:
    """Detector and recogniser, each run on a blank picture."""
    try:
        import numpy as np

        from tenth.core.types import Face, Photo
        from tenth.data.face_descriptors import WEIGHTS, describe, encoder_name
        from tenth.data.faces import find_faces, model_file

        blank = np.zeros((150, 150, 3), np.uint8)
        find_faces(blank)
        landmarks = np.array([[110.0, 60], [90, 60], [40, 60], [60, 60], [75, 95]])
        describe(Photo(blank, "", face=Face((30, 30, 120, 120), landmarks)))
        yield Finding("face detector", True, "dlib's, with five landmarks", True)
        yield Finding("face recogniser", True, f"{encoder_name()} in {model_file(WEIGHTS).parent}", True)
    except BROKEN as problem:
        yield Finding("faces", False, str(problem), True, "Run `pip install dlib-bin face-recognition-models`")


def pocket() -> Iterator[Finding]:
    """The pocket model, loaded, and the photos of `tenth demo`."""
    action = "Install tenth again, from a wheel or a whole checkout"
    try:
        from tenth.models.pocket.loader import load_pocket
        from tenth.models.pocket.paths import PHOTOS

        model = load_pocket()
        yield Finding("pocket model", True, f"{model.name}, {model.adapter_name}", True)
    except BROKEN as problem:
        yield Finding("pocket model", False, str(problem).partition("\n")[0], True, action)
        return
    photos = len(without_litter(PHOTOS, PHOTOS.glob("*.png")))
    yield Finding("example photos", photos > 0, f"{photos} in {PHOTOS}", action=action)


def extras() -> Iterator[Finding]:
    """Optional packages, imported, because a wheel may be there and not work."""
    yield _extra("HEIC photos", ("pillow_heif",), "heic")
    yield _extra("judge", ("onnxruntime", "cv2"), "judge")


def _extra(what: str, modules: Sequence[str], extra: str) -> Finding:
    action = f"Run `pip install tenth[{extra}]` if you want it"
    if missing := [module for module in modules if find_spec(module) is None]:
        return Finding(what, False, f"optional; {' and '.join(missing)} not installed", action=action)
    try:
        found = [f"{module} {importlib.import_module(module).__version__}" for module in modules]
    except BROKEN as problem:
        return Finding(what, False, f"optional; {problem}", action=action)
    return Finding(what, True, ", ".join(found))


def hub() -> Iterator[Finding]:
    """Whether the hub that huggingface_hub is set to answers a connection: a best effort, since a proxy may be in between."""
    try:
        constants = importlib.import_module("huggingface_hub.constants")
    except BROKEN as problem:
        yield Finding("hub", False, f"optional; {problem}")
        return
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", False, "optional; HF_HUB_OFFLINE is set, so it was not asked")
        return
    try:
        address = urlsplit(constants.ENDPOINT)
        host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    except ValueError:  # whose text may hold a password
        yield Finding("hub", False, "optional; HF_ENDPOINT is no address", action="Correct it, or unset it")
        return
    reached = connects(host, port)
    yield Finding(
        "hub", reached, f"{host} {'answers' if reached else 'does not answer'} (optional; the pocket model needs no network)"
    )


def connects(host: str, port: int, seconds: float = HUB_SECONDS) -> bool:
    """Whether a connection opens within the time, the name's look-up included, which has no time limit of its own."""
    opened = threading.Event()

    def attempt() -> None:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                opened.set()
        except (OSError, UnicodeError):  # the second for a name that no host can have
            return

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return opened.is_set()


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (python, libraries, devices, memory, disk, faces, pocket, extras, hub)
