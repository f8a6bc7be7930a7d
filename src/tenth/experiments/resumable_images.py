"""Pictures into a folder, each drawn once: a run that was stopped goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tenth.core.errors import CheckpointError
from tenth.core.file_writing import naming, write_json
from tenth.experiments.output_folders import BEGUN, read_begun
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import BATCH
from tenth.sampling.config import Sampling
from tenth.sampling.generate import Progress, Request, batches, check_request, generate, said_of, steps_of
from tenth.sampling.hires import HighRes
from tenth.sampling.png_metadata import read_whole, save_sample


@dataclass(frozen=True)
class Begun:
    """What a folder says of the run that draws into it, until its run.json is there."""

    folder: Path
    kind: str
    settings: Mapping[str, Any]

    def note(self, seconds: Mapping[Path, float]) -> None:
        """Keep whose the folder is and how long pictures took, before they are there: of each that is there it is known."""
        new = {path.relative_to(self.folder).as_posix(): each for path, each in seconds.items()}
        write_json(self.folder / BEGUN, {"kind": self.kind, "settings": self.settings, "seconds": self.seconds | new})

    @property
    def seconds(self) -> dict[str, float]:
        """By picture, its path below the folder."""
        begun = read_begun(self.folder, self.kind)
        known = begun.get("seconds") if begun.get("settings") == self.settings else None
        pairs = known.items() if isinstance(known, dict) else ()
        return {name: each for name, each in pairs if isinstance(each, int | float)}

    def mean_seconds(self, paths: Sequence[Path]) -> float | None:
        """Over those of the pictures of which it is known; None if it is of none."""
        names = {path.relative_to(self.folder).as_posix() for path in paths}
        known = [each for name, each in self.seconds.items() if name in names]
        return round(sum(known) / len(known), 3) if known else None

    def end(self) -> None:
        """When run.json is there."""
        with naming(self.folder / BEGUN):
            (self.folder / BEGUN).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Series:
    """Pictures to draw, and the path of each."""

    model: LatentDiffusion
    requests: Sequence[Request]
    paths: Sequence[Path]
    sampling: Sampling
    highres: HighRes | None = None

    def draw(self, begun: Begun, progress: Progress | None = None) -> None:
        """Draw what is not there yet, each picture whole under its path.

        A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255. Raises CheckpointError, before anything is
        drawn, if something else stands at a picture's path.
        """
        for request, path in zip(self.requests, self.paths, strict=True):
            check_request(self.model, request)
            self._check_place(request, path)
        groups = [(group, paths) for group, paths in self._batches() if not all(path.exists() for path in paths)]
        if not groups:
            return
        begun.note({})
        each = steps_of(self.model, self.sampling, self.highres)
        done, total = 0, each * sum(len(group) for group, _ in groups)
        try:
            for group, paths in groups:

                def steps_done(steps: int, _: int, before: int = done) -> None:
                    if progress is not None:
                        progress(before + steps, total)

                samples = list(generate(self.model, group, self.sampling, progress=steps_done, highres=self.highres))
                begun.note({path: sample.seconds for path, sample in zip(paths, samples, strict=True)})
                for path, sample in zip(paths, samples, strict=True):
                    if not path.exists():
                        save_sample(sample, path)
                done += each * len(group)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None

    def _batches(self) -> Iterator[tuple[list[Request], list[Path]]]:
        """What is drawn together, with the paths: no more than the model holds, so that what is drawn is soon on the disk."""
        left = iter(self.paths)
        for group in batches(self.model, self.requests, self.sampling.negative, min(BATCH, self.model.fit.rung.batch)):
            yield group, list(islice(left, len(group)))

    def _check_place(self, request: Request, path: Path) -> None:
        if not os.path.lexists(path):
            return
        wanted, said = said_of(self.model, request, self.sampling, self.highres), read_whole(path)
        if said is None or not said.items() >= wanted.items():
            raise CheckpointError(
                f"{path} is not the whole picture that would be drawn there",
                "what is there stays as it is",
                "Remove it, or choose another -o",
            )
