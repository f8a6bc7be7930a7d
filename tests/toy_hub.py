"""A model hub on this machine: an HTTP server that answers what huggingface_hub asks, over files in memory."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from tenth.models.hub.download import DownloadCallbacks, download
from tenth.models.hub.lockfile import CHECKED_FILE
from tenth.models.hub.published import ADAPTERS, IP_ADAPTER, PUBLISHED, parse_model_name
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

SD15, UNET = PUBLISHED["sd15"].repository, "unet/diffusion_pytorch_model.safetensors"
Files = Mapping[str, bytes]
LARGE = 20_000  # bytes from which a file has a sha256 in the list, as large files do
PAD = 24 << 20  # huggingface_hub writes 10 MiB at a time: a file that is to stop in the middle must be larger


@dataclass
class Hub:
    """repositories: revisions by name, oldest first. requests: (path, first byte) of each file asked for."""

    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    requests: list[tuple[str, int]] = field(default_factory=list)
    cut_after: dict[str, int] = field(default_factory=dict)  # path -> bytes after which the connection breaks, once
    stall_after: dict[str, int] = field(default_factory=dict)  # path -> bytes after which nothing more comes, once
    handlers: dict[str, Callable[[HubRequestHandler], None]] = field(
        default_factory=dict
    )  # path, or repository for its list -> answer
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)  # by repository
    gated: set[str] = field(default_factory=set)  # repositories whose files are for those who send a token
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # of each request, with its path
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def add(self, repository: str, files: Files) -> str:
        """A new newest revision, which comes back."""
        digest = hashlib.sha1(repository.encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        self.repositories.setdefault(repository, {})[digest.hexdigest()] = dict(files)
        return digest.hexdigest()

    def newest(self, repository: str) -> dict[str, bytes]:
        return dict(list(self.repositories[repository].values())[-1])

    def listing(self, repository: str, revision: str) -> dict[str, Any] | None:
        revisions = self.repositories.get(repository, {})
        name = list(revisions)[-1] if revisions and revision == "main" else revision
        if name not in revisions:
            return None
        siblings = [file_entry(path, content) for path, content in revisions[name].items()]
        card, gated = self.cards.get(repository, {"license": "toy-licence"}), "auto" if repository in self.gated else False
        return {"id": repository, "sha": name, "siblings": siblings, "cardData": card, "gated": gated, "tags": []}


def file_entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry_fields: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if len(content) >= LARGE:
        entry_fields["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry_fields


class HubRequestHandler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        listed = parts[:2] == ["api", "models"]
        self.hub.headers.append((self.path, {name.title(): ", ".join(self.headers.get_all(name, ())) for name in self.headers}))
        if instead := self.hub.handlers.get("/".join(parts[2:4] if listed else parts[4:])):
            self.close_connection = True
            with suppress(ConnectionError):  # whoever asked may hang up
                instead(self)
        elif listed:
            self.answer_list("/".join(parts[2:4]), parts[5])
        else:
            self.answer_file("/".join(parts[:2]), parts[2] == "stored", parts[3], "/".join(parts[4:]))

    def answer_list(self, repository: str, revision: str) -> None:
        found = self.hub.listing(repository, revision)
        if repository.startswith("gated/"):
            self.send(403, b"", X_Error_Code="GatedRepo")
        elif found is None:
            self.send(404, b"", X_Error_Code="RepoNotFound")
        else:
            content = json.dumps(found).encode()
            self.send(200, content, Content_Type="application/json")
            self.wfile.write(content)

    def answer_file(self, repository: str, stored: bool, revision: str, path: str) -> None:
        """stored: the place that the hub sends those to who ask for a large file."""
        content = self.hub.repositories.get(repository, {}).get(revision, {}).get(path)
        if repository in self.hub.gated and not self.headers.get("Authorization"):
            self.send(401, b"", X_Error_Code="GatedRepo")
            return
        if content is None:
            self.send(404, b"", X_Error_Code="RevisionNotFound")
            return
        if len(content) >= LARGE and not stored:
            self.send(302, b"", Location=f"{self.hub.url}/{repository}/stored/{revision}/{path}")
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.hub.requests.append((path, start))
        rest = content[start:]
        if start:
            self.send(206, rest, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send(200, rest)
        cut, stall = self.hub.cut_after.pop(path, 0), self.hub.stall_after.pop(path, 0)
        self.wfile.write(rest[: cut or stall or len(rest)])
        if stall:
            self.hub.stalled.set()
            self.hub.resume.wait(300)
        self.close_connection = bool(cut or stall)


@contextmanager
def run_hub(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("AnswerFor", (HubRequestHandler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.resume.set()
        server.shutdown()
        server.server_close()
        thread.join()


def publish(hub: Hub, family: str, folder: Path, *, pad: int = 0) -> None:
    """A toy model's folder as the published repositories of its family have it, with what nobody needs beside it.

    pad: bytes in the header of the adapter's file, so that its download takes a while.
    """
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    model_files = {path: content for path, content in files.items() if not path.startswith(("image_encoder/", "ip-adapter/"))}
    unneeded_files = {
        "README.md": b"# toy",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
        "vae_decoder/model.onnx": b"no",
    }
    hub.add(
        PUBLISHED[family].repository,
        model_files | unneeded_files | {"unet/diffusion_pytorch_model.bin": b"pickle", "v1.ckpt": b"pickle"},
    )
    adapter = ADAPTERS[{"sd15": "ip-adapter_sd15", "sdxl": "ip-adapter_sdxl_vit-h"}[family]]
    weights = files["ip-adapter/ip-adapter.safetensors"]
    if pad:
        padded = folder.parent / "padded.safetensors"
        save_file(load_file(folder / "ip-adapter/ip-adapter.safetensors"), padded, metadata={"pad": "x" * pad})
        weights = padded.read_bytes()
    encoder = {
        path.replace("image_encoder", adapter.encoder, 1): files[path] for path in files if path.startswith("image_encoder/")
    }
    before = hub.newest(IP_ADAPTER) if IP_ADAPTER in hub.repositories else {}
    hub.add(IP_ADAPTER, before | encoder | {adapter.file: weights, adapter.file.replace("safetensors", "bin"): b"pickle"})


def publish_folder(hub: Hub, repository: str, folder: Path) -> None:
    """A transformer's folder as its repository has it, with what nobody needs beside it."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    hub.add(
        repository, files | {"README.md": b"# toy", "whole-model.safetensors": b"for others", "transformer/x.bin": b"pickle"}
    )


def download_model(name: str, *, update: bool = False) -> Path:
    source = parse_model_name(name)
    assert source is not None
    return download(source, DownloadCallbacks(), update=update)


def generate_image(model: str) -> tuple[str, np.ndarray]:
    loaded = load_model(model)
    (sample,) = generate(loaded, [Request(None, "a photo of a person", 1)], SamplingConfig(steps=2))
    return loaded.name.partition("@")[2], sample.pixels


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {CHECKED_FILE}


def with_file(hub: Hub, repository: str, path: str, content: bytes) -> Files:
    return hub.newest(repository) | {path: content}
