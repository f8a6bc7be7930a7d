"""A LoRA's file, of whatever program, read with suspicion -> what it adds to each layer of a model, by the file's own numbers.

Read are low-rank matrices, with DoRA's magnitudes, in the layouts of kohya's trainer, diffusers (also before it had PEFT) and
PEFT. Whatever else a file holds, and whatever has no place in the model, is refused by name.
Sources: kohya-ss/sd-scripts, networks/lora.py (alpha); KohakuBlueleaf/LyCORIS, modules/locon.py (lora_mid, dora_scale);
diffusers, utils/state_dict_utils.py and loaders/lora_base.py; PEFT, tuners/lora/layer.py.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.file_reading import UnreadableError, parse_json, read_json
from tenth.core.tensor_reading import check_numbers, read_tensors
from tenth.models.adapters.lora_names import PARTS, PEFT, TEXT_MODEL, names_in_files
from tenth.models.adapters.weight_deltas import LowRank, change_weights, fits, place

MOST = 4 << 30  # bytes of a file; the largest published ones, of rank 256 for SDXL, have about 3 GB
METADATA = "lora_adapter_metadata"  # diffusers' entry of a file: PEFT's settings of each part
BESIDE = "adapter_config.json"  # PEFT's own settings
# Ends of names: what a tensor is to its layer.
ENDS = {
    **dict.fromkeys((".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight"), "down"),
    **dict.fromkeys((".lora.down.weight", "_lora.down.weight", ".lora_linear_layer.down.weight"), "down"),
    **dict.fromkeys((".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight"), "up"),
    **dict.fromkeys((".lora.up.weight", "_lora.up.weight", ".lora_linear_layer.up.weight"), "up"),
    ".lora_mid.weight": "between",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
    **dict.fromkeys((".lora_magnitude_vector", ".lora_magnitude_vector.weight"), "rows"),
    ".lora_magnitude_vector.default.weight": "rows",
}
# What else such files hold, by what is in the names.
OTHERS = {
    ".hada_": "LoHa matrices",
    ".lokr_": "LoKr matrices",
    ".oft_": "OFT blocks",
    ".diff": "whole differences",
    "_norm": "changes of normalisation",
    ".bias": "biases",
    "bundle_emb": "embeddings of words",
}
FEW = 3  # names in one error
LONGEST = 500  # characters of a name
LARGEST = 1e9  # alpha; usual are 1 to 256
# Beginnings of PEFT's init_lora_weights with which matrices are added to another base than the model as published.
OTHER_BASES = ("corda", "loftq", "lora_ga", "olora", "pissa")


@dataclass(frozen=True)
class Settings:
    """What PEFT says beside the matrices. alphas: of layers whose names end so, where they differ from `alpha`.

    root: alpha is divided by the square root of the rank (Kalajdzievski 2023, arXiv:2312.03732), and not by the rank.
    """

    alpha: float
    alphas: Mapping[str, float]
    root: bool

    def factor(self, name: str, rank: int) -> float:
        """How often the product counts in the layer of this name."""
        path = f".{name}".replace(f".{TEXT_MODEL}", ".")
        alpha = next((alpha for end, alpha in self.alphas.items() if path.endswith(f".{end}")), self.alpha)
        return alpha / (math.sqrt(rank) if self.root else rank)


@dataclass(frozen=True, eq=False)
class LoraFile:
    """What a file says. matrices: by the names that it gives to layers."""

    path: Path
    matrices: Mapping[str, LowRank]

    def placed(self, pipeline: Any) -> dict[str, LowRank]:
        """The matrices by "part.path.weight" of a pipeline. Raises ModelError if any has no place, or one that another has."""
        names, placed = names_in_files(pipeline), dict[str, LowRank]()
        if strange := [name for name in self.matrices if name not in names]:
            raise _unusable(self.path, f"is for layers that this model does not have ({_few(strange)})")
        for said, matrices in self.matrices.items():
            shapes = {name: place(pipeline, f"{name}.weight").shape for name in names[said]}
            fitting = [name for name, shape in shapes.items() if fits(matrices.shape, shape)]
            if not fitting:
                theirs = " or ".join(str(tuple(shape)) for shape in shapes.values())
                raise _unusable(self.path, f"has {said} for a weight of {tuple(matrices.shape)}, where the model's is {theirs}")
            if len(fitting) > 1:
                raise _unusable(self.path, f"does not say which text encoder it is for: {said} fits {' and '.join(fitting)}")
            if f"{fitting[0]}.weight" in placed:
                raise _unusable(self.path, f"has {fitting[0]} twice, under two names")
            placed[f"{fitting[0]}.weight"] = matrices
        return placed

    def add_to(self, pipeline: Any) -> None:
        """Add it to a pipeline's weights, for good. Raises ModelError if it is not for them, before any is changed.

        Or, in between, if a sum is not finite: what the pipeline is then must not be used.
        """
        placed = self.placed(pipeline)
        try:
            change_weights(pipeline, placed)
        except UnreadableError as problem:
            raise _unusable(self.path, f"adds so much that the model {problem}") from problem


def read_lora(path: Path) -> LoraFile:
    """Read a LoRA's file, and PEFT's settings beside it where its names are PEFT's own.

    Raises ModelError for a file that is damaged, holds anything but low-rank matrices, or numbers that are none.
    """
    try:
        metadata, tensors = read_tensors(path, MOST, numbers=False)
        layers = _layers(tensors)
        check_numbers({name: tensor for name, tensor in tensors.items() if ENDS[_end(name)] != "alpha"}, floats=True)
        settings = _settings(path, metadata, layers)
        return LoraFile(path, {name: _matrices(name, parts, settings) for name, parts in layers.items()})
    except FileNotFoundError as problem:
        raise _unusable(path, "is not there") from problem
    except OSError as problem:
        raise _unusable(path, f"cannot be read ({problem.strerror})") from problem
    except UnreadableError as problem:
        raise _unusable(path, str(problem)) from problem


def _end(name: str) -> str:
    """What of a tensor's name says what it is; "" if nothing does."""
    return max((end for end in ENDS if name.endswith(end)), key=len, default="")


def _layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each layer, by ENDS. Raises UnreadableError unless each is known and there are both matrices."""
    if odd := [name for name in tensors if not name.isprintable() or len(name) > LONGEST]:
        raise UnreadableError(f"holds what has no name that a layer can have ({_few(odd)})")
    if odd := [name for name in tensors if not _end(name)]:
        kinds = sorted({kind for mark, kind in OTHERS.items() for name in odd if mark in name})
        raise UnreadableError(f"holds {', '.join(kinds) or 'what belongs to no LoRA'} ({_few(odd)})")
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        end = _end(name)
        parts = layers[name.removesuffix(end)]
        if ENDS[end] in parts:
            raise UnreadableError(f"has the {ENDS[end]} matrix of {name.removesuffix(end)} twice, under two names")
        parts[ENDS[end]] = tensor
    if halves := [name for name, parts in layers.items() if not {"down", "up"} <= parts.keys()]:
        raise UnreadableError(f"has not both matrices of {_few(halves)}")
    if not layers:
        raise UnreadableError("holds nothing")
    return dict(layers)


def _matrices(name: str, parts: Mapping[str, Tensor], settings: Mapping[str, Settings]) -> LowRank:
    """What the tensors of one layer add to it. settings: by the beginnings of the names that they are for."""
    try:
        matrices = LowRank(parts["down"], parts["up"], between=parts.get("between"))
        rank, ones = len(parts["down"]), [1] * len(matrices.shape)
        if {"magnitude", "rows"} <= parts.keys():
            raise ValueError("with two kinds of magnitudes")
        magnitude = parts.get("magnitude")
        if magnitude is not None:  # (out), (out, 1, ...) or (1, in, ...)
            magnitude = magnitude.reshape(*magnitude.shape, *ones[magnitude.ndim :])
        elif "rows" in parts:  # (out), or of a convolution (1, out, 1, 1)
            magnitude = parts["rows"].reshape(-1, *ones[1:])
        said = next((each for beginning, each in settings.items() if name.startswith(beginning)), None)
        factor = 1.0 if said is None else said.factor(name, rank)
        if "alpha" in parts:
            factor = _alpha(parts["alpha"]) / rank
        return replace(matrices, factor=factor, magnitude=magnitude)
    except ValueError as problem:
        raise UnreadableError(f"has matrices of {name} {problem}") from problem


def _alpha(tensor: Tensor) -> float:
    one = tensor.numel() == 1 and not tensor.is_complex() and tensor.dtype != torch.bool
    alpha = float(tensor.double()) if one else 0.0
    if alpha == 0 or not math.isfinite(alpha):  # of 0, kohya's trainer makes the rank, and ComfyUI nothing
        raise ValueError("with an alpha that is not one finite number other than 0")
    return alpha


def _settings(path: Path, metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, Settings]:
    """PEFT's settings by the beginnings of the names that they are for: of diffusers in the file, of PEFT itself beside it."""
    said = parse_json(metadata.get(METADATA, "{}"))
    if not isinstance(said, dict):
        raise UnreadableError(f"has no table as {METADATA}")
    tables: dict[str, Any] = {
        f"{part}.": {key.removeprefix(f"{part}."): value for key, value in said.items() if key.startswith(f"{part}.")}
        for part in PARTS
    }
    if any(name.startswith(PEFT) for name in names):
        try:
            tables[PEFT] = read_json(path.with_name(BESIDE))
        except FileNotFoundError as problem:
            raise UnreadableError(f"is PEFT's own, and {BESIDE}, which says how much it counts, is not beside it") from problem
        except UnreadableError as problem:
            raise UnreadableError(f"has a {BESIDE} beside it that {problem}") from problem
    tables[""] = {key: value for key, value in said.items() if not key.startswith(tuple(tables))}
    return {beginning: _read_settings(table) for beginning, table in tables.items() if table or beginning == PEFT}


def _read_settings(table: Any) -> Settings:
    if not isinstance(table, dict) or not isinstance(table.get("alpha_pattern") or {}, dict):
        raise UnreadableError("has settings of PEFT that are no tables")
    alphas: dict[str, Any] = table.get("alpha_pattern") or {}
    numbers: list[Any] = [table.get("lora_alpha"), *alphas.values()]
    if any(isinstance(each, bool) or not isinstance(each, int | float) or not 0 < abs(each) < LARGEST for each in numbers):
        raise UnreadableError("has settings of PEFT in which lora_alpha or alpha_pattern has no number")
    if odd := [key for key in alphas if not re.fullmatch(r"\^?[\w.]+", key)]:
        raise UnreadableError(f"has settings of PEFT in which alpha_pattern is for what is no name of a layer ({_few(odd)})")
    if base := [each for each in OTHER_BASES if str(table.get("init_lora_weights")).startswith(each)]:
        raise UnreadableError(f"was made with PEFT's {base[0]}, for a base that is not the model as published")
    ends = {f".{key.removeprefix('^')}".replace(f".{TEXT_MODEL}", ".")[1:]: float(value) for key, value in alphas.items()}
    return Settings(float(numbers[0]), ends, root=bool(table.get("use_rslora")))


def _few(names: Iterable[str]) -> str:
    said = [name if name.isprintable() and len(name) <= LONGEST else f"{ascii(name)[:50]}..." for name in names]
    more = f" and {len(said) - FEW} more" if len(said) > FEW else ""
    return ", ".join(said[:FEW]) + more


def _unusable(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path} {found}",
        "a LoRA of this model's family is needed: low-rank matrices as kohya's trainer, diffusers or PEFT write them",
        "Choose another, or convert it to safetensors in one of these layouts",
    )
