"""The token as a cookie, so that a browser's pictures and streams of events have it too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from tenth.server.api.context import is_https
from tenth.server.api.errors import RequestError
from tenth.server.security.hosts import OWN_SITES
from tenth.server.security.users import SESSION_COOKIE, SESSION_SECONDS, Users

router = APIRouter()
MAX_TOKEN_CHARS = 500


class Login(BaseModel):
    """The token that `tenth serve` printed, or a user's."""

    token: Annotated[str, Field(max_length=MAX_TOKEN_CHARS)]


@router.post("/v1/session", status_code=204)
def log_in(login: Login, request: Request) -> Response:
    """Set a cookie that stands for the token."""
    return _with_cookie(Response(status_code=204), request, login.token)


@router.delete("/v1/session", status_code=204)
def log_out() -> Response:
    """Remove the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/login", include_in_schema=False)
def log_in_by_address(request: Request, token: str = "") -> Response:
    """The address that `tenth serve` prints: sets the cookie and goes to the page. Another site's link does not log in."""
    if request.headers.get("sec-fetch-site", "none") not in OWN_SITES:
        found, needed = "a login from another site's page", "the address itself is needed"
        raise RequestError(403, found, needed, "Type it, or copy it from the terminal")
    return _with_cookie(RedirectResponse("/", 303), request, token[:MAX_TOKEN_CHARS])


def _with_cookie(response: Response, request: Request, token: str) -> Response:
    users: Users = request.app.state.users
    owner = users.owner(token)
    if users.hashes and owner is None:
        raise RequestError(401, "this token is not valid", "the token that `tenth serve` printed is needed", "Copy it whole")
    if owner is not None:
        response.set_cookie(
            SESSION_COOKIE, users.session(owner), SESSION_SECONDS, httponly=True, samesite="strict", secure=is_https(request)
        )
    return response
