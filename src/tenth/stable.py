"""Models of the Stable Diffusion 1.5 and SDXL families, from a local folder with everything in it."""

from __future__ import annotations

from pathlib import Path

from tenth.adapter import digest_of
from tenth.aggregate.saved import FILE
from tenth.diffusion import LatentDiffusion
from tenth.encode.clip import ClipEncoder
from tenth.errors import ModelError
from tenth.pipelines import load_pipeline

ADAPTER = "ip-adapter/ip-adapter.safetensors"
IMAGE_ENCODER = "image_encoder"


def load_stable(folder: Path) -> LatentDiffusion:
    """A folder in diffusers' layout, with a CLIP vision model in image_encoder/ and its adapter in ip-adapter/.

    Raises ModelError if a part is missing or damaged, or the adapter is for another encoder or UNet.
    """
    needed = f"a diffusers folder with a CLIP vision model in {IMAGE_ENCODER}/ and an adapter as {ADAPTER}"
    missing = [part for part in ("model_index.json", IMAGE_ENCODER, ADAPTER) if not (folder / part).exists()]
    if missing:
        raise ModelError(f"{folder} has no {', '.join(missing)}", needed, "Copy the missing parts into it")
    pipeline = load_pipeline(folder)
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    weights = [path for part in parts for path in (folder / part).glob("*.safetensors")]
    trained = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{FILE}"))}
    name = f"{folder.resolve().name}@{digest_of(sorted(weights))}"
    return LatentDiffusion(pipeline, name, ClipEncoder(folder / IMAGE_ENCODER), folder / ADAPTER, trained)
