"""The queue as its clients see it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.server.queue.job import JobCancelled, KeyReused, QueueFull
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures
from toy_jobs import done_job, result, submit


def test_a_job_is_what_was_submitted(queue: JobQueue) -> None:
    job = submit(queue, 7, person="Änna", priority=2)
    assert (job.kind, job.payload, job.person, job.priority) == ("flat", {"seed": 7, "prompt": "a hat"}, "Änna", 2)
    assert (job.status, job.attempts, job.done, job.total, job.pictures, job.error) == ("queued", 0, 0, 0, (), None)
    assert queue.get(job.id, "") == job
    assert queue.list("") == [job]
    assert queue.counts() == {"queued": 1, "running": 0}


def test_unknown_ids_and_those_of_others_are_none(queue: JobQueue) -> None:
    job = submit(queue, owner="ben")
    for job_id, owner in ((job.id, "anna"), (job.id, ""), ("x", "ben"), ("' OR 1", "ben")):
        assert queue.get(job_id, owner) is None
        assert queue.cancel(job_id, owner) is None
        assert queue.retry(job_id, owner) is None
        assert queue.preview(job_id, owner) is None
    assert queue.list("anna") == []
    assert queue.changes("anna", 0) == []
    assert queue.get(job.id, "ben") == job


def test_an_equal_job_that_is_queued_running_or_done_is_that_job(
    queue: JobQueue, leases: Leases, pictures: Pictures, tmp_path: Path
) -> None:
    job = submit(queue)
    assert queue.submit(owner="", kind="flat", payload={"prompt": "a hat", "seed": 0}, person="anna") == (job, False)
    assert submit(queue, owner="ben").id != job.id
    assert submit(queue, person="carl").id != job.id
    running = leases.claim()
    assert running is not None
    assert submit(queue) == running
    done = leases.finish(running, result(tmp_path, 0, 1))
    assert submit(queue) == done
    pictures.delete(done.pictures[0], "")
    assert submit(queue).id != job.id  # one of its pictures is gone


def test_a_job_that_failed_or_was_cancelled_is_made_anew(queue: JobQueue) -> None:
    job = submit(queue)
    queue.cancel(job.id, "")
    assert submit(queue).id != job.id


def test_a_job_whose_file_was_removed_by_hand_is_made_anew(queue: JobQueue, leases: Leases, tmp_path: Path) -> None:
    job = done_job(queue, leases, tmp_path, 0)
    assert submit(queue).id == job.id
    picture = leases.pictures.get(job.pictures[0], "")
    assert picture is not None
    leases.pictures.path(picture).unlink()
    assert submit(queue).id != job.id


def test_a_client_key_gives_its_job_whatever_became_of_it(queue: JobQueue) -> None:
    job = submit(queue, client_key="k")
    cancelled = queue.cancel(job.id, "")
    assert submit(queue, client_key="k") == cancelled
    with pytest.raises(KeyReused):
        submit(queue, 1, client_key="k")
    assert submit(queue, 1, owner="ben", client_key="k").owner == "ben"


def test_a_client_key_of_a_job_that_is_there_already_is_kept(queue: JobQueue, database: Database) -> None:
    job = submit(queue)
    assert submit(queue, client_key="k") == submit(queue, client_key="l") == job
    cancelled = queue.cancel(job.id, "")
    assert submit(queue, client_key="k") == cancelled
    with pytest.raises(KeyReused):
        submit(queue, 1, client_key="l")

    # Nobody knows it when the job is gone.
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM jobs")
    assert submit(queue, 1, client_key="l").id != job.id


def test_what_no_job_could_be_made_of_is_known_before(database: Database) -> None:
    queue = JobQueue(database, max_queued=1)
    waiting = queue.submit(owner="", kind="images", payload={"a": 1}, client_key="k")[0]
    queue.require_room("", "images", {"a": 1}, "", None)  # that is the one which waits
    with pytest.raises(QueueFull):
        queue.require_room("", "images", {"a": 2}, "", None)
    with pytest.raises(KeyReused):
        queue.require_room("", "images", {"a": 2}, "", "k")
    assert queue.list("") == [waiting]


def test_a_full_queue_refuses_and_says_when_to_come_again(database: Database, leases: Leases, tmp_path: Path) -> None:
    queue = JobQueue(database, max_queued=2)
    first = [submit(queue, seed) for seed in range(2)]
    with pytest.raises(QueueFull) as refused:
        submit(queue, 2)
    assert refused.value.retry_after == 10
    assert submit(queue, 1) == first[1]  # which is no new one
    running = leases.claim()
    assert running is not None
    with database.transaction() as transaction:
        transaction.execute("UPDATE jobs SET started = started - 4")
    leases.finish(running, result(tmp_path, 0))
    submit(queue, 2)
    with pytest.raises(QueueFull) as refused:
        submit(queue, 3)
    assert refused.value.retry_after == 4
    assert queue.counts() == {"queued": 2, "running": 0}

    # Nor does what is tried again go past those who wait.
    cancelled = queue.cancel(first[1].id, "")
    assert cancelled is not None
    submit(queue, 3)
    with pytest.raises(QueueFull):
        queue.retry(cancelled.id, "")
    assert queue.get(cancelled.id, "") == cancelled


def test_many_who_submit_at_once_get_one_job_each_and_no_more_than_may_wait(tmp_path: Path) -> None:
    database, answers = Database(tmp_path / "data"), []

    def client(number: int) -> None:
        queue = JobQueue(database, max_queued=30)
        for seed in range(20):
            try:
                answers.append(submit(queue, seed + 5 * (number % 4)).id)
            except QueueFull:
                answers.append("full")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = set(answers) - {"full"}
    assert len(answers) == 160
    assert len(accepted) == 30
    assert {job.id for job in JobQueue(database).list("", 500)} == accepted


def test_those_of_a_higher_priority_come_first_then_those_who_came_first(queue: JobQueue, leases: Leases) -> None:
    jobs = [submit(queue, seed, priority=priority) for seed, priority in enumerate((0, 5, 0, 5, -1))]
    assert [queue.position(job) for job in jobs] == [2, 0, 3, 1, 4]
    claimed = [job.payload["seed"] for job in iter(leases.claim, None)]
    assert claimed == [1, 3, 0, 2, 4]
    assert queue.position(jobs[0]) is None


def test_a_cancelled_job_is_not_claimed_and_its_worker_is_stopped(queue: JobQueue, leases: Leases, tmp_path: Path) -> None:
    waiting, running = submit(queue, 1), submit(queue, 0, priority=1)
    claimed = leases.claim()
    assert claimed is not None
    for job in (waiting, running):
        cancelled = queue.cancel(job.id, "")
        assert cancelled is not None
        assert (cancelled.status, cancelled.finished is None) == ("cancelled", False)
    assert leases.claim() is None
    for call in (lambda: leases.progress(claimed, 1, 2), lambda: leases.finish(claimed, result(tmp_path, 0))):
        with pytest.raises(JobCancelled):
            call()
    assert queue.get(running.id, "") == queue.cancel(running.id, "")  # a second time changes nothing
    assert [job.pictures for job in queue.list("")] == [(), ()]


def test_a_job_is_tried_again_when_asked_for(queue: JobQueue, leases: Leases, tmp_path: Path) -> None:
    job = submit(queue)
    claimed = leases.claim()
    assert claimed is not None
    failed = leases.fail(claimed, {"found": "a", "needed": "b", "action": "c"}, retry=False)
    assert (failed.status, failed.error) == ("failed", {"found": "a", "needed": "b", "action": "c"})
    again = queue.retry(job.id, "")
    assert again is not None
    assert (again.id, again.status, again.attempts, again.error, again.finished) == (job.id, "queued", 0, None, None)
    assert queue.retry(job.id, "") == again
    queue.cancel(job.id, "")
    other = submit(queue)
    assert queue.retry(job.id, "") == other  # two equal ones are not made at once
    done = done_job(queue, leases, tmp_path, 0)
    assert queue.retry(done.id, "") == done


def test_changes_come_in_order_once_each_and_only_the_owners(queue: JobQueue, leases: Leases) -> None:
    first, second, other = submit(queue, 0), submit(queue, 1), submit(queue, 2, owner="ben")
    assert [job.id for _, job in queue.changes("", 0)] == [first.id, second.id]
    assert [job.id for _, job in queue.changes(None, 0)] == [first.id, second.id, other.id]
    seen = queue.last_change()
    assert queue.changes(None, seen) == []
    claimed = leases.claim()
    assert claimed is not None
    leases.progress(claimed, 3, 10)
    ((change, changed),) = queue.changes("", seen)
    assert (changed.id, changed.status, changed.done, changed.total) == (first.id, "running", 3, 10)
    assert change == queue.last_change() > seen
    assert changed == queue.get(first.id, "")


def test_lists_go_back_page_by_page(queue: JobQueue) -> None:
    jobs = [submit(queue, seed) for seed in range(5)][::-1]
    queue.cancel(jobs[1].id, "")
    page = queue.list("", limit=2)
    assert [job.id for job in page] == [job.id for job in jobs[:2]]
    assert [job.id for job in queue.list("", before=page[-1].id)] == [job.id for job in jobs[2:]]
    assert [job.id for job in queue.list("", status="cancelled")] == [jobs[1].id]
    for wrong in ("", "x", "1", "-1", "1-2", f"{jobs[0].id}0", "f" * 16 + jobs[0].id):
        with pytest.raises(DataError, match="is no id"):
            queue.list("", before=wrong)
