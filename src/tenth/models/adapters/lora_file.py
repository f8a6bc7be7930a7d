"""LoRA files of other programs, validated -> what they add to each layer of a model.

Supported are low-rank matrices, with DoRA's magnitudes, in the layouts of kohya's trainer, diffusers (also before it used PEFT)
and PEFT. Any other tensor, and any without a layer in the model, is refused by name.
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
from tenth.core.files.reading import UnreadableError, parse_json, read_json, reason
from tenth.core.files.tensors import check_finite_tensors, read_tensors
from tenth.core.wording import abbreviate, printable, shorten
from tenth.models.adapters.lora_names import PARTS, PEFT_PREFIX, TEXT_MODEL_PREFIX, layer_aliases
from tenth.models.adapters.weight_deltas import LowRankDelta, find_parameter, merge_weights, shapes_match

MAX_BYTES = 4 << 30  # bytes of a file; the largest published ones, of rank 256 for SDXL, have about 3 GB
METADATA_KEY = "lora_adapter_metadata"  # diffusers' entry of a file: PEFT's settings of each part
PEFT_CONFIG_FILE = "adapter_config.json"  # PEFT's own settings
# Ends of names: what a tensor is to its layer.
TENSOR_ROLES = {
    **dict.fromkeys((".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight"), "down"),
    **dict.fromkeys((".lora.down.weight", "_lora.down.weight", ".lora_linear_layer.down.weight"), "down"),
    **dict.fromkeys((".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight"), "up"),
    **dict.fromkeys((".lora.up.weight", "_lora.up.weight", ".lora_linear_layer.up.weight"), "up"),
    ".lora_mid.weight": "mid",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
    **dict.fromkeys((f".lora_magnitude_vector{end}" for end in ("", ".weight", ".default.weight")), "rows"),
}
# What else such files hold, by what is in the names.
# fmt: off
UNSUPPORTED_TENSORS = {
    ".hada_": "LoHa matrices",             ".lokr_": "LoKr matrices",  ".oft_":      "OFT blocks", ".diff": "whole differences",
    "_norm":  "changes of normalisation",  ".bias":  "biases",         "bundle_emb": "embeddings of words",
}
# fmt: on
MAX_NAME_CHARS, MAX_ALPHA = 500, 1e9  # of a name; of alpha: usual are 1 to 256
# Beginnings of PEFT's init_lora_weights with which matrices are added to another base than the model as published.
UNSUPPORTED_INITS = ("corda", "loftq", "lora_ga", "olora", "pissa")


@dataclass(frozen=True)
class PeftSettings:
    """PEFT's settings for the matrices. alpha_pattern: by suffixes of layers' names, where it differs from `alpha`.

    use_rslora: alpha is divided by the square root of the rank (Kalajdzievski 2023, arXiv:2312.03732), and not by the rank.
    """

    alpha: float
    alpha_pattern: Mapping[str, float]
    use_rslora: bool

    def scaling(self, name: str, rank: int) -> float:
        """How often the product counts in the layer of this name."""
        path = f".{_without_text_model(name)}"
        alpha = next((alpha for end, alpha in self.alpha_pattern.items() if path.endswith(f".{end}")), self.alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _without_text_model(path: str) -> str:
    return f".{path}".replace(f".{TEXT_MODEL_PREFIX}", ".")[1:]


@dataclass(frozen=True, eq=False)
class LoraFile:
    """The content of a file. matrices: by the file's names of layers."""

    path: Path
    matrices: Mapping[str, LowRankDelta]

    def match_layers(self, pipeline: Any) -> dict[str, LowRankDelta]:
        """The matrices by "part.path.weight" of a pipeline. Raises ModelError if any has no place, or one that another has."""
        names, placed = layer_aliases(pipeline), dict[str, LowRankDelta]()
        if unknown := [name for name in self.matrices if name not in names]:
            raise _unusable(self.path, f"is for layers that this model does not have ({_listed(unknown)})")
        for layer, matrices in self.matrices.items():
            shapes = {group: [find_parameter(pipeline, f"{name}.weight").shape for name in group] for group in names[layer]}
            stacked = {group: torch.Size([sum(each[0] for each in parts), *parts[0][1:]]) for group, parts in shapes.items()}
            fitting = [group for group, shape in stacked.items() if shapes_match(matrices.shape, shape)]
            if not fitting:
                theirs = " or ".join(str(tuple(shape)) for shape in stacked.values())
                found = f"has {layer} for a weight of {tuple(matrices.shape)}, where the model's is {theirs}"
                raise _unusable(self.path, found)
            if len(fitting) > 1:
                either = " and ".join(", ".join(group) for group in fitting)
                raise _unusable(self.path, f"does not say which text encoder it is for: {layer} fits {either}")
            try:
                parts = matrices.split([shape[0] for shape in shapes[fitting[0]]])
            except ValueError as problem:
                raise _unusable(self.path, f"has {layer} {problem}") from problem
            for name, part in zip(fitting[0], parts, strict=True):
                if f"{name}.weight" in placed:
                    raise _unusable(self.path, f"has {name} twice, under two names")
                placed[f"{name}.weight"] = part
        return placed

    def merge_into(self, pipeline: Any) -> None:
        """Add it to a pipeline's weights, for good. Raises ModelError if it is not for them, before any is changed.

        Or, in between, if a sum is not finite: what the pipeline is then must not be used.
        """
        matched = self.match_layers(pipeline)
        try:
            merge_weights(pipeline, matched)
        except UnreadableError as problem:
            raise _unusable(self.path, f"adds so much that the model {problem}") from problem


def load_lora(path: Path) -> LoraFile:
    """Read a LoRA's file, and PEFT's settings beside it where its names are PEFT's. Raises ModelError for any other file."""
    try:
        metadata, tensors = read_tensors(path, MAX_BYTES, finite_floats=False)
        layers = _layers(tensors)
        matrices = {name: tensor for name, tensor in tensors.items() if TENSOR_ROLES[_name_suffix(name)] != "alpha"}
        check_finite_tensors(matrices, floats_only=True)
        settings = _settings(path, metadata, layers)
        return LoraFile(path, {name: _matrices(name, parts, settings) for name, parts in layers.items()})
    except (OSError, UnreadableError) as problem:
        raise _unusable(path, reason(problem)) from problem


def _name_suffix(name: str) -> str:
    """The suffix of a tensor's name by which its role is known; "" if there is none."""
    return max((end for end in TENSOR_ROLES if name.endswith(end)), key=len, default="")


def _layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each layer, by TENSOR_ROLES. Raises UnreadableError unless each is known and there are both matrices."""
    if invalid := [name for name in tensors if not name.isprintable() or len(name) > MAX_NAME_CHARS]:
        raise UnreadableError(f"holds what has no name that a layer can have ({_listed(invalid)})")
    if invalid := [name for name in tensors if not _name_suffix(name)]:
        kinds = sorted({kind for mark, kind in UNSUPPORTED_TENSORS.items() for name in invalid if mark in name})
        raise UnreadableError(f"holds {', '.join(kinds) or 'what belongs to no LoRA'} ({_listed(invalid)})")
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        suffix = _name_suffix(name)
        layer, role = name.removesuffix(suffix), TENSOR_ROLES[suffix]
        if role in layers[layer]:
            raise UnreadableError(f"has the {role} matrix of {layer} twice, under two names")
        layers[layer][role] = tensor
    if incomplete := [name for name, parts in layers.items() if not {"down", "up"} <= parts.keys()]:
        raise UnreadableError(f"has not both matrices of {_listed(incomplete)}")
    if not layers:
        raise UnreadableError("holds nothing")
    return dict(layers)


def _matrices(name: str, parts: Mapping[str, Tensor], settings: Mapping[str, PeftSettings]) -> LowRankDelta:
    """What the tensors of one layer add to it. settings: by the beginnings of the names that they are for."""
    try:
        matrices = LowRankDelta(parts["down"], parts["up"], mid=parts.get("mid"))
        rank, ones = len(parts["down"]), [1] * len(matrices.shape)
        if {"magnitude", "rows"} <= parts.keys():
            raise ValueError("with two kinds of magnitudes")
        magnitude = parts.get("magnitude")
        if magnitude is not None:  # (out), (out, 1, ...) or (1, in, ...)
            magnitude = magnitude.reshape(*magnitude.shape, *ones[magnitude.ndim :])
        elif "rows" in parts:  # (out), or of a convolution (1, out, 1, 1)
            magnitude = parts["rows"].reshape(-1, *ones[1:])
        layer_settings = next((each for beginning, each in settings.items() if name.startswith(beginning)), None)
        scaling = 1.0 if layer_settings is None else layer_settings.scaling(name, rank)
        if "alpha" in parts:
            scaling = _alpha(parts["alpha"]) / rank
        return replace(matrices, scaling=scaling, magnitude=magnitude)
    except ValueError as problem:
        raise UnreadableError(f"has matrices of {name} {problem}") from problem


def _alpha(tensor: Tensor) -> float:
    one = tensor.numel() == 1 and not tensor.is_complex() and tensor.dtype != torch.bool
    alpha = float(tensor.double()) if one else 0.0
    if alpha == 0 or not math.isfinite(alpha):  # of 0, kohya's trainer makes the rank, and ComfyUI nothing
        raise ValueError("with an alpha that is not one finite number other than 0")
    return alpha


def _settings(path: Path, metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, PeftSettings]:
    """PEFT's settings by the beginnings of the names that they are for: of diffusers in the file, of PEFT itself beside it."""
    saved = parse_json(metadata.get(METADATA_KEY, "{}"))
    if not isinstance(saved, dict):
        raise UnreadableError(f"has no table as {METADATA_KEY}")
    tables: dict[str, Any] = {}
    for start in (f"{part}." for part in PARTS):
        tables[start] = {key.removeprefix(start): value for key, value in saved.items() if key.startswith(start)}
    if any(name.startswith(PEFT_PREFIX) for name in names):
        try:
            tables[PEFT_PREFIX] = read_json(path.with_name(PEFT_CONFIG_FILE))
        except FileNotFoundError as problem:
            raise UnreadableError(f"is PEFT's own, and {PEFT_CONFIG_FILE}, which has its alpha, is not beside it") from problem
        except UnreadableError as problem:
            raise UnreadableError(f"has a {PEFT_CONFIG_FILE} beside it that {problem}") from problem
    tables[""] = {key: value for key, value in saved.items() if not key.startswith(tuple(tables))}
    return {beginning: _parse_settings(table) for beginning, table in tables.items() if table or beginning == PEFT_PREFIX}


def _parse_settings(table: Any) -> PeftSettings:
    if not isinstance(table, dict) or not isinstance(table.get("alpha_pattern") or {}, dict):
        raise UnreadableError("has settings of PEFT that are no tables")
    alphas: dict[str, Any] = table.get("alpha_pattern") or {}
    numbers: list[Any] = [table.get("lora_alpha"), *alphas.values()]
    if any(isinstance(each, bool) or not isinstance(each, int | float) or not 0 < abs(each) < MAX_ALPHA for each in numbers):
        raise UnreadableError("has settings of PEFT in which lora_alpha or alpha_pattern has no number")
    if odd := [key for key in alphas if not re.fullmatch(r"\^?[\w.]+", key)]:
        raise UnreadableError(f"has settings of PEFT whose alpha_pattern is for what is no name of a layer ({_listed(odd)})")
    if base := [each for each in UNSUPPORTED_INITS if str(table.get("init_lora_weights")).startswith(each)]:
        raise UnreadableError(f"was made with PEFT's {base[0]}, for a base that is not the model as published")
    ends = {_without_text_model(key.removeprefix("^")): float(value) for key, value in alphas.items()}
    return PeftSettings(float(numbers[0]), ends, use_rslora=bool(table.get("use_rslora")))


def _listed(names: Iterable[str]) -> str:
    return abbreviate(shorten(printable(name)) for name in names)


def _unusable(path: Path, found: str) -> ModelError:
    needed = "a LoRA of this model's family is needed: low-rank matrices as kohya's trainer, diffusers or PEFT write them"
    return ModelError(f"{path} {found}", needed, "Choose another, or convert it to safetensors in one of these layouts")
