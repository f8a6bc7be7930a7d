"""Who may ask: one token for all, or users with a token each, and the cookie that stands for a token in a browser.

A users file is JSON: {"users": {"anna": {"token_sha256": "..."}}}. `tenth serve --users FILE --add-user anna` writes it and
prints the token, which is kept nowhere. A token has 256 random bits, so that its sha256 is as good as a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_bytes, read_json, reason
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_bytes
from tenth.server.settings import ServerSettings

TOKEN_BYTES = 32
USER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # also a folder's name
SHA256 = re.compile(r"[0-9a-f]{64}")
TOKEN = re.compile(r"[!-~]{1,500}")  # what a header can carry, and the login's address takes
SESSION_COOKIE, SESSION_SECONDS = "tenth_session", 30 * 24 * 3600
KEY_FILE = "session.key"  # in the data folder: what cookies are signed with


@dataclass(frozen=True)
class Users:
    """Tokens' sha256 by user; one with the name "" where there is a token but no users; none: everybody may ask.

    key: signs cookies, so that a hash alone, read from the users file, lets nobody in.
    """

    hashes: Mapping[str, str] = field(repr=False)
    key: bytes = field(repr=False)

    def owner(self, token: str) -> str | None:
        """Whose token it is; None if nobody's. Takes as long for every wrong one."""
        given, found = _sha256(token), None
        for name, known in self.hashes.items():
            if hmac.compare_digest(given, known):
                found = name
        return found

    def session(self, owner: str) -> str:
        """A cookie's value for a user: it holds until it expires, or the user's token is another."""
        expires = int(time.time()) + SESSION_SECONDS
        return f"{owner}.{expires}.{self._signature(owner, expires)}"

    def session_owner(self, session: str) -> str | None:
        """Whose cookie it is; None if it is nobody's or has expired."""
        owner, _, rest = session.partition(".")
        expires, _, signature = rest.partition(".")
        if owner not in self.hashes or not re.fullmatch(r"[0-9]{1,12}", expires) or not signature.isascii():
            return None
        valid = hmac.compare_digest(signature, self._signature(owner, int(expires)))
        return owner if valid and int(expires) > time.time() else None

    def _signature(self, owner: str, expires: int) -> str:
        return hmac.new(self.key, f"{owner}.{expires}.{self.hashes[owner]}".encode(), hashlib.sha256).hexdigest()


def load_users(settings: ServerSettings) -> Users:
    """The users of a server. Raises DataError if their file cannot be read, or there are both users and a token.

    And for a token that no client could send.
    """
    if settings.token and not TOKEN.fullmatch(settings.token):
        found, needed = "a token with other characters or more", "up to 500 letters, digits and signs of ASCII are needed"
        raise DataError(
            found, needed, "Choose another TENTH_TOKEN, or `token` of the settings; `openssl rand -hex 32` makes one"
        )
    if settings.users is None:
        return Users({"": _sha256(settings.token)} if settings.token else {}, _session_key(settings.data))
    if settings.token:
        found = f"a token (`token` of the settings, or TENTH_TOKEN) and the users file {settings.users}"
        raise DataError(found, "users have a token each", "Unset TENTH_TOKEN and leave out `token`, or leave out --users")
    hashes = read_users(settings.users)
    if not hashes:
        action = f"Add one: tenth serve --users {settings.users} --add-user NAME"
        raise DataError(f"{settings.users} has no user", "at least one is needed", action)
    return Users(hashes, _session_key(settings.data))


def read_users(path: Path) -> dict[str, str]:
    """Tokens' sha256 by user. Raises DataError if the file is missing or is no users file."""
    needed, action = 'a file like {"users": {"anna": {"token_sha256": "..."}}} is needed', "Make it with --add-user NAME"
    try:
        users: Any = read_json(path)
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", needed, action) from problem
    table = users.get("users") if isinstance(users, dict) else None
    hashes = {name: _hash_of(entry) for name, entry in table.items()} if isinstance(table, dict) else {"": ""}
    if wrong := [name for name, known in hashes.items() if not (USER_NAME.fullmatch(name) and SHA256.fullmatch(known))]:
        raise DataError(f"{path} has a user {wrong[0]!r:.100} without a name or hash that fits", needed, action)
    return hashes


def add_user(path: Path, name: str) -> str:
    """Add a user, or give one a new token, and return the token. Raises DataError for a name that is none."""
    if not USER_NAME.fullmatch(name):
        needed = "a name of up to 32 small letters, digits, - and _ is needed"
        raise DataError(f"the user {name!r:.100}", needed, "Choose another")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    hashes = (read_users(path) if path.exists() else {}) | {name: _sha256(token)}
    table = {"users": {user: {"token_sha256": known} for user, known in sorted(hashes.items())}}
    write_bytes(path, (json.dumps(table, indent=1) + "\n").encode(), PRIVATE_FILE_MODE)
    return token


def _hash_of(entry: Any) -> str:
    return str(entry.get("token_sha256")) if isinstance(entry, dict) else ""


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _session_key(folder: Path) -> bytes:
    """The key of this data folder, made at first use. Raises DataError if it cannot be read or written."""
    path = folder / KEY_FILE
    try:
        key = read_bytes(path, TOKEN_BYTES)
    except FileNotFoundError:
        key = secrets.token_bytes(TOKEN_BYTES)
        write_bytes(path, key, PRIVATE_FILE_MODE)
    except (OSError, UnreadableError) as problem:
        raise DataError(
            f"{path} {reason(problem)}", "the key of the sessions is needed", "Remove it: all log in anew"
        ) from problem
    if len(key) != TOKEN_BYTES:
        raise DataError(f"{path} is damaged", "the key of the sessions is needed", "Remove it: all log in anew")
    return key
