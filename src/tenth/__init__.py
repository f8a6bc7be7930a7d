"""tenth makes new pictures of a person from a handful of photos. Nine photos in, the tenth out.

A method turns photos of a person into an identity. A generator turns an identity and a prompt into images.
A metric turns images and held-out photos into a number. A report turns numbers into a page.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenth.catalog import METHODS, METRICS, MODELS, load_model, method
    from tenth.encode.face import read_person
    from tenth.errors import TenthError
    from tenth.generate import Request, save_sample
    from tenth.generate import generate as draw
    from tenth.highres import HighRes
    from tenth.identity import load_identity, save_identity
    from tenth.sampling import Sampling

# name -> where it lives, with its name there if another (`tenth.generate` is the module); imported on use: --help is quick
_HOMES = {
    "METHODS": "tenth.catalog", "METRICS": "tenth.catalog", "MODELS": "tenth.catalog",
    "load_model": "tenth.catalog", "method": "tenth.catalog", "read_person": "tenth.encode.face",
    "Request": "tenth.generate", "draw": "tenth.generate:generate", "save_sample": "tenth.generate",
    "HighRes": "tenth.highres", "Sampling": "tenth.sampling", "TenthError": "tenth.errors",
    "load_identity": "tenth.identity", "save_identity": "tenth.identity",
}  # fmt: skip

__all__ = [
    "METHODS", "METRICS", "MODELS", "HighRes", "Request", "Sampling", "TenthError", "draw", "load_identity", "load_model",
    "method", "read_person", "save_identity", "save_sample",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenth' has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    return getattr(import_module(home), other or name)


def __dir__() -> list[str]:
    return __all__
