"""What to say about the photos of a folder: a line for each matter, however many photos it concerns."""

from __future__ import annotations

from collections.abc import Sequence

from tenth.core.wording import abbreviate
from tenth.data.photo_folder import CAPTION, OTHER_PERSON, PhotoVerdict


def photo_notes(verdicts: Sequence[PhotoVerdict]) -> list[str]:
    """Lines on photos that are not used, by reason, then on doubtful ones, by warning; and on a person in few of the photos."""
    files: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.accepted and verdict.code != CAPTION:
            files.setdefault(f"not used ({verdict.code})", []).append(verdict.file)
    for verdict in verdicts:
        for warning in verdict.warnings:
            files.setdefault(warning, []).append(verdict.file)
    notes = [f"{abbreviate(names)}: {text}" for text, names in files.items()]

    # Somebody who is in fewer than half of them is worth a second look.
    num_accepted = sum(verdict.accepted for verdict in verdicts)
    num_others = sum(verdict.code == OTHER_PERSON for verdict in verdicts)
    if num_others > num_accepted:
        found = f"only {num_accepted} of {num_accepted + num_others} photos show the person who is taken"
        notes.insert(0, f"{found}, the others somebody else: check with `tenth photos` whose they are")
    return notes
