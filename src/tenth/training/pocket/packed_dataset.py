"""A step's examples in one small file, and minutes of a large GPU spent on them: where there are no photos and no dlib.

`recipes/gpu-minutes.sh` is the command; it says what goes where.
"""

from __future__ import annotations

import lzma
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from tenth.core.cache import Store, default_store
from tenth.core.config import from_table, read_toml
from tenth.core.errors import CheckpointError
from tenth.core.file_writing import write_bytes, write_tensors
from tenth.core.rng import Draws
from tenth.models.adapters.ip_adapter import install_adapter, untrained_adapter
from tenth.models.pocket.paths import CONFIGS
from tenth.training.averages import average_in, keys
from tenth.training.checkpoint import load_checkpoint
from tenth.training.distributed import processes
from tenth.training.pocket.augmentation import tell
from tenth.training.pocket.autoencoder import open_autoencoder
from tenth.training.pocket.dataset import Changed, Examples, means_of_others
from tenth.training.pocket.diffusion import DiffusionRecipe, Prepared, denoising_loss, learn, prepared
from tenth.training.pocket.export import write_model
from tenth.training.pocket.modules import Trainable
from tenth.training.schedule import Schedule

EXAMPLES, WEIGHTS, RECIPE = "examples.xz", "weights.safetensors", "recipe.toml"
STEPS = {
    "latents": 0.18,
    "embeddings": 0.05,
}  # to which values are rounded: no more than the noise that the decoder has learnt to bear
VAE = CONFIGS / "vae/diffusion_pytorch_model.safetensors"
TRIED = 12  # steps by which the speed is measured
KEPT = 0.92  # share of the time that is planned for


def pack(recipe_file: Path, run: Path | None, folder: Path) -> None:
    """What a run of this recipe reads, in a fifth of the room, and the weights to go on from, into a folder.

    run: its newest checkpoint's average, in half precision; without one the weights with which the recipe begins.
    """
    recipe = from_table(DiffusionRecipe, read_toml(recipe_file), str(recipe_file))
    made = prepared(recipe, Store(default_store()))
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / EXAMPLES, packed(made))
    write_bytes(folder / RECIPE, recipe_file.read_bytes())
    modules = {"unet": made.parts.unet, "text_encoder": made.parts.text_encoder}
    weights = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    if run is not None:
        checkpoint = load_checkpoint(run)
        if checkpoint is None:
            raise CheckpointError(f"{run} holds no checkpoint", "one is needed to go on from", "Give the folder of a run")
        weights |= average_in(checkpoint.tensors, "average")
    write_tensors(
        folder / WEIGHTS, {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    )


def packed(made: Prepared) -> bytes:
    """Examples, rounded to eight bits and compressed."""
    examples = made.examples
    tensors = {name: _rounded(getattr(examples, name), step) for name, step in STEPS.items()}
    tensors["latents"] = tensors["latents"].transpose(0, 2)  # (8, 2, N, 16, 16): a channel's values together
    tensors |= {"tokens": examples.tokens.short(), "others": examples.others.int(), "seen": made.seen.int()}
    return lzma.compress(save({name: value.contiguous() for name, value in tensors.items()}), preset=1)


def unpacked(content: bytes) -> tuple[Examples, Tensor]:
    """What `packed` was given, as near as it is kept: examples, and the numbers of photos that are seen."""
    tensors = load(lzma.decompress(content))
    embeddings, others = tensors["embeddings"] * STEPS["embeddings"], tensors["others"].long()
    examples = Examples(
        latents=tensors["latents"].transpose(0, 2) * STEPS["latents"],
        embeddings=embeddings,
        tokens=tensors["tokens"].long(),
        others=others,
        several=means_of_others(embeddings, others),
    )
    return examples, tensors["seen"].long()


def spend(folder: Path, output: Path, seconds: float, batch: int, rate: float) -> None:
    """Train for about so many seconds on what `pack` wrote, and write the averaged weights to `output`, in half precision.

    The speed of some steps says how many images there is time for; the rate falls to zero over the last two fifths of them.
    Photos that are changed come from their latents. `output`/average-N.safetensors: of a longer half-life.
    """
    start = time.monotonic()
    recipe = from_table(DiffusionRecipe, read_toml(folder / RECIPE) | {"likeness": {}}, RECIPE)
    examples, seen = unpacked((folder / EXAMPLES).read_bytes())
    parts, device = _parts(load_file(folder / WEIGHTS)), processes().device
    autoencoder = open_autoencoder(VAE)
    autoencoder.requires_grad_(False).to(device, memory_format=torch.channels_last)

    def pictures(indices: Tensor, mirrored: Tensor) -> Tensor:
        drawn: Tensor = autoencoder.decoder(examples.latents[indices, mirrored].to(device))
        return drawn.float()

    if recipe.augment.share:
        examples = replace(examples, changed=Changed(pictures, autoencoder.encoder, recipe.augment))
    speed = _speed(parts, examples, seen, recipe, batch)
    images = math.ceil(speed * KEPT * (seconds - (time.monotonic() - start)))
    schedule = _schedule(recipe.schedule, images, batch, rate)
    print(f"{speed:.0f} images a second, so {schedule.images:,} images", flush=True)
    learn(parts, examples, seen, replace(recipe, schedule=schedule), output / "run")
    checkpoint = load_checkpoint(output / "run")
    assert checkpoint is not None
    for key in keys([schedule.half_life, *schedule.half_lives]):
        halves = {name: value.half() for name, value in average_in(checkpoint.tensors, key).items()}
        write_tensors(output / f"{key}.safetensors", halves)


def unpack(weights: Path, folder: Path) -> None:
    """A whole model in diffusers' layout, from weights that `spend` wrote."""
    from tenth.models.encoders.dlib_face import FaceEncoder
    from tenth.models.pocket.loader import load_pocket

    encoder = load_pocket().encoder
    assert isinstance(encoder, FaceEncoder)
    write_model(folder, {name: value.float() for name, value in load_file(weights).items()}, VAE, encoder)


def _rounded(values: Tensor, step: float) -> Tensor:
    return (values / step).round().clamp(-127, 127).to(torch.int8)


def _parts(weights: Mapping[str, Tensor]) -> Trainable:
    """UNet with its adapter, and text encoder, with these weights."""
    parts = Trainable.create(CONFIGS)
    install_adapter(parts.unet, untrained_adapter(parts.unet, 128))
    if any("cond_proj" in name for name in weights):
        tell(parts.unet)
    for name, module in (("unet", parts.unet), ("text_encoder", parts.text_encoder)):
        module.load_state_dict(average_in(weights, name), strict=name == "unet")  # the other counts its places in a buffer
    return parts


def _schedule(before: Schedule, images: int, batch: int, rate: float) -> Schedule:
    """A recipe's, for so many images in all: averages over a fortieth and a twelfth of them, no checkpoint but the last."""
    images = max(images, batch)
    times = replace(before, images=images, cooldown=2 * images // 5, warmup=min(images // 10, 50 * batch), save_every=images)
    lengths = (max(2, images // 12),)
    return replace(times, batch=batch, learning_rate=rate, half_life=max(1, images // 40), half_lives=lengths)


def _speed(parts: Trainable, examples: Examples, seen: Tensor, recipe: DiffusionRecipe, batch: int) -> float:
    """Images a second, forwards and backwards; nothing is learnt."""
    device = processes().device
    for module in (parts.unet, parts.text_encoder):
        module.to(device)
    parts.unet.to(memory_format=torch.channels_last).train()
    begun = 0.0
    for step in range(TRIED + 1):
        if step == 1:  # the first one warms up
            begun = time.monotonic()
        draws = Draws(0, step, batch)
        with torch.autocast(device.type, torch.bfloat16):
            loss = denoising_loss(parts, examples, recipe, seen[draws.integers(len(seen))], draws)
        loss.backward()
        float(loss.detach())  # waits for the device
    for module in (parts.unet, parts.text_encoder):
        module.zero_grad(set_to_none=True)
    return TRIED * batch / (time.monotonic() - begun)
