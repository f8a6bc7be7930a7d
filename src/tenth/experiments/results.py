"""What an experiment found, for run.json, and as pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.inception import Inception
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.evaluation.metrics.identity import PersonScores
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.paired_comparison import compare
from tenth.experiments.costs import summarize_costs
from tenth.experiments.images import ImageJobs, load_images, unconditional_key
from tenth.experiments.judges import JsonDict
from tenth.experiments.protocol import EvaluatedPerson, RealImages
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe
from tenth.experiments.scoring import NO_IDENTITY, AllTableRows, Scored, face_scores, image_set_scores, prompt_scores
from tenth.reporting.contact_sheet import Row as Strip
from tenth.reporting.contact_sheet import Shown, people_sheet
from tenth.reporting.results_reader import IDENTITY


def face_score_records(
    rows: AllTableRows, people: Sequence[EvaluatedPerson], recognizers: Mapping[str, FaceEmbedder]
) -> tuple[list[JsonDict], list[JsonDict]]:
    """Scores and differences by each recogniser, which has the same place in what `people` holds.

    Differences of identity: between all pairs of methods, corrected for their number; and, where a photo is wrong, between a
    method and itself without.
    """
    scores: list[JsonDict] = []
    differences: list[JsonDict] = []
    for index, (label, recognizer) in enumerate(recognizers.items()):
        clean_values: dict[
            str, Mapping[str, PersonScores]
        ] = {}  # by track: of the main condition, which comes before the wrong ones
        for (prompt_set, condition), table in rows.items():
            named_scores, values = face_scores(table, people, index, recognizer)
            keys = condition_keys(prompt_set, condition) | {"metric": IDENTITY, "judge": label}
            scores += [score_record(prompt_set, condition, each) | {"judge": label} for each in named_scores]
            differences += [keys | asdict(pair) for pair in (compare(values) if len(values) > 1 else [])]
            if condition.num_impostors:
                differences += [
                    keys | impostor_cost(name, person_scores, clean_values[prompt_set][name])
                    for name, person_scores in values.items()
                    if name in clean_values[prompt_set]
                ]
            else:
                clean_values[prompt_set] = values
    return scores, differences


def impostor_cost(name: str, with_impostors: PersonScores, without_impostors: PersonScores) -> JsonDict:
    """A method with wrong photos minus the same method without, person by person. Not corrected: it is asked of each alone."""
    difference = paired_difference(
        [with_impostors[person] for person in with_impostors], [without_impostors[person] for person in with_impostors]
    )
    return {"method": name, "against": name, **asdict(difference), "p_holm": None, "win_rate": None}


def image_set_score_records(
    rows: AllTableRows, person_ids: Sequence[str], real: RealImages, inception: Inception | None
) -> Iterator[JsonDict]:
    """Scores of sets of images. raw: of the images as they were drawn, which the score's own are not."""
    for (prompt_set, condition), table in rows.items():
        for found, raw in image_set_scores(table, person_ids, real, inception):
            yield score_record(prompt_set, condition, found) | {"judge": "", "raw": raw}


def prompt_score_records(rows: AllTableRows, scorers: Sequence[PromptScorer]) -> Iterator[JsonDict]:
    """What drawn images show of their prompts, by each reader, on tracks that ask for more than one thing."""
    for (prompt_set, condition), table in rows.items():
        if prompt_set != PORTRAIT_PROMPT_SET:
            for scorer in scorers:
                for found in prompt_scores(table, scorer):
                    yield score_record(prompt_set, condition, found) | {"judge": ""}


def condition_keys(prompt_set: str, condition: Condition) -> JsonDict:
    """Of what question a line is."""
    return {"track": prompt_set, "photos": condition.num_photos, "wrong": condition.num_impostors}


def score_record(prompt_set: str, condition: Condition, found: Scored) -> JsonDict:
    """A score as a line of run.json."""
    name, metric, score = found
    return condition_keys(prompt_set, condition) | {"method": name, "metric": metric, **asdict(score)}


def method_costs(path: Path, recipe: ExperimentRecipe) -> list[JsonDict]:
    """Medians of what each method took for a person and for an image, and the most memory of either."""
    fine_tuning, generation = (summarize_costs(path, kind) for kind in ("learnt", "drawn"))
    costs = []
    for name in recipe.methods:
        person, image = fine_tuning.get(recipe.display_names[name], {}), generation.get(recipe.display_names[name], {})
        peaks = [each["megabytes"] for each in (person, image) if each.get("megabytes") is not None]
        seconds = {"seconds_person": person.get("seconds"), "seconds_image": image.get("seconds")}
        costs.append({"method": name, **seconds, "peak_mb": max(peaks, default=None)})
    return costs


def people_contact_sheet(recipe: ExperimentRecipe, people: Sequence[EvaluatedPerson], jobs: ImageJobs) -> Image.Image:
    """For eyes: references and images of a few people, a row for each method.

    Columns: the seeds of the one condition, or the conditions, each with the first seed.
    """
    conditions, unconditional = recipe.conditions, load_images(jobs[unconditional_key(PORTRAIT_PROMPT_SET)])

    def row(name: str, person_id: str) -> Strip:
        condition_jobs = [jobs[PORTRAIT_PROMPT_SET, condition, name, person_id] for condition in conditions]
        return Strip(
            recipe.display_names[name],
            "",
            load_images(condition_jobs[0] if len(condition_jobs) == 1 else [images[0] for images in condition_jobs]),
        )

    columns = [f"seed {picture.seed}" for picture in jobs[unconditional_key(PORTRAIT_PROMPT_SET)]]
    if len(conditions) > 1:
        unconditional, columns = unconditional[:1] * len(conditions), [condition.label for condition in conditions]
    methods = recipe.methods_of(PORTRAIT_PROMPT_SET)
    sections = []
    for person in people:
        rows = [*(row(name, person.person_id) for name in methods), Strip(NO_IDENTITY, "", unconditional)]
        sections.append(Shown(f"{person.person_id}\n{recipe.prompt}", person.crops, rows))
    return people_sheet(sections, columns)
