"""Errors as every answer has them.

{"error": {"message", "type", "code", "param", "found", "needed", "action"}}: the first four as OpenAI's clients read them.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tenth.core.errors import InputError
from tenth.core.wording import shorten
from tenth.server.security.headers import SECURITY_HEADERS
from tenth.server.storage.database import database_code, is_busy, is_disk_full

# status -> code of the error
CODES = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "too_slow",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.MISDIRECTED_REQUEST: "unknown_host",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.INSUFFICIENT_STORAGE: "disk_full",
}
BUSY_RETRY_SECONDS = 5  # after which a database that another process writes to may be free
NEEDED = "needed: "  # begins the second part of some messages; the key of that part says so already
# status -> type, where it is not "invalid_request_error"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class RequestError(InputError):
    """A request that is refused with a status of its own. param: the field that is wrong. retry_after: seconds."""

    def __init__(
        self, status: int, found: str, needed: str, action: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(found, needed, action)
        self.status, self.param, self.retry_after = status, param, retry_after


def not_found(kind: str, name: str) -> RequestError:
    """The error for an id that is unknown, or somebody else's: nobody can tell which."""
    return RequestError(404, f"there is no {kind} {shorten(name)!r}", f"the id of a {kind} is needed", "Check the id")


def hide_folder(text: str, data: Path) -> str:
    """A text for clients, who are not to know where the data folder is."""
    return text.replace(str(data.absolute()), "the data folder")


def error_response(problem: InputError, data: Path | None = None) -> JSONResponse:
    """The answer to a request that raised an error. data: the folder whose path the text is not to show."""
    status = _status(problem)
    parts = (problem.found, problem.needed, problem.action)
    found, needed, action = parts if data is None else (hide_folder(part, data) for part in parts)
    error = {
        "message": f"{found}; {needed}. {action}.",
        "type": TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "code": getattr(problem, "code", CODES[HTTPStatus(status)]),
        "param": getattr(problem, "param", None),
        "found": found,
        "needed": needed.removeprefix(NEEDED),
        "action": action,
    }
    wait = getattr(problem, "retry_after", BUSY_RETRY_SECONDS if is_busy(problem) else None)
    headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
    return JSONResponse({"error": error}, status, SECURITY_HEADERS | headers)  # a fault of ours passes no gate


def internal_error() -> InputError:
    """What a client is told of a fault of ours: nothing of its trace, which is in the server's log."""
    return RequestError(
        500, "the server failed", "nothing of the request's is wrong", "Look into the server's log, then try again"
    )


def add_error_answers(app: FastAPI, data: Path) -> None:
    """Make an application answer every error in three parts, without the path of the data folder."""

    async def answer(_: Request, problem: Exception) -> JSONResponse:
        return error_response(_in_three_parts(problem), data)

    for kind in (InputError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)


def _status(problem: InputError) -> int:
    if getattr(problem, "retry_after", None) is not None and not isinstance(problem, RequestError):
        return 429  # a queue that is full
    return int(getattr(problem, "status", _status_of_cause(problem)))


def _status_of_cause(problem: InputError) -> int:
    """Of an error without a status of its own: a disk or database that fails is none of the request's."""
    if is_disk_full(problem):
        return 507
    if is_busy(problem):
        return 503
    return 500 if database_code(problem) else 400


def _in_three_parts(problem: Exception) -> InputError:
    """Any error as one with three parts."""
    if isinstance(problem.__cause__, RequestError):
        return problem.__cause__  # which FastAPI wraps where it reads a request's body
    if isinstance(problem, InputError):
        return problem
    if isinstance(problem, RequestValidationError):
        return _validation_error(problem)
    if not isinstance(problem, HTTPException):
        return internal_error()
    if problem.status_code in (404, 405):
        found = "this address" if problem.status_code == 404 else "this method at this address"
        return RequestError(problem.status_code, f"{found} is unknown", "one of the API is needed", "See docs/api.md")
    status = problem.status_code if problem.status_code in set(CODES) else 400
    return RequestError(status, str(problem.detail), "a request as in docs/api.md is needed", "Correct it")


def _validation_error(problem: RequestValidationError) -> RequestError:
    """The first thing that does not fit what a route declares."""
    first: dict[str, Any] = dict(problem.errors()[0])
    key = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "extra_forbidden":
        return RequestError(
            400, f"{key!r} is not a parameter", "those of docs/api.md are known", "Correct or remove it", param=key
        )
    if isinstance(first.get("input"), bytes):  # which FastAPI reads as JSON only where it is said to be
        found, needed = "a body that is not said to be JSON", "`Content-Type: application/json` is needed"
        return RequestError(400, found, needed, "Send that header", param="Content-Type")
    if first["type"] == "missing":
        return RequestError(400, f"{key} is missing", "it has to be there", "Add it", param=key)
    needed = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    needed = needed.replace("String should match pattern", "a text like")
    return RequestError(400, f"{key} is {shorten(repr(first.get('input')))}", f"{NEEDED}{needed}", "Correct it", param=key)
