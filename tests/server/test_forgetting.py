"""`tenth forget` and the server: no byte of a person is in database, files and uploads, whichever of the two is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError
from tenth.core.types import DiffusionModel
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.record import Consent
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import LoadOptions
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.server import drawing
from tenth.server.forgetting import forget
from tenth.server.owners import people_of, staging_folder
from tenth.server.queue.job import JobCancelled
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.queue.reporter import LeaseReporter
from tenth.server.queue.worker import remove_job_folder
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from toy_families import toy_family
from toy_jobs import done_job

NAME = "Zebulon Quixote"


@pytest.fixture
def photos(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """A person's photos; all of tenth's folders are below `tmp_path`."""
    monkeypatch.setenv("TENTH_DATA_DIR", str(database.folder))
    monkeypatch.delenv("TENTH_PEOPLE_DIR")
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:2]


def save(database: Database, owner: str, photos: list[Path]) -> PeopleFolder:
    """The person, saved with an entry of the cache for each photo, which lies among the uploads, too."""
    people = people_of(database.folder, owner)
    people.save(NAME, Consent("self"), photos)
    for path in people.photos(NAME):
        ArrayCache(database.folder.parent / "store").write("faces", f"{path.name}-00", np.arange(128.0))
        staging_folder(database.folder, owner).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, staging_folder(database.folder, owner))
        shutil.copy(path, staging_folder(database.folder, owner) / f"{path.name}.png")
    return people


def files_with(folder: Path, *contents: bytes) -> list[str]:
    """The files that hold one of some bytes, also in their paths."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    texts = {path: str(path.relative_to(folder)).encode() + b"\n" + path.read_bytes() for path in paths}
    return [str(path.relative_to(folder)) for path, text in texts.items() if any(each in text for each in contents)]


@pytest.mark.parametrize("owner", ["", "ben"])
def test_nothing_is_left(owner: str, database: Database, queue: JobQueue, leases: Leases, photos: list[Path]) -> None:
    folder, people = database.folder.parent, save(database, owner, photos)
    kept = [path.name for path in people.photos(NAME)]
    contents = [NAME.encode(), *(name.encode() for name in kept), *(path.read_bytes()[-300:] for path in photos)]
    done_job(queue, leases, folder / "made", 1, owner=owner, person=NAME)
    other = done_job(queue, leases, folder / "made", 2, owner=owner, person="anna")
    queue.submit(owner=owner, kind="images", payload={"photos": kept[:1]})
    for name in ("image", "mask"):  # of another person's pictures
        queue.submit(owner=owner, kind="images", payload={"photos": [], "request": {name: kept[1]}}, person="anna")
    assert len(files_with(folder, *contents)) > 8
    if owner:
        removed = forget(database, people, owner, NAME)
        assert (removed["photos"], removed["cached"], removed["jobs"], removed["pictures"]) == (2, 2, 4, 1)
    else:
        assert main(["forget", NAME, "--yes"]) == 0
    assert files_with(folder, *contents) == []
    assert queue.get(other.id, owner) is not None


def test_another_users_person_of_the_same_photos_stays(database: Database, photos: list[Path]) -> None:
    others, people = save(database, "anna", photos), save(database, "ben", photos)
    uploads = [path.name for path in sorted(staging_folder(database.folder, "anna").iterdir())]
    assert forget(database, people, "ben", NAME)["cached"] == 0
    assert [path.exists() for path in others.photos(NAME)] == [True, True]
    assert [path.name for path in sorted(staging_folder(database.folder, "anna").iterdir())] == uploads
    assert list(staging_folder(database.folder, "ben").iterdir()) == []
    assert forget(database, others, "anna", NAME)["cached"] == 2


def test_without_room_on_the_disk_the_person_is_still_there(
    database: Database, queue: JobQueue, leases: Leases, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    people, folder = save(database, "ben", photos), database.folder.parent
    done_job(queue, leases, folder / "made", 1, owner="ben", person=NAME)

    def fail(_: Database) -> None:
        raise DataError("a full disk", "room is needed", "Make room")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "purge", fail)
        with pytest.raises(DataError):
            forget(database, people, "ben", NAME)
    assert people.names() == [NAME]
    forget(database, people, "ben", NAME)
    assert files_with(folder, NAME.encode()) == []


@pytest.mark.slow
@pytest.mark.parametrize("person", [NAME, ""])
def test_nothing_is_left_by_a_job_that_was_running(
    person: str, database: Database, queue: JobQueue, leases: Leases, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    people, blobs = save(database, "ben", photos), Blobs(database)
    kept = [path.name for path in people.photos(NAME)]
    payload = {"photos": [] if person else kept, "request": {"prompts": ["a hat"], "sampling": {"steps": 1}}}
    queue.submit(owner="ben", kind="images", payload=payload, person=person)
    job = leases.claim()
    assert job is not None
    with database.transaction() as transaction:
        for path in photos:
            blobs.use(transaction, path.read_bytes(), f"job:{job.id}")
    load = drawing._load
    load.cache_clear()  # the model knows where the cache is

    # The person is forgotten when the photos were read, and nothing is computed of them yet.
    def load_later(model: str, options: LoadOptions) -> LatentDiffusion:
        forget(database, people, "ben", NAME)
        return load(model, options)

    monkeypatch.setattr(drawing, "_load", load_later)
    with pytest.raises(JobCancelled):
        drawing.execute(job, LeaseReporter(leases, job, 60))
    remove_job_folder(database, job.id)
    assert files_with(database.folder.parent, NAME.encode(), *(name.encode() for name in kept)) == []


@pytest.mark.slow
def test_of_photos_in_context_nothing_is_kept_after_the_job(
    database: Database, queue: JobQueue, leases: Leases, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    people, models = save(database, "ben", photos), []
    request = {"prompts": ["a hat"], "sampling": {"steps": 1}, "method": "photos-in-context"}
    request["model"] = str(toy_family("z-image-omni", tmp_path / "toy"))  # whose prompts are read beside the photos
    queue.submit(owner="ben", kind="images", payload={"photos": [], "request": request}, person=NAME)
    job, load = leases.claim(), drawing._load
    assert job is not None

    def load_and_note(model: str, options: LoadOptions) -> DiffusionModel:
        models.append(load(model, options))
        return models[-1]

    monkeypatch.setattr(drawing, "_load", load_and_note)
    result = drawing.execute(job, LeaseReporter(leases, job, 60))
    assert set(result.pictures[0].settings["photos"]) == {path.name for path in people.photos(NAME)}
    assert people.identities(NAME) == ()
    (model,) = models
    assert model.prompt_encoder.num_cached == 0
    load.cache_clear()


def test_a_worker_keeps_no_photo_in_memory_of_whom_was_forgotten(
    database: Database, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_PEOPLE", {})
    people, kept = save(database, "ben", photos), sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[2:4]
    forgotten = people.photos(NAME)
    for paths in (forgotten, tuple(kept)):
        assert drawing._read_photos(paths, NAME) is drawing._read_photos(paths, NAME)
    drawing.drop_forgotten()
    assert list(drawing._PEOPLE) == [forgotten, tuple(kept)]
    forget(database, people, "ben", NAME)
    drawing.drop_forgotten()
    assert list(drawing._PEOPLE) == [tuple(kept)]


def test_photos_of_few_people_stay_in_memory(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_PEOPLE", {})
    monkeypatch.setattr(drawing, "MAX_PEOPLE", 1)
    for path in photos:
        drawing._read_photos((path,), NAME)
    assert list(drawing._PEOPLE) == [(photos[-1],)]
