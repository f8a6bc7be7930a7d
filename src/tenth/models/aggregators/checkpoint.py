"""A trained aggregator <-> aggregator.safetensors: its weights, and in one metadata entry what it is and was trained for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenth.core.errors import ModelError, RecipeError
from tenth.core.file_reading import UnreadableError, parse_json, reason
from tenth.core.file_writing import write_tensors
from tenth.core.tensor_reading import read_tensors
from tenth.core.types import Encoder
from tenth.models.aggregators.self_attention import AttentionSettings, PhotoAttention
from tenth.models.aggregators.set_aggregator import SetAggregator, SetSettings

FILE = "aggregator.safetensors"
METADATA = "tenth"
FORMAT = 1
LARGEST_SETTING, MOST_LAYERS = 1 << 16, 64  # far above what is trained: what a file says is built before it is compared


@dataclass(frozen=True, eq=False)
class Trained:
    """An aggregator and the "name@digest" of the encoder whose embeddings it reads and of the adapter it feeds."""

    aggregator: Learned
    encoder: str
    adapter: str


def save_aggregator(trained: Trained, path: Path) -> None:
    """Write `path` whole or not at all."""
    kind, settings = kind_of(trained.aggregator)
    said = {"format": FORMAT, "kind": kind, "settings": settings, "width": trained.aggregator.width}
    said |= {"encoder": trained.encoder, "adapter": trained.adapter}
    write_tensors(path, trained.aggregator.state_dict(), {METADATA: json.dumps(said, sort_keys=True)})


def load_aggregator(path: Path) -> Trained:
    """In double precision, for use. Raises ModelError if the file is missing, damaged or another program's."""
    try:
        metadata, weights = read_tensors(path)
        said = parse_json(metadata.get(METADATA, "null"))
        if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in ("encoder", "adapter", "kind")):
            raise UnreadableError("has no description of tenth's")
        if said.get("format") != FORMAT:
            raise UnreadableError(f"has format {said.get('format')}, and this version reads {FORMAT}")
        aggregator = _built(said, weights)
    except (OSError, UnreadableError) as problem:
        raise ModelError(
            f"{path} {reason(problem)}", "an aggregator that `tenth train` wrote is needed", "Train or copy it again"
        ) from problem
    return Trained(aggregator.double().eval(), said["encoder"], said["adapter"])


def _built(said: dict[str, Any], weights: dict[str, Tensor]) -> Learned:
    """The module that a file describes, with its weights. Raises UnreadableError if the two do not fit."""
    module, kind = KINDS.get(said["kind"], (None, None))
    settings, width = said.get("settings"), said.get("width")
    if module is None or kind is None or not isinstance(settings, dict):
        raise UnreadableError(f"is of kind {said['kind']}, which this version does not know")
    usual = asdict(kind()) | {"width": 1}
    for name, value in {**settings, "width": width}.items():
        most = MOST_LAYERS if name == "layers" else LARGEST_SETTING
        if type(value) is not type(usual.get(name)) or (type(value) is int and not 0 < value <= most):
            raise UnreadableError(f"has {name} {value!s:.100}")
    try:
        with torch.device("meta"):  # nothing has memory until it is known that the file's shapes are the module's
            aggregator = module(width, kind(**settings))  # type: ignore[arg-type]
        aggregator.load_state_dict({name: weights[name] for name in sorted(weights)}, assign=True)
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, RecipeError) as problem:
        raise UnreadableError(f"does not hold what it says it holds ({str(problem).splitlines()[0]:.200})") from problem
    return aggregator


Learned = PhotoAttention | SetAggregator
KINDS: dict[str, tuple[type[PhotoAttention | SetAggregator], type[AttentionSettings | SetSettings]]] = {
    "attention": (PhotoAttention, AttentionSettings),
    "set": (SetAggregator, SetSettings),
}


def kind_of(aggregator: Learned) -> tuple[str, dict[str, Any]]:
    """Its name in KINDS and its settings as plain values."""
    kind = next(name for name, (of, _) in KINDS.items() if isinstance(aggregator, of))
    return kind, asdict(aggregator.settings)


def pooled_only(encoder: Encoder, what: str, model: str) -> None:
    """Raises ModelError if the encoder gives patch tokens: an aggregator of photos is learnt on one embedding a photo."""
    if encoder.tokens:
        raise ModelError(
            f"the adapter of {model.partition('@')[0]} reads {encoder.tokens} patch tokens of a photo",
            f"{what} reads one pooled embedding of each",
            "Choose a method that learns nothing, such as ip-adapter-consensus, or the model's pooled adapter",
        )
