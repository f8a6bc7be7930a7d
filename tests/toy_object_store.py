"""An object store in a process of its own, and its file system for fsspec, `toy://HOST:PORT/...`.

`toy_object_store.py SEED FAULTS` prints its port. PUT with `If-None-Match: *` is refused with 412 where there is something. Of
FAULTS per thousand requests each is refused with 503, cut off before or after it was done, answered late or, of a GET, in part.
Its clock is a day wrong.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import fsspec
from fsspec.spec import AbstractFileSystem

PROTOCOL, SKEW_SECONDS, LATE_SECONDS = "toy", 86_400, 0.02


class Objects(BaseHTTPRequestHandler):
    """What the store answers. The class holds all objects."""

    objects: ClassVar[dict[str, bytes]] = {}
    lock, rng, faults = threading.Lock(), random.Random(0), 0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = unquote(self.path)
        if "List" in self.headers:
            name += "/"
            names = {each[len(name) :].split("/")[0] for each in self.objects if each.startswith(name)}
            self.answer(200, json.dumps(sorted(names)).encode())
        else:
            content = self.objects.get(name)
            self.answer(404 if content is None else 200, content or b"")

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            return
        fault = self.fault()
        if fault == "before":
            return
        with self.lock:
            taken = "If-None-Match" in self.headers and unquote(self.path) in self.objects
            if not taken and fault != "refused":
                self.objects[unquote(self.path)] = content
        self.answer(412 if taken else 503 if fault == "refused" else 200, b"", fault)

    def do_DELETE(self) -> None:
        with self.lock:
            found = self.objects.pop(unquote(self.path), None)
        self.answer(404 if found is None else 200, b"")

    def fault(self) -> str:
        self.close_connection = True
        with self.lock:
            happens = self.rng.randrange(1_000) < self.faults
            kind = self.rng.choice(("refused", "before", "after", "late", "in part"))
        return kind if happens else ""

    def answer(self, status: int, content: bytes, fault: str | None = None) -> None:
        fault = self.fault() if fault is None else fault
        if fault in ("before", "after"):
            return
        if fault == "late":
            time.sleep(LATE_SECONDS)
        if fault == "refused":
            status, content = 503, b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if fault == "in part" else content)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) - SKEW_SECONDS)

    def log_message(self, *_: Any) -> None:
        pass


class ToyStore(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Paths are HOST:PORT/BUCKET/NAME."""

    protocol, cachable = PROTOCOL, False

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[bytes, int]:
        host, _, name = self._strip_protocol(path).partition("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        try:
            connection.request(
                method, quote(f"/{name}"), body, {key.replace("_", "-"): value for key, value in headers.items()}
            )
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as problem:
            raise OSError(f"cut off: {problem!r}") from problem
        finally:
            connection.close()
        if answer.status == 404:
            raise FileNotFoundError(path)
        if answer.status == 412:
            raise FileExistsError(path)
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return content, int(answer.headers["Content-Length"])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self.ask("HEAD", path)[1], "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return [f"{path}/{name}" for name in json.loads(self.ask("GET", path, List="all")[0])]

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        return self.ask("GET", path)[0]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return BytesIO(self.cat_file(path))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.ask("PUT", path, value, **({"If_None_Match": "*"} if mode == "create" else {}))

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path: str) -> None:
        self.ask("DELETE", path)


fsspec.register_implementation(PROTOCOL, ToyStore, clobber=True)


@contextmanager
def object_store(seed: int = 0, faults: int = 0) -> Iterator[str]:
    """The address of a bucket of a store that runs while the block does."""
    command = [sys.executable, __file__, str(seed), str(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"{PROTOCOL}://127.0.0.1:{process.stdout.readline().strip()}/faces"
        finally:
            process.kill()


def main() -> None:
    Objects.rng, Objects.faults = random.Random(int(sys.argv[1])), int(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
