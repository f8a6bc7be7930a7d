"""Events: a job whenever it changes, from where a stream was dropped, and nothing left of a stream that is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from served_api import Served
from tenth.server.api.events import job_changes
from tenth.server.changes import Change
from toy_image_jobs import work_off


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream: id, event and data."""
    blocks = (dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in text.split("\r\n\r\n"))
    return [block for block in blocks if block.get("event") == "job"]


def test_the_stream_of_a_job_ends_with_the_job(anna: Served) -> None:
    job = anna.drawn(num_images=2)
    answer = anna.client.get(f"/v1/jobs/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    (event,) = events_of(answer.text)
    assert json.loads(event["data"]) == job
    assert int(event["id"]) > 0


async def taken(changes: AsyncIterator[Change], count: int) -> list[Change]:
    return [await asyncio.wait_for(anext(changes), 20) for _ in range(count)]


def test_every_change_comes_and_a_dropped_stream_goes_on(anna: Served) -> None:
    async def scenario() -> tuple[list[Change], list[Change]]:
        jobs = [anna.submit(prompt)["id"] for prompt in "ab"]
        async with aclosing(job_changes(anna.services, "", 0)) as changes:
            seen = await taken(changes, 2)
        assert [change.job for change in seen] == jobs
        assert anna.services.feed.num_watching == 0

        # The queue moves while nobody looks.
        await asyncio.to_thread(work_off, anna.services.settings.data)
        async with aclosing(job_changes(anna.services, "", seen[-1].number)) as changes:
            return seen, await taken(changes, 2)

    before, after = asyncio.run(scenario())
    assert not any(change.ended for change in before)
    assert all(change.ended for change in after)
    assert json.loads(after[0].text)["status"] == "done"
    assert after[0].number > before[-1].number


def test_a_stream_that_begins_as_the_last_one_ends_is_told_too(anna: Served) -> None:
    async def scenario() -> tuple[int, Sequence[Change]]:
        feed = anna.services.feed
        async with feed.watched():
            pass
        async with feed.watched():
            return await asyncio.wait_for(feed.after("", 0, lambda job: job.id), 20)

    job = anna.submit("a")
    _, (change,) = asyncio.run(scenario())
    assert change.job == job["id"]


def test_what_others_do_wakes_nobody_else_up(anna: Served) -> None:
    async def scenario() -> None:
        async with aclosing(job_changes(anna.services, "bert", 0)) as changes:
            waiting = asyncio.ensure_future(anext(changes))
            anna.submit("a")
            done, _ = await asyncio.wait([waiting], timeout=1)
            assert not done
            waiting.cancel()
            await asyncio.wait([waiting])

    asyncio.run(scenario())
    assert anna.services.feed.num_watching == 0


def test_streams_that_are_dropped_leave_nothing(anna: Served) -> None:
    """Twice 60 streams, of which half are dropped while they wait; the others get what comes then."""

    async def scenario() -> None:
        for attempt in range(2):
            counter = anna.services.queue.last_change()
            streams = [job_changes(anna.services, "", counter) for _ in range(60)]
            waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
            await asyncio.sleep(0.3)
            assert anna.services.feed.num_watching == 60
            for task in waiting[::2]:
                task.cancel()
            job = await asyncio.to_thread(anna.submit, f"attempt {attempt}")
            got = await asyncio.wait_for(asyncio.gather(*waiting[1::2]), 20)
            assert {change.job for change in got} == {job["id"]}
            assert len({id(change) for change in got}) == 1  # read once for all of them
            for stream in streams:
                await stream.aclose()
            assert anna.services.feed.num_watching == 0
            assert not [task for task in asyncio.all_tasks() if "_poll" in repr(task) and not task.cancelling()]

    asyncio.run(scenario())


def test_too_many_streams_are_refused(anna: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.server.api.events.MAX_STREAMS", 0)
    answer = anna.client.get("/v1/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "15")


@pytest.mark.parametrize("header", ["x", "-1", "9" * 19])
def test_an_id_that_is_no_number_is_refused(header: str, anna: Served) -> None:
    assert anna.client.get("/v1/events", headers={"Last-Event-ID": header}).status_code == 400
