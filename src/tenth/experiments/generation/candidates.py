"""`--candidates`: more images than are kept, drawn into a folder of their own, and the best of each prompt beside run.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import IdentityError, ModelError
from tenth.core.files.png_metadata import MAX_PNG_BYTES
from tenth.core.files.reading import read_bytes
from tenth.core.files.writing import explain_os_errors, write_bytes
from tenth.core.run_record import CANDIDATES_FOLDER, RECORD_FILE, read_record
from tenth.core.types import Encoder, Identity, Photo, Pixels
from tenth.data.faces.detection import crop_face
from tenth.evaluation.candidates import CandidateFigures, ReferenceFaces, measure_candidates, rank_candidates
from tenth.evaluation.image_set import load_image
from tenth.experiments.output_folders import image_names
from tenth.sampling.generate import Request

CHUNK = 64  # images that are in memory at once when they are measured


@dataclass(frozen=True)
class KeepBest:
    """num_kept: of the num_candidates of each prompt. keep_all: whether the folder of all of them stays."""

    num_candidates: int
    num_kept: int
    keep_all: bool = False


@dataclass(frozen=True, eq=False)
class GivenPhotos:
    """What images are shown beside and compared with. crops: none of an identity file. faces: None if it holds none."""

    crops: tuple[Pixels, ...] = ()
    faces: ReferenceFaces | None = None

    @classmethod
    def of(cls, photos: Sequence[Photo], identity: Identity, encoder: Encoder, *, required: bool) -> GivenPhotos:
        """Of photos or, without any, of an identity. Raises IdentityError or ModelError if there are no faces but required."""
        crops = tuple(crop_face(photo.pixels, photo.face) for photo in photos if photo.face is not None)
        try:
            faces = ReferenceFaces.from_photos(photos) if crops else ReferenceFaces.from_identity(identity, encoder)
        except (IdentityError, ModelError):
            if required:
                raise
            faces = None
        return cls(crops, faces)


@dataclass(frozen=True, eq=False)
class Choice:
    """Which candidates are kept. requests: num_candidates of each prompt, side by side."""

    folder: Path
    requests: Sequence[Request]
    keep: KeepBest

    @property
    def candidates(self) -> list[Path]:
        """Where all are drawn."""
        return [self.folder / CANDIDATES_FOLDER / name for name in image_names(len(self.requests))]

    @property
    def kept(self) -> list[Path]:
        """Where the best of each prompt go."""
        return [self.folder / name for name in image_names(self.keep.num_kept * len(self._groups()))]

    def copy_best(self, figures: Sequence[CandidateFigures]) -> list[int]:
        """Copy the best of each prompt, and return their indices. Raises CheckpointError if another file is there."""
        chosen: list[int] = []
        for group in self._groups():
            chosen += [group[rank] for rank in rank_candidates([figures[index] for index in group])[: self.keep.num_kept]]
        for path, index in zip(self.kept, chosen, strict=True):
            write_bytes(path, read_bytes(self.candidates[index], MAX_PNG_BYTES), no_overwrite=True)
        return chosen

    def rows(self, figures: Sequence[CandidateFigures], chosen: Sequence[int]) -> list[dict[str, Any]]:
        """A row of run.json for each candidate: its seed, its figures, and the name by which it is kept, or None."""
        names = dict(zip(chosen, (path.name for path in self.kept), strict=True))
        pairs = zip(self.requests, figures, strict=True)
        return [{"seed": one.seed, "kept": names.get(index), **asdict(each)} for index, (one, each) in enumerate(pairs)]

    def remove_candidates(self) -> None:
        """Remove those of ours, unless all are kept; what else is in their folder stays, and the folder with it."""
        if self.keep.keep_all:
            return
        with explain_os_errors(self.folder / CANDIDATES_FOLDER):
            for path in self.candidates:
                path.unlink(missing_ok=True)
            if (self.folder / CANDIDATES_FOLDER).is_dir() and not any((self.folder / CANDIDATES_FOLDER).iterdir()):
                (self.folder / CANDIDATES_FOLDER).rmdir()

    def _groups(self) -> list[range]:
        size = self.keep.num_candidates
        return [range(start, start + size) for start in range(0, len(self.requests), size)]


def measure_files(paths: Sequence[Path], faces: ReferenceFaces) -> list[CandidateFigures]:
    """The figures of the images in files."""
    starts = range(0, len(paths), CHUNK)
    return [each for start in starts for each in measure_candidates(list(map(load_image, paths[start : start + CHUNK])), faces)]


def kept_indices(folder: Path) -> list[int]:
    """Which candidates a finished run kept, in the order of their names."""
    rows = _candidate_rows(folder)
    return sorted((index for index, row in enumerate(rows) if row["kept"]), key=lambda index: str(rows[index]["kept"]))


def kept_message(folder: Path) -> str:
    """How many of how many candidates a finished run kept, and what that gave."""
    rows = _candidate_rows(folder)
    kept = [row for row in rows if row["kept"] is not None]
    means = [_mean([row["identity"] for row in part if row["identity"] is not None]) for part in (kept, rows)]
    return f"kept {len(kept)} of {len(rows)} candidates: identity {means[0]}, of all {means[1]}"


def _candidate_rows(folder: Path) -> list[dict[str, Any]]:
    return list(read_record(folder / RECORD_FILE, command="generate")["results"]["candidates"])


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "unknown"
