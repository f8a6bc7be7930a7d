"""OpenAI's images: photos of a person in, or a saved person's name as the model, and pictures out. Existing clients work.

A request waits for its job, and is answered when that is done; the job is cancelled if the client goes away.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from tenth.core.config import from_table
from tenth.core.errors import InputError
from tenth.experiments.generation.request import ImageRequest
from tenth.server.api.context import Owner, is_https
from tenth.server.api.errors import RequestError, error_response
from tenth.server.api.events import HEARTBEAT_SECONDS, ended, ordered, raise_failure
from tenth.server.api.info import PERSON_PREFIX
from tenth.server.api.jobs import Order
from tenth.server.api.photos import Photos, read_photo_form
from tenth.server.api.schemas import EXAMPLE_PROMPT
from tenth.server.changes import ENDED
from tenth.server.services import Services, TheServices
from tenth.server.storage.pictures import Picture

PHOTO_FIELDS = ("image[]", "image")  # repeated, as the client sends several; once, as it sends one
MAX_SEED = 2**31 - 1  # of those that are chosen for a client
USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}  # which a client's type wants; nothing is charged
DETAILS = {"input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}
router = APIRouter(tags=["openai"])


class ImageOptions(BaseModel):
    """OpenAI's parameters, and ours beside them. An unknown one is an error, as there."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1)
    model: str = ""
    n: int = Field(default=1, ge=1, le=10)
    size: str = "auto"
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png"] = "png"
    background: Literal["auto", "opaque"] = "auto"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=3, description="previews in a stream, at most")
    # Taken, since clients send them, and without an effect here.
    user: str | None = None
    safety_identifier: str | None = None
    quality: str | None = None
    style: str | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    output_compression: int | None = None
    # Ours.
    seed: int | None = Field(default=None, description="without it another one each time, as there")
    method: str = ""
    negative_prompt: str = ""
    base_model: str = Field(default="", description="the diffusion model, where `model` names a person")
    steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str = ""

    def to_request(self, diffusion_model: str) -> ImageRequest:
        """The request that these parameters mean. Raises RecipeError."""
        sampling = {name: getattr(self, name) for name in ("negative_prompt", "steps", "guidance_scale", "scheduler")}
        table = {
            "prompts": [self.prompt],
            "num_images": self.n,
            "method": self.method,
            "seed": secrets.randbelow(MAX_SEED) if self.seed is None else self.seed,
            "size": "" if self.size == "auto" else self.size,
            "sampling": {name: value for name, value in sampling.items() if value not in (None, "")},
        }
        if diffusion_model:
            table["model"] = diffusion_model
        return from_table(ImageRequest, table, "the request")


class GenerationForm(ImageOptions):
    """Images of a saved person."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "tenth:anna", "prompt": EXAMPLE_PROMPT, "n": 1, "seed": 7, "steps": 4}}
    )


class EditForm(ImageOptions):
    """Images of the person in the photos. The photos are form fields named `image[]`, or `image` for one alone."""


class OpenAIImage(BaseModel):
    """A picture: in base64, or where it is. seed and id: ours."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    id: str


class ImagesResponse(BaseModel):
    """OpenAI's answer."""

    created: int
    data: list[OpenAIImage]
    background: str = "opaque"
    output_format: str = "png"


def edit_form(fields: Mapping[str, str]) -> EditForm:
    """The parameters among a form's fields. Raises RequestValidationError, as FastAPI does for JSON."""
    try:
        return EditForm.model_validate(fields)
    except ValidationError as problem:
        errors = [error | {"loc": ("body", *error["loc"])} for error in problem.errors(include_url=False)]
        raise RequestValidationError(errors) from None


def _multipart_schema() -> dict[str, Any]:
    schema = EditForm.model_json_schema()
    schema["properties"]["image[]"] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    schema["required"] = [*schema["required"], "image[]"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post("/v1/images/generations", response_model=ImagesResponse)
async def generate_images(
    form: GenerationForm, request: Request, owner: Owner, services: TheServices
) -> Response | ImagesResponse:
    """Images of the saved person PERSON, where `model` is `tenth:PERSON`."""
    if not form.model.startswith(PERSON_PREFIX):
        found, needed = f"the model {form.model!r:.100}", f"{PERSON_PREFIX}PERSON is needed, a saved person"
        raise RequestError(404, found, needed, "GET /v1/models lists them", param="model")
    order = Order(form.to_request(form.base_model), form.model.removeprefix(PERSON_PREFIX))
    return await _answer(services, owner, order, form, request)


@router.post("/v1/images/edits", response_model=ImagesResponse, openapi_extra=_multipart_schema())
async def edit_images(request: Request, photos: Photos, owner: Owner, services: TheServices) -> Response | ImagesResponse:
    """Images of the person in these photos. `model` may name a diffusion model."""
    fields, hashes = await read_photo_form(request, photos, owner, PHOTO_FIELDS)
    form = edit_form(fields)
    if form.model.startswith(PERSON_PREFIX):
        found, needed = f"photos and the model {form.model!r:.100}", "a saved person has photos already"
        raise RequestError(400, found, needed, "Use /v1/images/generations", param="model")
    if form.model and form.base_model:
        found, needed = f"the models {form.model!r:.100} and {form.base_model!r:.100}", "one is needed"
        raise RequestError(400, found, needed, "Leave out base_model: with photos, model is the same", param="base_model")
    order = Order(form.to_request(form.model or form.base_model), photos=tuple(hashes))
    return await _answer(services, owner, order, form, request)


async def _answer(
    services: Services, owner: str, order: Order, options: ImageOptions, request: Request
) -> ImagesResponse | Response:
    """The pictures of an order once they are there, or a stream of events."""
    if options.stream:
        events = _events(services, owner, order, options, request)
        return EventSourceResponse(events, ping=HEARTBEAT_SECONDS)
    job = await ended(services, owner, order, request)
    if job is None:
        return Response(status_code=499)  # which nobody reads
    from_address = request if options.response_format == "url" else None
    data = [await run_in_threadpool(_picture, services, owner, each, from_address) for each in job.pictures]
    return ImagesResponse(created=int(job.created), data=data)


def made_picture(services: Services, owner: str, picture_id: str) -> tuple[Picture, str]:
    """A picture that a job made, and its PNG in base64. Raises RequestError, 409, if it was removed since, or is damaged."""
    picture = services.pictures.get(picture_id, owner)
    try:
        if picture is not None:
            return picture, base64.b64encode(services.blobs.read(picture.sha256)).decode()
    except FileNotFoundError:
        pass
    action = "Ask again; if it stays so, delete the job's pictures first"
    raise RequestError(409, "a picture was removed", "all pictures of the job are needed", action)


def _picture(services: Services, owner: str, picture_id: str, request: Request | None) -> OpenAIImage:
    """A picture in base64, or by its address where a request is given."""
    picture, content = made_picture(services, owner, picture_id)
    if request is None:
        return OpenAIImage(b64_json=content, seed=picture.seed, id=picture.id)
    url = request.url_for("get_image", id=picture.id)
    url = url.replace(scheme="https") if is_https(request) else url
    return OpenAIImage(url=str(url), seed=picture.seed, id=picture.id)


async def _events(
    services: Services, owner: str, order: Order, options: ImageOptions, request: Request
) -> AsyncIterator[ServerSentEvent]:
    """OpenAI's events: previews as they come, then each picture. An error is an event too, as the status is sent already."""
    kind = "image_generation" if order.person else "image_edit"
    from_address = request if options.response_format == "url" else None
    previews: list[bytes] = []
    try:
        async with aclosing(ordered(services, owner, order, request)) as jobs:
            async for job in jobs:
                raise_failure(job)
                if job.status in ENDED:
                    for picture_id in job.pictures:
                        picture = await run_in_threadpool(_picture, services, owner, picture_id, from_address)
                        yield _event(f"{kind}.completed", **picture.model_dump(exclude_none=True), usage=USAGE | DETAILS)
                elif len(previews) < options.partial_images:
                    preview = await run_in_threadpool(services.queue.preview, job.id, owner)
                    if preview is not None and preview not in previews:
                        encoded = base64.b64encode(preview).decode()
                        yield _event(f"{kind}.partial_image", b64_json=encoded, partial_image_index=len(previews))
                        previews.append(preview)
    except InputError as problem:
        body = bytes(error_response(problem, services.settings.data).body).decode()
        yield ServerSentEvent(body, event="error")


def _event(name: str, **more: Any) -> ServerSentEvent:
    picture = {"background": "opaque", "output_format": "png", "quality": "auto", "size": "auto"}
    return JSONServerSentEvent({"type": name, "created_at": int(time.time()), **picture, **more}, event=name)
