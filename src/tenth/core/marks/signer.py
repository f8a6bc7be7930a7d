"""Who signs pictures: the user's own key, or what a service that runs tenth gives in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from tenth.core.errors import RecipeError
from tenth.core.marks.key import own_key

MARKS_VARIABLE, SIGNER_VARIABLE = "TENTH_MARKS", "TENTH_SIGNER"


class Signer(Protocol):
    """Signs pictures.

    algorithm: of C2PA's names, "ed25519", "es256", "ps256" and so on; only with the first are the same pictures the same bytes.
    certificates: the signer's own first, then those of who issued it, as PEM.
    """

    @property
    def algorithm(self) -> str: ...

    @property
    def certificates(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes:
        """The signature of the data as COSE has it, such as 64 bytes of Ed25519 or ES256."""
        ...


def current_signer() -> Signer | None:
    """What `$TENTH_SIGNER` gives, else the user's own key; None if `$TENTH_MARKS` is "off".

    Raises RecipeError for other values, DataError as `own_key`.
    """
    value = os.environ.get(MARKS_VARIABLE, "")
    if value not in ("", "on", "off"):
        raise RecipeError(f"{MARKS_VARIABLE} is {value!r}", "it is on or off", "Correct it, or unset it")
    if value == "off":
        return None
    signer: Signer | None = from_environment(SIGNER_VARIABLE)
    return signer or own_key()


def from_environment(variable: str) -> Any:
    """What a function gives that a variable names as "module:function"; None if it is not set. Raises RecipeError."""
    if not (value := os.environ.get(variable, "")):
        return None
    module, _, name = value.partition(":")
    needed, action = "module:function is needed, of a module that Python finds", "Correct it, or unset it"
    try:
        function: Callable[[], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as problem:
        raise RecipeError(f"{variable} is {value!r} ({problem})", needed, action) from problem
    return function()
