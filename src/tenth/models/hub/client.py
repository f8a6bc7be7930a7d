"""List a repository of a model hub and download its files at one revision: the only module that talks to the hub.

HF_ENDPOINT, the token and HF_HUB_OFFLINE apply. Names, sizes and digests are validated: the hub is not trusted (0007).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from huggingface_hub import constants, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import build_hf_headers, validate_repo_id  # type: ignore[attr-defined]  # exported lazily

from tenth.core.config import config_dataclass
from tenth.core.errors import ModelError, RecipeError
from tenth.core.files.reading import parse_json
from tenth.models.hub.lockfile import Digest, Size, is_safe_path, matches, short_message
from tenth.models.hub.transfer import TransferError, download_bytes, download_to, redact_url, split_credentials

MAX_LISTING_BYTES = 4 << 20  # some 15,000 files; a model has dozens
MAX_LICENCE_CHARS = 100
NON_COMMERCIAL = re.compile(r"non-?commercial|\bnc\b", re.IGNORECASE)
INVALID_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - text of the hub's error


@config_dataclass
class RemoteFile:
    """A file of a repository at a revision. sha256: of a large file; git_sha1: the blob id of a small one; "" if unknown."""

    repository: str
    revision: Digest
    path: str
    size: Size
    sha256: Annotated[str, matches("64 hexadecimal digits", "([0-9a-f]{64})?")] = ""
    git_sha1: Annotated[str, matches("40 hexadecimal digits", "([0-9a-f]{40})?")] = ""


@config_dataclass
class RepoListing:
    """A repository at one revision (a commit): its licence, and its files by path.

    terms: what to know before the download where it is gated or not for commercial use, by its card; "" for others.
    """

    repository: str
    revision: Digest
    licence: str
    files: Mapping[str, RemoteFile]
    terms: str = ""


def list_files(repository: str) -> RepoListing:
    """The files of a repository at its newest revision, a commit. Raises ModelError if the hub does not answer."""
    with _explain_errors(repository, "main"):
        validate_repo_id(repository)
        address = f"{_endpoint()}/api/models/{repository}/revision/main?blobs=true"
        content = download_bytes(address, MAX_LISTING_BYTES, build_hf_headers())
    try:
        return _parse_listing(repository, parse_json(content.decode()))
    except (ValueError, TypeError, KeyError, AttributeError, RecipeError) as problem:
        found = f"the hub's list of {repository}'s files makes no sense ({short_message(problem)})"
        needed = "commit, names, sizes and digests are needed"
        raise ModelError(found, needed, "Ask another hub, or try again later") from problem


def download_file(file: RemoteFile, partial_path: Path, progress: Callable[[int], None]) -> None:
    """Download a file to `partial_path`; bytes that are there already are kept, and only the rest is requested.

    progress: called with the number of bytes that are there. Raises ModelError if the rest does not arrive; what did is kept.
    """
    with _explain_errors(file.repository, file.revision, file.path):
        address = hf_hub_url(file.repository, file.path, revision=file.revision, endpoint=_endpoint())
        download_to(address, file.size, partial_path, build_hf_headers(), progress)


def find_in_hf_cache(file: RemoteFile) -> Path | None:
    """The file in huggingface_hub's cache, if another program has downloaded it."""
    try:
        path_in_cache = try_to_load_from_cache(file.repository, file.path, revision=file.revision)
    except HFValidationError:  # an impossible name
        return None
    return Path(path_in_cache).resolve() if isinstance(path_in_cache, str) else None


def _endpoint() -> str:
    """The hub's address, read at each call; huggingface_hub reads it only when it is imported. Raises ModelError."""
    endpoint: str = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    try:
        split_credentials(endpoint)
    except TransferError as problem:  # whose text omits the address: it may hold a password
        found, needed = "HF_ENDPOINT is no address of a hub", "an address such as https://hub.example is needed"
        raise ModelError(found, needed, "Correct it, or unset it") from problem
    return endpoint


def _parse_listing(repository: str, table: Any) -> RepoListing:
    """Parse a hub's answer. Raises ValueError, TypeError, KeyError, AttributeError or RecipeError if it is invalid."""
    # Files.
    files: dict[str, RemoteFile] = {}
    for sibling in table["siblings"]:
        path, size = sibling["rfilename"], sibling.get("size")
        if size is None:
            found = f"the hub gives no sizes of {repository}'s files"
            raise ModelError(found, "they are needed to tell whole ones", "Ask another hub")
        if not is_safe_path(path):  # no model needs a file of such a name
            continue
        if path in files:
            raise ValueError(f"it has {path} twice")
        sha256 = sibling["lfs"]["sha256"] if sibling.get("lfs") else ""
        blob_id = "" if sha256 else sibling.get("blobId") or ""
        files[path] = RemoteFile(repository, table["sha"], path, size, sha256, blob_id)

    licence = _stated_licence(table.get("cardData"))
    terms = []
    if NON_COMMERCIAL.search(licence):
        terms.append("by its licence not for commercial use")
    if table.get("gated"):
        terms.append(f"gated: its terms are accepted at {_page(repository)}")
    return RepoListing(repository, table["sha"], licence, files, "; ".join(terms))


def _stated_licence(card: Any) -> str:
    """The licence of a model card: one name, or a list of them; for "other" the name that the card gives it."""
    card = card if isinstance(card, dict) else {}
    stated, own = card.get("license"), card.get("license_name")
    if stated == "other" and isinstance(own, str) and own:
        stated = own
    names = [
        name for name in (stated if isinstance(stated, list) else [stated]) if isinstance(name, str) and name.isprintable()
    ]
    return ", ".join(names)[:MAX_LICENCE_CHARS] or "no licence stated"


def _page(repository: str) -> str:
    """The address of a repository's page, without what may be a password in the hub's."""
    return f"{redact_url(_endpoint())}/{repository}"


@contextmanager
def _explain_errors(repository: str, revision: str, path: str = "") -> Iterator[None]:
    """Turn errors of names and transfers into ModelError. Raises it at once in offline mode."""
    subject = f"{path} of {repository}" if path else repository
    if is_offline_mode():
        found, action = f"HF_HUB_OFFLINE is set and {subject} is not here", "Unset it, or copy the model's folder here"
        raise ModelError(found, "a download asks the hub", action)
    try:
        yield
    except HFValidationError as problem:
        raise ModelError(f"{repository} is no name of a repository", "owner/name is needed", "Correct it") from problem
    except TransferError as problem:
        raise ModelError(*_explanation(problem, repository, revision, subject)) from problem


def _explanation(problem: TransferError, repository: str, revision: str, subject: str) -> tuple[str, str, str]:
    """What was found, what is needed and what to do, by the hub's error codes."""
    if problem.code == "GatedRepo":
        found = f"{repository} is open only to those who accepted its licence"
        action = f"Accept it at {_page(repository)}, then set HF_TOKEN to a token of that account, or run `hf auth login`"
        return found, "the hub must know you", action
    if problem.message == INVALID_TOKEN:
        return "the hub does not know HF_TOKEN, or the token saved", "a valid one or none is needed", "Renew it"
    if problem.code in ("RevisionNotFound", "EntryNotFound"):
        found = f"the hub no longer has {subject} at revision {revision}"
        needed = "that revision is locked, or was the newest a moment ago"
        update = "Take what it has now with `tenth models update NAME`"
        return found, needed, f"{update}, or copy the model's folder from a machine that has it"
    if problem.code == "RepoNotFound" or problem.status == 401:  # as is a repository that needs a token
        return f"the hub has no repository {repository}, or hides it", "owner/name is needed", "Check it, or set HF_TOKEN"
    action = "Run the same command to go on where it stopped"
    return f"{subject} did not come ({problem})", "the whole of it is needed", action
