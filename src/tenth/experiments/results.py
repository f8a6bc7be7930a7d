"""What an experiment found, for run.json, and as pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from tenth.core.types import Score
from tenth.core.wording import counted
from tenth.evaluation.extractors.face_recognizer import Recognises
from tenth.evaluation.extractors.inception import Inception
from tenth.evaluation.metrics.bootstrap import paired
from tenth.evaluation.metrics.identity import PerPerson
from tenth.evaluation.metrics.prompt_alignment import ReadsPrompts
from tenth.evaluation.paired_comparison import compare
from tenth.experiments.costs import costs_by
from tenth.experiments.images import Pictures, Real, nobodys, pixels_of
from tenth.experiments.judges import Plain, threshold_of
from tenth.experiments.protocol import Judged
from tenth.experiments.recipe import NEUTRAL, Condition, ExperimentRecipe
from tenth.experiments.scoring import NOBODY, REAL, Row, face_scores, prompt_scores, set_scores
from tenth.reporting.contact_sheet import Row as Strip
from tenth.reporting.contact_sheet import Shown, people_sheet
from tenth.reporting.curve_plot import Line, curve

AllRows = Mapping[tuple[str, Condition], Mapping[str, Row]]  # by track and condition, by method or control


def scores_of_faces(
    rows: AllRows, people: Sequence[Judged], recognisers: Mapping[str, Recognises]
) -> tuple[list[Plain], list[Plain]]:
    """Scores and differences by each recogniser, which has the same place in what `people` holds.

    Differences of identity: between all pairs of methods, corrected for their number; and, where a photo is wrong, between a
    method and itself without.
    """
    scores: list[Plain] = []
    differences: list[Plain] = []
    for index, (label, recogniser) in enumerate(recognisers.items()):
        without: dict[str, Mapping[str, PerPerson]] = {}  # by track: of the main condition, which comes before the wrong ones
        for (track, condition), table in rows.items():
            found, values = face_scores(table, people, index, recogniser, threshold_of(recogniser))
            about = place(track, condition) | {"metric": "identity", "judge": label}
            scores += [line(track, condition, name, score) | {"judge": label} for name, score in found]
            differences += [about | asdict(pair) for pair in (compare(values) if len(values) > 1 else [])]
            if condition.wrong:
                differences += [
                    about | lost(name, own, without[track][name]) for name, own in values.items() if name in without[track]
                ]
            else:
                without[track] = values
    return scores, differences


def lost(name: str, own: PerPerson, without: PerPerson) -> Plain:
    """A method with wrong photos minus the same method without, person by person. Not corrected: it is asked of each alone."""
    found = paired([own[person] for person in own], [without[person] for person in own])
    return {"method": name, "against": name, **asdict(found), "p_holm": None, "win_rate": None}


def scores_of_sets(rows: AllRows, numbers: Sequence[str], real: Real, inception: Inception | None) -> Iterator[Plain]:
    """Scores of sets of images. raw: of the images as they were drawn, which the score's own are not."""
    for (track, condition), table in rows.items():
        for name, score, raw in set_scores(table, numbers, real, inception):
            yield line(track, condition, name, score) | {"judge": "", "raw": raw}


def scores_of_prompts(rows: AllRows, readers: Sequence[ReadsPrompts]) -> Iterator[Plain]:
    """What drawn images show of their prompts, by each reader, on tracks that ask for more than one thing."""
    for (track, condition), table in rows.items():
        if track != NEUTRAL:
            for reader in readers:
                for name, score in prompt_scores(table, reader):
                    yield line(track, condition, name, score) | {"judge": ""}


def place(track: str, condition: Condition) -> Plain:
    """Of what question a line is."""
    return {"track": track, "photos": condition.photos, "wrong": condition.wrong}


def line(track: str, condition: Condition, name: str, score: Score) -> Plain:
    """A score as a line of run.json."""
    said = asdict(score)
    return place(track, condition) | {"method": name, "metric": said.pop("name"), **said}


def costs_of(path: Path, recipe: ExperimentRecipe) -> list[Plain]:
    """Medians of what each method took for a person and for an image, and the most memory of either."""
    learnt, drawn = (costs_by(path, kind) for kind in ("learnt", "drawn"))
    costs = []
    for name in recipe.methods:
        person, image = learnt.get(recipe.shown[name], {}), drawn.get(recipe.shown[name], {})
        peaks = [each["megabytes"] for each in (person, image) if each.get("megabytes") is not None]
        seconds = {"seconds_person": person.get("seconds"), "seconds_image": image.get("seconds")}
        costs.append({"method": name, **seconds, "peak_mb": max(peaks, default=None)})
    return costs


def curve_of(recipe: ExperimentRecipe, label: str, scores: Sequence[Plain]) -> Image.Image:
    """The methods' similarity against the number of photos, those with wrong ones beside it, by one recogniser."""
    found = {
        (Condition(each["photos"], each["wrong"]), each["method"]): Score(
            "identity", each["value"], each["low"], each["high"], each["n"]
        )
        for each in scores
        if (each["track"], each["metric"], each["judge"]) == (NEUTRAL, "identity", label)
    }
    lines = [
        Line(
            recipe.shown[name],
            {condition.photos: found[condition, name] for condition in recipe.right},
            {condition.label: found[condition, name] for condition in recipe.conditions if condition.wrong},
        )
        for name in recipe.methods
    ]
    real, people = found[recipe.largest, REAL], found[recipe.largest, recipe.methods[0]].n
    score = "" if real.value is None else f" Real photos score {real.value:.3f}."
    who = counted(people, f"{recipe.split} person", f"{recipe.split} people")
    note = f"Mean cosine to other photos of the same person, {who}; bars: 95 % over people.{score}"
    return curve(
        lines,
        found[recipe.largest, NOBODY],
        "Identity similarity by the number of photos given",
        f"{note}\nJudged by {label}.",
    )


def sheet_of(recipe: ExperimentRecipe, people: Sequence[Judged], pictures: Pictures) -> Image.Image:
    """For eyes: references and images of a few people, a row for each method.

    Columns: the seeds of the one condition, or the conditions, each with the first seed.
    """
    conditions, nobody = recipe.conditions, pixels_of(pictures[nobodys(NEUTRAL)])

    def row(name: str, number: str) -> Strip:
        several = [pictures[NEUTRAL, condition, name, number] for condition in conditions]
        return Strip(recipe.shown[name], "", pixels_of(several[0] if len(several) == 1 else [images[0] for images in several]))

    columns = [f"seed {picture.seed}" for picture in pictures[nobodys(NEUTRAL)]]
    if len(conditions) > 1:
        nobody, columns = nobody[:1] * len(conditions), [condition.label for condition in conditions]
    methods = recipe.methods_of(NEUTRAL)
    shown = []
    for person in people:
        rows = [*(row(name, person.number) for name in methods), Strip(NOBODY, "", nobody)]
        shown.append(Shown(f"{person.number}\n{recipe.prompt}", person.crops, rows))
    return people_sheet(shown, columns)
