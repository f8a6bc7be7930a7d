"""Images on the disk -> every score of an experiment, in the layout of run.json that the report reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import extract_features
from tenth.evaluation.extractors.inception import Inception, features_of, logits_of
from tenth.evaluation.folders import NO_INCEPTION
from tenth.evaluation.lfw_preprocessing import match_lfw_jpeg
from tenth.evaluation.metrics.identity import PersonScores, identity_similarity_per_person
from tenth.evaluation.metrics.inputs import score_or_unavailable
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.registry import metrics_for
from tenth.experiments.images import ImageJob, ImageJobs, load_image, unconditional_key
from tenth.experiments.protocol import EvaluatedPerson, RealImages
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.reporting.results_reader import CONTROLS

Scored = tuple[str, str, Score]  # row of the table, metric, score
OF_SETS = ("features", "inception", "logits")  # what metrics of a set of images need
REAL, COPIES, AVERAGE, IMPOSTOR, NO_IDENTITY = CONTROLS  # what a score means is read off them


@dataclass(frozen=True, eq=False)
class TableRow:
    """A row of a table before anything is read: each image's person, file and prompt.

    shared: whether the images are the same for everybody, so that a set of them holds one person's. half_held_out: whether
    they are the first half of each person's held-out photos, which leaves the other half to measure against.
    """

    people: tuple[str, ...]
    paths: tuple[Path, ...]
    prompts: tuple[str, ...] = ()  # of drawn images
    shared: bool = False
    half_held_out: bool = False

    @property
    def unique_paths(self) -> tuple[Path, ...]:
        """The images as a set: each once."""
        return self.paths[: self.people.count(self.people[0])] if self.shared else self.paths


AllTableRows = Mapping[tuple[str, Condition], Mapping[str, TableRow]]  # by prompt set and condition, by method or control


def table_rows(
    recipe: ExperimentRecipe,
    person_ids: Sequence[str],
    jobs: ImageJobs,
    real: RealImages,
    prompt_set: str,
    condition: Condition,
) -> dict[str, TableRow]:
    """Every method of a track under a condition; where it is the main one, the controls too."""
    rows = {
        name: _generated_row({person_id: jobs[prompt_set, condition, name, person_id] for person_id in person_ids})
        for name in recipe.methods_of(prompt_set)
    }
    if condition == recipe.main_condition:
        next_person = dict(zip(person_ids, [*person_ids[1:], *person_ids[:1]], strict=True))
        rows |= {
            REAL: replace(
                _table_row({person_id: first_half(real.held_out(person_id)) for person_id in person_ids}), half_held_out=True
            ),
            COPIES: _table_row({person_id: real.references(person_id) for person_id in person_ids}),
            AVERAGE: _table_row({person_id: [real.average(person_id)] for person_id in person_ids}),
            IMPOSTOR: _table_row({person_id: real.references(next_person[person_id]) for person_id in person_ids}),
            NO_IDENTITY: replace(_generated_row(dict.fromkeys(person_ids, jobs[unconditional_key(prompt_set)])), shared=True),
        }
    return rows


def all_table_rows(recipe: ExperimentRecipe, person_ids: Sequence[str], jobs: ImageJobs, real: RealImages) -> AllTableRows:
    """The rows of every table, by track and condition."""
    return {
        (track, condition): table_rows(recipe, person_ids, jobs, real, track, condition)
        for track in recipe.all_prompt_sets
        for condition in recipe.conditions_of(track)
    }


def face_scores(
    rows: Mapping[str, TableRow], people: Sequence[EvaluatedPerson], index: int, recognizer: FaceEmbedder
) -> tuple[list[Scored], dict[str, PersonScores]]:
    """Scores as the index-th recogniser sees the rows, and each method's similarity, person by person, where it is known."""
    threshold = recognizer.threshold
    references = _features({person.person_id: person.references[index] for person in people})
    held_out = _features({person.person_id: person.held_out[index] for person in people})
    half = _features({person.person_id: second_half(person.held_out[index]) for person in people})
    metrics = {
        metric.name: partial(metric.function, threshold=threshold) if "threshold" in metric.needs else metric.function
        for metric in metrics_for("faces")
        if threshold is not None or "threshold" not in metric.needs
    }
    scores, values = [], {}
    for name, row in rows.items():
        (features,) = extract_features(map(load_image, row.paths), [recognizer], ArrayCache(default_cache_dir())).values()
        generated, photos = Features(features, row.people), half if row.half_held_out else held_out
        for metric, measure in metrics.items():
            scores.append((name, metric, score_or_unavailable(measure, generated, photos, references)))
        similarities = identity_similarity_per_person(generated, photos) if name not in CONTROLS else {}
        if similarities and np.isfinite(list(similarities.values())).all():
            values[name] = similarities
    return scores, values


def image_set_scores(
    rows: Mapping[str, TableRow], person_ids: Sequence[str], real: RealImages, inception: Inception | None
) -> Iterator[tuple[Scored, float | None]]:
    """(row, metric, score), and the same on images as they were drawn, by Inception; without it unavailable."""
    metrics = metrics_for(*OF_SETS)
    if inception is None:
        yield from (((name, metric.name, Score(None, unavailable=NO_INCEPTION)), None) for name in rows for metric in metrics)
        return
    store = ArrayCache(default_cache_dir())

    def read_features(paths: Sequence[Path], transform: Callable[[Pixels], Pixels]) -> FeatureArray:
        return extract_features(map(transform, map(load_image, paths)), [inception], store)[inception.name]

    all_features = read_features([path for person_id in person_ids for path in real.held_out(person_id)], unchanged)
    half_features = read_features(
        [path for person_id in person_ids for path in second_half(real.held_out(person_id))], unchanged
    )
    for name, row in rows.items():
        held_out = half_features if row.half_held_out else all_features
        is_generated = name not in CONTROLS or name == NO_IDENTITY
        raw_features = read_features(row.unique_paths, unchanged)
        features = read_features(row.unique_paths, match_lfw_jpeg) if is_generated else raw_features
        for metric in metrics:
            view = logits_of if "logits" in metric.needs else features_of
            photos = _untagged(view(held_out))
            score, raw_score = (
                score_or_unavailable(metric.function, _untagged(view(rows_side)), photos)
                for rows_side in (features, raw_features)
            )
            yield (name, metric.name, score), raw_score.value if is_generated else None


def prompt_scores(rows: Mapping[str, TableRow], scorer: PromptScorer) -> Iterator[Scored]:
    """What drawn images show of their prompts. Everybody's images of nobody are the same, and count once."""
    for name, row in rows.items():
        if row.prompts:
            (features,) = extract_features(
                map(load_image, row.unique_paths), [scorer], ArrayCache(default_cache_dir())
            ).values()
            count = len(row.unique_paths)
            images = Features(features, row.people[:count], row.prompts[:count])
            yield from ((name, metric.name, metric.function(images, scorer)) for metric in metrics_for(scorer.kind))


def first_half(photos: Any) -> Any:
    """Of a person's held-out photos, rows or files: what the control of real photos takes the place of images with."""
    return photos[: len(photos) // 2]


def second_half(photos: Any) -> Any:
    """The others, which it is measured against; at least one."""
    return photos[len(photos) // 2 :]


def unchanged(image: Pixels) -> Pixels:
    """The picture."""
    return image


def _features(rows: Mapping[str, FeatureArray]) -> Features:
    """Rows (N, D) of all people, one after the other."""
    return Features(np.concatenate(list(rows.values())), tuple(person_id for person_id, part in rows.items() for _ in part))


def _untagged(rows: FeatureArray) -> Features:
    return Features(rows, ("",) * len(rows))


def _generated_row(jobs: Mapping[str, Sequence[ImageJob]]) -> TableRow:
    prompts = tuple(each.prompt for of in jobs.values() for each in of)
    return replace(_table_row({person_id: [each.path for each in of] for person_id, of in jobs.items()}), prompts=prompts)


def _table_row(paths: Mapping[str, Sequence[Path]]) -> TableRow:
    people = tuple(person_id for person_id, of in paths.items() for _ in of)
    return TableRow(people, tuple(chain.from_iterable(paths.values())))
