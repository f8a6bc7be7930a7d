"""Server-sent events: a job whenever it changes. A stream that is dropped goes on after its Last-Event-ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from tenth.server.api.context import Owner
from tenth.server.api.errors import RequestError
from tenth.server.api.jobs import Id, Order, job_view, known_job, submit
from tenth.server.changes import ENDED, Change
from tenth.server.queue.job import Job
from tenth.server.services import Services, TheServices

HEARTBEAT_SECONDS, SEND_SECONDS = 15, 30.0  # between comments that keep a stream open; after which a client reads no more
LOOK_SECONDS = 1.0  # between two looks whether a client that waits is still there
MAX_STREAMS = 1_000  # open at once
RETRY_MILLISECONDS = 2_000  # after which a browser that was dropped comes back
# sse-starlette's response is no type of FastAPI's; so the schema says what the stream is.
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "event: job, data: a job"}
}
MAX_COUNTER = 10**18  # far beyond any
router = APIRouter(tags=["events"])
LastEventId = Annotated[str | None, Header(max_length=18, pattern=r"^\d+$")]


async def job_changes(services: Services, owner: str, counter: int) -> AsyncGenerator[Change, None]:
    """Each job of the owner whenever it changes after the counter; without an end."""

    def view(job: Job) -> str:
        return job_view(services, job).model_dump_json()

    async with services.feed.watched():
        while True:
            counter, changes = await services.feed.after(owner, counter, view)
            for change in changes:
                yield change


async def ordered(services: Services, owner: str, order: Order, request: Request) -> AsyncGenerator[Job, None]:
    """Submit a job and give it whenever it changes, last when it has ended; nothing more once its client went away.

    The job is cancelled when nobody waits for it any more, unless it was there before. Raises as `submit`.
    """
    job, is_new = await run_in_threadpool(submit, services, owner, order)
    counted = services.waiters.enter(job.id, is_new=is_new)
    try:
        async with services.feed.watched():
            counter = -1
            while not await request.is_disconnected():
                job = await run_in_threadpool(known_job, services, owner, job.id)
                yield job
                if job.status in ENDED:
                    return
                counter = await services.feed.moved(counter, LOOK_SECONDS)
    finally:
        if counted and services.waiters.leave(job.id) and job.status not in ENDED:
            # Not awaited: this may be the end of a task that was cancelled. Nor here, where a busy disk would stop the loop.
            asyncio.get_running_loop().run_in_executor(None, services.queue.cancel, job.id, owner)


async def ended(services: Services, owner: str, order: Order, request: Request) -> Job | None:
    """As `ordered`: the job once it has ended, None if its client went away before. Raises RequestError if it failed."""
    job = None
    async with aclosing(ordered(services, owner, order, request)) as jobs:
        async for job in jobs:
            if job.status in ENDED:
                raise_failure(job)
                return job
    return None


def raise_failure(job: Job) -> None:
    """Raises RequestError for a job that failed or was cancelled."""
    error = job.error or {}
    if job.status == "failed":
        status = 500 if error.get("code") == "internal" else 400
        raise RequestError(status, *(str(error.get(part, "")) for part in ("found", "needed", "action")))
    if job.status == "cancelled":
        raise RequestError(409, "the job was cancelled", "a job that is done is needed", "Ask again")


def _stream(services: Services, changes: AsyncGenerator[Change, None]) -> EventSourceResponse:
    if services.feed.num_watching >= MAX_STREAMS:
        found = f"{MAX_STREAMS} streams are open"
        raise RequestError(429, found, "no more may be", "Close some, or come back later", retry_after=HEARTBEAT_SECONDS)

    async def events() -> AsyncIterator[ServerSentEvent]:
        async with aclosing(changes):  # at once, not when somebody collects the garbage
            async for change in changes:
                yield ServerSentEvent(change.text, event="job", id=str(change.number), retry=RETRY_MILLISECONDS)

    return EventSourceResponse(events(), ping=HEARTBEAT_SECONDS, send_timeout=SEND_SECONDS)


@router.get("/v1/events", response_class=EventSourceResponse, responses=STREAM)
async def all_events(
    owner: Owner,
    services: TheServices,
    after: Annotated[int | None, Query(ge=0, le=MAX_COUNTER)] = None,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Every job when it changes. after: the id of the last event that was seen; without it, from now on."""
    counter = int(last_event_id) if last_event_id else after
    if counter is None:
        counter = await run_in_threadpool(services.queue.last_change)
    return _stream(services, job_changes(services, owner, counter))


@router.get("/v1/jobs/{id}/events", response_class=EventSourceResponse, responses=STREAM)
async def job_events(id: Id, owner: Owner, services: TheServices) -> EventSourceResponse:  # noqa: A002  # as in the address
    """One job, as it is now and whenever it changes; the stream ends with the job."""
    counter = await run_in_threadpool(services.queue.last_change)
    job = await run_in_threadpool(known_job, services, owner, id)
    view = await run_in_threadpool(job_view, services, job)
    now = Change(counter, job.id, job.status in ENDED, view.model_dump_json())

    async def changes() -> AsyncGenerator[Change, None]:
        yield now
        if now.ended:
            return
        async with aclosing(job_changes(services, owner, counter)) as later:
            async for change in later:
                if change.job == now.job:
                    yield change
                    if change.ended:
                        return

    return _stream(services, changes())
