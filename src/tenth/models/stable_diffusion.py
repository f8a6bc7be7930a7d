"""Models of the Stable Diffusion 1.5 and SDXL families, from a local folder with everything in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tenth.core.cache import Store
from tenth.core.errors import ModelError
from tenth.core.file_reading import digest_of, name_of, without_litter
from tenth.core.wording import few
from tenth.models.adapters.ip_adapter import reads_patches
from tenth.models.aggregators.checkpoint import FILE
from tenth.models.encoders.clip import ClipEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.footprint import read_sizes
from tenth.models.memory.half_precision import narrow
from tenth.models.memory.planner import ANY, Fit, Use, fitted
from tenth.models.memory.system import this_machine
from tenth.models.pipeline_parts import kind_of
from tenth.models.pipelines import load_pipeline, precision, quiet, stays_mapped

ADAPTER = "ip-adapter/ip-adapter.safetensors"
IMAGE_ENCODER = "image_encoder"
WEIGHTS = ("text_encoder", "text_encoder_2", "unet", "vae")  # the parts whose digest is the model's


def load_stable(
    folder: Path,
    adapter: Path | None = None,
    use: Use = ANY,
    tell: Callable[[str], None] | None = None,
    store: Store | None = None,
    lora: Path | None = None,
) -> LatentDiffusion:
    """A folder in diffusers' layout, with a CLIP vision model in image_encoder/ and its adapter in ip-adapter/.

    adapter: another file, of any published kind; an image_encoder/ beside it, if there is one, is what it reads. store: where
    photo embeddings are kept, if anywhere. lora: a file whose matrices are added to the weights; the model's name then says so.
    It is loaded on the first rung that fits this machine (memory.py), of which `tell` hears a line before. Raises ModelError
    if a part is missing or damaged, no rung fits, or the adapter is for another encoder or UNet.
    """
    chosen = adapter or folder / ADAPTER
    beside = chosen.parent / IMAGE_ENCODER
    encoder = beside if beside.is_dir() else folder / IMAGE_ENCODER
    needed = f"a diffusers folder with a CLIP vision model in {IMAGE_ENCODER}/ and an adapter as {ADAPTER}"
    parts = {"model_index.json": folder / "model_index.json", IMAGE_ENCODER: encoder, ADAPTER: chosen}
    if missing := [part for part, path in parts.items() if not path.exists() and path != adapter]:
        raise ModelError(f"{folder} has no {few(missing)}", needed, "Copy the missing parts into it")
    kind_of(folder)
    patches = reads_patches(chosen)
    fit = fitted(read_sizes(folder, encoder, chosen), use, this_machine())
    if tell is not None and fit.announced:
        tell(fit.announced)
    pipeline = load_pipeline(folder, fit, lora)
    weights = without_litter(folder, (path for part in WEIGHTS for path in (folder / part).glob("*.safetensors")))
    trained = {path.parent.name: path.parent for path in without_litter(folder, folder.glob(f"*/{FILE}"))}
    own = name_of(folder.resolve())
    name = f"{own}@{digest_of(sorted(weights))}"
    if lora is not None:
        name = f"{own}+{name_of(lora.with_suffix(''))}@{digest_of([*sorted(weights), lora])}"
    with quiet():
        reader = ClipEncoder(encoder, precision(encoder, fit), store, patches=patches)
    place_encoder(reader, fit)
    return LatentDiffusion(pipeline, name, reader, chosen, trained, fit)


def place_encoder(encoder: ClipEncoder, fit: Fit) -> None:
    """Put the image encoder on a rung. Where weights are off-loaded it stays on the CPU: it runs once for each photo."""
    if fit.device != "cpu" and not fit.rung.offloaded:
        encoder.model.to(fit.device)
    elif fit.rung.weights != "float32" and not stays_mapped(encoder.model, fit):
        narrow(encoder.model)
