"""The gallery."""

from __future__ import annotations

from pathlib import Path

from tenth.server.queue.job_rows import new_id
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import MAX_PAGE, Pictures, page_query
from toy_jobs import done_job


def test_a_picture_is_found_with_what_it_was_made_from(
    queue: JobQueue, leases: Leases, pictures: Pictures, tmp_path: Path
) -> None:
    job = done_job(queue, leases, tmp_path, 7)
    picture = pictures.get(job.pictures[0], "")
    assert picture is not None
    assert (picture.job, picture.person, picture.seed, picture.width, picture.height) == (job.id, "anna", 7, 16, 8)
    assert (picture.settings, picture.figures, picture.kept) == ({"prompt": "a hat"}, {"identity": 0.5}, False)
    assert pictures.path(picture).read_bytes() == (tmp_path / "7.png").read_bytes()


def test_a_thumbnail_goes_with_its_picture(
    queue: JobQueue, leases: Leases, pictures: Pictures, blobs: Blobs, tmp_path: Path
) -> None:
    (picture,) = done_job(queue, leases, tmp_path, 7).pictures
    pictures.keep_thumbnail(picture, "ben", b"of another owner")
    found = pictures.get(picture, "")
    assert found is not None
    assert found.thumbnail is None
    pictures.keep_thumbnail(picture, "", b"small")
    found = pictures.get(picture, "")
    assert found is not None
    assert found.thumbnail is not None
    assert blobs.read(found.thumbnail) == b"small"
    pictures.delete(picture, "")
    assert not blobs.path(found.thumbnail).exists()


def test_pages_go_back_and_each_owner_sees_their_own(
    queue: JobQueue, leases: Leases, pictures: Pictures, tmp_path: Path
) -> None:
    for seed, (owner, person) in enumerate([("", "anna"), ("", "ben"), ("ben", "anna"), ("", "anna"), ("", "")]):
        done_job(queue, leases, tmp_path, seed, owner=owner, person=person)
    page = pictures.page("", limit=2)
    assert [each.seed for each in page] == [4, 3]
    pictures.delete(page[-1].id, "")  # a page goes on also where its last picture is gone
    assert [each.seed for each in pictures.page("", before=page[-1].id)] == [1, 0]
    assert [each.seed for each in pictures.page("", person="anna")] == [0]
    assert [each.seed for each in pictures.page("ben")] == [2]
    assert [pictures.count("", person) for person in (None, "anna", "")] == [3, 1, 1]
    assert pictures.page("", limit=0) == pictures.page("", limit=-1) == []


def test_another_owner_can_neither_see_keep_nor_delete(
    queue: JobQueue, leases: Leases, pictures: Pictures, tmp_path: Path
) -> None:
    (picture,) = done_job(queue, leases, tmp_path, 0, owner="ben").pictures
    for owner in ("", "anna"):
        assert pictures.get(picture, owner) is None
        assert not pictures.keep(picture, owner)
        assert not pictures.delete(picture, owner)
    assert pictures.keep(picture, "ben")
    found = pictures.get(picture, "ben")
    assert found is not None
    assert found.kept


def test_a_file_that_two_pictures_share_stays_with_the_second(
    queue: JobQueue, leases: Leases, pictures: Pictures, blobs: Blobs, tmp_path: Path
) -> None:
    (one,) = done_job(queue, leases, tmp_path, 0, person="anna").pictures
    (two,) = done_job(queue, leases, tmp_path, 0, person="ben").pictures
    found = pictures.get(two, "")
    assert found is not None
    assert pictures.delete(one, "")
    assert pictures.get(one, "") is None
    assert pictures.path(found).exists()
    assert pictures.delete(two, "")
    assert not pictures.path(found).exists()
    assert blobs.held(f"picture:{two}") == ()


def test_the_pages_of_a_large_gallery_come_through_an_index(database: Database) -> None:
    cases = [(person, before) for person in (None, "anna") for before in (None, new_id(500_000))]
    for person, before in cases:
        query, values = page_query("", person, before, 50)
        (step,) = database.rows(f"EXPLAIN QUERY PLAN {query}", values)  # one step: neither a scan nor a sort
        index = "pictures_owner" if person is None else "pictures_person"
        assert step["detail"].startswith(f"SEARCH pictures USING INDEX {index} (owner=?")
    assert page_query("", None, None, 10**9)[1][-1] == MAX_PAGE


def test_a_job_is_claimed_through_an_index(database: Database) -> None:
    query = "SELECT id FROM jobs WHERE status = 'queued' AND not_before <= ? ORDER BY priority DESC, number LIMIT 1"
    (step,) = database.rows(f"EXPLAIN QUERY PLAN {query}", (0,))
    assert step["detail"] == "SCAN jobs USING INDEX jobs_queued"  # of those that wait alone, in their order
