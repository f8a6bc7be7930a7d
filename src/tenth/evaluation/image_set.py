"""A folder of images, or of a folder for each person, to be measured: listed first, then opened one at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.core.errors import DataError, PhotoError
from tenth.core.files.decoder_errors import DECODER_ERRORS
from tenth.core.files.png_metadata import MAX_PNG_BYTES
from tenth.core.files.reading import open_regular, reason, without_system_files
from tenth.core.run_record import CANDIDATES_FOLDER, RECORD_FILE, SHEET_FILE
from tenth.core.types import Pixels
from tenth.core.wording import abbreviate, pluralize
from tenth.data.captions.sidecar_files import find_caption_files
from tenth.data.photo import has_photo_signature, open_photo
from tenth.data.photo_sources import natural_sort_key

# What is meant to be an image, and named in an error if it is none; anything else is an image if its content is one.
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".heic", ".heif"}


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """N images in the order of their names. people: one each, '' in a flat folder. left_out: names of other files.

    Iterating opens them, one at a time.
    """

    directory: Path
    paths: tuple[Path, ...]
    people: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Pixels]:
        """Pixels (H, W, 3), as open_photo gives them. Raises PhotoError, which names the file, for one that is damaged."""
        return map(_open_image, self.paths)

    @property
    def is_flat(self) -> bool:
        """Whether there are no folders of people."""
        return set(self.people) == {""}

    def notes(self, sizes: Collection[tuple[int, int]]) -> list[str]:
        """What a user should know of the folder: files left out, and images of several sizes. sizes: (width, height) pixels."""
        messages = []
        if self.ignored:
            messages.append(f"{self.directory}: no images and left out: {len(self.ignored)} ({abbreviate(self.ignored)})")
        if len(sizes) > 1:
            widths, heights = zip(*sizes, strict=True)
            spread = f"{min(widths)} to {max(widths)} x {min(heights)} to {max(heights)} pixels"
            messages.append(f"{self.directory}: images of {len(sizes)} sizes, {spread}; each is resized by itself")
        return messages


def list_images(directory: Path, min_images: int = 2) -> ImageFolder:
    """The images of a folder, or of the folders in it, one for each person: told by name or content, none is decoded.

    Raises DataError if there is no such folder, fewer than `min_images` images, or images both beside and inside of folders.
    """
    entries = _without_extras(_entries(directory))
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    files = [("", path) for path in entries if not path.is_dir()]
    files += [(folder.name, path) for folder in folders for path in _without_extras(_entries(folder))]
    images = [(person, path) for person, path in files if not path.name.startswith(".") and _seems_image(path)]
    kept = {path for _, path in images}
    kept.update(*find_caption_files(kept, [path for _, path in files if path not in kept]).values())
    people, paths = tuple(person for person, _ in images), tuple(path for _, path in images)
    if len(images) < min_images:
        message = f"{directory} has {pluralize(len(images), 'image') if images else 'no images'} (PNG, JPEG or WebP)"
        raise DataError(message, f"at least {min_images} are needed", "Add images, or check the path")
    if "" in people and set(people) != {""}:
        needed, action = "either images are needed, or a folder for each person", "Move the images or the folders away"
        raise DataError(f"{directory} has images beside folders with images", needed, action)
    return ImageFolder(directory, paths, people, tuple(left.name for _, left in files if left not in kept))


def load_image(path: Path) -> Pixels:
    """(H, W, 3) of a PNG of ours. Raises DataError if it is no PNG, or incomplete."""
    try:
        with open_regular(path, MAX_PNG_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as problem:
        raise DataError(f"{path} does not exist", "a whole image is needed", "Run the same again, which makes it") from problem
    except DECODER_ERRORS as problem:
        found = f"{path} is no whole PNG ({problem})"
        raise DataError(found, "a whole image is needed", "Remove it and run the same again") from problem


def _seems_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or has_photo_signature(path)


def _open_image(path: Path) -> Pixels:
    try:
        return open_photo(path).pixels
    except PhotoError as error:  # names the file; of which person's folder, only this level knows
        raise PhotoError(error.code, f"{path.parent / error.found}", error.needed, error.action) from error


def _without_extras(entries: list[Path]) -> list[Path]:
    """Without what lies beside the images of a run and is none of them."""
    of_run = any(path.name == RECORD_FILE for path in entries)
    return [path for path in entries if not (of_run and path.name in (SHEET_FILE, CANDIDATES_FOLDER))]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(without_system_files(directory, directory.iterdir()), key=lambda path: natural_sort_key(path.name))
    except OSError as problem:
        found = "is a file" if isinstance(problem, NotADirectoryError) else reason(problem)
        raise DataError(f"{directory} {found}", "a folder of images is needed", "Check the path") from problem
