"""One tree of errors. Each message has three parts: what was found, what is needed, what to do.

TenthError
└── InputError            the user's input; the command line prints one line and exits 1
    ├── PhotoError        a file is not a usable photo (carries a short `code`)
    ├── DataError         a folder, data set or array does not hold what the work needs
    ├── IdentityError     an identity file is damaged, foreign or for another model
    ├── ModelError        a model, adapter or encoder is missing or does not fit
    ├── RecipeError       a recipe has an unknown key or an impossible value
    └── CheckpointError   a checkpoint is damaged, or a directory is already in use
"""

from __future__ import annotations

import copyreg
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tenth.core.wording import did_you_mean, shorten

MAX_PART_CHARS = 2_000  # of a part of a message: what was found may be of any length


class TenthError(Exception):
    """Root of the tree: `except TenthError` catches everything that tenth raises on purpose."""


class InputError(TenthError):
    """The user's input does not fit. found, needed, action: the three parts of the message."""

    def __init__(self, found: str, needed: str, action: str) -> None:
        found, needed, action = (
            part if len(part) <= MAX_PART_CHARS else f"{part[:MAX_PART_CHARS]}..." for part in (found, needed, action)
        )
        super().__init__(f"{found}; {needed}. {action}.")
        self.found, self.needed, self.action = found, needed, action

    def __reduce__(self) -> tuple[Any, ...]:
        """For the way from one process to another: exceptions are made anew from their message alone otherwise."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class PhotoError(InputError):
    """A file is not a usable photo. code: a short stable word for the reason, such as 'truncated'."""

    def __init__(self, code: str, found: str, needed: str, action: str) -> None:
        super().__init__(found, needed, action)
        self.code = code


class DataError(InputError):
    """A folder, data set or array does not hold what the work needs."""


class IdentityError(InputError):
    """An identity file is damaged, foreign, or made for another model."""


class ModelError(InputError):
    """A model, adapter or encoder is missing or does not fit."""


class RecipeError(InputError):
    """A recipe has an unknown key or an impossible value."""


class CheckpointError(InputError):
    """A checkpoint is damaged, or a directory is already in use."""


def unknown_name(category: str, name: str, known: Sequence[str], action: str = "") -> InputError:
    """The error for an unknown name, with all known names. action: by default `tenth CATEGORYs`, which lists them."""
    return InputError(
        f"{name!r} is not a {category}",
        f"choose one of: {', '.join(known)}",
        did_you_mean(name, known) + (action or f"`tenth {category}s` says what each does"),
    )


def unknown_key(key: str, known: Collection[str], kind: str = "key") -> RecipeError:
    """The error for a key, or a dotted path to one, that is none of the known ones. kind: what a key is called there."""
    action = f"{did_you_mean(key.rpartition('.')[2], list(known))}Correct or remove it"
    return RecipeError(f"{shorten(repr(key))} is not a {kind}", f"known {kind}s: {', '.join(known)}", action)


def check_keys(keys: Iterable[str], known: Collection[str], kind: str = "key") -> None:
    """Raises RecipeError for the first key that is none of the known ones."""
    for key in keys:
        if key not in known:
            raise unknown_key(key, known, kind)
