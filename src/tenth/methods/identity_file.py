"""Identity <-> person.safetensors: tensors and one metadata entry, JSON with sorted keys. Equal identities give equal bytes.

Tensors: `embeddings`; `weights.NAME`, learnt ones; `context.NAME`, photos as a transformer reads them, of which the entry says
that they are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import IdentityError
from tenth.core.files.reading import UnreadableError, parse_json, reason
from tenth.core.files.tensors import read_header, read_tensors
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_tensors
from tenth.core.types import Identity
from tenth.core.wording import printable

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
METADATA_KEY = "tenth"
# For whoever finds the file, and for programs that look for such files.
NOTICE, NOTICE_OF_PHOTOS = "biometric data of a person", "photos of a person, which can be seen again; biometric data"
TEXT_FIELDS = ("method", "model", "encoder", "adapter", "trigger_phrase")
MAX_TEXT_LENGTH, MAX_PHOTOS = 1_000, 100_000  # characters of one of them; digests of photos
MAX_EMBEDDING_VALUES = 1 << 28  # in embeddings: a thousand photos of the widest encoder's patches have as many
MAX_CONTEXT_VALUES = 1 << 26  # in all photos in context: ten of the largest that a family reads have a third of them
CONTEXT = "context."


@dataclass(frozen=True)
class IdentityMetadata:
    """What an identity file says of itself; the fields are those of `Identity`. contains_photos: which anybody can see."""

    method: str
    model: str
    encoder: str
    adapter: str
    trigger_phrase: str
    photos: tuple[str, ...]
    photo_weights: tuple[float, ...] = ()
    contains_photos: bool = False


def save_identity(identity: Identity, path: str | Path, *, new: bool = False, with_photos: bool = False) -> None:
    """Write `path` whole or not at all, for its owner alone to read. It holds no name and no time, but a notice.

    new: nothing else is replaced. with_photos: whether it may hold photos, which an identity of photos in context does; others
    hold none. Raises IdentityError for photos that were not asked for, DataError if the disk is full or refuses,
    CheckpointError if another file is there.
    """
    if identity.context and not with_photos:
        raise photos_unasked(identity.method)
    fields: dict[str, Any] = {key: getattr(identity, key) for key in TEXT_FIELDS}
    fields |= {"format": FORMAT, "photos": list(identity.photos), "notice": NOTICE_OF_PHOTOS if identity.context else NOTICE}
    if identity.context:
        fields["contains_photos"] = True
    if identity.photo_weights:
        fields["photo_weights"] = list(identity.photo_weights)
    tensors: dict[str, Tensor] = {f"weights.{name}": tensor for name, tensor in identity.weights.items()}
    tensors |= {f"{CONTEXT}{name}": tensor for name, tensor in identity.context.items()}
    if identity.embeddings is not None:
        tensors["embeddings"] = identity.embeddings
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(fields, sort_keys=True)}, PRIVATE_FILE_MODE, no_overwrite=new)


def photos_note(identity: Identity, path: Path) -> tuple[str, ...]:
    """What to say of a file that was read: that it contains photos; () if it contains none."""
    contains = f"{printable(path.name)} contains photos of the person, as the model reads them: keep it as you keep the photos"
    return (contains,) if identity.context else ()


def photos_unasked(method: str) -> IdentityError:
    """The error for a file with photos in it that nobody asked for."""
    found = f"an identity of {method} contains the photos that it is made of, as the model reads them"
    needed = "whoever has the file can see them, so that they are to be asked for"
    return IdentityError(found, needed, "Add --with-photos (in Python: with_photos=True), or choose another method")


def read_identity_metadata(path: str | Path) -> IdentityMetadata:
    """What a file says of itself, of which no tensor is read. Needs no torch.

    Raises IdentityError if the file is missing, truncated, not safetensors (a pickle, say), foreign or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise IdentityError(f"{path} is not a file", "an identity that `tenth identity` wrote is needed", "Check the path")
    try:
        header, tensors = read_header(path)
        fields = parse_json(header.get(METADATA_KEY, "null"))
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
    contains_photos = any(name.startswith(CONTEXT) for name in tensors)
    if fields.get("contains_photos", False) is not contains_photos:
        raise _unusable(path, f"has {'photos' if contains_photos else 'no photos'} in it, and says otherwise")
    texts_by_key = {key: fields[key] for key in TEXT_FIELDS}
    return IdentityMetadata(**texts_by_key, photos=tuple(photos), photo_weights=tuple(shares), contains_photos=contains_photos)


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
    context = {name.removeprefix(CONTEXT): tensors.pop(name) for name in list(tensors) if name.startswith(CONTEXT)}
    embeddings = tensors.pop("embeddings", None)
    if embeddings is None and not tensors and not context:
        raise _unusable(path, "holds neither embeddings nor weights nor photos")
    if any(tensor.numel() == 0 for tensor in context.values()) or _num_values(context) > MAX_CONTEXT_VALUES:
        raise _unusable(path, f"has photos of {_num_values(context)} numbers")
    if embeddings is not None and embeddings.ndim not in (2, 3):
        raise _unusable(path, f"has embeddings of shape {tuple(embeddings.shape)}, neither (M, D) nor (M, T, D)")
    if embeddings is not None and not 0 < embeddings.numel() <= MAX_EMBEDDING_VALUES:
        raise _unusable(path, f"has embeddings of {embeddings.numel()} numbers")
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items()}
    if len(weights) < len(tensors):
        raise _unusable(path, "has a tensor twice")
    weight_deltas(weights)  # raises for what is none
    fields = asdict(metadata)
    del fields["contains_photos"]
    return Identity(**fields, embeddings=embeddings, weights=weights, context=context)


def _num_values(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _unusable(path: Path, fault: str) -> IdentityError:
    needed = "a whole identity file of this version is needed"
    return IdentityError(f"{path} {fault}", needed, "Make it again with `tenth identity`")
