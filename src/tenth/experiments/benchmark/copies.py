"""What an exported benchmark holds besides its tasks, by hash: another photo, image or attribute gives other figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tenth.core.files.reading import UnreadableError, parse_json, read_text, sha256_of, without_system_files
from tenth.core.wording import abbreviate

COPIES_FILE = "copies.json"  # path -> sha256
REFERENCES_FOLDER = "references"  # whole photos: what a system is given
PRIVATE_FOLDER = "private"  # crops of all photos, as an experiment has them: what only scoring reads
ATTRIBUTES_FILE = "attributes.json"  # in the private folder: what the people list's captions say of each person
# What is scored by: photos, crops, the attributes, and the images of the control without a person.
PATTERNS = (
    f"{REFERENCES_FOLDER}/*/*.png",
    *(f"{PRIVATE_FOLDER}/{side}/*/*.png" for side in ("references", "held-out", "averages")),
    f"{PRIVATE_FOLDER}/images*/*/*.png",
    f"{PRIVATE_FOLDER}/{ATTRIBUTES_FILE}",
)


def copies_text(directory: Path) -> str:
    """The hashes of what is in a folder, as COPIES_FILE has them: the same files, the same text. Raises as `sha256_of`."""
    return json.dumps(_hashes(directory), indent=1, sort_keys=True) + "\n"


def changed_copies(directory: Path, sha256: str) -> str:
    """What has changed since the hashes were written, by name: '1 changed (references/001/0.png)'; '' if nothing has.

    sha256: of COPIES_FILE. Raises OSError or UnreadableError if it, or a file that it names, cannot be read.
    """
    text = read_text(directory / COPIES_FILE)
    written = parse_json(text)
    if hashlib.sha256(text.encode()).hexdigest() != sha256 or not isinstance(written, dict):
        return f"1 changed ({COPIES_FILE})"
    found = _hashes(directory)
    kinds: Mapping[str, list[str]] = {
        "changed": [path for path in found if path in written and found[path] != written[path]],
        "gone": [path for path in written if path not in found],
        "added": [path for path in found if path not in written],
    }
    return "; ".join(f"{len(paths):,} {kind} ({abbreviate(paths)})" for kind, paths in kinds.items() if paths)


def _hashes(directory: Path) -> dict[str, str]:
    paths = {path for pattern in PATTERNS for path in without_system_files(directory, directory.glob(pattern))}
    found = {}
    for path in sorted(paths):
        name = path.relative_to(directory).as_posix()
        try:
            found[name] = sha256_of(path)
        except UnreadableError as problem:
            raise UnreadableError(f"has {name}, which {problem}") from problem
    return found
