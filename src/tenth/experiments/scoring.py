"""Images on disk -> every score of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from tenth.core.console import track
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import Extractor, extract_cached
from tenth.evaluation.extractors.loading import INCEPTION, MISSING, VIEWS
from tenth.evaluation.image_set import load_image
from tenth.evaluation.lfw_preprocessing import match_lfw_jpeg
from tenth.evaluation.metrics.identity import PersonScores, identity_similarity_per_person
from tenth.evaluation.metrics.inputs import score_or_unavailable
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.registry import metrics_for
from tenth.experiments.images import ImageJob, ImageJobs, unconditional_key
from tenth.experiments.protocol import EvaluatedPerson, RealImages
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.reporting.results_reader import CONTROLS

Scored = tuple[str, str, Score]  # row of the table, metric, score
SET_VIEWS = {"features": VIEWS[INCEPTION], **VIEWS}  # what metrics of image sets need
REAL, COPIES, AVERAGE, IMPOSTOR, NO_IDENTITY = CONTROLS


@dataclass(frozen=True, eq=False)
class TableRow:
    """The images of a row: person, file and prompt of each.

    shared: whether everybody has the same images, so that as a set they are one person's. half_held_out: whether they are the
    first half of each person's held-out photos, which are then compared with the second half.
    """

    people: tuple[str, ...]
    paths: tuple[Path, ...]
    prompts: tuple[str, ...] = ()  # of generated images
    shared: bool = False
    half_held_out: bool = False

    @property
    def unique_paths(self) -> tuple[Path, ...]:
        """The images as a set, each once."""
        return self.paths[: self.people.count(self.people[0])] if self.shared else self.paths


AllTableRows = Mapping[tuple[str, Condition], Mapping[str, TableRow]]  # by prompt set and condition, by method or control


def table_rows(recipe: ExperimentRecipe, person_ids: Sequence[str], jobs: ImageJobs, real: RealImages) -> AllTableRows:
    """The rows of every table: a prompt set's methods under a condition; under the main one the controls too."""
    # The controls of real photos are the same in every prompt set.
    real_controls = real_control_rows(person_ids, real)
    tables = {}
    for prompt_set in recipe.all_prompt_sets:
        for condition in recipe.conditions_of(prompt_set):
            rows = {
                name: _generated_row({person_id: jobs[prompt_set, condition, name, person_id] for person_id in person_ids})
                for name in recipe.methods_of(prompt_set)
            }
            if condition == recipe.main_condition:
                unconditional = _generated_row(dict.fromkeys(person_ids, jobs[unconditional_key(prompt_set)]))
                rows |= {**real_controls, NO_IDENTITY: replace(unconditional, shared=True)}
            tables[prompt_set, condition] = rows
    return tables


def real_control_rows(person_ids: Sequence[str], real: RealImages) -> dict[str, TableRow]:
    """The controls of real photos. Another person's photos are the next one's, the last one's those of the first."""
    impostors = dict(zip(person_ids, [*person_ids[1:], *person_ids[:1]], strict=True))
    halves = _table_row({person_id: first_half(real.paths("held-out", person_id)) for person_id in person_ids})
    return {
        REAL: replace(halves, half_held_out=True),
        COPIES: _table_row({person_id: real.paths("references", person_id) for person_id in person_ids}),
        AVERAGE: _table_row({person_id: real.paths("averages", person_id) for person_id in person_ids}),
        IMPOSTOR: _table_row({person_id: real.paths("references", impostors[person_id]) for person_id in person_ids}),
    }


def face_scores(
    rows: Mapping[str, TableRow], people: Sequence[EvaluatedPerson], index: int, recognizer: FaceEmbedder
) -> tuple[list[Scored], dict[str, PersonScores]]:
    """Scores by the index-th recognizer, and each method's identity similarity per person, where all are known."""
    # The real photos' embeddings.
    references = _features({person.person_id: person.references[index] for person in people})
    held_out = _features({person.person_id: person.held_out[index] for person in people})
    half = _features({person.person_id: second_half(person.held_out[index]) for person in people})

    # The metrics, those of a threshold if the recognizer has one.
    attributes = {person.person_id: person.attributes for person in people}
    metrics: dict[str, Callable[..., Score]] = {}
    for metric in metrics_for("faces"):
        if "attributes" in metric.needs:
            metrics[metric.name] = partial(metric.function, attributes=attributes)
        elif "threshold" not in metric.needs:
            metrics[metric.name] = metric.function
        elif recognizer.threshold is not None:
            metrics[metric.name] = partial(metric.function, threshold=recognizer.threshold)

    scores, values = [], {}
    for name, row in rows.items():
        generated = Features(_extract(recognizer, row.paths), row.people)
        photos = half if row.half_held_out else held_out
        for metric_name, measure in metrics.items():
            scores.append((name, metric_name, score_or_unavailable(measure, generated, photos, references)))
        if name not in CONTROLS:
            similarities = identity_similarity_per_person(generated, photos)
            if similarities and np.isfinite(list(similarities.values())).all():
                values[name] = similarities
    return scores, values


def image_set_scores(
    rows: Mapping[str, TableRow], person_ids: Sequence[str], real: RealImages, networks: Mapping[str, Extractor]
) -> Iterator[tuple[Scored, float | None]]:
    """Scores of image sets, unavailable without the network; of generated ones also the value without LFW's JPEG.

    networks: as `load_networks` gives them.
    """
    photos = {person_id: real.paths("held-out", person_id) for person_id in person_ids}
    held_out, half = _table_row(photos), _table_row({person_id: second_half(paths) for person_id, paths in photos.items()})

    @cache
    def measured(network: str, row: TableRow, transform: Callable[[Pixels], Pixels] | None = None) -> Features:
        paths = row.unique_paths
        return Features(_extract(networks[network], paths, transform), row.people[: len(paths)])

    for (name, row), metric in product(rows.items(), metrics_for(*SET_VIEWS)):
        view = SET_VIEWS[metric.needs[0]]
        if view.network not in networks:
            yield (name, metric.name, Score(None, unavailable=MISSING[view.network])), None
            continue
        real_side = view.of(measured(view.network, half if row.half_held_out else held_out))
        score, raw = score_or_unavailable(metric.function, view.of(measured(view.network, row)), real_side), None
        if name not in CONTROLS or name == NO_IDENTITY:
            raw = score.value
            score = score_or_unavailable(metric.function, view.of(measured(view.network, row, match_lfw_jpeg)), real_side)
        yield (name, metric.name, score), raw


def prompt_scores(rows: Mapping[str, TableRow], scorer: PromptScorer) -> Iterator[Scored]:
    """How well generated images follow their prompts. Images that everybody shares count once."""
    for name, row in rows.items():
        if row.prompts:
            paths = row.unique_paths
            images = Features(_extract(scorer, paths), row.people[: len(paths)], row.prompts[: len(paths)])
            yield from ((name, metric.name, metric.function(images, scorer)) for metric in metrics_for(scorer.kind))


def _extract(extractor: Extractor, paths: Sequence[Path], transform: Callable[[Pixels], Pixels] | None = None) -> FeatureArray:
    """Features (N, D) of images, each computed once for all experiments."""
    images = map(load_image, track(paths, "scoring", "image"))
    return extract_cached(images if transform is None else map(transform, images), extractor)


def first_half(photos: Any) -> Any:
    """The half of a person's held-out photos, features or files, that the control of real photos takes for generated ones."""
    return photos[: len(photos) // 2]


def second_half(photos: Any) -> Any:
    """The half that it is compared with; at least one."""
    return photos[len(photos) // 2 :]


def _features(rows: Mapping[str, FeatureArray]) -> Features:
    """Features (N, D) of all people, one after the other."""
    return Features(np.concatenate(list(rows.values())), tuple(person_id for person_id, part in rows.items() for _ in part))


def _generated_row(jobs: Mapping[str, Sequence[ImageJob]]) -> TableRow:
    row = _table_row({person_id: [job.path for job in images] for person_id, images in jobs.items()})
    return replace(row, prompts=tuple(job.prompt for images in jobs.values() for job in images))


def _table_row(paths: Mapping[str, Sequence[Path]]) -> TableRow:
    people = tuple(person_id for person_id, images in paths.items() for _ in images)
    return TableRow(people, tuple(chain.from_iterable(paths.values())))
