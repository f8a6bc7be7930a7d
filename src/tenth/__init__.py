"""tenth makes new pictures of a person from a handful of photos. Nine photos in, the tenth out.

A method turns photos of a person into an identity. A generator turns an identity and a prompt into images.
A metric turns images and held-out photos into a number. A report turns numbers into a page.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tenth.core.threads import set_wait_policy

if TYPE_CHECKING:
    from tenth.core.errors import TenthError
    from tenth.core.files.png_metadata import save_sample
    from tenth.data.photo_folder import read_person
    from tenth.evaluation.candidates import rank_samples
    from tenth.evaluation.registry import METRICS
    from tenth.experiments.generation.request import ImageRequest
    from tenth.experiments.generation.run import generate_images
    from tenth.methods.identity_file import load_identity, save_identity
    from tenth.methods.registry import METHODS, method
    from tenth.models.registry import MODELS, load_model
    from tenth.sampling.config import SamplingConfig
    from tenth.sampling.generate import Request, generate
    from tenth.sampling.passes.hires import HiresConfig
    from tenth.sampling.passes.start_image import StartImage

# name -> where it lives, with its name there if it has another; imported on use, so that --help is quick
_HOMES = {
    "METHODS": "tenth.methods.registry", "METRICS": "tenth.evaluation.registry", "MODELS": "tenth.models.registry",
    "load_model": "tenth.models.registry", "method": "tenth.methods.registry", "read_person": "tenth.data.photo_folder",
    "rank_samples": "tenth.evaluation.candidates",
    "ImageRequest": "tenth.experiments.generation.request", "generate_images": "tenth.experiments.generation.run",
    "Request": "tenth.sampling.generate", "generate": "tenth.sampling.generate",
    "save_sample": "tenth.core.files.png_metadata",
    "HiresConfig": "tenth.sampling.passes.hires", "SamplingConfig": "tenth.sampling.config", "TenthError": "tenth.core.errors",
    "StartImage": "tenth.sampling.passes.start_image",
    "load_identity": "tenth.methods.identity_file", "save_identity": "tenth.methods.identity_file",
}  # fmt: skip

set_wait_policy()

__all__ = [
    "METHODS", "METRICS", "MODELS", "HiresConfig", "ImageRequest", "Request", "SamplingConfig", "StartImage", "TenthError",
    "generate", "generate_images", "load_identity", "load_model", "method", "rank_samples", "read_person", "save_identity",
    "save_sample",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenth' has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    return getattr(import_module(home), other or name)


def __dir__() -> list[str]:
    return __all__
