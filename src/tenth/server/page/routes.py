"""GET / and GET /static/NAME: the page and its files. Nothing of it needs a token; all that it shows comes from the API."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from tenth.server.page.choices import choices
from tenth.server.page.static_files import StaticFile, static_files

# Scripts, styles and pictures come from here alone, and nothing may be put into the page as HTML.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",  # asked for again each time, and answered by 304: a new version is never half an old one
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request) -> Response:
    """The page, which is one for all its views."""
    return to_response(static_files()["index.html"], request)


@router.get("/static/choices.json")
def form_choices() -> Response:
    """Bounds and defaults for the form."""
    return JSONResponse(choices(), headers=HEADERS)


@router.get("/static/{name:path}")
def static_file(name: str, request: Request) -> Response:
    """One of the page's files. Raises HTTPException, 404, for any other name."""
    if name not in static_files():
        raise HTTPException(404, "there is no such file")
    return to_response(static_files()[name], request)


def to_response(file: StaticFile, request: Request) -> Response:
    """The file, or 304 for a browser that has it."""
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
