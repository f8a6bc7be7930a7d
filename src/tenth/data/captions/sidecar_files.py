"""Caption files: a text file beside each photo, the layout of common fine-tuning tools."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_text, reason
from tenth.data.captions.templates import UNKNOWN_PERSON

CAPTION_SUFFIXES = (".txt", ".caption")  # if a photo has both, the first is used
CAPTIONS_PER_PHOTO = 8  # as for LFW: training stacks the captions of all photos, so all have the same number
MAX_CAPTION_CHARS = 2_000  # ten times what a text encoder reads; a longer one is probably another file
MAX_CAPTION_BYTES = 100_000


def find_caption_files(photos: Iterable[Path], candidates: Iterable[Path]) -> dict[Path, list[Path]]:
    """The caption files of each photo among the candidates: the same name with another suffix. The first one is used."""
    captions: dict[Path, list[Path]] = {}
    texts = [path for path in candidates if path.suffix.lower() in CAPTION_SUFFIXES]
    for path in sorted(texts, key=lambda path: CAPTION_SUFFIXES.index(path.suffix.lower())):
        captions.setdefault(path.with_suffix(""), []).append(path)
    return {photo: captions[name] for photo in photos if (name := photo.with_suffix("")) in captions}


def read_caption(path: Path) -> tuple[str, ...]:
    """The captions of a file, one per line, without empty lines and extra spaces. () for an empty file.

    Raises DataError if it is not UTF-8 text or too long.
    """
    try:
        text = read_text(path, MAX_CAPTION_BYTES)
    except (OSError, UnreadableError) as problem:
        raise _unreadable(path, reason(problem)) from problem
    lines = tuple(line for each in text.splitlines() if (line := " ".join(each.split())))
    if any(unicodedata.category(character) == "Cc" for line in lines for character in line):
        raise _unreadable(path, "has control characters")  # such as the zeros of UTF-16
    if (longest := max(map(len, lines), default=0)) > MAX_CAPTION_CHARS:
        raise _unreadable(path, f"has a line of {longest:,} characters")
    return lines


def caption_error(found: str) -> DataError:
    """The error for caption files that cannot be read."""
    needed = f"a caption is a line of UTF-8 text, at most {MAX_CAPTION_CHARS:,} characters long"
    return DataError(found, needed, "Save such a file as UTF-8 and shorten it, or remove it")


def repeat_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """CAPTIONS_PER_PHOTO captions: the first ones, repeated if there are fewer; a neutral caption if there is none."""
    return tuple(islice(cycle(captions or [UNKNOWN_PERSON]), CAPTIONS_PER_PHOTO))


def _unreadable(path: Path, found: str) -> DataError:
    return caption_error(f"{path.parent.name}/{path.name} {found}")
