"""A trained aggregator <-> aggregator.safetensors: its weights, and in one metadata entry what it is and was trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenth.core.errors import ModelError, RecipeError
from tenth.core.files.reading import UnreadableError, parse_json, reason
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import write_tensors
from tenth.core.types import Encoder
from tenth.models.aggregators.self_attention import MAX_DIM, SelfAttentionAggregator, SelfAttentionConfig
from tenth.models.aggregators.set_aggregator import SetAggregator, SetAggregatorConfig

AGGREGATOR_FILE = "aggregator.safetensors"
METADATA_KEY = "tenth"
FORMAT_VERSION = 1
LearnedAggregator = SelfAttentionAggregator | SetAggregator
AGGREGATOR_TYPES: Mapping[str, tuple[Any, Any]] = {
    "attention": (SelfAttentionAggregator, SelfAttentionConfig),
    "set": (SetAggregator, SetAggregatorConfig),
}


@dataclass(frozen=True, eq=False)
class AggregatorCheckpoint:
    """An aggregator and the "name@digest" of the encoder whose embeddings it reads and of the adapter it feeds."""

    aggregator: LearnedAggregator
    encoder: str
    adapter: str


def save_aggregator(checkpoint: AggregatorCheckpoint, path: Path) -> None:
    """Write `path` whole or not at all."""
    aggregator = checkpoint.aggregator
    kind = next(name for name, (cls, _) in AGGREGATOR_TYPES.items() if isinstance(aggregator, cls))
    metadata = {"format": FORMAT_VERSION, "kind": kind, "settings": asdict(aggregator.config)}
    metadata |= {"width": aggregator.embedding_dim, "encoder": checkpoint.encoder, "adapter": checkpoint.adapter}
    write_tensors(path, aggregator.state_dict(), {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def load_aggregator(path: Path) -> AggregatorCheckpoint:
    """In double precision, for use. Raises ModelError if the file is missing, damaged or another program's."""
    try:
        metadata, weights = read_tensors(path)
        description = parse_json(metadata.get(METADATA_KEY, "null"))
        texts = [description.get(key) for key in ("encoder", "adapter", "kind")] if isinstance(description, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise UnreadableError("has no description of tenth's")
        if description.get("format") != FORMAT_VERSION:
            raise UnreadableError(f"has format {description.get('format')}, and this version reads {FORMAT_VERSION}")
        aggregator = _build_aggregator(description, weights)
    except (OSError, UnreadableError) as problem:
        needed = "an aggregator that `tenth train` wrote is needed"
        raise ModelError(f"{path} {reason(problem)}", needed, "Train or copy it again") from problem
    return AggregatorCheckpoint(aggregator.double().eval(), description["encoder"], description["adapter"])


def _build_aggregator(description: dict[str, Any], weights: dict[str, Tensor]) -> LearnedAggregator:
    """The module that a file describes, with its weights. Raises UnreadableError if the two do not fit."""
    aggregator_class, config_class = AGGREGATOR_TYPES.get(description["kind"], (None, None))
    settings, width = description.get("settings"), description.get("width")
    if config_class is None or not isinstance(settings, dict):
        raise UnreadableError(f"is of kind {description['kind']}, which this version does not know")
    if type(width) is not int or not 0 < width <= MAX_DIM:
        raise UnreadableError(f"has width {width!s:.100}")
    try:
        with torch.device("meta"):  # nothing has memory until it is known that the file's shapes are the module's
            aggregator: LearnedAggregator = aggregator_class(width, config_class(**settings))
        aggregator.load_state_dict({name: weights[name] for name in sorted(weights)}, assign=True)
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, RecipeError) as problem:
        raise UnreadableError(f"has weights that do not fit its description ({str(problem).splitlines()[0]:.200})") from problem
    return aggregator


def require_pooled_embeddings(encoder: Encoder, consumer: str, model: str) -> None:
    """Raises ModelError if the encoder gives patch tokens: aggregators are trained on one embedding for each photo."""
    if encoder.num_tokens:
        found = f"the adapter of {model.partition('@')[0]} reads {encoder.num_tokens} patch tokens of a photo"
        action = "Choose a method that learns nothing, such as ip-adapter-consensus, or the model's pooled adapter"
        raise ModelError(found, f"{consumer} reads one pooled embedding of each", action)
