"""Identity <-> person.safetensors: tensors and one metadata entry, JSON with sorted keys. Equal identities give equal bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import IdentityError
from tenth.core.files.reading import UnreadableError, parse_json, reason
from tenth.core.files.tensors import read_header, read_tensors
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_tensors
from tenth.core.types import Identity

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
METADATA_KEY = "tenth"
NOTICE = "biometric data of a person"  # for whoever finds the file, and for programs that look for such files
TEXT_FIELDS = ("method", "model", "encoder", "adapter", "trigger_phrase")
MAX_TEXT_LENGTH, MAX_PHOTOS = 1_000, 100_000  # characters of one of them; digests of photos
MAX_EMBEDDING_VALUES = 1 << 28  # in embeddings: a thousand photos of the widest encoder's patches have as many


@dataclass(frozen=True)
class IdentityMetadata:
    """What an identity file says of itself; the fields are those of `Identity`."""

    method: str
    model: str
    encoder: str
    adapter: str
    trigger_phrase: str
    photos: tuple[str, ...]
    photo_weights: tuple[float, ...] = ()


def save_identity(identity: Identity, path: str | Path, *, new: bool = False) -> None:
    """Write `path` whole or not at all, for its owner alone to read. It holds no photo, no name and no time, but a notice.

    new: nothing else is replaced. Raises DataError if the disk is full or refuses, CheckpointError if another file is there.
    """
    fields: dict[str, Any] = {key: getattr(identity, key) for key in TEXT_FIELDS}
    fields |= {"format": FORMAT, "photos": list(identity.photos), "notice": NOTICE}
    if identity.photo_weights:
        fields["photo_weights"] = list(identity.photo_weights)
    tensors: dict[str, Tensor] = {f"weights.{name}": tensor for name, tensor in identity.weights.items()}
    if identity.embeddings is not None:
        tensors["embeddings"] = identity.embeddings
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(fields, sort_keys=True)}, PRIVATE_FILE_MODE, no_overwrite=new)


def read_identity_metadata(path: str | Path) -> IdentityMetadata:
    """What a file says of itself, of which no tensor is read. Needs no torch.

    Raises IdentityError if the file is missing, truncated, not safetensors (a pickle, say), foreign or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise IdentityError(f"{path} is not a file", "an identity that `tenth identity` wrote is needed", "Check the path")
    try:
        fields = parse_json(read_header(path)[0].get(METADATA_KEY, "null"))
    except (OSError, UnreadableError) as problem:
        raise _unusable(path, reason(problem)) from problem
    if not isinstance(fields, dict):
        raise _unusable(path, "has no entry of tenth's: it is another program's file")
    if fields.get("format") != FORMAT:
        raise _unusable(path, f"has format {fields.get('format')}, this version reads {FORMAT}")

    # Its texts, and a weight for each photo or for none.
    photos = fields.get("photos")
    texts = [*(fields.get(key) for key in TEXT_FIELDS), *(photos[:MAX_PHOTOS] if isinstance(photos, list) else [None])]
    if not isinstance(photos, list) or not all(isinstance(text, str) and len(text) <= MAX_TEXT_LENGTH for text in texts):
        raise _unusable(path, "lacks part of its description")
    if len(photos) > MAX_PHOTOS:
        raise _unusable(path, "has more photos than any identity")
    shares = fields.get("photo_weights", [])
    if (
        not isinstance(shares, list)
        or len(shares) not in (0, len(photos))
        or not all(type(share) in (int, float) for share in shares)
    ):
        raise _unusable(path, "has other photo weights than photos")
    texts_by_key = {key: fields[key] for key in TEXT_FIELDS}
    return IdentityMetadata(**texts_by_key, photos=tuple(photos), photo_weights=tuple(shares))


def load_identity(path: str | Path) -> Identity:
    """Raises IdentityError as `read_identity_metadata`.

    Also if what it holds is not what an identity holds: finite floating-point numbers, by the names of weight_deltas.py.
    """
    from tenth.models.adapters.weight_deltas import weight_deltas

    path = Path(path)
    metadata = read_identity_metadata(path)
    try:
        _, tensors = read_tensors(path)
    except (OSError, UnreadableError) as problem:
        raise _unusable(path, reason(problem)) from problem
    embeddings = tensors.pop("embeddings", None)
    if embeddings is None and not tensors:
        raise _unusable(path, "holds neither embeddings nor weights")
    if embeddings is not None and embeddings.ndim not in (2, 3):
        raise _unusable(path, f"has embeddings of shape {tuple(embeddings.shape)}, neither (M, D) nor (M, T, D)")
    if embeddings is not None and not 0 < embeddings.numel() <= MAX_EMBEDDING_VALUES:
        raise _unusable(path, f"has embeddings of {embeddings.numel()} numbers")
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items()}
    if len(weights) < len(tensors):
        raise _unusable(path, "has a tensor twice")
    weight_deltas(weights)  # raises for what is none
    return Identity(**asdict(metadata), embeddings=embeddings, weights=weights)


def _unusable(path: Path, fault: str) -> IdentityError:
    needed = "a whole identity file of this version is needed"
    return IdentityError(f"{path} {fault}", needed, "Make it again with `tenth identity`")
