"""Download bytes from a server that is not trusted and may lie, break off or never end: limited in size and time, resumable.

Proxies and certificates come from the environment. User name and password of an address are sent as a header, never shown.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from http.client import responses
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from huggingface_hub.errors import HfHubHTTPError

from tenth.core.files.writing import try_lock

# httpx or httpx2, whichever huggingface_hub uses.
httpx: Any = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

ANSWER_SECONDS = 30.0  # timeout of a connection, and of the next bytes
SLOW_SECONDS, SLOW_BYTES = 60.0, 60_000  # a slower answer is given up
MAX_TRIES, MIN_PROGRESS_BYTES = 5, 1 << 20  # answers in a row that may break off with fewer bytes than that
MAX_REDIRECTS = 10
MAX_SHOWN_CHARS = 200  # of a server's text in a message
HTTP_OK, HTTP_PARTIAL_CONTENT, HTTP_RANGE_NOT_SATISFIABLE = 200, 206, 416  # HTTP status codes


class TransferError(Exception):
    """A download failed. status, code, message: HTTP status and the hub's two error headers, if there was an answer."""

    def __init__(self, text: str, status: int = 0, code: str = "", message: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.message = status, code, message


def download_bytes(url: str, max_bytes: int, headers: Mapping[str, str] | None = None) -> bytes:
    """An answer of at most `max_bytes` bytes. Raises TransferError."""
    content = bytearray()
    with _open_response(url, headers or {}) as (_, chunks):
        for piece in chunks:
            content += piece
            if len(content) > max_bytes:
                raise TransferError(f"the answer has more than {max_bytes:,} bytes")
    return bytes(content)


def download_to(
    url: str,
    size: int,
    partial_path: Path,
    headers: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Download a file of `size` bytes to `partial_path` and flush it; bytes that are there already are not requested again.

    progress: called with the number of bytes. Raises TransferError if the rest does not arrive, OSError if the disk refuses.
    """
    # Answers that break off are continued, as long as each of a few brings something.
    with _open_partial(partial_path, size) as file:
        tries, restarted = 0, False
        while (start := file.seek(0, os.SEEK_END)) < size:
            progress(start)
            try:
                _append(url, size, file, headers or {}, progress)
            except TransferError as problem:
                gained = file.tell() - start
                tries = 0 if gained >= MIN_PROGRESS_BYTES else tries + 1
                if problem.status == HTTP_RANGE_NOT_SATISFIABLE and start and not restarted:  # the rest does not come alone
                    file.truncate(0)
                    restarted = True
                elif gained <= 0 or tries == MAX_TRIES:
                    raise


def redact_url(url: str) -> str:
    """An address for a message: without what is before an @, which may be a password, or after a question mark."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """An http(s) address without user name and password, and the header with these. Raises TransferError."""
    try:
        parts = urlsplit(url)
        name, found, place = parts.netloc.rpartition("@")
        user, _, password = (unquote(each) for each in name.partition(":"))
        clean = parts._replace(netloc=place).geturl()
        if parts.scheme not in ("http", "https") or not httpx.URL(clean).host or parts.port == 0:
            raise ValueError
    except (ValueError, httpx.InvalidURL):  # whose text may show the password
        raise TransferError("it is no address of http or https") from None
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    return clean, {"Authorization": f"Basic {secret}"} if found else {}


def _append(url: str, size: int, file: IO[bytes], headers: Mapping[str, str], progress: Callable[[int], None]) -> None:
    """Append what a file lacks. Raises TransferError, with status 416 if it can only be downloaded from the start."""
    # Request the rest; a server may answer with the whole file instead, but not with another range or size.
    start = file.tell()
    with _open_response(url, {**headers, **({"Range": f"bytes={start}-"} if start else {})}) as (response, chunks):
        restart, sent_range = response.status_code == HTTP_OK, response.headers.get("Content-Range", "")
        if not restart and not sent_range.startswith(f"bytes {start}-"):
            raise TransferError("other bytes came than were asked for", HTTP_RANGE_NOT_SATISFIABLE)
        start, length = 0 if restart else start, response.headers.get("Content-Length", "")
        if length.isdecimal() and start + int(length[:20]) != size:
            _reject_size(file, size, f"{start + int(length[:20]):,}")

        # Never write more than the file has.
        for piece in chunks:
            if restart:  # not earlier: the answer may bring nothing
                file.seek(0)
                file.truncate()
                restart = False
            if file.tell() + len(piece) > size:
                _reject_size(file, size, "more")
            file.write(piece)
            progress(file.tell())
    if file.tell() < size:
        raise TransferError(f"it ended after {file.tell():,} of {size:,} bytes")


def _reject_size(file: IO[bytes], size: int, found: str) -> None:
    file.seek(0)
    file.truncate()
    raise TransferError(f"the answer has {found} bytes, and the file {size:,}")


@contextmanager
def _open_partial(partial_path: Path, size: int) -> Iterator[IO[bytes]]:
    """Open a partial file, locked for this process, and flush it at the end. An empty one is removed."""
    if partial_path.is_symlink() or not partial_path.is_file() or partial_path.stat().st_size > size:
        partial_path.unlink(missing_ok=True)
    try:
        with partial_path.open("ab") as file:
            if not try_lock(file.fileno()):
                raise TransferError("another process is receiving it")
            try:
                yield file
            finally:
                file.flush()
                os.fsync(file.fileno())
                if size and not file.tell():
                    partial_path.unlink(missing_ok=True)
    except OSError as problem:
        problem.filename = problem.filename or str(partial_path)  # for a full disk the system names none
        raise


@contextmanager
def _open_response(url: str, headers: Mapping[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """A successful response of httpx after redirects, and the chunks of its body. Raises TransferError."""
    # Of equal names, whatever their case, the last one counts: credentials in the address replace a token. Compressed answers
    # are not requested: they have no size, and no range to continue from.
    clean, secret = split_credentials(url)
    sent = {name.lower(): value for name, value in {**headers, **secret, "accept-encoding": "identity"}.items()}
    for name, value in sent.items():
        if not (value.isascii() and value.isprintable()):
            raise TransferError(f"what is to be sent as {name} holds a character that cannot be sent")

    # Redirects are followed here, so that they end and never leave encryption.
    with _client() as client, _StallWatch(client) as watch:
        request = client.build_request("GET", clean, headers=sent)
        for _ in range(MAX_REDIRECTS):
            with watch.explain_errors():
                response = client.send(request, stream=True)
            with closing(response):
                if not response.has_redirect_location:
                    _check_response(response)
                    yield response, watch.chunks(response)
                    return
                before, request = request, response.next_request
            if request is None or (before.url.scheme, request.url.scheme) == ("https", "http"):
                raise TransferError("it is redirected to no address, or to one that is not encrypted")
        raise TransferError(f"it is redirected more than {MAX_REDIRECTS} times")


class _StallWatch:
    """Closes a client from a thread if too few bytes come: headers and body may arrive byte by byte, without end."""

    def __init__(self, client: Any) -> None:
        self.client, self.received, self.slow, self.done = client, 0, False, Event()

    def __enter__(self) -> _StallWatch:
        Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()

    def _run(self) -> None:
        before = 0
        while not self.done.wait(SLOW_SECONDS):
            if self.received - before < SLOW_BYTES:
                self.slow = True
                self.client.close()
                return
            before = self.received

    def chunks(self, response: Any) -> Iterator[bytes]:
        with self.explain_errors():
            for piece in response.iter_raw():
                self.received += len(piece)
                yield piece

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Turn errors of the HTTP library into TransferError, with the first line of their text."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as problem:
            said = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:MAX_SHOWN_CHARS]
            slow = f"fewer than {SLOW_BYTES:,} bytes came in {SLOW_SECONDS:.0f} seconds"
            raise TransferError(slow if self.slow else said) from problem


def _client() -> Any:
    try:
        return httpx.Client(follow_redirects=False, timeout=ANSWER_SECONDS, verify=_certificates())
    except OSError as problem:
        raise TransferError(f"the certificates that the environment names cannot be read ({problem.strerror})") from problem
    except (ValueError, httpx.InvalidURL):  # whose text may show a proxy's password
        raise TransferError("the environment names a proxy that is none") from None


@cache
def _certificates() -> Any:
    return httpx.create_ssl_context()


def _check_response(response: Any) -> None:
    status, packed = response.status_code, response.headers.get("Content-Encoding", "identity")
    if status not in (HTTP_OK, HTTP_PARTIAL_CONTENT):
        code, said = (response.headers.get(f"X-Error-{name}", "")[:MAX_SHOWN_CHARS] for name in ("Code", "Message"))
        raise TransferError(f"the answer is {status} {responses.get(status, '')}".rstrip(), status, code, said)
    if packed != "identity":
        raise TransferError(f"the answer is packed ({packed[:MAX_SHOWN_CHARS]}), and plain bytes were asked for")
