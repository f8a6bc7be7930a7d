"""What the captions of a person's photos say of the person: who is a man, who is old, who has a beard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tenth.data.captions.prompt_parser import attribute_labels, parse_prompt_attributes

PersonAttributes = dict[str, dict[str, bool]]  # person -> attribute -> whether most photos have it; unknown ones are missing


def attributes_of_people(photos: Iterable[tuple[str, Sequence[str]]]) -> PersonAttributes:
    """The attributes of each person, by a majority of the photos whose captions say it; an even split is unknown.

    photos: person and captions of each. Captions in other words than `templates` has say nothing.
    """
    votes: dict[str, Counter[str]] = {}
    for person, captions in photos:
        counts = votes.setdefault(person, Counter())
        for attribute, has in _photo_attributes(captions).items():
            counts[attribute] += 1 if has else -1
    return {person: {name: count > 0 for name, count in counts.items() if count} for person, counts in votes.items()}


def _photo_attributes(captions: Sequence[str]) -> dict[str, bool]:
    """What all captions of a photo say together, and what follows from it."""
    said: dict[str, bool] = {}
    for caption in captions:
        said |= parse_prompt_attributes(caption)
    if not said:
        return {}
    gender = {True: "M", False: "F"}.get(said["male"]) if "male" in said else None
    return {name: has for name, has in attribute_labels({**said, "gender": gender}).items() if has is not None}
