"""The gallery: pages of pictures, one picture, its files, many in one ZIP."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from PIL import Image

from tenth.core.marks.png import encode_png
from tenth.server.api.context import Owner
from tenth.server.api.errors import not_found
from tenth.server.api.jobs import DEFAULT_LIMIT, MAX_LIMIT, Id
from tenth.server.api.schemas import PictureChange, PictureDetail, PicturePage, PictureView, ZipForm
from tenth.server.services import Services, TheServices
from tenth.server.storage.pictures import Picture

PNG_CONTENT: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, 304: {}}
ZIP_CONTENT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}}}
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # of every file in it: equal pictures give equal bytes
IDENTITY_FIGURE = "identity"
THUMBNAIL_PIXELS = 256  # of the longer side
router = APIRouter(tags=["pictures"])
IfNoneMatch = Annotated[str | None, Header(max_length=1_000)]


def _view(picture: Picture) -> dict[str, Any]:
    settings = picture.settings
    return {
        **{name: getattr(picture, name) for name in ("id", "job", "seed", "created", "width", "height", "kept")},
        "person": picture.person or None,
        "identity": picture.figures.get(IDENTITY_FIGURE),
        "prompt": settings.get("prompt", ""),
        "method": settings.get("method", ""),
    }


def _known_picture(services: Services, owner: str, picture_id: str) -> Picture:
    picture = services.pictures.get(picture_id, owner)
    if picture is None:
        raise not_found("picture", picture_id)
    return picture


def _png(services: Services, sha256: str, if_none_match: str | None) -> Response:
    """A file, or 304 where the client has it. A browser asks each time: what was removed is gone there too."""
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, no-cache"}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(_read(services, sha256), media_type="image/png", headers=headers)


def _read(services: Services, sha256: str) -> bytes:
    """A file. Raises RequestError, 404, for one that was removed since the row was read, or is damaged."""
    try:
        return services.blobs.read(sha256)
    except FileNotFoundError:
        raise not_found("picture", sha256) from None


def _small(png: bytes) -> bytes:
    """A picture of ours, at most THUMBNAIL_PIXELS a side, without its settings."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return encode_png(small)


@router.get("/v1/pictures")
def list_pictures(
    owner: Owner,
    services: TheServices,
    person: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> PicturePage:
    """The newest pictures first. before: the picture after which the page begins; so a page costs the same wherever it is."""
    page = services.pictures.page(owner, person=person, before=before, limit=limit)
    views = [PictureView.model_validate(_view(picture)) for picture in page]
    return PicturePage(data=views, next=page[-1].id if len(page) == limit else None)


@router.post("/v1/pictures/zip", response_class=StreamingResponse, responses=ZIP_CONTENT)
def zip_pictures(form: ZipForm, owner: Owner, services: TheServices) -> StreamingResponse:
    """The PNGs of these pictures in one file, named by their ids alone; it is made while it is sent."""
    pictures = [_known_picture(services, owner, picture_id) for picture_id in dict.fromkeys(form.ids)]
    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(_zip(services, pictures), media_type="application/zip", headers=headers)


class _Chunks:
    """A file that is only written: what came since it was last emptied."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _zip(services: Services, pictures: Sequence[Picture]) -> Iterator[bytes]:
    """A ZIP file in parts, one per picture. One that is removed while it is sent is left out."""
    chunks = _Chunks()
    with zipfile.ZipFile(chunks, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]  # it needs write and flush
        for picture in pictures:
            try:
                content = services.blobs.read(picture.sha256)
            except FileNotFoundError:
                continue
            archive.writestr(zipfile.ZipInfo(f"{picture.id}.png", ZIP_TIME), content)
            yield chunks.taken()
    yield chunks.taken()


@router.get("/v1/pictures/{id}")
def get_picture(id: Id, owner: Owner, services: TheServices) -> PictureDetail:  # noqa: A002  # the name in the address
    """One picture with the settings that reproduce it, and what was measured."""
    picture = _known_picture(services, owner, id)
    view = {**_view(picture), "settings": picture.settings, "figures": picture.figures}
    return PictureDetail.model_validate(view)


@router.get("/v1/pictures/{id}/image.png", response_class=Response, responses=PNG_CONTENT)
def get_image(id: Id, owner: Owner, services: TheServices, if_none_match: IfNoneMatch = None) -> Response:  # noqa: A002
    """The picture as it was made, with its settings and its mark."""
    return _png(services, _known_picture(services, owner, id).sha256, if_none_match)


@router.get("/v1/pictures/{id}/thumbnail.png", response_class=Response, responses=PNG_CONTENT)
def get_thumbnail(id: Id, owner: Owner, services: TheServices, if_none_match: IfNoneMatch = None) -> Response:  # noqa: A002
    """The picture, small; marked as well."""
    picture = _known_picture(services, owner, id)
    if max(picture.width, picture.height) <= THUMBNAIL_PIXELS:
        return _png(services, picture.sha256, if_none_match)
    if picture.thumbnail is None:
        services.pictures.keep_thumbnail(id, owner, _small(_read(services, picture.sha256)))
        picture = _known_picture(services, owner, id)
    return _png(services, picture.thumbnail or picture.sha256, if_none_match)


@router.patch("/v1/pictures/{id}")
def change_picture(id: Id, form: PictureChange, owner: Owner, services: TheServices) -> PictureDetail:  # noqa: A002
    """Keep a picture when retention removes old ones, or no longer."""
    _known_picture(services, owner, id)
    services.pictures.keep(id, owner, form.kept)
    return get_picture(id, owner, services)


@router.delete("/v1/pictures/{id}", status_code=204)
def delete_picture(id: Id, owner: Owner, services: TheServices) -> None:  # noqa: A002
    """Remove a picture; its file too, unless another picture is equal."""
    _known_picture(services, owner, id)
    services.pictures.delete(id, owner)
