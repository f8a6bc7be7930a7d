"""--photo-weight FILE=W: which photo it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from tenth.cli.person.source import Source
from tenth.core.errors import DataError
from tenth.core.wording import abbreviate, did_you_mean

if TYPE_CHECKING:
    from tenth.data.photo_folder import PhotoVerdict


def parse_weights(pairs: Sequence[tuple[str, float]], source: Source) -> dict[str, float]:
    """--photo-weight by file. Raises typer.BadParameter for a file that has two, an identity, or several people."""
    weights = dict(pairs)
    if len(weights) < len(pairs):
        raise typer.BadParameter("a photo is given twice; give each one weight", param_hint="--photo-weight")
    if weights and source.people:
        raise typer.BadParameter("with --person it does not say whose photo it means", param_hint="--photo-weight")
    if weights and source.identity:
        message = "it is for photos; an identity file was made of its photos already"
        raise typer.BadParameter(message, param_hint="--photo-weight")
    return weights


def match_weights(
    weights: Mapping[str, float], verdicts: Sequence[PhotoVerdict], names: Mapping[str, str]
) -> tuple[float, ...]:
    """The weight of each accepted photo, 1 where none is given. names: what the photo of a path is called."""
    by_file = {verdict.file: verdict for verdict in verdicts}
    given = {}
    for file, weight in weights.items():
        name = file if file in by_file else names.get(file, "")
        verdict = by_file.get(name)
        if verdict is None:
            known = [each.file for each in verdicts if each.accepted]
            action = did_you_mean(file, known) + "Correct it"
            raise DataError(f"--photo-weight {file}={weight:g} is of no photo", f"one of {abbreviate(known)} is needed", action)
        if not verdict.accepted:
            found = f"--photo-weight {file}={weight:g} is of a photo that is not used ({verdict.code})"
            raise DataError(found, "a photo that is used is needed", "Leave the weight out, or choose another photo")
        if name in given:
            raise DataError(f"--photo-weight {file} is of a photo that has one", "each photo has one weight", "Leave one out")
        given[name] = weight
    return tuple(given.get(verdict.file, 1.0) for verdict in verdicts if verdict.accepted)
