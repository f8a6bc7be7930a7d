"""What changed in the queue, read once for all the streams that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from tenth.core.errors import TenthError
from tenth.server.queue.job import Job
from tenth.server.queue.queue import MAX_LISTED, JobQueue

POLL_SECONDS = 0.1  # between two looks at the queue's counter, which other processes move
ENDED = ("done", "failed", "cancelled")  # of a job's status
View = Callable[[Job], str]


@dataclass(frozen=True)
class Change:
    """A job that changed: the counter then, its id, whether it has ended, and what clients see of it, as JSON."""

    number: int
    job: str
    ended: bool
    text: str


class ChangeFeed:
    """Wakes those that wait whenever a job changed. The queue is looked at only while somebody waits.

    A stream asks for what changed after the counter that it saw last. Streams that stand at the same one share the answer.
    """

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.num_watching = 0
        self._poller: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()
        self._counter = -1
        self._answers: dict[tuple[str, int], asyncio.Task[tuple[int, Sequence[Change]]]] = {}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While one of these blocks runs, the queue is looked at."""
        self.num_watching += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self.num_watching -= 1
            if self.num_watching == 0:
                self._poller.cancel()
                self._poller = None  # it ends later than a new watcher may come
                self._answers.clear()

    async def moved(self, counter: int, seconds: float) -> int:
        """The counter once it is another than this one, or after some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: self._counter != counter)
        return self._counter

    async def after(self, owner: str, counter: int, view: View) -> tuple[int, Sequence[Change]]:
        """The owner's changes after a counter, each job once, and the counter up to which they go.

        Waits until anybody's job changed; there may be none of these. view: of a job, for whoever asks first.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: self._counter > counter)
        key = (owner, counter)
        if key not in self._answers:
            seen = self._counter
            self._answers[key] = asyncio.create_task(run_in_threadpool(self._read, owner, counter, seen, view))
        # Shielded: one stream's end is not the end of what others wait for.
        return await asyncio.shield(self._answers[key])

    def _read(self, owner: str, counter: int, seen: int, view: View) -> tuple[int, Sequence[Change]]:
        found = self.queue.changes(owner, counter)
        changes = [Change(number, job.id, job.status in ENDED, view(job)) for number, job in found]
        is_all = len(changes) < MAX_LISTED
        return max([seen] * is_all + [change.number for change in changes]), changes

    async def _poll(self) -> None:
        while True:
            counter = self._counter
            with suppress(TenthError):  # of a disk: the next look may be luckier
                counter = await run_in_threadpool(self.queue.last_change)
            if counter != self._counter:
                self._answers.clear()
                self._counter = counter
                async with self._moved:
                    self._moved.notify_all()
            await asyncio.sleep(POLL_SECONDS)


class Waiters:
    """Requests that wait for a job which one of them submitted: when the last of them leaves, nobody wants it any more."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def enter(self, job_id: str, *, is_new: bool) -> bool:
        """Count a request; False for a job that was submitted by other means, and goes on whoever waits."""
        if not is_new and job_id not in self._counts:
            return False
        self._counts[job_id] = self._counts.get(job_id, 0) + 1
        return True

    def leave(self, job_id: str) -> bool:
        """Whether it was the last one."""
        self._counts[job_id] -= 1
        if self._counts[job_id]:
            return False
        del self._counts[job_id]
        return True
