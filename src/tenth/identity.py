"""Identity <-> person.safetensors: tensors and one metadata entry, JSON with sorted keys. Equal identities give equal bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tenth.errors import IdentityError
from tenth.file_writing import PRIVATE, write_tensors
from tenth.types import Identity

FORMAT = 1
METADATA = "tenth"
TEXTS = ("method", "model", "encoder", "adapter", "word")


def save_identity(identity: Identity, path: Path, *, new: bool = False) -> None:
    """Write `path` whole or not at all, for its owner alone to read. It holds no photo, no name and no time.

    new: nothing is replaced; a file of the very same identity stays. Raises DataError if the disk is full or refuses,
    CheckpointError if a new file is there and holds anything else.
    """
    said: dict[str, Any] = {key: getattr(identity, key) for key in TEXTS}
    said |= {"format": FORMAT, "photos": list(identity.photos)}
    tensors = {f"weights.{name}": tensor for name, tensor in identity.weights.items()}
    if identity.embeddings is not None:
        tensors["embeddings"] = identity.embeddings
    write_tensors(path, tensors, {METADATA: json.dumps(said, sort_keys=True)}, PRIVATE, new=new)


def load_identity(path: Path) -> Identity:
    """Raises IdentityError if the file is missing, truncated, not safetensors (a pickle, say), foreign or of another format."""
    if not path.is_file():
        raise IdentityError(f"{path} is not a file", "an identity that `tenth identity` wrote is needed", "Check the path")
    try:
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get(METADATA, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as problem:
        raise _unusable(path, f"is damaged or not safetensors ({problem})") from problem
    if not isinstance(said, dict):
        raise _unusable(path, "has no entry of tenth's: it is another program's file")
    if said.get("format") != FORMAT:
        raise _unusable(path, f"has format {said.get('format')}, this version reads {FORMAT}")
    return _identity(path, said, tensors)


def combined(learnt: Identity, adapted: Identity) -> Identity:
    """The weights of one identity and the embeddings of another, both of one person and model, in force together.

    Raises IdentityError if they were made for different models, or do not have the one and the other.
    """
    if learnt.model != adapted.model or not learnt.weights or adapted.embeddings is None or adapted.weights:
        raise IdentityError(
            f"{learnt.method} for {learnt.model} and {adapted.method} for {adapted.model}",
            "an identity with weights and one with embeddings, of one model, are needed",
            "Make the first with a method that trains, the second with an adapter",
        )
    photos = tuple(dict.fromkeys((*learnt.photos, *adapted.photos)))
    return replace(adapted, method=f"{learnt.method}+{adapted.method}", weights=learnt.weights, word=learnt.word, photos=photos)


def _identity(path: Path, said: dict[str, Any], tensors: dict[str, Tensor]) -> Identity:
    photos = said.get("photos")
    if not all(isinstance(said.get(key), str) for key in TEXTS) or not isinstance(photos, list):
        raise _unusable(path, "lacks part of its description")
    embeddings = tensors.pop("embeddings", None)
    if embeddings is not None and embeddings.ndim not in (2, 3):
        raise _unusable(path, f"has embeddings of shape {tuple(embeddings.shape)}, neither (M, D) nor (M, T, D)")
    if embeddings is None and not tensors:
        raise _unusable(path, "holds neither embeddings nor weights")
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items()}
    return Identity(**{key: said[key] for key in TEXTS}, embeddings=embeddings, weights=weights, photos=tuple(photos))


def _unusable(path: Path, found: str) -> IdentityError:
    return IdentityError(
        f"{path} {found}", "a whole identity file of this version is needed", "Make it again with `tenth identity`"
    )
