"""What an experiment found: as tables, as a curve, as a sheet to look at, and plain for run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image

from tenth.conditions import Condition, ExperimentRecipe
from tenth.evaluate.held_out import Judged
from tenth.evaluate.identity_table import IdentityRow, identity_markdown, overview_markdown
from tenth.pictures import NOBODYS, Pictures, pixels_of
from tenth.report.curve import Line, curve
from tenth.report.people import Shown, people_sheet
from tenth.report.sheet import Row

Tables = Mapping[Condition, Sequence[IdentityRow]]
Costs = Mapping[str, Mapping[str, Mapping[str, Any]]]  # "learnt" or "drawn" -> method -> as `meter.costs_by`

REAL, NOBODY = "real photos", "no identity"  # the two controls, as rows of the table


def markdown(label: str, tables: Tables) -> str:
    """One recogniser's tables, the similarities of all conditions side by side above them if there are several."""
    overview = overview_markdown({condition.label: table for condition, table in tables.items()}) + "\n"
    parts = [f"### {condition.label}\n\n{identity_markdown(table)}" for condition, table in tables.items()]
    return f"## {label}\n\n{overview * (len(tables) > 1)}" + "\n".join(parts)


def cost_markdown(recipe: ExperimentRecipe, costs: Costs) -> str:
    """What each method cost for a person and for an image, in medians; memory is the most that the process held."""
    header = "## Cost\n\n| method | seconds a person | megabytes | seconds an image | megabytes |\n"
    header += "| --- | ---: | ---: | ---: | ---: |\n"
    rows = []
    for name in recipe.methods:
        found = [costs[kind].get(name, {}).get(key, "") for kind in ("learnt", "drawn") for key in ("seconds", "megabytes")]
        rows.append(f"| {name} | {' | '.join(map(str, found))} |\n")
    return header + "".join(rows)


def plain(tables: Tables) -> list[dict[str, Any]]:
    """The same for run.json: an entry for each condition."""
    return [{**asdict(condition), "rows": [asdict(row) for row in table]} for condition, table in tables.items()]


def curve_of(recipe: ExperimentRecipe, label: str, tables: Tables) -> Image.Image:
    """The methods' similarity against the number of photos, those with wrong ones beside it."""
    scores = {(condition, row.method): row.similarity for condition, table in tables.items() for row in table}
    lines = [
        Line(
            name,
            {condition.photos: scores[condition, name] for condition in recipe.right},
            {condition.label: scores[condition, name] for condition in recipe.conditions if condition.wrong},
        )
        for name in recipe.methods
    ]
    real, people = scores[recipe.largest, REAL], tables[recipe.largest][0].people
    score = "" if real.value is None else f" Real photos score {real.value:.3f}."
    note = f"Mean cosine to other photos of the same person, {people} {recipe.split} people; bars: 95 % over people.{score}"
    return curve(
        lines,
        scores[recipe.largest, NOBODY],
        "Identity similarity by the number of photos given",
        f"{note}\nJudged by {label}.",
    )


def sheet_of(recipe: ExperimentRecipe, people: Sequence[Judged], pictures: Pictures) -> Image.Image:
    """For eyes: references and images of a few people, a row for each method.

    Columns: the seeds of the one condition, or the conditions, each with the first seed.
    """
    conditions, nobody = recipe.conditions, pixels_of(pictures[NOBODYS])

    def row(name: str, number: str) -> Row:
        several = [pictures[condition, name, number] for condition in conditions]
        return Row(name, "", pixels_of(several[0] if len(several) == 1 else [images[0] for images in several]))

    columns = [f"seed {picture.seed}" for picture in pictures[NOBODYS]]
    if len(conditions) > 1:
        nobody, columns = nobody[:1] * len(conditions), [condition.label for condition in conditions]
    shown = []
    for person in people:
        rows = [*(row(name, person.number) for name in recipe.methods), Row(NOBODY, "", nobody)]
        shown.append(Shown(f"{person.number}\n{recipe.prompt}", person.crops, rows))
    return people_sheet(shown, columns)
