"""Pictures into a folder, each drawn once: a run that was stopped goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tenth.core.errors import CheckpointError
from tenth.core.files.writing import explain_os_errors, write_json
from tenth.experiments.output_folders import PROGRESS_FILE, read_progress
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import DEFAULT_BATCH_SIZE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import (
    Progress,
    Request,
    batch_requests,
    check_request,
    denoising_steps,
    expected_metadata,
    generate,
)
from tenth.sampling.hires import HiresConfig
from tenth.sampling.png_metadata import read_if_complete, save_sample


@dataclass(frozen=True)
class UnfinishedRun:
    """What a folder says of the run that draws into it, until its run.json is there."""

    folder: Path
    kind: str
    settings: Mapping[str, Any]

    def record_seconds(self, seconds: Mapping[Path, float]) -> None:
        """Keep whose the folder is and how long pictures took, before they are there: of each that is there it is known."""
        new = {path.relative_to(self.folder).as_posix(): each for path, each in seconds.items()}
        write_json(self.folder / PROGRESS_FILE, {"kind": self.kind, "settings": self.settings, "seconds": self.seconds | new})

    @property
    def seconds(self) -> dict[str, float]:
        """By picture, its path below the folder."""
        begun = read_progress(self.folder, self.kind)
        known = begun.get("seconds") if begun.get("settings") == self.settings else None
        pairs = known.items() if isinstance(known, dict) else ()
        return {name: each for name, each in pairs if isinstance(each, int | float)}

    def mean_seconds(self, paths: Sequence[Path]) -> float | None:
        """Over those of the pictures of which it is known; None if it is of none."""
        names = {path.relative_to(self.folder).as_posix() for path in paths}
        known = [each for name, each in self.seconds.items() if name in names]
        return round(sum(known) / len(known), 3) if known else None

    def finish(self) -> None:
        """When run.json is there."""
        with explain_os_errors(self.folder / PROGRESS_FILE):
            (self.folder / PROGRESS_FILE).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class ImageSeries:
    """Pictures to draw, and the path of each."""

    model: LatentDiffusion
    requests: Sequence[Request]
    paths: Sequence[Path]
    sampling: SamplingConfig
    hires: HiresConfig | None = None

    def generate(self, run: UnfinishedRun, progress: Progress | None = None) -> None:
        """Draw what is not there yet, each picture whole under its path.

        A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255. Raises CheckpointError, before anything is
        drawn, if something else stands at a picture's path.
        """
        for request, path in zip(self.requests, self.paths, strict=True):
            check_request(self.model, request)
            self._check_existing(request, path)
        groups = [(group, paths) for group, paths in self._batches() if not all(path.exists() for path in paths)]
        if not groups:
            return
        run.record_seconds({})
        steps_per_image = denoising_steps(self.model, self.sampling, self.hires)
        done, total = 0, steps_per_image * sum(len(group) for group, _ in groups)
        try:
            for group, paths in groups:

                def steps_done(steps: int, _: int, before: int = done) -> None:
                    if progress is not None:
                        progress(before + steps, total)

                samples = list(generate(self.model, group, self.sampling, progress=steps_done, hires=self.hires))
                run.record_seconds({path: sample.seconds for path, sample in zip(paths, samples, strict=True)})
                for path, sample in zip(paths, samples, strict=True):
                    if not path.exists():
                        save_sample(sample, path)
                done += steps_per_image * len(group)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None

    def _batches(self) -> Iterator[tuple[list[Request], list[Path]]]:
        """What is drawn together, with the paths: no more than the model holds, so that what is drawn is soon on the disk."""
        remaining = iter(self.paths)
        for group in batch_requests(
            self.model,
            self.requests,
            self.sampling.negative_prompt,
            min(DEFAULT_BATCH_SIZE, self.model.memory_plan.profile.batch_size),
        ):
            yield group, list(islice(remaining, len(group)))

    def _check_existing(self, request: Request, path: Path) -> None:
        if not os.path.lexists(path):
            return
        expected, actual = expected_metadata(self.model, request, self.sampling, self.hires), read_if_complete(path)
        if actual is None or not actual.items() >= expected.items():
            raise CheckpointError(
                f"{path} is not the whole picture that would be drawn there",
                "what is there stays as it is",
                "Remove it, or choose another -o",
            )
