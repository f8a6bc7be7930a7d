"""A repository of a model hub -> its list of files, and a file of it at one revision, gone on with where it stopped.

The only place that speaks to the hub, through huggingface_hub: its endpoint (HF_ENDPOINT), token and offline mode
(HF_HUB_OFFLINE) hold. Its own download begins a file anew in each process, so only its transfer is used here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from huggingface_hub import HfApi, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, and exported lazily

from tenth.errors import ModelError

NEWEST = "main"
UNSTATED = "no licence stated"
# httpx's or httpx2's HTTPError, by the version of huggingface_hub, and OSError.
FAULTS = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)


@dataclass(frozen=True)
class Remote:
    """A file of a repository. sha256: of a large one; git: the id of a small one's blob, a sha1; either may be unknown: ""."""

    path: str
    bytes: int
    sha256: str = ""
    git: str = ""


@dataclass(frozen=True)
class Listing:
    """A repository at one revision: its licence and its files by path."""

    repository: str
    revision: str
    licence: str
    files: Mapping[str, Remote]


def list_files(repository: str, revision: str = NEWEST) -> Listing:
    """What a repository holds at a revision, which comes back as a commit. Raises ModelError if the hub does not say."""
    with _explained(repository, revision):
        found = HfApi(endpoint=_endpoint()).model_info(repository, revision=revision, files_metadata=True)
    files = {}
    for each in found.siblings or ():
        if each.size is None:
            raise ModelError(
                f"the hub gives no sizes of {repository}'s files", "they are needed to tell whole ones", "Ask another hub"
            )
        large = each.lfs.sha256 if each.lfs else ""
        files[each.rfilename] = Remote(each.rfilename, each.size, large, "" if large else each.blob_id or "")
    licence = getattr(found.card_data, "license", None)
    said = licence if isinstance(licence, str) else ", ".join(licence or ())
    return Listing(repository, found.sha or revision, said or UNSTATED, files)


def fetch(repository: str, revision: str, file: Remote, part: Path, progress: Callable[[int], None]) -> None:
    """A file's bytes at `part`: what is there already is kept, and only the rest asked for.

    progress: told how many bytes of the file are there. Raises ModelError if the rest does not come; what came is kept.
    """
    if part.is_file() and part.stat().st_size > file.bytes:
        part.unlink()
    url = hf_hub_url(repository, file.path, revision=revision, endpoint=_endpoint())
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a packed answer has no range to go on with
    with _explained(repository, revision, file.path), part.open("ab") as growing:
        start = growing.tell()
        progress(start)
        told = _told(growing, progress)
        http_get(url, growing, resume_size=start, headers=headers, expected_size=file.bytes, tqdm_class=told)
        growing.flush()
        os.fsync(growing.fileno())


def cached(repository: str, revision: str, path: str) -> Path | None:
    """The file in the cache of huggingface_hub, if another program has put it there."""
    found = try_to_load_from_cache(repository, path, revision=revision)
    return Path(found).resolve() if isinstance(found, str) else None


def _endpoint() -> str | None:
    """The hub to ask, read at each call: huggingface_hub reads it once, when it is imported. None is its default."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _told(file: Any, progress: Callable[[int], None]) -> Any:
    """A bar of the kind that huggingface_hub makes for each file, which only says how long the file has become."""

    class Told:
        def __init__(self, **_: Any) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, _: int) -> None:
            progress(file.tell())

    return Told


@contextmanager
def _explained(repository: str, revision: str, path: str = "") -> Iterator[None]:
    """What huggingface_hub raises, in three parts."""
    what = f"{path} of {repository}" if path else repository
    if is_offline_mode():
        raise ModelError(
            f"HF_HUB_OFFLINE is set and {what} is not here",
            "a download asks the hub",
            "Unset it, or copy the model's folder here",
        )
    try:
        yield
    except HFValidationError as problem:
        raise ModelError(f"{repository} is no name of a repository", "owner/name is needed", "Correct it") from problem
    except GatedRepoError as problem:
        raise ModelError(
            f"{repository} is open only to those who accepted its licence",
            "the hub must know you",
            "Accept it on the repository's page, then set HF_TOKEN",
        ) from problem
    except RepositoryNotFoundError as problem:
        raise ModelError(
            f"the hub has no repository {repository}, or hides it", "owner/name is needed", "Check it, or set HF_TOKEN"
        ) from problem
    except (RevisionNotFoundError, RemoteEntryNotFoundError) as problem:
        raise ModelError(
            f"the hub no longer has {what} at revision {revision}",
            "that revision is locked, or was the newest a moment ago",
            "Take what it has now with --update, or copy the model's folder from a machine that has it",
        ) from problem
    except FAULTS as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise  # the disk's, not the hub's
        raise ModelError(
            f"{what} did not come ({str(problem).splitlines()[0] if str(problem) else type(problem).__name__})",
            "the whole of it is needed",
            "Run the same command to go on where it stopped",
        ) from problem
