"""Images into a folder, each generated once: a run that was stopped continues, and ends with the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tenth.core.errors import CheckpointError
from tenth.core.files.png_metadata import read_if_complete, save_sample
from tenth.core.files.writing import explain_os_errors, write_json
from tenth.core.marks.signer import current_signer
from tenth.core.run_record import PROGRESS_FILE
from tenth.core.types import DiffusionModel
from tenth.experiments.output_folders import read_progress
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import (
    OnProgress,
    Progress,
    Request,
    batch_requests,
    check_request,
    expected_metadata,
    generate,
    request_steps,
)
from tenth.sampling.passes.hires import HiresConfig


@dataclass(frozen=True)
class UnfinishedRun:
    """The progress file of a folder of images, until its run.json exists."""

    folder: Path
    kind: str
    settings: Mapping[str, Any]

    def record_seconds(self, seconds: Mapping[Path, float]) -> None:
        """Record whose the folder is, and how long images took, before they are saved, so that it is known of each on disk."""
        new = {path.relative_to(self.folder).as_posix(): value for path, value in seconds.items()}
        write_json(self.folder / PROGRESS_FILE, {"kind": self.kind, "settings": self.settings, "seconds": self.seconds | new})

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each image, by its path below the folder."""
        progress = read_progress(self.folder, self.kind)
        known = progress.get("seconds") if progress.get("settings") == self.settings else None
        if not isinstance(known, dict):
            return {}
        return {name: value for name, value in known.items() if isinstance(value, int | float)}

    def mean_seconds(self, paths: Sequence[Path]) -> float | None:
        """Mean over those of the images whose time is known; None if there is none."""
        names = {path.relative_to(self.folder).as_posix() for path in paths}
        known = [value for name, value in self.seconds.items() if name in names]
        return round(sum(known) / len(known), 3) if known else None

    def finish(self) -> None:
        """Remove the progress file: run.json exists."""
        with explain_os_errors(self.folder / PROGRESS_FILE):
            (self.folder / PROGRESS_FILE).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class ImageSeries:
    """Images to generate, and the path of each. batch_size: how many at most are generated at once."""

    model: DiffusionModel
    requests: Sequence[Request]
    paths: Sequence[Path]
    sampling: SamplingConfig
    hires: HiresConfig | None = None
    batch_size: int = DEFAULT_BATCH_SIZE

    def generate(self, run: UnfinishedRun, on_progress: OnProgress | None = None) -> None:
        """Generate the images that are missing, each written whole.

        A batch with a missing image is generated as a whole: a pixel may differ by 1/255 in another batch. Raises
        CheckpointError, before anything is generated, if another file is at an image's path.
        """
        for request, path in zip(self.requests, self.paths, strict=True):
            check_request(self.model, request, self.sampling, self.hires)
            self._check_existing(request, path)
        batches = [(requests, paths) for requests, paths in self._batches() if not all(path.exists() for path in paths)]
        if not batches:
            return
        current_signer()  # what cannot be signed is not drawn
        run.record_seconds({})
        done, total = 0, sum(self._steps(requests) for requests, _ in batches)
        try:
            for requests, paths in batches:

                def add_progress(now: Progress, before: int = done) -> None:
                    if on_progress is not None:
                        on_progress(replace(now, done=before + now.done, total=total))

                samples = list(generate(self.model, requests, self.sampling, on_progress=add_progress, hires=self.hires))
                run.record_seconds({path: sample.seconds for path, sample in zip(paths, samples, strict=True)})
                for path, sample in zip(paths, samples, strict=True):
                    if not path.exists():
                        save_sample(sample, path)
                done += self._steps(requests)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None

    def _steps(self, requests: Sequence[Request]) -> int:
        """Denoising steps of some images."""
        return sum(request_steps(self.model, request, self.sampling, self.hires) for request in requests)

    def _batches(self) -> Iterator[tuple[list[Request], list[Path]]]:
        """Requests that are generated together, with their paths: no more than fit in memory, so that images are saved soon."""
        remaining, size = iter(self.paths), min(self.batch_size, self.model.memory_plan.profile.batch_size)
        for batch in batch_requests(self.model, self.requests, self.sampling, size):
            yield batch, list(islice(remaining, len(batch)))

    def _check_existing(self, request: Request, path: Path) -> None:
        if not os.path.lexists(path):
            return
        expected, actual = expected_metadata(self.model, request, self.sampling, self.hires), read_if_complete(path)
        if actual is None or not actual.items() >= expected.items():
            found = f"{path} is not the complete image that would be generated there"
            raise CheckpointError(found, "what is there stays as it is", "Remove it, or choose another -o")
