"""The demo: photos -> three methods -> an image of each by several prompts -> one contact sheet."""

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
from tenth.core.files.png_metadata import read_if_complete
from tenth.core.marks.png import write_png
from tenth.core.run_record import RECORD_FILE, SHEET_FILE, read_record, write_record
from tenth.core.types import DiffusionModel, Person
from tenth.data.faces.detection import crop_face
from tenth.evaluation.image_set import load_image
from tenth.experiments.generation.resumable_images import ImageSeries, UnfinishedRun
from tenth.experiments.output_folders import folder_in_use, read_run_settings
from tenth.methods.registry import method
from tenth.reporting.contact_sheet import SheetRow, contact_sheet
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import OnProgress, Request

# Those of docs/results.md that differ most, and what a row says of each.
DEMO_METHODS = {
    "ip-adapter": "one photo",
    "ip-adapter-max": "all photos, maximum",
    "ip-adapter-consensus": "all photos, the default",
}
PROMPTS = {  # by the columns' heads; one batch
    "smiling": "a portrait photo of a smiling person",
    "old": "a photo of an old person with gray hair",
    "hat": "a photo of a person wearing a hat",
    "sunglasses": "a photo of a person wearing sunglasses",
}
SEED = 0  # of every image
RUN_KIND = "demo"  # in run.json


def demo(
    person: Person, model: DiffusionModel, output: Path, sampling: SamplingConfig, on_progress: OnProgress | None = None
) -> Path:
    """Write `output`/METHOD/HEAD.png for each head of PROMPTS, run.json and, last, sheet.png. Returns the sheet's path.

    A demo that was stopped continues; a finished one is not changed. Raises CheckpointError, before anything is generated, if
    another demo's or other files are in the way, or another run is writing there.
    """
    methods = list(DEMO_METHODS)
    settings = {
        "methods": methods,
        "prompts": list(PROMPTS.values()),
        "seed": SEED,
        "model": model.name,
        "sampling": to_table(sampling.for_model(model)),
        "photos": [photo.digest for photo in person.photos],
        "tenth": version("tenth"),
    }
    images = {name: [output / name / f"{head}.png" for head in PROMPTS] for name in methods}
    paths = [path for method_paths in images.values() for path in method_paths]
    with exclusive_folder(output):
        ensure_writable(output, paths, settings)
        remove_temporary(output, recursive=False)  # its folders may be the user's
        for name in methods:
            remove_temporary(output / name)

        # Images.
        run = UnfinishedRun(output, RUN_KIND, settings)
        identities = [method(name)(person, model).identity for name in methods]
        requests = [Request(identity, prompt, SEED) for identity in identities for prompt in PROMPTS.values()]
        ImageSeries(model, requests, paths, sampling).generate(run, on_progress)

        # The record, and the sheet.
        if not (output / RECORD_FILE).exists():
            seconds = {name: run.mean_seconds(paths) for name, paths in images.items()}
            write_record(output / RECORD_FILE, command=RUN_KIND, settings=settings, results={"seconds_per_image": seconds})
        run.finish()
        if not (output / SHEET_FILE).exists():
            _save_sheet(person, images, read_record(output / RECORD_FILE, command=RUN_KIND), output / SHEET_FILE)
    return output / SHEET_FILE


def ensure_writable(output: Path, images: Iterable[Path], settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError if a file that the demo would write exists and is not of a demo of these settings."""
    sheet = output / SHEET_FILE
    existing = [path for path in (*images, sheet, output / RECORD_FILE) if os.path.lexists(path)]
    earlier = read_run_settings(output, RUN_KIND)
    foreign = existing
    if earlier is not None:  # then only a sheet that is damaged or has no settings of ours can be another's
        foreign = [sheet] if sheet in existing and read_if_complete(sheet) is None else []
    if foreign:
        found = f"{foreign[0]} exists and `tenth demo` did not write it"
        raise CheckpointError(found, "a demo replaces no file", "Choose another -o")
    if existing and earlier != settings:
        raise folder_in_use(output, "a demo of other photos, or by another model or version")


def _save_sheet(person: Person, images: Mapping[str, Sequence[Path]], record: Mapping[str, Any], path: Path) -> None:
    """Write the sheet of the images on disk, and mark it as a demo's."""
    references = [crop_face(photo.pixels, photo.face) for photo in person.photos if photo.face is not None]
    rows = [SheetRow(name, DEMO_METHODS[name], list(map(load_image, paths))) for name, paths in images.items()]
    settings = record["settings"]
    sampling, model = settings["sampling"], settings["model"].partition("@")[0]
    scales = f"guidance {sampling['guidance_scale']:g} · text guidance {sampling['text_guidance_scale']:g}"
    details = f"{model} · seed {SEED} · {sampling['steps']} steps · {scales}"
    prompts = [f"{head}: {prompt}" for head, prompt in PROMPTS.items()]
    sheet = contact_sheet(references, rows, "\n".join(("Three methods, four prompts", details, *prompts)), list(PROMPTS))
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps({"kind": RUN_KIND}))
    write_png(path, sheet, info)
