"""Where the Inception network's weights come from: the standard file, or a seed for tests. Nothing else is ever opened.

The file is the only pickle that is read here: its sha256 is compared first, on the very bytes that are then unpickled.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import default_cache_dir
from tenth.core.errors import ModelError
from tenth.core.files import reading
from tenth.core.files.reading import UnreadableError, reason
from tenth.core.files.writing import move_file
from tenth.core.wording import shorten
from tenth.evaluation.extractors.inception import NUM_CLASSES, NUM_FEATURES, Inception, filter_shapes
from tenth.models.hub.transfer import TransferError, download_to, redact_url

FILE, BYTES = "pt_inception-2015-12-05-6726825d.pth", 95_628_359
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NAME = "inception-2015-12-05"  # its images are resized as TensorFlow 1 did
MAX_SEED = 2**63 - 1
RANDOM_PREFIX = "random:"
Weights = Mapping[str, Tensor]


def load_inception(source: str) -> Inception:
    """The network. source: the file's path; an address to download it from, once, into the store; or random:SEED.

    Raises ModelError if the file is missing, incomplete or another one, or if `source` is none of the three.
    """
    if source.startswith(RANDOM_PREFIX):
        return random_inception(source.removeprefix(RANDOM_PREFIX))
    # An address of whatever kind: what may hold a password is no path to be repeated in an error.
    path = download(source, default_cache_dir() / FILE) if "://" in source else Path(source)
    return Inception(f"{NAME}@{SHA256[:16]}", read_weights(path))


def read_weights(path: Path) -> Weights:
    """The tensors of the standard file. Raises ModelError if it is missing or another file, which is then not unpickled."""
    weights: Weights = torch.load(io.BytesIO(read_verified(path)), map_location="cpu", weights_only=True)
    return weights


def read_verified(path: Path) -> bytes:
    """The bytes of the standard file, after their number and sha256 matched. Raises ModelError if it is another file."""
    try:
        return reading.read_verified(path, SHA256, BYTES)
    except (OSError, UnreadableError) as problem:
        needed = f"the Inception file {FILE} has {BYTES:,} bytes and sha256 {SHA256}"
        action = "Give that file; docs/metrics.md says where it is"
        raise ModelError(f"{path} {reason(problem)}", needed, action) from problem


def download(address: str, path: Path) -> Path:
    """The standard file at `path`, from the address unless it is there already. What came of a broken download is gone on with.

    Raises ModelError if the address does not send all of it, or sends another file, which is then removed.
    """
    if path.is_file() and path.stat().st_size == BYTES:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    try:
        download_to(address, BYTES, partial)
    except TransferError as problem:
        kept = partial.stat().st_size if partial.is_file() else 0
        raise ModelError(
            f"{redact_url(address)} gave {kept:,} bytes ({problem})",
            f"the Inception file has {BYTES:,}",
            "Run the same command to go on, or download it otherwise and give its path",
        ) from problem
    try:
        read_verified(partial)
    except ModelError:
        partial.unlink()
        raise
    move_file(partial, path)
    return path


def random_inception(seed: str) -> Inception:
    """A network of the same layout with seeded weights, and the sentence that no figure by it may be without.

    Raises ModelError if the seed is not one.
    """
    if not (seed.isascii() and seed.isdigit() and len(seed) <= len(str(MAX_SEED)) and int(seed) <= MAX_SEED):
        needed = f"a whole number from 0 to {MAX_SEED} is needed"
        raise ModelError(f"{RANDOM_PREFIX}{shorten(seed)} has no seed", needed, f"Write {RANDOM_PREFIX}0")
    weights = random_weights(int(seed))
    digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()[:16]
    disclaimer = f"The Inception network has random weights ({RANDOM_PREFIX}{seed}): its FID, KID and IS mean nothing."
    return Inception(f"inception-random-{seed}@{digest}", weights, disclaimer)


def random_weights(seed: int) -> Weights:
    """Tensors by the names of the standard file, whose features differ between images and do not amplify rounding errors.

    Filters as in He et al. 2015, arXiv:1502.01852, eq. 10; batch normalisations near those that change nothing.
    """
    generator, weights = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for name, shape in filter_shapes():
        filters = torch.randn(shape, generator=generator)
        weights[f"{name}.conv.weight"] = filters * (2 / filters[0].numel()) ** 0.5
        for part, middle, spread in (("weight", 1, 0.1), ("bias", 0, 0.02), ("running_mean", 0, 0.02), ("running_var", 1, 0.1)):
            weights[f"{name}.bn.{part}"] = middle + spread * (2 * torch.rand(shape[0], generator=generator) - 1)
        weights[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
    classes = torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator)
    weights["fc.weight"] = classes * 24 / NUM_FEATURES**0.5  # logits that are about 1 apart
    weights["fc.bias"] = torch.randn(NUM_CLASSES, generator=generator)
    return weights
