"""The results of an experiment: as records of run.json, its contact sheet, and what is written of a finished one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from tenth.core.errors import CheckpointError
from tenth.core.files.writing import write_text
from tenth.core.run_record import RECORD_FILE, read_record
from tenth.core.wording import abbreviate
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.loading import disclaimers
from tenth.evaluation.image_set import load_image
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.evaluation.metrics.identity import PersonScores
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.paired_comparison import compare
from tenth.evaluation.recognizer_agreement import agreements
from tenth.experiments.costs import summarize_costs
from tenth.experiments.images import ImageJob, ImageJobs, unconditional_key
from tenth.experiments.protocol import EvaluatedPerson, RealImages
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe
from tenth.experiments.scoring import NO_IDENTITY, AllTableRows, Scored, face_scores, image_set_scores, prompt_scores
from tenth.reporting.contact_sheet import SheetPerson, SheetRow, people_sheet
from tenth.reporting.csv_tables import write_csv
from tenth.reporting.frontier.plot import write_frontier
from tenth.reporting.frontier.record import read_frontier
from tenth.reporting.html.page import write_page
from tenth.reporting.markdown import markdown
from tenth.reporting.metric_columns import condition_text
from tenth.reporting.plot_style import can_plot
from tenth.reporting.plots import has_curve, write_curve
from tenth.reporting.results_reader import IDENTITY, read_results

JsonDict = dict[str, Any]  # a line of run.json
TABLE_FILE, CURVE_FILE, FRONTIER_FILE = "table.md", "curve.png", "frontier.png"


def face_score_records(
    rows: AllTableRows, people: Sequence[EvaluatedPerson], recognizers: Mapping[str, FaceEmbedder]
) -> tuple[list[JsonDict], list[JsonDict], list[JsonDict]]:
    """Scores and differences by each recognizer, and how well they agree; `people` holds their embeddings in the same order.

    Differences of identity similarity: between all pairs of methods, corrected for their number; and, where a photo is an
    impostor's, between a method and itself without impostors. Agreement: between all pairs of recognizers.
    """
    scores: list[JsonDict] = []
    differences: list[JsonDict] = []
    similarities: dict[tuple[str, Condition], dict[str, Mapping[str, PersonScores]]] = {}  # by recognizer, then by method
    for index, (label, recognizer) in enumerate(recognizers.items()):
        # By prompt set, of the main condition, which comes before those with impostors.
        without_impostors: dict[str, Mapping[str, PersonScores]] = {}
        for (prompt_set, condition), table in rows.items():
            named_scores, values = face_scores(table, people, index, recognizer)
            scores += [score_record(prompt_set, condition, scored) | {"recognizer": label} for scored in named_scores]
            similarities.setdefault((prompt_set, condition), {})[label] = values
            keys = condition_keys(prompt_set, condition) | {"metric": IDENTITY, "recognizer": label}
            if len(values) > 1:
                differences += [keys | asdict(pair) for pair in compare(values)]
            if not condition.num_impostors:
                without_impostors[prompt_set] = values
                continue
            clean = without_impostors[prompt_set]
            differences += [keys | impostor_cost(name, values[name], clean[name]) for name in values if name in clean]
    agreement = [condition_keys(*where) | asdict(pair) for where, found in similarities.items() for pair in agreements(found)]
    return scores, differences, agreement


def impostor_cost(name: str, with_impostors: PersonScores, without_impostors: PersonScores) -> JsonDict:
    """The difference between a method with and without impostor photos, over people. Not corrected: one question per method."""
    people = list(with_impostors)
    difference = paired_difference([with_impostors[who] for who in people], [without_impostors[who] for who in people])
    return {"method": name, "baseline": name, **asdict(difference), "p_holm": None, "win_rate": None}


def image_set_score_records(
    rows: AllTableRows, person_ids: Sequence[str], real: RealImages, networks: Mapping[str, Extractor]
) -> Iterator[JsonDict]:
    """Scores of image sets. raw: the same without LFW's resolution and JPEG."""
    for (prompt_set, condition), table in rows.items():
        for found, raw in image_set_scores(table, person_ids, real, networks):
            yield score_record(prompt_set, condition, found) | {"recognizer": "", "raw": raw}


def network_records(networks: Mapping[str, Extractor], earlier: Mapping[str, JsonDict] = MappingProxyType({})) -> JsonDict:
    """The networks of these scores in run.json, beside those of earlier ones, and what belongs above every figure by them."""
    found = {name: {"name": each.name, "disclaimer": disclaimers({name: each})} for name, each in networks.items()}
    known = {**earlier, **found}
    return {"networks": known, "disclaimer": " ".join(filter(None, (each["disclaimer"] for each in known.values())))}


def prompt_score_records(rows: AllTableRows, scorers: Sequence[PromptScorer]) -> Iterator[JsonDict]:
    """How well images follow their prompts, by each scorer, in prompt sets other than the portrait."""
    for ((prompt_set, condition), table), scorer in product(rows.items(), scorers):
        if prompt_set != PORTRAIT_PROMPT_SET:
            for found in prompt_scores(table, scorer):
                yield score_record(prompt_set, condition, found) | {"recognizer": ""}


def condition_keys(prompt_set: str, condition: Condition) -> JsonDict:
    """The prompt set and condition of a record."""
    return {"prompt_set": prompt_set, "num_photos": condition.num_photos, "num_impostors": condition.num_impostors}


def score_record(prompt_set: str, condition: Condition, found: Scored) -> JsonDict:
    """A score as a record of run.json."""
    name, metric, score = found
    return condition_keys(prompt_set, condition) | {"method": name, "metric": metric, **asdict(score)}


def method_costs(path: Path, recipe: ExperimentRecipe) -> list[JsonDict]:
    """Median seconds of each method per person and per image, and the peak memory of both."""
    per_person, per_image = summarize_costs(path, "identity"), summarize_costs(path, "images")
    costs = []
    for name in recipe.methods:
        person, image = (summary.get(recipe.display_names[name], {}) for summary in (per_person, per_image))
        peaks = [cost["peak_memory_mb"] for cost in (person, image) if cost.get("peak_memory_mb") is not None]
        seconds = {"seconds_per_person": person.get("seconds"), "seconds_per_image": image.get("seconds")}
        costs.append({"method": name, **seconds, "peak_memory_mb": max(peaks, default=None)})
    return costs


def people_contact_sheet(recipe: ExperimentRecipe, people: Sequence[EvaluatedPerson], jobs: ImageJobs) -> Image.Image:
    """References and images of a few people, a row for each method.

    Columns: the seeds, if there is one condition; else the conditions, each with the first seed.
    """
    conditions, unconditional = recipe.conditions, jobs[unconditional_key(PORTRAIT_PROMPT_SET)]
    if len(conditions) > 1:
        columns, unconditional = (
            [condition_text((at.num_photos, at.num_impostors)) for at in conditions],
            [unconditional[0]] * len(conditions),
        )
    else:
        columns = [f"seed {job.seed}" for job in unconditional]

    def row(name: str, shown: Sequence[ImageJob]) -> SheetRow:
        return SheetRow(name, "", [load_image(job.path) for job in shown])

    sections = []
    for person in people:
        rows = []
        for name in recipe.methods_of(PORTRAIT_PROMPT_SET):
            images = [jobs[PORTRAIT_PROMPT_SET, condition, name, person.person_id] for condition in conditions]
            rows.append(row(recipe.display_names[name], images[0] if len(images) == 1 else [first for first, *_ in images]))
        rows.append(row(NO_IDENTITY, unconditional))
        sections.append(SheetPerson(f"{person.person_id}\n{recipe.prompt}", person.crops, rows))
    return people_sheet(sections, columns)


def read_finished(output: Path, networks: Mapping[str, Extractor]) -> JsonDict | None:
    """The results of a finished run in which nothing failed, or None.

    Raises CheckpointError if it is to be computed again without a network by which it has scores: they would be lost.
    """
    if not (output / RECORD_FILE).exists():
        return None
    record = read_record(output / RECORD_FILE, command="experiment")
    read_results(record)
    results: JsonDict = record["results"]
    if missing := [key for key in ("failed", "people", "scores", "networks") if key not in results]:
        found = f"{output / RECORD_FILE} has no {missing[0]}"
        raise CheckpointError(found, "the record of this experiment is needed", "Remove it")
    if not results["failed"]:
        return results
    if lost := [each["name"] for name, each in results["networks"].items() if name not in networks]:
        found = f"{output / RECORD_FILE} has scores by {abbreviate(lost)}, which would be lost"
        needed = "what failed is tried again, and scored by all that it was scored by"
        raise CheckpointError(found, needed, "Give the files of these networks as well")
    return None


def write_tables(output: Path) -> str:
    """Tables, page and plots, from the record alone: a run that was killed before it wrote them has them at the next call."""
    record = read_record(output / RECORD_FILE, command="experiment")
    text = markdown(record)
    write_text(output / TABLE_FILE, text)
    write_page(output / RECORD_FILE)
    results = read_results(record)
    write_csv(results, output)
    if can_plot() and any(has_curve(results, track) for track in results.scored):
        write_curve(results, output / CURVE_FILE)
    frontier = read_frontier(record, results)
    if can_plot() and frontier is not None and frontier.methods:
        write_frontier(record, output / FRONTIER_FILE)
    return text
