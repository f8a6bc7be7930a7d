"""A trained aggregator <-> aggregator.safetensors: its weights, and in one metadata entry what it is and was trained for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tenth.aggregate.attention import KINDS, Learned, kind_of
from tenth.errors import ModelError, RecipeError
from tenth.file_writing import write_tensors

FILE = "aggregator.safetensors"
METADATA = "tenth"
FORMAT = 1


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
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {})[METADATA])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if said["format"] != FORMAT:
            raise ValueError(f"format {said['format']}, this version reads {FORMAT}")
        module, settings = KINDS[said["kind"]]
        aggregator = module(said["width"], settings(**said["settings"]))  # type: ignore[arg-type]
        aggregator.load_state_dict(weights)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, RecipeError) as problem:
        raise ModelError(
            f"{path} cannot be read: {problem}", "an aggregator that `tenth train` wrote is needed", "Train or copy it again"
        ) from problem
    return Trained(aggregator.double().eval(), said["encoder"], said["adapter"])
