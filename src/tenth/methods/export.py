"""An identity as other programs read it: a LoRA file, image embeddings with their adapter, or a whole model."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tenth.core.errors import CheckpointError, IdentityError, ModelError
from tenth.core.files.claims import remove_temporary_of
from tenth.core.files.writing import PRIVATE_FILE_MODE, atomic_file, write_bytes, write_tensors
from tenth.core.types import DiffusionModel, Identity
from tenth.models.adapters.lora_layouts import to_diffusers_layout, to_kohya_layout
from tenth.models.adapters.low_rank_branch import has_packed_weights
from tenth.models.adapters.networks.registry import adapted_network
from tenth.models.pipelines import save_pipeline

LAYOUTS: Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "diffusers": to_diffusers_layout,  # `load_lora_weights`
    "kohya": to_kohya_layout,  # ComfyUI and A1111
}
COMFYUI_SUFFIX = ".ipadpt"


def export_lora(identity: Identity, path: Path, layout: str = "diffusers") -> None:
    """Write a LoRA file with its trigger phrase. Raises IdentityError for other weights, CheckpointError if the file exists."""
    _require_new(path)
    metadata = {"format": "pt", "modelspec.trigger_phrase": identity.trigger_phrase}
    write_tensors(path, LAYOUTS[layout](identity.weights), metadata, PRIVATE_FILE_MODE, no_overwrite=True)


def export_embeddings(identity: Identity, model: DiffusionModel, path: Path) -> list[Path]:
    """Write two files with which diffusers alone generates images of the person, and give their paths.

    `path`: safetensors with one tensor, ip_adapter_image_embeds, as diffusers 0.42.1 takes them: of a UNet (2, M, D) or
    (2, M, T, D), unconditional and the person's, for guidance; of FLUX.1 (1, M, D), of SD3.5 (2, T, D).
    NAME.ip-adapter.safetensors beside it: the adapter.
    Raises IdentityError if the identity is of another model, holds no embeddings or such as diffusers does not take,
    CheckpointError if a file exists.
    """
    adapter = path.with_name(f"{path.stem}.ip-adapter.safetensors")
    _require_new(path)
    embeddings = _embeddings(identity)
    model.validate(identity)
    model.ensure_adapter(identity.adapter)
    try:
        taken = adapted_network(model.adapters.network).pipeline_embeddings(embeddings, model.unconditional_like(embeddings))
    except ValueError as problem:
        action = "Pool the photos, as ip-adapter-consensus does, or generate the images here"
        raise IdentityError(f"this identity has {problem}", "embeddings that it takes are needed", action) from problem
    tensors = {"ip_adapter_image_embeds": taken}
    metadata = {"format": "pt", "encoder": identity.encoder, "adapter": identity.adapter}
    with model.adapters[identity.adapter].path.open("rb") as source, atomic_file(adapter, no_overwrite=True) as file:
        shutil.copyfileobj(source, file)
    write_tensors(path, tensors, metadata, PRIVATE_FILE_MODE, no_overwrite=True)
    return [path, adapter]


def export_comfyui(identity: Identity, path: Path) -> None:
    """Write the person's image embeddings as ComfyUI's node "IPAdapter Load Embeds" reads them: one tensor, by torch.save.

    CLIP's image embeddings before projection, (M, D), or of an adapter that reads patches the layer before the last, (M, T, D).
    Source: cubiq/ComfyUI_IPAdapter_plus, commit 9d076a3, IPAdapterPlus.py: IPAdapterEncoder, -SaveEmbeds, -LoadEmbeds, -Embeds.
    Raises IdentityError for embeddings that are not CLIP's, CheckpointError if the file exists.
    """
    _require_new(path)
    embeddings = _embeddings(identity)
    if not identity.encoder.startswith("clip"):
        found = f"this identity's embeddings are of {identity.encoder}"
        needed = "CLIP's are needed: ComfyUI has no adapter that reads others"
        raise IdentityError(found, needed, "Make it with a model of the Stable Diffusion families")
    content = io.BytesIO()
    torch.save(embeddings.cpu().contiguous().clone(), content)  # a clone: a view would bring all of its storage
    write_bytes(path, content.getvalue(), PRIVATE_FILE_MODE, no_overwrite=True)


def export_model(identity: Identity, model: DiffusionModel, folder: Path) -> None:
    """Write a folder for `from_pretrained`. Raises IdentityError if there are no weights, CheckpointError if it exists.

    ModelError if a transformer is kept in fewer bits than 32.
    """
    _require_new(folder)
    if not identity.weights:
        held = "photos in context" if identity.context else "embeddings"
        found = f"this identity of method {identity.method} holds {held} alone"
        action = "Make it with dreambooth or dreambooth-lora, or export it to a file that ends in .safetensors"
        raise IdentityError(found, "one with weights is needed for a model of its own", action)
    if model.family is not None:
        _require_float32(model.pipeline.transformer)
    with model.applied([identity]):
        save_pipeline(model.pipeline, folder)


def _require_float32(transformer: nn.Module) -> None:
    """Raises ModelError for weights in fewer bits, which are not those of the model as published."""
    whole = all(parameter.dtype == torch.float32 for parameter in transformer.parameters())
    if not whole or any(map(has_packed_weights, transformer.modules())):
        needed = "a whole model is written from weights in float32"
        action = "Export a LoRA to a file that ends in .safetensors, or set TENTH_MEMORY_PROFILE=float32"
        raise ModelError(f"the {type(transformer).__name__} is kept in fewer bits", needed, action)


def _embeddings(identity: Identity) -> Tensor:
    if identity.embeddings is None:
        held = "no weights, but photos in context" if identity.context and not identity.weights else "weights alone"
        found = f"this identity of method {identity.method} holds {held}"
        action = "Make it with a method of an adapter, or export the weights"
        raise IdentityError(found, "image embeddings are needed", action)
    return identity.embeddings


def _require_new(path: Path) -> None:
    if path.exists():
        raise CheckpointError(f"{path} exists", "a new path is needed, so that nothing is lost", "Choose another -o")
    remove_temporary_of(path)
