"""An identity with weights, as other programs read it: a LoRA file, or a whole model in diffusers' layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from tenth.diffusion import LatentDiffusion
from tenth.errors import CheckpointError, IdentityError
from tenth.pipelines import save_pipeline
from tenth.types import Identity
from tenth.weights import kohya_layout, lora_layout

LAYOUTS: Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "diffusers": lora_layout,  # `load_lora_weights`
    "kohya": kohya_layout,  # ComfyUI and A1111
}


def export_lora(identity: Identity, path: Path, layout: str = "diffusers") -> None:
    """Write a LoRA file, whole or not at all; its metadata name the words by which a prompt calls the person.

    Raises IdentityError if the identity holds other weights, CheckpointError if the file exists.
    """
    _is_new(path)
    weights = LAYOUTS[layout](identity.weights)
    metadata = {"format": "pt", "modelspec.trigger_phrase": identity.word}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(save(weights, metadata=metadata))
    partial.replace(path)


def export_model(identity: Identity, model: LatentDiffusion, folder: Path) -> None:
    """Write the model with the identity's weights in it, a folder that diffusers' `from_pretrained` loads.

    Raises IdentityError if the identity is of another model or holds no weights, CheckpointError if the folder exists.
    """
    _is_new(folder)
    if not identity.weights:
        raise IdentityError(
            f"this identity of method {identity.method} holds embeddings alone",
            "one with weights is needed for a model of its own",
            "Make it with dreambooth or dreambooth-lora",
        )
    with model.applied([identity]):
        save_pipeline(model.pipeline, folder)


def _is_new(path: Path) -> None:
    if path.exists():
        raise CheckpointError(f"{path} exists", "a new path is needed, so that nothing is lost", "Choose another -o")
