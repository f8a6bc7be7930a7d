"""What recipes/first-gpu.sh runs, a command each: `split PEOPLE PHOTOS`, `draw MODEL REFERENCES OUT`, `report OUT REPORT`.

`split` links the photos of the first ten people into PHOTOS/references and PHOTOS/held-out, in folders of numbers instead of
names. `draw` draws them by one model: OUT/images/PERSON/SEED.png, OUT/sheet.png, OUT/draw.json. `report` gathers all models'
results. No name and no photo of a person is in what `report` writes.
"""

import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import tenth
from tenth.core.files.png_metadata import save_sample
from tenth.core.files.writing import write_json
from tenth.core.marks.png import write_png
from tenth.core.run_record import environment
from tenth.data.photo_folder import read_person
from tenth.data.photo_sources import photo_entries
from tenth.experiments.costs import measure_cost
from tenth.methods.registry import method
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.reporting.contact_sheet import SheetRow, contact_sheet
from tenth.sampling.config import SamplingConfig

PEOPLE, REFERENCES = 10, 4  # people, and photos of each that a method is given
PROMPT = "a portrait photo of a person"


def split(people: Path, photos: Path) -> None:
    """Of each person the first photos are references, the others held out."""
    folders = [folder for folder in sorted(people.iterdir()) if folder.is_dir()][:PEOPLE]
    if not folders:
        sys.exit(
            f"{people} has no folder; one with photos for each person is needed. See the first lines of recipes/first-gpu.sh."
        )
    for number, folder in enumerate(folders):
        files = [path for path in photo_entries([folder]) if path.is_file()]
        for index, path in enumerate(files):
            target = photos / ("references" if index < REFERENCES else "held-out") / f"{number:02}"
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{index:03}{path.suffix}").symlink_to(path.resolve())


def method_for(model: Any) -> str:
    """How this model takes a person."""
    if model.adapter_name:
        return "ip-adapter-consensus"
    return "photos-in-context" if model.max_context_photos else "dreambooth-lora"


def draw(name: str, references: Path, out: Path) -> None:
    """Every person, by the method of the model's kind, each image alone."""
    start, said = time.perf_counter(), list[str]()
    model = load_model(name, options=LoadOptions(batch_size=1, context_photos=REFERENCES), on_message=said.append)
    seconds: dict[str, list[float]] = {"load": [time.perf_counter() - start], "identity": [], "image": []}
    steps, count = int(os.environ.get("STEPS", model.default_sampling.steps)), int(os.environ.get("IMAGES", "2"))
    peaks, rows, method_name = list[int](), list[SheetRow](), method_for(model)
    for folder in sorted(references.iterdir()):
        person = read_person(folder)
        with measure_cost() as cost:
            identity = method(method_name)(person, model).identity
        seconds["identity"].append(cost.seconds)
        with measure_cost() as drawn:
            requests = [tenth.Request(identity, PROMPT, seed) for seed in range(count)]
            samples = list(tenth.generate(model, requests, SamplingConfig(steps=steps)))
        seconds["image"] += [sample.seconds for sample in samples]
        peaks += [peak for peak in (cost.peak_memory_mb, drawn.peak_memory_mb) if peak is not None]
        (out / "images" / folder.name).mkdir(parents=True)
        for seed, sample in enumerate(samples):
            save_sample(sample, out / "images" / folder.name / f"{seed:04}.png")
        rows.append(SheetRow(folder.name, method_name, [sample.pixels for sample in samples]))
    write_png(out / "sheet.png", contact_sheet([], rows, f"{name}\n{PROMPT}", [f"seed {seed}" for seed in range(count)]))
    result: dict[str, Any] = {
        "model": name,
        "weights": model.name.partition("@")[2],
        "method": method_name,
        "people": len(rows),
    }
    result |= {"steps": steps, "memory": said, "memory_profile": model.memory_plan.profile.name}
    result |= {"required_mb": round((model.memory_plan.required_bytes or 0) / 1e6), "peak_memory_mb": max(peaks, default=None)}
    write_json(
        out / "draw.json", result | {"seconds": {name: round(statistics.median(each), 2) for name, each in seconds.items()}}
    )


def without_folders(text: str) -> str:
    """The text with the last part of each absolute path alone: where things are on a machine often has a person's name."""
    return re.sub(r"(?<![\w.:/])/(?:[^/\s'\"]+/)*(?=[^/\s'\"])", "", text)


def report(out: Path, folder: Path) -> None:
    """report.json, and each model's contact sheet."""
    models: dict[str, Any] = {}
    for path in sorted(each.parent for each in out.glob("*/download.txt")):
        record: dict[str, Any] = {
            "finished": (path / "evaluation.json").is_file() and bool((path / "evaluation.json").read_text())
        }
        if (path / "draw.json").is_file():
            record |= json.loads((path / "draw.json").read_text())
            (folder / f"{path.name}.png").write_bytes((path / "sheet.png").read_bytes())
        if record["finished"]:
            record |= json.loads((path / "evaluation.json").read_text())
        else:
            texts = [
                (path / name).read_text() for name in ("evaluate.txt", "draw.txt", "download.txt") if (path / name).is_file()
            ]
            last = next((text for text in texts if text.strip()), "")
            record["error"] = without_folders(last.strip().splitlines()[-1]) if last else ""
        models[path.name] = record
    gpu = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = {"name": properties.name, "memory_mb": round(properties.total_memory / 1e6), "cuda": torch.version.cuda}
        gpu["capability"] = list(torch.cuda.get_device_capability())
    write_json(folder / "report.json", {"environment": environment(), "gpu": gpu, "models": models})
    print(folder / "report.json")


COMMANDS: dict[str, Any] = {"split": split, "draw": draw, "report": report}
if __name__ == "__main__":
    command, *words = sys.argv[1:]
    COMMANDS[command](*(word if command == "draw" and index == 0 else Path(word) for index, word in enumerate(words)))
