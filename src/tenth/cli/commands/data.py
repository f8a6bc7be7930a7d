"""`tenth data`: a data set -> DIR/people.jsonl. Counts and what was dropped go to stdout, what to know to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenth.cli.parameters import AttributesFile, Fold, LfwSource, ManifestFolder, PeopleFolder
from tenth.core.console import print_message, print_result
from tenth.core.wording import printable

if TYPE_CHECKING:
    from tenth.data.manifest import ManifestSummary


def lfw(source: LfwSource, output: ManifestFolder, attributes: AttributesFile = None, fold: Fold = 0) -> int:
    """Check, split and caption Labeled Faces in the Wild; write DIR/people.jsonl."""
    from tenth.data.lfw import prepare_lfw

    return _print_summary(prepare_lfw(source, output, attributes, fold=fold))


def image_folder(source: PeopleFolder, output: ManifestFolder) -> int:
    """Check, split and caption photos of your own people; write DIR/people.jsonl.

    SOURCE has a folder for each person, with their photos in it. A text file of the same name beside a photo is its caption:
    photo.jpg, photo.txt. See docs/data.md.
    """
    from tenth.data.image_folder import prepare_folder

    return _print_summary(prepare_folder(source, output))


def _print_summary(summary: ManifestSummary) -> int:
    print_message(*summary.notes)
    print_result("\n".join(map(printable, str(summary).split("\n"))))
    return 0
