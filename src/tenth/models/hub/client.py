"""A repository of a model hub -> its list of files, and a file of it at one revision.

The only place that speaks to the hub, as huggingface_hub does: its endpoint (HF_ENDPOINT), token and offline mode
(HF_HUB_OFFLINE) hold. What the hub says is taken for no more than it is: names, sizes and digests are checked before use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import build_hf_headers, validate_repo_id  # type: ignore[attr-defined]  # exported lazily

from tenth.core.errors import ModelError
from tenth.core.file_reading import parse_json
from tenth.models.hub.lockfile import check_digest, check_size, is_inside, malformed
from tenth.models.hub.transfer import UnansweredError, plain, read, receive

NEWEST = "main"
UNSTATED = "no licence stated"
LISTING_BYTES = 4 << 20  # some 15,000 files; a model has dozens
LICENCE_LENGTH = 100
INVALID_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - what the hub says of one


@dataclass(frozen=True)
class Remote:
    """A file of a repository. sha256: of a large one; git: the id of a small one's blob, a sha1; either may be unknown: "".

    Raises ValueError or TypeError for a size or a digest that is none.
    """

    path: str
    bytes: int
    sha256: str = ""
    git: str = ""

    def __post_init__(self) -> None:
        check_size(self.bytes)
        if self.sha256 != "":
            check_digest(self.sha256, 64)
        if self.git != "":
            check_digest(self.git)


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
        validate_repo_id(repository)
        address = f"{_endpoint()}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
        content = read(address, LISTING_BYTES, build_hf_headers())
    try:
        return _listing(repository, parse_json(content.decode()))
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ModelError(
            f"the hub's list of {repository}'s files makes no sense ({malformed(problem)})",
            "commit, names, sizes and digests are needed",
            "Ask another hub, or try again later",
        ) from problem


def fetch(repository: str, revision: str, file: Remote, part: Path, progress: Callable[[int], None]) -> None:
    """A file's bytes at `part`: what is there already is kept, and only the rest asked for.

    progress: told how many bytes of the file are there. Raises ModelError if the rest does not come; what came is kept.
    """
    with _explained(repository, revision, file.path):
        address = hf_hub_url(repository, file.path, revision=revision, endpoint=_endpoint())
        receive(address, file.bytes, part, build_hf_headers(), progress)


def cached(repository: str, revision: str, path: str) -> Path | None:
    """The file in the cache of huggingface_hub, if another program has put it there."""
    try:
        found = try_to_load_from_cache(repository, path, revision=revision)
    except HFValidationError:  # of no repository that can be
        return None
    return Path(found).resolve() if isinstance(found, str) else None


def _endpoint() -> str:
    """The hub to ask, read at each call: huggingface_hub reads it once, when it is imported. Raises ModelError."""
    endpoint: str = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    try:
        plain(endpoint)
    except UnansweredError as problem:  # which does not repeat it: a password may stand in it
        raise ModelError(
            "HF_ENDPOINT is no address of a hub", "an address such as https://hub.example is needed", "Correct it, or unset it"
        ) from problem
    return endpoint


def _listing(repository: str, table: Any) -> Listing:
    """A hub's answer, read. Raises ValueError, TypeError, KeyError or AttributeError if it is not what it should be."""
    files: dict[str, Remote] = {}
    for each in table["siblings"]:
        path, size = each["rfilename"], each.get("size")
        if size is None:
            raise ModelError(
                f"the hub gives no sizes of {repository}'s files", "they are needed to tell whole ones", "Ask another hub"
            )
        if not is_inside(path):  # what is named so is asked for by nobody
            continue
        if path in files:
            raise ValueError(f"it has {path} twice")
        large = each["lfs"]["sha256"] if each.get("lfs") else ""
        files[path] = Remote(path, size, large, "" if large else each.get("blobId") or "")
    check_digest(table["sha"])
    card = table.get("cardData")
    stated = card.get("license") if isinstance(card, dict) else None
    names = [
        name for name in (stated if isinstance(stated, list) else [stated]) if isinstance(name, str) and name.isprintable()
    ]
    return Listing(repository, table["sha"], ", ".join(names)[:LICENCE_LENGTH] or UNSTATED, files)


@contextmanager
def _explained(repository: str, revision: str, path: str = "") -> Iterator[None]:
    """What keeps an answer away, in three parts."""
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
    except UnansweredError as problem:
        raise _unanswered(problem, repository, revision, what) from problem


def _unanswered(problem: UnansweredError, repository: str, revision: str, what: str) -> ModelError:
    status, code = problem.status, problem.code
    if code == "GatedRepo":
        return ModelError(
            f"{repository} is open only to those who accepted its licence",
            "the hub must know you",
            "Accept it on the repository's page, then set HF_TOKEN",
        )
    if problem.said == INVALID_TOKEN:
        return ModelError("the hub does not know HF_TOKEN, or the token saved", "a valid one or none is needed", "Renew it")
    if code in ("RevisionNotFound", "EntryNotFound"):
        return ModelError(
            f"the hub no longer has {what} at revision {revision}",
            "that revision is locked, or was the newest a moment ago",
            "Take what it has now with --update, or copy the model's folder from a machine that has it",
        )
    if code == "RepoNotFound" or status == 401:
        return ModelError(
            f"the hub has no repository {repository}, or hides it", "owner/name is needed", "Check it, or set HF_TOKEN"
        )
    return ModelError(
        f"{what} did not come ({problem})", "the whole of it is needed", "Run the same command to go on where it stopped"
    )
