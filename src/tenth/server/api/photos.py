"""Photos: uploaded, inspected, and kept for a day unless somebody is saved with them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse

from tenth.core.errors import PhotoError
from tenth.core.wording import shorten
from tenth.server.api.context import Owner
from tenth.server.api.errors import RequestError, not_found
from tenth.server.api.schemas import PhotoView
from tenth.server.owners import staged_path
from tenth.server.security.form import Form
from tenth.server.security.staged_photos import StagedPhotos
from tenth.server.settings import ServerSettings

router = APIRouter(tags=["photos"])
FIELD = "photo"


class HasSettings(Protocol):
    """What knows where the data folder is."""

    @property
    def settings(self) -> ServerSettings: ...


async def photos_of(request: Request) -> StagedPhotos:
    """The staged photos of the application that a request came to."""
    photos = request.app.state.photos
    assert isinstance(photos, StagedPhotos)
    return photos


Photos = Annotated[StagedPhotos, Depends(photos_of)]


def staged_photo(services: HasSettings, owner: str, sha256: str) -> Path | None:
    """The file of an owner's own staged photo, or None."""
    return staged_path(services.settings.data, owner, sha256)


async def read_photo_form(
    request: Request, photos: StagedPhotos, owner: str, names: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The values of a form, and the sha256 of its photos that can be used.

    names: of the fields with photos. Raises RequestError for a form that is none or too large, PhotoError without usable photo.
    """
    form, rows = await _inspected(request, photos, owner, names)
    if not any(row["accepted"] for row in rows):
        first = rows[0]
        raise PhotoError(first["code"], f"{first['file']}: {first['reason']}", "a usable photo is needed", "Send others")
    return dict(form.values), [row["sha256"] for row in rows if row["accepted"]]


@router.post("/v1/photos")
async def upload(request: Request, photos: Photos, owner: Owner) -> list[PhotoView]:
    """Stage the photos of a form, field `photo`, and say of each whether it can be used, why not, and where the face is."""
    _, rows = await _inspected(request, photos, owner, [FIELD])
    return [PhotoView.model_validate(row) for row in rows]


@router.get("/v1/photos/{sha256}/thumbnail", response_class=FileResponse, responses={200: {"content": {"image/png": {}}}})
def thumbnail(sha256: str, photos: Photos, owner: Owner) -> FileResponse:
    """An own staged photo, at most 256 pixels a side."""
    path = photos.thumbnail(owner, sha256)
    if path is None:
        raise not_found("photo", sha256)
    return FileResponse(path, media_type="image/png")


async def _inspected(
    request: Request, photos: StagedPhotos, owner: str, names: Collection[str]
) -> tuple[Form, list[dict[str, Any]]]:
    """A form and the verdicts on its photos, which are in the fields of these names; then others may send theirs."""
    async with photos.received(request, owner) as form:
        rows = await photos.inspect(_photos_in(form, names))
    request.state.end_upload()
    return form, rows


def _photos_in(form: Form, names: Collection[str]) -> list[Any]:
    """The files in these fields, at least one. Raises RequestError if there is none."""
    files = [file for file in form.files if file.field in names]
    if other := next((file.field for file in form.files if file.field not in names), ""):
        needed = f"files in the field {' or '.join(names)} are taken"
        raise RequestError(400, f"{shorten(other)} is not a parameter", needed, "Leave it out", param=other)
    if not files:
        found, needed = "no photo", f"a form with a file in the field {' or '.join(names)} is needed"
        raise RequestError(400, found, needed, "Add a photo", param=next(iter(names)))
    return files
