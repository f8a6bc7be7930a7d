"""What systems and other programs leave in folders, and nobody put there: not listed, not counted, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LITTER = {"__pycache__", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"}
APPLE = "._"  # how the name of a second file begins that macOS writes beside each on foreign disks


def is_litter(path: str | Path) -> bool:
    """Whether a file or folder is litter, by its name alone, or lies in a folder that is."""
    return any(part in LITTER or part.startswith(APPLE) for part in Path(path).parts)


def without_litter(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of a folder's files and folders that somebody put there, in order."""
    return sorted(path for path in paths if not is_litter(path.relative_to(folder)))
