"""What works on this machine, and what to do about what does not. Reads and looks; changes nothing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tenth.core.errors import TenthError
from tenth.core.files.reading import without_system_files
from tenth.core.optional_packages import import_openvino
from tenth.core.run_record import LIBRARIES, library_version, num_cores
from tenth.core.wording import pluralize

MIN_MEMORY_BYTES = 2_000_000_000  # generating with the pocket model peaks below; training needs more
MIN_DISK_BYTES = 200_000_000  # embeddings are kept: about a kilobyte a photo
HUB_TIMEOUT_SECONDS = 2.0
GPU_NOTE = "for large models; the pocket model draws on the CPU"
IMPORT_ERRORS = (ImportError, OSError, RuntimeError, ValueError, TenthError)  # how a library or a file that does not work shows


@dataclass(frozen=True)
class CheckResult:
    """One thing looked at. required: the main job cannot work without it. action: what to do where it is not ok."""

    name: str
    ok: bool
    detail: str
    required: bool = False
    action: str = ""


def run_checks() -> list[CheckResult]:
    """Every finding, in the order in which one would mend them."""
    checks = (
        *(python, libraries, devices, memory, disk, faces, pocket, marks),
        *(model_choice, transformers, optional_packages, hub),
    )
    return [finding for check in checks for finding in check()]


def is_working(results: Sequence[CheckResult]) -> bool:
    """Whether the main job can: photos in, pictures out, with the pocket model."""
    return all(finding.ok for finding in results if finding.required)


def results_to_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """{"works": ..., "findings": [{"name", "ok", "detail", "required", "action"}]}."""
    return {"works": is_working(results), "findings": [asdict(finding) for finding in results]}


def results_to_table(results: Sequence[CheckResult]) -> str:
    """A line per finding, below it what to do where something is missing, and the verdict."""
    width = max(len(finding.name) for finding in results)
    lines = []
    for finding in results:
        state = "ok" if finding.ok else "MISSING" if finding.required else "missing"
        lines.append(f"{finding.name:<{width}}  {state:<7}  {finding.detail}")
        if not finding.ok and finding.action:
            lines.append(f"{'':<{width}}           -> {finding.action}")
    return "\n".join([*lines, "", "tenth works here" if is_working(results) else "tenth does not work here: see MISSING above"])


def python() -> Iterator[CheckResult]:
    """The interpreter and the platform."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield CheckResult("Python", sys.version_info >= (3, 11), text, True, "Install Python 3.11 or newer")


def libraries() -> Iterator[CheckResult]:
    """What is installed of what a result can depend on; whether it runs is seen below."""
    for name in LIBRARIES:
        found = library_version(name)
        yield CheckResult(name, found is not None, found or "not installed", True, f"Run `pip install {name}`")


def devices() -> Iterator[CheckResult]:
    """Cores, and a GPU that torch can use."""
    yield CheckResult("CPU", True, pluralize(num_cores(), "core"))
    try:
        torch = importlib.import_module("torch")
    except IMPORT_ERRORS as problem:
        yield CheckResult("torch runs", False, str(problem), True, "Install torch again")
        return
    yield CheckResult("torch runs", True, pluralize(torch.get_num_threads(), "thread"), True)
    if torch.cuda.is_available():
        free = f"{torch.cuda.mem_get_info()[0] / 1e9:.1f} GB free"
        yield CheckResult("GPU", True, f"{torch.cuda.get_device_name()}, {free}; {GPU_NOTE}")
    elif torch.backends.mps.is_available():
        yield CheckResult("GPU", True, "Apple GPU; not used for drawing")
    else:
        yield CheckResult("GPU", False, "none; the pocket model needs none")


def memory(root: Path = Path("/")) -> Iterator[CheckResult]:
    """What this process may use: the machine's memory, or a lower limit of the container around it. root: see memory_limit."""
    from tenth.models.memory.system import free_memory, memory_limit

    limit = memory_limit(root)
    text = f"{limit / 1e9:.1f} GB, {free_memory(root) / 1e9:.1f} GB free"
    action = f"{MIN_MEMORY_BYTES / 1e9:.0f} GB or more are safe; close programs or raise the limit"
    yield CheckResult("memory", limit >= MIN_MEMORY_BYTES, text, action=action)


def disk() -> Iterator[CheckResult]:
    """Where embeddings are kept, and how much room is left there."""
    from tenth.core.cache import default_cache_dir

    store = default_cache_dir()
    folder, free = _existing(store), _free_disk(store)
    action = "Set TENTH_CACHE_DIR to a folder with room that you may write to"
    yield CheckResult("cache", os.access(folder, os.W_OK), str(store), True, action)
    yield CheckResult("free disk", free >= MIN_DISK_BYTES, f"{free / 1e9:.1f} GB", True, action)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there, as far as this user may look."""
    return next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))


def _free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    return shutil.disk_usage(_existing(folder)).free


def faces() -> Iterator[CheckResult]:
    """Detector and recognizer, each run on a blank picture."""
    try:
        import numpy as np

        from tenth.core.types import Face, Photo
        from tenth.data.faces.descriptors import RECOGNIZER_WEIGHTS, encoder_name, face_descriptor
        from tenth.data.faces.detection import face_model_path, find_faces

        blank = np.zeros((150, 150, 3), np.uint8)
        find_faces(blank)
        landmarks = np.array([[110.0, 60], [90, 60], [40, 60], [60, 60], [75, 95]])
        face_descriptor(Photo(blank, "", face=Face((30, 30, 120, 120), landmarks)))
        yield CheckResult("face detector", True, "dlib's, with five landmarks", True)
        yield CheckResult("face recognizer", True, f"{encoder_name()} in {face_model_path(RECOGNIZER_WEIGHTS).parent}", True)
    except IMPORT_ERRORS as problem:
        yield CheckResult("faces", False, str(problem), True, "Run `pip install dlib-bin face-recognition-models`")


def pocket() -> Iterator[CheckResult]:
    """The pocket model, loaded, and the photos of `tenth demo`."""
    action = "Install tenth again, from a wheel or a whole checkout"
    try:
        from tenth.models.pocket.loader import load_pocket
        from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

        model = load_pocket()
        yield CheckResult("pocket model", True, f"{model.name}, {model.adapter_name}", True)
    except IMPORT_ERRORS as problem:
        yield CheckResult("pocket model", False, str(problem).partition("\n")[0], True, action)
        return
    photos = len(without_system_files(EXAMPLE_PHOTOS_DIR, EXAMPLE_PHOTOS_DIR.glob("*.png")))
    yield CheckResult("example photos", photos > 0, f"{photos} in {EXAMPLE_PHOTOS_DIR}", action=action)


def marks() -> Iterator[CheckResult]:
    """What marks images as made by a model, and where the key is. No key is made."""
    try:
        from tenth.core.marks.key import key_path
        from tenth.core.marks.signer import MARKS_VARIABLE, SIGNER_VARIABLE

        for module in ("c2pa", "cryptography"):
            importlib.import_module(module)
    except IMPORT_ERRORS as problem:
        yield CheckResult("marks", False, str(problem), True, "Run `pip install c2pa-python cryptography`")
        return
    if os.environ.get(MARKS_VARIABLE) == "off":
        detail = f"off, by {MARKS_VARIABLE}"
    elif os.environ.get(SIGNER_VARIABLE):
        detail = f"signed as {SIGNER_VARIABLE} says"
    else:
        detail = f"signed by {key_path()}{'' if os.access(key_path(), os.F_OK) else ', made at first use'}"
    yield CheckResult("marks", True, detail, True)


def model_choice() -> Iterator[CheckResult]:
    """The model that suits the memory and the GPU of this machine, with the reason."""
    try:
        from tenth.models.hub.lockfile import models_dir, read_lock
        from tenth.models.memory.recommendation import recommend_model
        from tenth.models.memory.system import available_memory
        from tenth.models.registry import DEFAULT_MODEL

        choice = recommend_model(available_memory())
        here = choice.model == DEFAULT_MODEL or choice.model in read_lock(models_dir())
    except IMPORT_ERRORS as problem:
        yield CheckResult("model for you", False, f"not known: {problem}".partition("\n")[0])
        return
    action = f"Run `tenth models download {choice.model}`, then generate with --model {choice.model}"
    yield CheckResult("model for you", here, f"{choice.model}: {choice.reason}", action=action)


def transformers() -> Iterator[CheckResult]:
    """How each transformer with a short name would be held in the free memory, and whether the disk has room for its files."""
    try:
        from tenth.models.hub.lockfile import models_dir, read_lock
        from tenth.models.hub.published import PUBLISHED
        from tenth.models.memory.recommendation import flow_plans
        from tenth.models.memory.system import available_memory

        plans, here = flow_plans(available_memory()), read_lock(models_dir())
        room = _free_disk(models_dir()) / 1e9
    except IMPORT_ERRORS as problem:
        yield CheckResult("transformers fit", False, f"not known: {problem}".partition("\n")[0])
        return

    # Also weights that stay in their files, read from there in each step, need the disk.
    texts, fits = [], False
    for name, plan in plans.items():
        if plan is None:
            texts.append(f"{name}: no")
            continue
        files, memory = PUBLISHED[name].gigabytes, (plan.required_bytes or 0) / 1e9
        has_room = name in here or files <= room
        short = "" if has_room else f", where {room:.1f} GB are free"
        fits |= has_room
        texts.append(f"{name}: {plan.profile.name} on {plan.device}, {memory:.1f} GB of memory, {files:.1f} GB of disk{short}")
    action = "docs/models.md says what each needs; TENTH_MODELS says on which disk they are"
    yield CheckResult("transformers fit", fits, "; ".join(texts), action=action)


def optional_packages() -> Iterator[CheckResult]:
    """Optional packages, imported, because a wheel may be there and not work."""
    yield _optional_package("fast sampling", ("openvino",), "fast")
    yield _optional_package("server", ("fastapi", "uvicorn", "python_multipart", "sse_starlette"), "server")
    yield _optional_package("8 and 4 bits on a GPU", ("bitsandbytes",), "eight-bit")
    yield _optional_package("HEIC photos", ("pillow_heif",), "heic")
    yield _optional_package("ONNX recognizer", ("onnxruntime", "cv2"), "recognizer")
    yield _optional_package("plots of a report", ("matplotlib",), "report")


def _optional_package(name: str, modules: Sequence[str], extra: str) -> CheckResult:
    missing = [module for module in modules if find_spec(module) is None]
    detail = f"optional; {' and '.join(missing)} not installed"
    try:
        if not missing:
            imported = [import_openvino() if each == "openvino" else importlib.import_module(each) for each in modules]
            return CheckResult(name, True, ", ".join(f"{each.__name__} {each.__version__}" for each in imported))
    except IMPORT_ERRORS as problem:
        detail = f"optional; {problem}"
    return CheckResult(name, False, detail, action=f"Run `pip install 'tenth[{extra}]'` if you want it")


def hub() -> Iterator[CheckResult]:
    """Whether the hub that huggingface_hub is set to answers a connection: a best effort, since a proxy may be in between."""
    try:
        constants = importlib.import_module("huggingface_hub.constants")
    except IMPORT_ERRORS as problem:
        yield CheckResult("hub", False, f"optional; {problem}")
        return
    if constants.HF_HUB_OFFLINE:
        yield CheckResult("hub", False, "optional; HF_HUB_OFFLINE is set, so it was not asked")
        return
    try:
        address = urlsplit(constants.ENDPOINT)
        host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    except ValueError:  # whose text may hold a password
        yield CheckResult("hub", False, "optional; HF_ENDPOINT is no address", action="Correct it, or unset it")
        return
    reached = can_connect(host, port)
    text = f"{host} {'answers' if reached else 'does not answer'} (optional; the pocket model needs no network)"
    yield CheckResult("hub", reached, text)


def can_connect(host: str, port: int, timeout: float = HUB_TIMEOUT_SECONDS) -> bool:
    """Whether a connection opens within the time, the name's look-up included, which has no time limit of its own."""
    opened = threading.Event()

    def attempt() -> None:
        try:
            with socket.create_connection((host, port), timeout=timeout):
                opened.set()
        except (OSError, UnicodeError):  # the second for a name that no host can have
            return

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout)
    return opened.is_set()
