"""Commands on a toy model, each in a process of its own whose clocks stand still, and what such a process does to the disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tenth.cli.commands.generate
import tenth.core.run_record
import tenth.experiments.costs
import tenth.experiments.demo
import tenth.experiments.generation.run
import tenth.experiments.runner
import tenth.sampling.config
import tenth.sampling.generate
import tenth.training.loop
import toy_people
from tenth.cli.main import main
from tenth.core.cache import ArrayCache
from tenth.core.config import config_dataclass
from tenth.core.files.writing import TEMPORARY_NAME
from tenth.core.types import Photo
from tenth.data.faces.crops import PhotoDataset
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import find_faces
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.experiments import recognizers
from tenth.models import registry as model_registry
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.sampling.config import SamplingConfig
from toy_models import write_toy

WRITE_EVENTS = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "fsync"}
WRITTEN_ONCE_PATTERNS = ("*.png", "*.safetensors", "people.jsonl", "recipe.toml")  # what is never written a second time
RECIPE = """
split = "validation"
methods = ["ip-adapter", "ip-adapter-avg"]
images = 2
references = 3
recognizers = ["recognizer.toml", "dlib"]
max_people = 2
data = {{ people = "{0}/people.jsonl", photos = "{0}" }}
sampling = {{ steps = 1 }}
"""
TRAINING = """
stage = "adapter"
aggregator = "set"
model = "{0}/toy/model"
synthetic = {{ num_people = 4, photos_per_person = 3 }}
references = {{ min_photos = 1, max_photos = 2 }}
[schedule]
total_images = 16
batch_size = 4
warmup_images = 4
ema_halflife_images = 4
checkpoint_every_images = 8
precision = "fp32"
"""


@dataclass
class FaultInjector:
    """What a process does that the outside can see, and what is to happen at one moment of these."""

    output: str
    folder: str  # around the output
    event_type: str = (
        ""  # of which count the moment is: "output", what changes the disk there, "writing", in the folder, or "all"
    )
    index: int = -1
    action: Callable[[str], None] = lambda _: None
    counts: dict[str, int] = field(default_factory=lambda: {"output": 0, "writing": 0, "all": 0})
    flushed: set[int] = field(default_factory=set)  # inodes
    violations: list[str] = field(default_factory=list)

    def record(self, path: str, *, writes: bool) -> None:
        inside = path.startswith(self.folder)
        kinds = {"output": writes and path.startswith(self.output), "writing": writes and inside, "all": inside or not writes}
        for kind, counts in kinds.items():
            if counts:
                self.counts[kind] += 1
                if kind == self.event_type and self.counts[kind] - 1 == self.index:
                    self.action(path)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What the interpreter announces, just before it happens."""
        if not (event == "open" or event.startswith("os.")) or not arguments or not isinstance(arguments[0], str | os.PathLike):
            return
        writes = event in WRITE_EVENTS or (event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)))
        path = Path(arguments[0]).absolute()
        self.record(str(path), writes=writes)
        if writes and str(path).startswith(self.folder):
            self.check_write(event, path)

    def fsync(self, descriptor: int) -> None:
        """In the place of the system's."""
        self.record(str(Path(f"/proc/self/fd/{descriptor}").readlink()), writes=True)
        system_fsync(descriptor)
        self.flushed.add(os.fstat(descriptor).st_ino)

    def check_write(self, event: str, path: Path) -> None:
        """What is opened to be written is a temporary file of ours, and what gets a name is one that was flushed."""
        temporary = any(TEMPORARY_NAME.fullmatch(part) for part in path.parts)
        if event == "open" and not temporary and not path.name.startswith("events.out"):
            self.violations.append(f"opened: {path}")
        if event in ("os.rename", "os.link") and temporary:  # else it is set aside
            inside = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
            self.violations += [f"named, not flushed: {each}" for each in inside if each.stat().st_ino not in self.flushed]


system_fsync = os.fsync


def freeze_clocks() -> None:
    """Nothing takes time, and it is always the same day."""

    class FrozenDatetime(tenth.core.run_record.datetime):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, zone: Any = None) -> Any:
            return cls(2026, 1, 1, tzinfo=zone)

    class FrozenTime:
        perf_counter = staticmethod(lambda: 0.0)

    tenth.core.run_record.datetime = FrozenDatetime  # type: ignore[attr-defined]
    for module in (tenth.sampling.generate, tenth.experiments.costs, tenth.experiments.runner):
        module.time = FrozenTime  # type: ignore[attr-defined]
    tenth.experiments.costs.peak_megabytes = lambda: 0


def install_toys(work: Path) -> None:
    """The toy model, loaded once for all processes, and toy people in the place of the package's model and of photos."""
    toy = load_pocket(work / "toy/model", name="toy")
    photo = Photo(toy_people.face_pixels(0, 0), "", face=toy_people.FACE)
    find_faces(photo.pixels)  # what reads faces takes seconds to open, too
    face_descriptor(photo)
    tenth.experiments.runner.load_model = model_registry.load_model = lambda *_, **__: toy
    PhotoDataset.open_with_central_face = toy_people.open_toy_photo  # type: ignore[assignment]
    recognizers.load_recognizer = recognizers.DlibRecognizer = toy_people.ColorRecognizer  # type: ignore[misc, assignment]
    tenth.sampling.config.SamplingConfig = OneStep  # type: ignore[misc, assignment]
    tenth.experiments.demo.SAMPLING = OneStep()


@config_dataclass
class OneStep(SamplingConfig):
    """The settings of commands that are tried many times."""

    steps: int = 1


def prepare(work: Path) -> None:
    """All that the commands read, and what is loaded once for all of them."""
    (work / "toy").mkdir()
    write_toy(work / "toy")
    freeze_clocks()
    install_toys(work)
    rows = [
        ManifestEntry(f"{name}/{photo}.jpg", name, "validation", 1, "a photo", ("a photo",), toy_people.digest(person, photo))
        for person, name in enumerate(toy_people.NAMES)
        for photo in range(toy_people.PHOTOS)
    ]
    write_manifest(work / "people.jsonl", rows)
    (work / "recipe.toml").write_text(RECIPE.format(work))
    (work / "training.toml").write_text(TRAINING.format(work))
    (work / "other.toml").write_text(RECIPE.format(work).replace("images = 2", "images = 1"))
    for folder, count in (("photos", 3), ("others", 2)):
        (work / folder).mkdir()
        for photo in sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:count]:
            shutil.copyfile(photo, work / folder / photo.name)
    with redirect_stdout(sys.stderr):  # stdout is for what is found
        assert main(["identity", str(work / "photos"), "-o", str(work / "me.safetensors")]) == 0


def command(name: str, work: Path, output: Path, *, other: bool = False) -> list[str]:
    """A command that writes to `output`. other: with other settings, for the same place."""
    photos, identity = str(work / ("others" if other else "photos")), str(work / "me.safetensors")
    drawing = ["--prompt", "a photo of a person", "-n", "6", "--steps", "1", "--seed", str(int(other))]
    axes = ["--grid", f"seed={int(other)}-2", "--grid", "prompt=a man|a woman"]
    resume = ["--resume"] if (output / "recipe.toml").exists() else []
    return {
        "generate": ["generate", identity, *drawing, "-o", str(output)],
        "grid": ["generate", identity, *axes, "--steps", "1", "-o", str(output)],
        "rows": ["generate", identity, "--prompts", str(work / "rows.jsonl"), "--steps", "1", "-o", str(output)],
        "candidates": ["generate", identity, *drawing, "--candidates", "8", "-o", str(output)],
        "identity": ["identity", photos, "-o", str(output / "me.safetensors")],
        "experiment": ["experiment", str(work / ("other.toml" if other else "recipe.toml")), "-o", str(output)],
        "demo": ["demo", "--photos", photos, "-o", str(output)],
        "train": ["train", str(work / "training.toml"), "-o", str(output), *resume],
    }[name]


def run_forked(run: Callable[[], int], log: Path) -> int:
    """A process's status. What it says goes to a file."""
    process = os.fork()
    if process == 0:
        code = 70
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            code = run()
        except BaseException:  # noqa: BLE001 - a process's end
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitpid(process, 0)[1]


@dataclass(frozen=True)
class Trial:
    """One command in a folder and with a store of its own."""

    name: str
    work: Path
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def run(self, faults: FaultInjector | None = None) -> int:
        """Once. The status of its process."""

        def inside() -> int:
            os.environ["TENTH_CACHE_DIR"] = str(self.folder / "store")
            model_registry.load_model().encoder.cache = ArrayCache(self.folder / "store")
            arguments = command(self.name, self.work, self.output)
            if faults is None:
                return main(arguments)
            sys.addaudithook(faults.audit)
            os.fsync = faults.fsync
            code = main(arguments)
            faults.action = lambda _: None
            summary = {"moments": dict(faults.counts), "breaches": list(faults.violations)}
            (self.folder / "moments").write_text(json.dumps(summary))
            return code

        return run_forked(inside, self.folder / "said")

    def fault_injector(self, event_type: str = "", index: int = -1) -> FaultInjector:
        return FaultInjector(str(self.output), str(self.folder), event_type, index)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.output).as_posix(): path.read_bytes()
            for path in sorted(self.output.rglob("*"))
            if path.is_file() and not path.name.endswith(".part") and not path.name.startswith("events.out.tfevents")
        }

    def written_once(self) -> dict[str, tuple[int, int]]:
        found = (path for pattern in WRITTEN_ONCE_PATTERNS for path in self.output.rglob(pattern))
        kept = [
            path
            for path in found
            if not ({"sheet.png", "curve.png", "samples.png"} & {path.name} or "step-" in str(path) or "/final/" in str(path))
        ]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in kept if ".part" not in str(path)}

    @property
    def log(self) -> str:
        return (self.folder / "said").read_text(errors="replace")
