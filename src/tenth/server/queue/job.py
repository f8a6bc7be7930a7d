"""The vocabulary of the queue: a job, what an executor gets and gives, and why it may have to stop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tenth.core.errors import DataError, InputError

JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]
MAX_ATTEMPTS = 3  # without getting further than before


@dataclass(frozen=True)
class Job:
    """A row of the queue.

    id: begins with the order of submission. key: the hash of kind, person and payload. attempts: since the job
    last got further than before. done, total: steps. created, started, finished: seconds since 1970. error: found, needed,
    action, code; of a queued job why it waits. values: of its result. pictures: their ids.
    """

    id: str
    owner: str
    kind: str
    key: str
    payload: Mapping[str, Any]
    status: JobStatus
    priority: int
    attempts: int
    done: int
    total: int
    created: float
    started: float | None
    finished: float | None
    error: Mapping[str, str] | None
    person: str
    pictures: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class NewPicture:
    """A picture that a job made: the PNG as it is shown, the seed, the settings that stand in it, and what was measured."""

    path: Path
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """What an executor gives. values: what is no picture."""

    pictures: Sequence[NewPicture] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


class Reporter(Protocol):
    """How an executor says how far it is."""

    @property
    def data(self) -> Path:
        """The data folder."""

    @property
    def folder(self) -> Path:
        """This job's own, which stays when the worker is restarted, so that the job goes on; it is removed after the job."""

    def progress(self, done: int, total: int) -> None:
        """Say how many steps are done. Raises JobStopped if the job was cancelled or another worker has it."""

    def preview(self, png: bytes) -> None:
        """Show how the picture looks so far."""


Executor = Callable[[Job, Reporter], JobResult]


class JobStopped(Exception):  # noqa: N818 - it is none: somebody wanted it so
    """The work on a job is to end without a result."""


class JobCancelled(JobStopped):
    """Somebody cancelled the job, or it is gone."""


class LeaseLost(JobStopped):
    """Another worker has the job."""


class QueueFull(InputError):  # noqa: N818 - as `queue.Full`
    """As many jobs wait as may. retry_after: seconds after which there may be room."""

    def __init__(self, queued: int, retry_after: int) -> None:
        super().__init__(f"{queued} jobs wait already", "no more may", f"Try again in {retry_after} seconds")
        self.retry_after = retry_after


class KeyReused(DataError):  # noqa: N818 - the word of the field
    """A client's key stands for another job."""

    def __init__(self) -> None:
        super().__init__("this key was used for another request", "each request needs a key of its own", "Choose a new key")


def to_json(value: Mapping[str, Any]) -> str:
    """The one JSON text of a table. Raises ValueError for a number that is not finite, TypeError for what JSON has not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def job_key(kind: str, person: str, payload: Mapping[str, Any]) -> str:
    """sha256 of what a job does, hexadecimal: jobs with the same key make the same pictures."""
    return hashlib.sha256(to_json({"kind": kind, "payload": payload, "person": person}).encode()).hexdigest()
