"""Jobs: submit, look at, cancel, try again. An unknown id is 404, and so is another user's."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from tenth.core.config import to_table
from tenth.core.files.reading import read_bytes
from tenth.experiments.generation.request import ImageRequest
from tenth.server.api.context import Owner
from tenth.server.api.errors import RequestError, hide_folder, not_found
from tenth.server.api.people import known_person
from tenth.server.api.photos import staged_photo
from tenth.server.api.schemas import JobForm, JobPage, JobView
from tenth.server.queue.job import Job, JobStatus, KeyReused
from tenth.server.services import Services, TheServices
from tenth.server.storage.blobs import job_holder
from tenth.server.webhooks import add_webhook, check_webhook

IMAGES_KIND = "images"  # of a job
MAX_JOB_IMAGES = 500  # so that others have their turn
MAX_LIMIT, DEFAULT_LIMIT = 200, 50
HOLD_SECONDS = 3_600.0  # of an upload, until its job is there
router = APIRouter(tags=["jobs"])
Id = Annotated[str, Path(max_length=64)]


@dataclass(frozen=True)
class Order:
    """Images that somebody asks for: of a saved person, or of the person in these photos, given by their sha256."""

    request: ImageRequest
    person: str = ""
    photos: tuple[str, ...] = ()
    priority: int = 0
    client_key: str | None = None


def submit(services: Services, owner: str, order: Order) -> tuple[Job, bool]:
    """The job of an order, and whether it is a new one.

    Raises InputError for what no worker could make: an unknown person, photo, method or model, or a consent that ended.
    """
    request = order.request
    if bool(order.person) == bool(order.photos):
        found = "a person and photos" if order.person else "neither a person nor photos"
        needed = "the name of a saved person or the sha256 of uploaded photos is needed"
        raise RequestError(400, found, needed, "Give one of them", param="person")
    num_images = len(request.prompts) * (request.candidates or request.num_images)
    if num_images > MAX_JOB_IMAGES:
        needed = f"at most {MAX_JOB_IMAGES} images in a job"
        raise RequestError(400, f"{num_images:,} images", needed, "Submit several jobs", param="request.num_images")
    request.check_sized()
    if order.person:
        known_person(services, owner, order.person)
        services.people(owner).require(order.person)
    services.catalog.check(method=request.method, model=request.model)
    payload = {"person": order.person, "photos": list(order.photos), "request": to_table(request)}

    # Uploads are the job's from now on, and not gone after a day: held by nobody else's name until the job is there.
    files = _uploads(payload)
    holder = f"submission:{secrets.token_hex(16)}"
    services.queue.require_room(owner, IMAGES_KIND, payload, order.person, order.client_key)
    job = None
    try:
        _hold(services, owner, files, holder)
        job, is_new = services.queue.submit(
            owner=owner,
            kind=IMAGES_KIND,
            payload=payload,
            person=order.person,
            priority=order.priority,
            client_key=order.client_key,
        )
        return job, is_new
    finally:
        if files:
            with services.database.transaction() as transaction:
                if job is not None:
                    for sha256 in files:
                        services.blobs.share(transaction, sha256, job_holder(job.id))
                services.blobs.release(transaction, holder)
            services.blobs.remove_unused()


def _uploads(payload: Mapping[str, Any]) -> list[str]:
    """The sha256 of the uploads that a job needs: photos of a person, an image to start from, its mask."""
    request = payload.get("request", {})
    return [*payload.get("photos", ()), *filter(None, (request.get(name) for name in ("image", "mask")))]


def _hold(services: Services, owner: str, hashes: Sequence[str], holder: str) -> None:
    """Keep own staged photos among the server's files, for a while. Raises RequestError, 404, for one that is not there."""
    paths = {}
    for sha256 in hashes:
        path = staged_photo(services, owner, sha256)
        if path is None:
            raise not_found("photo", sha256)
        paths[sha256] = path
        services.blobs.put(read_bytes(path, services.settings.uploads.photo_bytes))
    if paths:
        until = time.time() + HOLD_SECONDS
        with services.database.transaction() as transaction:
            for sha256, path in paths.items():
                if not services.blobs.share(transaction, sha256, holder, until):  # removed since, with another's last use
                    content = read_bytes(path, services.settings.uploads.photo_bytes)
                    services.blobs.use(transaction, content, holder, until)


def job_view(services: Services, job: Job) -> JobView:
    """A job as clients see it."""
    parts, data = ("found", "needed", "action"), services.settings.data
    error = job.error and {name: hide_folder(str(job.error.get(name, "")), data) for name in parts}
    view: dict[str, Any] = {
        **{name: getattr(job, name) for name in ("id", "kind", "done", "total", "created", "started", "finished")},
        "status": str(job.status),
        "error": error,
        "person": job.person or None,
        "pictures": list(job.pictures),
        "notes": list(job.values.get("notes", ())),
        "request": job.payload.get("request", {}),
        "position": services.queue.position(job) if job.status == "queued" else None,
    }
    return JobView.model_validate(view)


def known_job(services: Services, owner: str, job_id: str) -> Job:
    """The owner's job of an id. Raises RequestError, 404, if there is none."""
    job = services.queue.get(job_id, owner)
    if job is None:
        raise not_found("job", job_id)
    return job


def webhook_message(services: Services, job_id: str, owner: str) -> dict[str, Any] | None:
    """What a webhook is told of a job that ended."""
    job = services.queue.get(job_id, owner)
    if job is None:
        return None
    view = job_view(services, job).model_dump(mode="json")
    return {"type": f"job.{job.status}", "timestamp": job.finished, "data": view}


@router.post("/v1/jobs", status_code=202, responses={200: {"description": "The same job was there already"}})
def submit_job(
    form: JobForm,
    response: Response,
    owner: Owner,
    services: TheServices,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> JobView:
    """Submit a job. The same request twice is one job; so is the same Idempotency-Key, which another request may not have."""
    if form.webhook is not None:
        check_webhook(services.settings, form.webhook)
    order = Order(form.request, form.person or "", tuple(form.photos), form.priority, idempotency_key or None)
    try:
        job, is_new = submit(services, owner, order)
    except KeyReused as problem:
        raise RequestError(409, problem.found, problem.needed, problem.action, param="Idempotency-Key") from problem
    if form.webhook is not None:
        add_webhook(services.database, job.id, form.webhook)
    response.status_code = 202 if is_new else 200
    return job_view(services, job)


@router.get("/v1/jobs")
def list_jobs(
    owner: Owner,
    services: TheServices,
    status: JobStatus | None = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> JobPage:
    """The newest jobs first. status: of those alone. before: the job after which the page begins."""
    jobs = services.queue.list(owner, limit, before, status)
    return JobPage(data=[job_view(services, job) for job in jobs], next=jobs[-1].id if len(jobs) == limit else None)


@router.get("/v1/jobs/{id}")
def get_job(id: Id, owner: Owner, services: TheServices) -> JobView:  # noqa: A002  # the name in the address
    """One job as it stands."""
    return job_view(services, known_job(services, owner, id))


@router.delete("/v1/jobs/{id}")
def cancel_job(id: Id, owner: Owner, services: TheServices) -> JobView:  # noqa: A002
    """Cancel a job that waits or runs. One that has ended stays as it is."""
    known_job(services, owner, id)
    services.queue.cancel(id, owner)
    return job_view(services, known_job(services, owner, id))


@router.post("/v1/jobs/{id}/retry")
def retry_job(id: Id, owner: Owner, services: TheServices) -> JobView:  # noqa: A002
    """Try a job again that failed or was cancelled; where an equal one waits or runs already, the answer is that one."""
    job = known_job(services, owner, id)
    if job.status in ("failed", "cancelled") and not set(_uploads(job.payload)) <= set(services.blobs.held(job_holder(id))):
        found, needed = "the photos of this job were removed a day after it ended", "photos that are there are needed"
        raise RequestError(409, found, needed, "Send them again, and submit a new job")
    return job_view(services, services.queue.retry(id, owner) or known_job(services, owner, id))


@router.get("/v1/jobs/{id}/preview", response_class=Response, responses={200: {"content": {"image/png": {}}}, 204: {}})
def get_preview(id: Id, owner: Owner, services: TheServices) -> Response:  # noqa: A002
    """The image that is being made, as it is now; 204 while there is none."""
    known_job(services, owner, id)
    png = services.queue.preview(id, owner)
    headers = {"Cache-Control": "no-store"}
    return Response(status_code=204) if png is None else Response(png, media_type="image/png", headers=headers)
