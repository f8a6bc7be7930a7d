"""The main job once, start to end: photos -> every method that learns nothing per person -> images -> one contact sheet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from tenth.core.config import to_table
from tenth.core.errors import CheckpointError
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.writing import write_png
from tenth.core.run_record import RECORD_FILE, read_record, write_record
from tenth.core.types import Person
from tenth.data.faces.detection import crop_face
from tenth.experiments.images import load_image
from tenth.experiments.output_folders import folder_in_use, read_run_settings
from tenth.experiments.resumable_images import ImageSeries, UnfinishedRun
from tenth.methods.registry import METHODS, TUNING_FREE_METHODS, method
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.reporting.contact_sheet import Row, contact_sheet
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Progress, Request
from tenth.sampling.png_metadata import read_if_complete

PROMPT = "a portrait photo of a smiling person"
SEEDS = (0, 1, 2, 3)  # a batch; the same for all methods, so that what differs between rows is the method
SHEET_FILE = "sheet.png"
RUN_KIND = "demo"  # in run.json


def demo(
    person: Person, model: LatentDiffusion, output: Path, sampling: SamplingConfig, progress: Progress | None = None
) -> Path:
    """Write `output`/METHOD/SEED.png, `output`/run.json and, last, `output`/sheet.png. Returns the sheet's path.

    A demo that was stopped goes on where it was; of one that is done nothing is replaced. Raises CheckpointError where another
    demo's pictures or a file of another origin stand in the way, or another run is writing there, before anything is drawn.
    """
    methods = demo_methods(model)
    settings = {
        "methods": methods,
        "prompt": PROMPT,
        "seeds": list(SEEDS),
        "model": model.name,
        "sampling": to_table(sampling),
        "photos": [photo.digest for photo in person.photos],
        "tenth": version("tenth"),
    }
    images = {name: [output / name / f"{seed}.png" for seed in SEEDS] for name in methods}
    with exclusive_folder(output):
        ensure_writable(output, [path for paths in images.values() for path in paths], settings)
        remove_temporary(output, recursive=False)  # below it may lie anything
        for name in methods:
            remove_temporary(output / name)
        run = UnfinishedRun(output, RUN_KIND, settings)
        identities = [method(name)(person, model).identity for name in methods]
        requests = [Request(identity, PROMPT, seed) for identity in identities for seed in SEEDS]
        ImageSeries(model, requests, [path for paths in images.values() for path in paths], sampling).generate(run, progress)

        if not (output / RECORD_FILE).exists():
            seconds = {name: run.mean_seconds(paths) for name, paths in images.items()}
            write_record(output / RECORD_FILE, command=RUN_KIND, settings=settings, results={"seconds_per_image": seconds})
        run.finish()
        if not (output / SHEET_FILE).exists():
            _save_sheet(person, images, read_record(output / RECORD_FILE, command=RUN_KIND), output / SHEET_FILE)
    return output / SHEET_FILE


def demo_methods(model: LatentDiffusion) -> list[str]:
    """Methods that learn nothing per person, as far as the model brings them: seconds, not minutes, for each new face."""
    return [name for name in TUNING_FREE_METHODS if METHODS[name].value.is_available(model)]


def ensure_writable(output: Path, images: Iterable[Path], settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError if a file that a demo would write is there and is not of a demo of these settings."""
    existing = [path for path in (*images, output / SHEET_FILE, output / RECORD_FILE) if os.path.lexists(path)]
    earlier = read_run_settings(output, RUN_KIND)
    foreign = (
        existing
        if earlier is None
        else [path for path in existing if path == output / SHEET_FILE and read_if_complete(path) is None]
    )
    if foreign:
        raise CheckpointError(
            f"{foreign[0]} exists and `tenth demo` did not write it", "a demo replaces no file", "Choose another -o"
        )
    if existing and earlier != settings:
        raise folder_in_use(output, "a demo of other photos, or by another model or version")


def _save_sheet(person: Person, images: Mapping[str, Sequence[Path]], record: Mapping[str, Any], path: Path) -> None:
    """Draw the sheet of what is on the disk, and mark it as a demo's."""
    references = [crop_face(photo.pixels, photo.face) for photo in person.photos if photo.face is not None]
    seconds, settings = record["results"]["seconds_per_image"], record["settings"]
    notes = {name: f"{each:.2g} s an image" if each is not None else "" for name, each in seconds.items()}
    rows = [Row(name, notes[name], [load_image(each) for each in paths]) for name, paths in images.items()]
    sampling, model = settings["sampling"], settings["model"].partition("@")[0]
    scales = f"guidance {sampling['guidance_scale']:g} · scale {sampling['ip_adapter_scale']:g}"
    details = f"{model} · {sampling['steps']} steps · {scales}"
    sheet = contact_sheet(references, rows, f"{PROMPT}\n{details}", [f"seed {seed}" for seed in SEEDS])
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps({"kind": RUN_KIND}))
    write_png(path, sheet, info)
