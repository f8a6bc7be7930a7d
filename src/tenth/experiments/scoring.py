"""Images on the disk -> every score of an experiment, in the layout of run.json that the report reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from tenth.core.cache import Store, default_store
from tenth.core.types import Features, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import Recognises
from tenth.evaluation.extractors.features import Rows, extract
from tenth.evaluation.extractors.inception import Inception, features_of, logits_of
from tenth.evaluation.folders import NO_INCEPTION
from tenth.evaluation.lfw_preprocessing import as_lfw
from tenth.evaluation.metrics.frechet import face_distance, with_faces
from tenth.evaluation.metrics.identity import (
    PerPerson,
    acceptance,
    similarity_per_person,
)
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.inputs import measured
from tenth.evaluation.metrics.prompt_alignment import ReadsPrompts, prompt_adherence, prompt_retrieval
from tenth.evaluation.registry import FACES, SETS
from tenth.experiments.images import Picture, Pictures, Real, nobodys, read_pixels
from tenth.experiments.protocol import Judged
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.reporting.results_reader import CONTROLS

REAL, COPIES, AVERAGE, STRANGER, NOBODY = CONTROLS  # what a score means is read off them


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table before anything is read: each image's person, file and prompt.

    once: whether the images are the same for everybody, so that a set of them holds one person's. halved: whether they are the
    first half of each person's held-out photos, which leaves the other half to measure against.
    """

    people: tuple[str, ...]
    paths: tuple[Path, ...]
    prompts: tuple[str, ...] = ()  # of drawn images
    once: bool = False
    halved: bool = False

    @property
    def set(self) -> tuple[Path, ...]:
        """The images as a set: each once."""
        return self.paths[: self.people.count(self.people[0])] if self.once else self.paths


def rows_of(
    recipe: ExperimentRecipe, numbers: Sequence[str], pictures: Pictures, real: Real, track: str, condition: Condition
) -> dict[str, Row]:
    """Every method of a track under a condition; where it is the main one, the controls too."""
    found = {
        name: _drawn({number: pictures[track, condition, name, number] for number in numbers})
        for name in recipe.methods_of(track)
    }
    if condition == recipe.largest:
        after = dict(zip(numbers, [*numbers[1:], *numbers[:1]], strict=True))
        found |= {
            REAL: replace(_row({number: first_half(real.held_out(number)) for number in numbers}), halved=True),
            COPIES: _row({number: real.references(number) for number in numbers}),
            AVERAGE: _row({number: [real.average(number)] for number in numbers}),
            STRANGER: _row({number: real.references(after[number]) for number in numbers}),
            NOBODY: replace(_drawn(dict.fromkeys(numbers, pictures[nobodys(track)])), once=True),
        }
    return found


def face_scores(
    rows: Mapping[str, Row], people: Sequence[Judged], index: int, recogniser: Recognises, threshold: float | None
) -> tuple[list[tuple[str, Score]], dict[str, PerPerson]]:
    """(row, score) as the index-th recogniser sees them, and each method's identity, person by person, where it is known.

    threshold: the least cosine of one person, where the recogniser's file says it.
    """
    references = _features({person.number: person.references[index] for person in people})
    held_out = _features({person.number: person.held_out[index] for person in people})
    half = _features({person.number: rest(person.held_out[index]) for person in people})
    metrics = dict(FACES)
    if threshold is not None:
        metrics["acceptance"] = ("higher", partial(acceptance, threshold=threshold))
    scores, values = [], {}
    for name, row in rows.items():
        (seen,) = extract(map(read_pixels, row.paths), [recogniser], Store(default_store())).values()
        generated, photos = Features(seen, row.people), half if row.halved else held_out
        for metric, (better, measure) in metrics.items():
            sides = generated, photos
            if measure is face_distance:
                sides = with_faces(generated), with_faces(photos)
            scores.append((name, measured(metric, better, measure, *sides, references)))
        likeness = similarity_per_person(generated, photos) if name not in CONTROLS else {}
        if likeness and np.isfinite(list(likeness.values())).all():
            values[name] = likeness
    return scores, values


def set_scores(
    rows: Mapping[str, Row], numbers: Sequence[str], real: Real, inception: Inception | None
) -> Iterator[tuple[str, Score, float | None]]:
    """(row, score, the same on images as they were drawn) by Inception; without it unavailable."""
    if inception is None:
        for name, (metric, (better, _)) in product(rows, SETS.items()):
            yield name, Score(metric, None, better=better, unavailable=NO_INCEPTION), None
        return
    store = Store(default_store())

    def read(paths: Sequence[Path], turn: Callable[[Pixels], Pixels]) -> Rows:
        return extract(map(turn, map(read_pixels, paths)), [inception], store)[inception.name]

    every = read([path for number in numbers for path in real.held_out(number)], same)
    half = read([path for number in numbers for path in rest(real.held_out(number))], same)
    for name, row in rows.items():
        against = half if row.halved else every
        drawn = name not in CONTROLS or name == NOBODY
        plain = read(row.set, same)
        turned = read(row.set, as_lfw) if drawn else plain
        for metric, (better, measure) in SETS.items():
            view = logits_of if measure is inception_score else features_of
            given, raw = (
                measured(metric, better, measure, _tagless(view(side)), _tagless(view(against))) for side in (turned, plain)
            )
            yield name, given, raw.value if drawn else None


def prompt_scores(rows: Mapping[str, Row], reader: ReadsPrompts) -> Iterator[tuple[str, Score]]:
    """(row, score) of what drawn images show of their prompts. Everybody's images of nobody are the same, and count once."""
    for name, row in rows.items():
        if row.prompts:
            (seen,) = extract(map(read_pixels, row.set), [reader], Store(default_store())).values()
            count = len(row.set)
            images = Features(seen, row.people[:count], row.prompts[:count])
            yield from ((name, measure(images, reader)) for measure in (prompt_adherence, prompt_retrieval))


def first_half(photos: Any) -> Any:
    """Of a person's held-out photos, rows or files: what the control of real photos takes the place of images with."""
    return photos[: len(photos) // 2]


def rest(photos: Any) -> Any:
    """The others, which it is measured against; at least one."""
    return photos[len(photos) // 2 :]


def same(picture: Pixels) -> Pixels:
    """The picture."""
    return picture


def _features(rows: Mapping[str, Rows]) -> Features:
    """Rows (N, D) of all people, one after the other."""
    return Features(np.concatenate(list(rows.values())), tuple(number for number, part in rows.items() for _ in part))


def _tagless(rows: Rows) -> Features:
    return Features(rows, ("",) * len(rows))


def _drawn(pictures: Mapping[str, Sequence[Picture]]) -> Row:
    prompts = tuple(each.prompt for of in pictures.values() for each in of)
    return replace(_row({number: [each.path for each in of] for number, of in pictures.items()}), prompts=prompts)


def _row(paths: Mapping[str, Sequence[Path]]) -> Row:
    people = tuple(number for number, of in paths.items() for _ in of)
    return Row(people, tuple(chain.from_iterable(paths.values())))
