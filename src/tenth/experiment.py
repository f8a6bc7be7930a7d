"""Methods x people: the same prompt, seeds and photos for all, judged side by side on identity. The whole flow, top to bottom.

People are numbers here: no name gets into a path, a picture or run.json. What exists already is not made again, so an
experiment that was killed goes on where it stopped, and ends with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tenth.catalog import DEFAULT_MODEL, METHODS, load_model, method
from tenth.config import from_table, read_toml
from tenth.data.faces import file_digest
from tenth.diffusion import LatentDiffusion, Sampling
from tenth.encode.face import FaceEncoder
from tenth.errors import CheckpointError, DataError, RecipeError
from tenth.evaluate.held_out import Judged, crop_of, part_people
from tenth.evaluate.identity_table import IdentityRow, identity_markdown, identity_table
from tenth.evaluate.recogniser import DlibRecogniser, Recognises, open_recogniser
from tenth.generate import BATCH, Request, generate, read_sample, save_sample
from tenth.identity import load_identity, save_identity
from tenth.pocket.faces import People, progress
from tenth.record import RECORD, write_record
from tenth.report.people import Shown, people_sheet
from tenth.report.sheet import Row
from tenth.types import Features, Person, Photo, Pixels

Rows = npt.NDArray[np.float64]

SPLITS = ("validation", "test")  # nobody in them has ever been trained on
ONE_PHOTO = {"ip-adapter": 3}  # methods that read one photo: over how many references their images are spread, in turn
REAL, NOBODY = "real photos", "no identity"  # the two controls, as rows of the table
SHOWN = 3  # people on sheet.png
CHOOSING = "dlib (conditions the model: for choosing only)"


@dataclass(frozen=True)
class ExperimentRecipe:
    """recipes/identity-*.toml. Counts are per person."""

    data: People
    split: str  # validation: to choose with; test: to report, once
    model: str = DEFAULT_MODEL  # a name, or a folder in the pocket model's layout
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(METHODS))  # differences are taken to the first
    prompt: str = "a portrait photo of a person"  # neutral: what is measured is who, not what
    images: int = 4  # by each method; the interval is over people, so more people help more than more images
    seed: int = 0  # of the first image; the next have the next ones; the same for all methods and people
    references: int = 9  # photos given to a method
    held_out: int = 10  # photos kept for judging, at most
    least_people: int = 2  # with fewer usable people there is no result: one alone has no strangers
    most_people: int | None = None  # only the first so many: for trying a recipe out
    judge: Path | None = None  # TOML file of a recogniser that no method has seen; without it nothing is a result
    photos_as: str = "crop"  # what a recogniser sees of real photos: "crop", as the model draws, or the whole "photo"
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        for name in self.methods:
            method(name)
        _check("methods", list(self.methods), len(self.methods) == len(set(self.methods)) > 0, "one or more, each once")
        _check("split", self.split, self.split in SPLITS, f"one of {', '.join(SPLITS)}")
        _check("photos_as", self.photos_as, self.photos_as in ("crop", "photo"), "crop or photo")
        for name in ("images", "references", "held_out", "least_people"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")


@dataclass(frozen=True)
class Picture:
    """One image of the experiment: whose (identity: its file; None for nobody's), by which method, and where it lies."""

    method: str
    identity: Path | None
    seed: int
    path: Path


Pictures = Mapping[tuple[str, str], Sequence[Picture]]  # by method and person's number, an image for each seed


def read_experiment(path: Path) -> ExperimentRecipe:
    """The recipe in a TOML file. Raises RecipeError if a key or value is impossible, InputError for an unknown method."""
    return from_table(ExperimentRecipe, read_toml(path), str(path))


def run_experiment(recipe: ExperimentRecipe, output: Path) -> str:
    """Everything, once: `output`/images, identities, table.md, sheet.png and, last, run.json. Returns the tables as Markdown.

    Raises CheckpointError if the folder holds something else, DataError if too few people are usable.
    """
    model = load_model(recipe.model)
    recognisers = open_recognisers(recipe, model)
    settings = settings_of(recipe, model, recognisers)
    claim(output, settings)
    if (output / RECORD).exists():
        return (output / "table.md").read_text(encoding="utf-8")

    # Real photos first: who is usable is known before anything is drawn, and does not depend on a method.
    people = judge_people(recipe, model, recognisers, output)
    pictures = list_pictures(recipe, [person.number for person in people], output)
    draw(recipe, model, [picture for images in pictures.values() for picture in images])

    tables = {}
    for index, (label, recogniser) in enumerate(recognisers.items()):
        tables[label] = table_of(recipe, people, pictures, index, recogniser)
    text = "\n".join(f"## {label}\n\n{identity_markdown(table)}" for label, table in tables.items())
    write_text(output / "table.md", text)
    sheet_of(recipe, people[:SHOWN], pictures).save(output / "sheet.png")
    rows = {label: [asdict(row) for row in table] for label, table in tables.items()}
    results = {"people": [person.number for person in people], "identity": rows}
    write_record(output / RECORD, kind="experiment", settings=settings, results=results)
    return text


def open_recognisers(recipe: ExperimentRecipe, model: LatentDiffusion) -> dict[str, Recognises]:
    """The judge, if any, then dlib's own if the model reads it. Raises RecipeError if that leaves none."""
    found: dict[str, Recognises] = {}
    if recipe.judge is not None:
        judge = open_recogniser(recipe.judge)
        found[judge.name] = judge
    if isinstance(model.encoder, FaceEncoder):
        found[CHOOSING] = DlibRecogniser(model.encoder.centre.double().numpy())
    _check("judge", None, bool(found), "a recogniser's TOML file, since this model has no face encoder")
    return found


def settings_of(recipe: ExperimentRecipe, model: LatentDiffusion, recognisers: Iterable[str]) -> dict[str, Any]:
    """The recipe and what its names stood for: weights, data, recognisers and version. Ready for JSON."""
    settings = asdict(recipe) | {
        "model_weights": model.name,
        "adapter": model.adapter_name,
        "encoder": model.encoder.name,
        "people_sha256": file_digest(recipe.data.people),
        "recognisers": list(recognisers),
        "tenth": version("tenth"),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this experiment's, or see that it is. Raises CheckpointError if it holds another or anything else."""
    path, action = output / "settings.json", "Choose another folder, or remove this one"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        odd = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if odd:
            raise CheckpointError(f"{output} holds an experiment with another {', '.join(odd)}", "a folder holds one", action)
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CheckpointError(f"{output} is not empty and holds no experiment", "an empty or new folder is needed", action)
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(settings, indent=1) + "\n")


def judge_people(
    recipe: ExperimentRecipe, model: LatentDiffusion, recognisers: Mapping[str, Recognises], output: Path
) -> list[Judged]:
    """Part, judge and learn person after person; one person's photos are in memory at a time.

    Left out, whatever the methods: who has too few distinct photos, and in whose references or held-out photos a
    recogniser finds no face at all. Raises DataError if fewer than `least_people` remain.
    """

    def usable() -> Iterator[Judged]:
        for number, parted in part_people(recipe.data, recipe.split, references=recipe.references, held_out=recipe.held_out):
            given, new = seen_as(recipe, parted.references), seen_as(recipe, parted.held_out)
            rows = [(recogniser(given), recogniser(new)) for recogniser in recognisers.values()]
            judged = Judged(number, tuple(map(crop_of, parted.references)), *zip(*rows, strict=True))
            if judged.seen():
                learn(recipe, model, Person(number, parted.references), output)
                yield judged

    people = list(progress(islice(usable(), recipe.most_people), desc="people"))
    if len(people) < recipe.least_people:
        raise DataError(
            f"{len(people)} {recipe.split} people have {recipe.references} references and a held-out photo",
            f"{recipe.least_people} are needed",
            "Lower references or least_people, or check the folder of photos",
        )
    return people


def seen_as(recipe: ExperimentRecipe, photos: Iterable[Photo]) -> list[Pixels]:
    """What a recogniser sees of real photos."""
    return [crop_of(photo) if recipe.photos_as == "crop" else photo.pixels for photo in photos]


def learn(recipe: ExperimentRecipe, model: LatentDiffusion, person: Person, output: Path) -> None:
    """Every method's identity of one person, on disk. A method of one photo gets an identity for each of its photos."""
    for name in recipe.methods:
        alone = [Person(person.name, (photo,)) for photo in person.photos[: ONE_PHOTO.get(name, 0)]]
        for path, given in zip(identity_paths(recipe, name, person.name, output), alone or [person], strict=True):
            if not path.exists():
                save_identity(method(name)(given, model), path)


def identity_paths(recipe: ExperimentRecipe, name: str, number: str, output: Path) -> list[Path]:
    """Where `learn` puts the identities of one person; image i uses the i-th, in turn."""
    count = min(ONE_PHOTO.get(name, 1), recipe.references)
    return [output / "identities" / name / f"{number}-{index}.safetensors" for index in range(count)]


def list_pictures(recipe: ExperimentRecipe, numbers: Sequence[str], output: Path) -> Pictures:
    """Every image; nobody's come first, are drawn once and count for each person."""
    seeds, folder = range(recipe.seed, recipe.seed + recipe.images), output / "images"
    pictures = {(NOBODY, ""): [Picture("none", None, seed, folder / "none" / f"{seed}.png") for seed in seeds]}
    for name in recipe.methods:
        for number in numbers:
            paths = cycle(identity_paths(recipe, name, number, output))
            to = folder / name / number
            pictures[name, number] = [Picture(name, path, seed, to / f"{seed}.png") for seed, path in zip(seeds, paths)]  # noqa: B905
    return pictures


def draw(recipe: ExperimentRecipe, model: LatentDiffusion, pictures: Sequence[Picture]) -> None:
    """Draw what is not there yet. A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255."""
    with progress(total=len(pictures), desc="images") as bar:
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            if not all(is_drawn(picture, recipe, model) for picture in batch):
                identities = [load_identity(picture.identity) if picture.identity else None for picture in batch]
                requests = [Request(who, recipe.prompt, picture.seed) for who, picture in zip(identities, batch, strict=True)]
                for picture, sample in zip(batch, generate(model, requests, recipe.sampling), strict=True):
                    picture.path.parent.mkdir(parents=True, exist_ok=True)
                    save_sample(sample, picture.path)
            bar.update(len(batch))


def is_drawn(picture: Picture, recipe: ExperimentRecipe, model: LatentDiffusion) -> bool:
    """Whether the PNG is there, whole, and made with these settings."""
    wanted = {"prompt": recipe.prompt, "seed": picture.seed, "method": picture.method, "model": model.name}
    try:
        said = read_sample(picture.path)
    except (OSError, ValueError, DataError):
        return False
    return said | wanted | asdict(recipe.sampling) == said


def table_of(
    recipe: ExperimentRecipe, people: Sequence[Judged], pictures: Pictures, index: int, recogniser: Recognises
) -> list[IdentityRow]:
    """Methods and controls as one recogniser, the index-th, sees them. One person's images are in memory at a time."""
    nobody = recogniser(pixels_of(pictures[NOBODY, ""]))
    held_out = features({person.number: person.held_out[index] for person in people})
    references = features({person.number: person.references[index] for person in people})
    table = {
        name: features({person.number: recogniser(pixels_of(pictures[name, person.number])) for person in people})
        for name in recipe.methods
    }
    table |= {NOBODY: features({person.number: nobody for person in people}), REAL: references}
    return identity_table(table, held_out, references)


def sheet_of(recipe: ExperimentRecipe, people: Sequence[Judged], pictures: Pictures) -> Image.Image:
    """For eyes: references and images of a few people, a row for each method."""
    nobody = Row(NOBODY, "", pixels_of(pictures[NOBODY, ""]))
    shown = []
    for person in people:
        rows = [Row(name, "", pixels_of(pictures[name, person.number])) for name in recipe.methods]
        shown.append(Shown(f"{person.number}\n{recipe.prompt}", person.crops, [*rows, nobody]))
    return people_sheet(shown, [f"seed {picture.seed}" for picture in pictures[NOBODY, ""]])


def features(rows: Mapping[str, Rows]) -> Features:
    """Rows (N, D) of all people, one after the other."""
    return Features(np.concatenate(list(rows.values())), tuple(number for number, part in rows.items() for _ in part))


def pixels_of(pictures: Iterable[Picture]) -> list[Pixels]:
    """(H, W, 3) each, from the disk."""
    return [np.asarray(Image.open(picture.path, formats=["PNG"]).convert("RGB")) for picture in pictures]


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_text(text, encoding="utf-8", newline="\n")
    partial_path.replace(path)


def _check(key: str, value: object, right: bool, needed: str) -> None:
    if not right:
        raise RecipeError(f"{key} is {value!r}", f"needed: {needed}", "Correct the recipe")
