"""The main job once, start to end: photos -> every method that learns nothing per person -> images -> one contact sheet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from tenth.adapt.ip_adapter import IPAdapter
from tenth.catalog import METHODS, QUICK, method
from tenth.config import to_table
from tenth.data.faces import crop_face
from tenth.diffusion import LatentDiffusion
from tenth.errors import CheckpointError, TenthError
from tenth.generate import Progress, Request, generate, read_sample, save_sample
from tenth.record import RECORD, read_record, write_record
from tenth.report.sheet import Row, contact_sheet
from tenth.sampling import Sampling
from tenth.types import Person, Sample

PROMPT = "a portrait photo of a smiling person"
SEEDS = (0, 1, 2, 3)  # a batch; the same for all methods, so that what differs between rows is the method
SHEET = "sheet.png"


def demo(person: Person, model: LatentDiffusion, output: Path, sampling: Sampling, progress: Progress | None = None) -> Path:
    """Write `output`/METHOD/SEED.png, `output`/run.json and, last, `output`/sheet.png. Returns the sheet's path.

    It may be run again: what a demo wrote is replaced, and nothing else. Raises CheckpointError where a file of another
    origin stands in the way, before anything is drawn.
    """
    methods = demo_methods(model)
    images = {(name, seed): output / name / f"{seed}.png" for name in methods for seed in SEEDS}
    claim(output, images.values())
    identities = [method(name)(person, model) for name in methods]
    requests = [Request(identity, PROMPT, seed) for identity in identities for seed in SEEDS]

    samples: list[Sample] = []
    for sample in generate(model, requests, sampling, progress=progress):
        path = images[sample.method, sample.seed]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sample(sample, path)
        samples.append(sample)

    settings = {"methods": methods, "prompt": PROMPT, "seeds": SEEDS, "model": model.name, "sampling": to_table(sampling)}
    photos = [photo.digest for photo in person.photos]
    write_record(output / RECORD, kind="demo", settings={**settings, "photos": photos}, results=seconds_by_method(samples))
    return _save_sheet(person, samples, settings, output / SHEET)


def demo_methods(model: LatentDiffusion) -> list[str]:
    """Methods that learn nothing per person, as far as the model brings them: seconds, not minutes, for each new face."""
    return [name for name in QUICK if isinstance(METHODS[name].thing, IPAdapter) or name in model.trained]


def seconds_by_method(samples: Iterable[Sample]) -> dict[str, Any]:
    """{"seconds_per_image": {METHOD: seconds}}, as measured in this run."""
    times: dict[str, list[float]] = {}
    for sample in samples:
        times.setdefault(sample.method, []).append(sample.seconds)
    return {"seconds_per_image": {name: round(sum(values) / len(values), 3) for name, values in times.items()}}


def claim(output: Path, images: Iterable[Path]) -> None:
    """Raises CheckpointError if a file that a demo would write exists already and is not a demo's."""
    for path in _foreign(output, images):
        raise CheckpointError(
            f"{path} exists and `tenth demo` did not write it", "a demo replaces only its own files", "Choose another -o"
        )


def _foreign(output: Path, images: Iterable[Path]) -> Iterator[Path]:
    try:
        if (output / RECORD).exists():
            read_record(output / RECORD, kind="demo")
    except TenthError:
        yield output / RECORD
    yield from (path for path in (*images, output / SHEET) if path.exists() and not _is_ours(path))


def _is_ours(path: Path) -> bool:
    try:
        return bool(read_sample(path))
    except (TenthError, UnidentifiedImageError, OSError, ValueError):
        return False


def _save_sheet(person: Person, samples: list[Sample], settings: dict[str, Any], path: Path) -> Path:
    references = [crop_face(photo.pixels, photo.face) for photo in person.photos if photo.face is not None]
    seconds = seconds_by_method(samples)["seconds_per_image"]
    rows = [
        Row(name, f"{seconds[name]:.2g} s an image", [sample.pixels for sample in samples if sample.method == name])
        for name in settings["methods"]
    ]
    said = settings["sampling"]
    model = settings["model"].partition("@")[0]
    how = f"{model} · {said['steps']} steps · guidance {said['guidance']:g} · scale {said['scale']:g}"
    sheet = contact_sheet(references, rows, f"{PROMPT}\n{how}", [f"seed {seed}" for seed in SEEDS])
    return _save_marked(sheet, path)


def _save_marked(sheet: Image.Image, path: Path) -> Path:
    """Write the PNG whole or not at all, with an entry by which the next demo knows that the file may be replaced."""
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", '{"kind": "demo"}')
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, format="PNG", pnginfo=info)
    partial.replace(path)
    return path
