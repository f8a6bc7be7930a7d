"""Methods x conditions x people: the same prompt, seeds and photos for all, judged side by side on identity. Top to bottom.

People are numbers here: no name gets into a path, a picture or run.json. What exists already is not made again, so an
experiment that was killed goes on where it stopped, and ends with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenth.adapter import digest_of
from tenth.catalog import load_model, method
from tenth.conditions import ExperimentRecipe, check
from tenth.config import from_table, read_toml
from tenth.data.faces import file_digest
from tenth.data.split import Parted
from tenth.diffusion import LatentDiffusion
from tenth.encode.face import FaceEncoder
from tenth.errors import CheckpointError, DataError, IdentityError
from tenth.evaluate.held_out import Judged, check_strangers, crop_of, part_people, with_next
from tenth.evaluate.identity_table import identity_table
from tenth.evaluate.recogniser import DlibRecogniser, Recognises, Remembering, open_recogniser
from tenth.findings import NOBODY, REAL, Tables, cost_markdown, curve_of, markdown, plain, sheet_of
from tenth.identity import load_identity, save_identity
from tenth.meter import costs_by, metered, note_cost
from tenth.pictures import COSTS, NOBODYS, ONE_PHOTO, Pictures, draw, identity_paths, list_pictures, pixels_of
from tenth.pocket.faces import progress
from tenth.record import RECORD, write_record
from tenth.types import Features, Person, Photo, Pixels

Rows = npt.NDArray[np.float64]
SHOWN = 3  # people on sheet.png
CHOOSING = "dlib (conditions the model: for choosing only)"


def read_experiment(path: Path) -> ExperimentRecipe:
    """The recipe in a TOML file. Raises RecipeError if a key or value is impossible, InputError for an unknown method."""
    return from_table(ExperimentRecipe, read_toml(path), str(path))


def run_experiment(recipe: ExperimentRecipe, output: Path) -> str:
    """Everything, once: `output`/images, identities, table.md, sheet.png and, last, run.json. Returns the tables as Markdown.

    With several numbers of photos, curve.png too, by the first recogniser.
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
    draw(recipe, model, (picture for images in pictures.values() for picture in images), output)

    tables = {}
    for index, (label, recogniser) in enumerate(recognisers.items()):
        tables[label] = tables_of(recipe, people, pictures, index, recogniser)
    costs = {kind: costs_by(output / COSTS, kind) for kind in ("learnt", "drawn")}
    text = "\n".join(markdown(label, found) for label, found in tables.items())
    write_text(output / "table.md", text)
    write_text(output / "costs.md", cost_markdown(recipe, costs))
    sheet_of(recipe, people[:SHOWN], pictures).save(output / "sheet.png")
    if len(recipe.right) > 1:
        label = next(iter(tables))
        curve_of(recipe, label, tables[label]).save(output / "curve.png")
    results = {"people": [person.number for person in people], "identity": {label: plain(of) for label, of in tables.items()}}
    results |= {"costs": costs}
    write_record(output / RECORD, kind="experiment", settings=settings, results=results)
    return text


def open_recognisers(recipe: ExperimentRecipe, model: LatentDiffusion) -> dict[str, Recognises]:
    """The judge, if any, then dlib's own if it is wanted and the model reads it. Raises RecipeError if that leaves none."""
    found: dict[str, Recognises] = {}
    if recipe.judge is not None:
        judge = open_recogniser(recipe.judge)
        found[judge.name] = judge
    if recipe.dlib and isinstance(model.encoder, FaceEncoder):
        found[CHOOSING] = DlibRecogniser(model.encoder.centre.double().numpy())
    check("judge", None, bool(found), "a recogniser's TOML file, since dlib's is left out or this model does not read it")
    return {label: Remembering(recogniser) for label, recogniser in found.items()}


def settings_of(recipe: ExperimentRecipe, model: LatentDiffusion, recognisers: Iterable[str]) -> dict[str, Any]:
    """The recipe and what its names stood for: weights, data, recognisers and version. Ready for JSON."""
    trained = {name: Path(name) if Path(name).is_dir() else model.trained.get(name) for name in recipe.methods}
    settings = asdict(recipe) | {
        "against": recipe.baselines,
        "counts": [condition.photos for condition in recipe.right],
        "trained_methods": {
            name: digest_of(sorted(folder.glob("*.safetensors"))) for name, folder in trained.items() if folder
        },
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
    """Part, judge and learn person after person; the photos of three people at most are in memory at a time.

    Left out, whatever the methods: who has too few distinct photos, and in whose references or held-out photos a
    recogniser finds no face at all. Raises DataError if fewer than `least_people` remain, or one alone where photos of a
    stranger are needed, or if a stranger's photo is the person's own.
    """

    def usable() -> Iterator[tuple[Judged, Parted[Photo]]]:
        for number, parted in part_people(recipe.data, recipe.split, references=recipe.references, held_out=recipe.held_out):
            given, new = seen_as(recipe, parted.references), seen_as(recipe, parted.held_out)
            rows = [(recogniser(given), recogniser(new)) for recogniser in recognisers.values()]
            judged = Judged(number, tuple(map(crop_of, parted.references)), *zip(*rows, strict=True))
            if judged.seen():
                yield judged, parted

    people = []
    for (judged, parted), (other, others) in with_next(progress(islice(usable(), recipe.most_people), desc="people")):
        people.append(judged)
        if other is not judged or not recipe.strangers:
            strangers = others.references[: recipe.strangers]
            check_strangers(strangers, parted)
            learn(recipe, model, Person(judged.number, parted.references), strangers, output)
    needed = max(recipe.least_people, 2 if recipe.strangers else 1)
    if len(people) < needed:
        raise DataError(
            f"{len(people)} {recipe.split} people have {recipe.references} references and a held-out photo",
            f"{needed} are needed",
            "Lower references or least_people, or check the folder of photos",
        )
    return people


def seen_as(recipe: ExperimentRecipe, photos: Iterable[Photo]) -> list[Pixels]:
    """What a recogniser sees of real photos."""
    return [crop_of(photo) if recipe.photos_as == "crop" else photo.pixels for photo in photos]


def learn(recipe: ExperimentRecipe, model: LatentDiffusion, person: Person, strangers: Sequence[Photo], output: Path) -> None:
    """Every method's identity of one person under each condition, on disk. A method of one photo gets one for each photo."""
    for condition in recipe.conditions:
        photos = condition.given(person.photos, strangers)
        for name in recipe.methods:
            paths = identity_paths(recipe, condition, name, person.name, output)
            each = [(photo,) for photo in photos[: len(paths)]] if name in ONE_PHOTO else [photos]
            for path, given in zip(paths, each, strict=True):
                if not is_learnt(path, model):
                    with metered() as cost:
                        identity = method(name)(Person(person.name, given), model)
                    save_identity(identity, path)
                    note_cost(output / COSTS, cost, learnt=name, person=person.name)


def is_learnt(path: Path, model: LatentDiffusion) -> bool:
    """Whether the identity is there and of this model."""
    try:
        model.check(load_identity(path))
    except IdentityError:
        return False
    return True


def tables_of(
    recipe: ExperimentRecipe, people: Sequence[Judged], pictures: Pictures, index: int, recogniser: Recognises
) -> Tables:
    """Methods and controls as one recogniser, the index-th, sees them. One person's images are in memory at a time."""
    nobody = recogniser(pixels_of(pictures[NOBODYS]))
    held_out = features({person.number: person.held_out[index] for person in people})
    references = features({person.number: person.references[index] for person in people})
    controls = {NOBODY: features({person.number: nobody for person in people}), REAL: references}
    seen = {
        condition: {
            name: features(
                {person.number: recogniser(pixels_of(pictures[condition, name, person.number])) for person in people}
            )
            for name in recipe.methods
        }
        for condition in recipe.conditions
    }
    return {
        condition: identity_table(
            rows | controls,
            held_out,
            references,
            against=recipe.baselines,
            without=seen[recipe.largest] if condition.wrong else None,
        )
        for condition, rows in seen.items()
    }


def features(rows: Mapping[str, Rows]) -> Features:
    """Rows (N, D) of all people, one after the other."""
    return Features(np.concatenate(list(rows.values())), tuple(number for number, part in rows.items() for _ in part))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.write_text(text, encoding="utf-8", newline="\n")
    partial_path.replace(path)
