"""Low-rank matrices of an identity in the layouts that other programs read: of diffusers, and of kohya's trainers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.models.adapters.lora_names import canonical_name, kohya_key, kohya_name
from tenth.models.adapters.native_names import ARCHITECTURES, NativeLayer, native_layer
from tenth.models.adapters.weight_deltas import LORA_A, LORA_B, LowRankDelta

TRANSFORMER = "transformer."
USE_DIFFUSERS = "Use `--layout diffusers`, which ComfyUI reads too"


def to_diffusers_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that diffusers' `load_lora_weights` reads. Raises IdentityError for other weights."""
    invalid = next((name for name in weights if not name.endswith((LORA_A, LORA_B))), None)
    if invalid is not None or not weights:
        found = f"{invalid} is not a low-rank matrix" if invalid else "this identity holds embeddings alone"
        needed = "low-rank matrices are needed for a LoRA file"
        raise IdentityError(found, needed, "Make it with dreambooth-lora, or export a whole model")
    return {canonical_name(name): tensor.contiguous() for name, tensor in weights.items()}


def to_kohya_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that ComfyUI and A1111 read.

    Raises IdentityError for other weights, or if a transformer's cannot be told from another family's or lack a part.
    Source: the keys of kohya-ss's trainers: lora_unet_*, lora_te_* or lora_te1_* and lora_te2_*, lora_down, lora_up and alpha;
    a transformer's layers are named as in the code of its authors, which has several of diffusers' in one.
    """
    layers = to_diffusers_layout(weights)
    names = [name.removesuffix(LORA_A) for name in layers if name.endswith(LORA_A)]
    two_text_encoders = any(name.startswith("text_encoder_2.") for name in names)
    matrices = {name: LowRankDelta(layers[name + LORA_A], layers[name + LORA_B]) for name in names}

    # A transformer's under its authors' names, all others under their own.
    keyed = {
        kohya_name(name, two_text_encoders=two_text_encoders): each
        for name, each in matrices.items()
        if not name.startswith(TRANSFORMER)
    }
    paths = {name.removeprefix(TRANSFORMER): each for name, each in matrices.items() if name.startswith(TRANSFORMER)}
    keyed |= {kohya_key("lora_unet", layer.name): _stacked(layer, paths) for layer in _native_layers(list(paths))}
    tensors: dict[str, Tensor] = {}
    for key, each in keyed.items():
        tensors |= {f"{key}.lora_down.weight": each.down, f"{key}.lora_up.weight": each.up}
        tensors[f"{key}.alpha"] = torch.tensor(float(each.down.shape[0]))
    return tensors


def _native_layers(paths: list[str]) -> list[NativeLayer]:
    """The authors' layers for these paths of diffusers; those of a family that is not known are named by the paths."""
    found = [[native_layer(architecture, path) for path in paths] for architecture in ARCHITECTURES.values()]
    known = {tuple(dict.fromkeys(layers)) for layers in found if None not in layers}
    if len(known) > 1:
        needed = "layers of one family alone are needed: in kohya's layout each family names them in its own way"
        raise IdentityError(f"{paths[0]} and all others could be of several families", needed, USE_DIFFUSERS)
    (layers,) = known or {tuple(NativeLayer(path, (path,)) for path in paths)}
    return [layer for layer in layers if layer is not None]


def _stacked(layer: NativeLayer, matrices: Mapping[str, LowRankDelta]) -> LowRankDelta:
    """The matrices of a layer's parts as those of the layer: one above the other, each acting on its own rows."""
    if missing := [part for part in layer.parts if part not in matrices]:
        found = f"{layer.name} is in kohya's layout one layer, of which {missing[0]} was not trained"
        raise IdentityError(found, "matrices for all parts of a layer are needed", USE_DIFFUSERS)
    if len(layer.parts) == 1:
        return matrices[layer.parts[0]]
    parts = [matrices[part] for part in layer.parts]
    return LowRankDelta(torch.cat([part.down for part in parts]), torch.block_diag(*(part.up for part in parts)))
