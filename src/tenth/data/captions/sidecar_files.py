"""Caption files: a text file beside each photo, the layout of common fine-tuning tools."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_text, reason
from tenth.core.wording import abbreviate
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


def read_captions(paths: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """The captions by photo, one per line, without empty lines and extra spaces. () for an empty file.

    paths: caption file by photo. All files are read before an error is raised.
    Raises DataError if a file is not UTF-8 text or too long.
    """
    captions: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for photo, path in paths.items():
        try:
            captions[photo] = _lines(path)
        except ValueError as error:
            problems.append(f"{path.parent.name}/{path.name} {error}")
    if problems:
        needed = f"a caption is a line of UTF-8 text, at most {MAX_CAPTION_CHARS:,} characters long"
        raise DataError(abbreviate(problems), needed, "Save such a file as UTF-8 and shorten it, or remove it")
    return captions


def repeat_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """CAPTIONS_PER_PHOTO captions: the first ones, repeated if there are fewer; a neutral caption if there is none."""
    return tuple(islice(cycle(captions or [UNKNOWN_PERSON]), CAPTIONS_PER_PHOTO))


def _lines(path: Path) -> tuple[str, ...]:
    """Raises ValueError whose text is the reason."""
    try:
        text = read_text(path, MAX_CAPTION_BYTES)
    except (OSError, UnreadableError) as problem:
        raise ValueError(reason(problem)) from problem
    lines = tuple(line for each in text.splitlines() if (line := " ".join(each.split())))
    if any(unicodedata.category(character) == "Cc" for line in lines for character in line):
        raise ValueError("has control characters")  # such as the zeros of UTF-16
    if (longest := max(map(len, lines), default=0)) > MAX_CAPTION_CHARS:
        raise ValueError(f"has a line of {longest:,} characters")
    return lines
