"""The page's files: read once, looked up by name, so that no path of a client is ever joined to a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STATIC_DIR = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent. etag: by its content, in quotes as HTTP has it."""

    content: bytes
    media_type: str
    etag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All files below `static/` by their names relative to it, with slashes."""
    paths = [path for path in sorted(STATIC_DIR.rglob("*")) if path.suffix in MEDIA_TYPES]
    return {path.relative_to(STATIC_DIR).as_posix(): to_static_file(path.read_bytes(), path.suffix) for path in paths}


def to_static_file(content: bytes, suffix: str) -> StaticFile:
    """Content with the type of a suffix of MEDIA_TYPES."""
    return StaticFile(content, f"{MEDIA_TYPES[suffix]}; charset=utf-8", f'"{hashlib.sha256(content).hexdigest()[:32]}"')
