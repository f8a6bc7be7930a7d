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

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import from_table, read_toml
from tenth.core.errors import CheckpointError
from tenth.core.files.writing import write_bytes, write_tensors
from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.averages import ema_keys, extract_ema
from tenth.training.checkpoint import load_checkpoint
from tenth.training.distributed import distributed_state
from tenth.training.pocket.augmentation import add_augmentation_conditioning
from tenth.training.pocket.autoencoder import load_autoencoder
from tenth.training.pocket.dataset import AugmentedLatents, PocketDataset, leave_one_out_means
from tenth.training.pocket.diffusion import DiffusionRecipe, Prepared, prepare, train, training_loss
from tenth.training.pocket.export import export_model
from tenth.training.pocket.modules import PocketModules
from tenth.training.schedule import TrainingConfig

DATASET_FILE, WEIGHTS_FILE, RECIPE_FILE = "examples.xz", "weights.safetensors", "recipe.toml"
QUANTIZATION_STEPS = {
    "latents": 0.18,
    "embeddings": 0.05,
}  # to which values are rounded: no more than the noise that the decoder has learnt to bear
VAE_FILE = MODEL_DIR / "vae/diffusion_pytorch_model.safetensors"
NUM_TIMED_STEPS = 12  # steps by which the speed is measured
USED_TIME_FRACTION = 0.92  # share of the time that is planned for


def pack(recipe_file: Path, run: Path | None, folder: Path) -> None:
    """What a run of this recipe reads, in a fifth of the room, and the weights to go on from, into a folder.

    run: its newest checkpoint's average, in half precision; without one the weights with which the recipe begins.
    """
    recipe = from_table(DiffusionRecipe, read_toml(recipe_file), str(recipe_file))
    data = prepare(recipe, ArrayCache(default_cache_dir()))
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / DATASET_FILE, serialize(data))
    write_bytes(folder / RECIPE_FILE, recipe_file.read_bytes())
    modules = {"unet": data.model.unet, "text_encoder": data.model.text_encoder}
    weights = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    if run is not None:
        checkpoint = load_checkpoint(run)
        if checkpoint is None:
            raise CheckpointError(f"{run} holds no checkpoint", "one is needed to go on from", "Give the folder of a run")
        weights |= extract_ema(checkpoint.tensors, "average")
    write_tensors(
        folder / WEIGHTS_FILE, {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    )


def serialize(data: Prepared) -> bytes:
    """Examples, rounded to eight bits and compressed."""
    dataset = data.dataset
    tensors = {name: _quantize(getattr(dataset, name), step) for name, step in QUANTIZATION_STEPS.items()}
    tensors["latents"] = tensors["latents"].transpose(0, 2)  # (8, 2, N, 16, 16): a channel's values together
    tensors |= {"tokens": dataset.tokens.short(), "others": dataset.person_spans.int(), "seen": data.photo_indices.int()}
    return lzma.compress(save({name: value.contiguous() for name, value in tensors.items()}), preset=1)


def deserialize(content: bytes) -> tuple[PocketDataset, Tensor]:
    """What `serialize` was given, as near as it is kept: examples, and the numbers of photos that are seen."""
    tensors = load(lzma.decompress(content))
    embeddings, person_spans = tensors["embeddings"] * QUANTIZATION_STEPS["embeddings"], tensors["others"].long()
    dataset = PocketDataset(
        latents=tensors["latents"].transpose(0, 2) * QUANTIZATION_STEPS["latents"],
        embeddings=embeddings,
        tokens=tensors["tokens"].long(),
        person_spans=person_spans,
        mean_embeddings=leave_one_out_means(embeddings, person_spans),
    )
    return dataset, tensors["seen"].long()


def train_for_seconds(folder: Path, output: Path, seconds: float, batch_size: int, learning_rate: float) -> None:
    """Train for about so many seconds on what `pack` wrote, and write the averaged weights to `output`, in half precision.

    The speed of some steps says how many images there is time for; the rate falls to zero over the last two fifths of them.
    Photos that are changed come from their latents. `output`/average-N.safetensors: of a longer half-life.
    """
    start = time.monotonic()
    recipe = from_table(DiffusionRecipe, read_toml(folder / RECIPE_FILE) | {"identity_loss": {}}, RECIPE_FILE)
    dataset, photo_indices = deserialize((folder / DATASET_FILE).read_bytes())
    model, device = _load_model(load_file(folder / WEIGHTS_FILE)), distributed_state().device
    autoencoder = load_autoencoder(VAE_FILE)
    autoencoder.requires_grad_(False).to(device, memory_format=torch.channels_last)

    def decode_images(indices: Tensor, mirrored: Tensor) -> Tensor:
        decoded: Tensor = autoencoder.decoder(dataset.latents[indices, mirrored].to(device))
        return decoded.float()

    if recipe.augmentation.p_apply:
        dataset = replace(dataset, augmented=AugmentedLatents(decode_images, autoencoder.encoder, recipe.augmentation))
    speed = _measure_speed(model, dataset, photo_indices, recipe, batch_size)
    total_images = math.ceil(speed * USED_TIME_FRACTION * (seconds - (time.monotonic() - start)))
    schedule = _shortened_schedule(recipe.schedule, total_images, batch_size, learning_rate)
    print(f"{speed:.0f} images a second, so {schedule.total_images:,} images", flush=True)
    train(model, dataset, photo_indices, replace(recipe, schedule=schedule), output / "run")
    checkpoint = load_checkpoint(output / "run")
    assert checkpoint is not None
    for key in ema_keys([schedule.ema_halflife_images, *schedule.extra_ema_halflives_images]):
        halves = {name: value.half() for name, value in extract_ema(checkpoint.tensors, key).items()}
        write_tensors(output / f"{key}.safetensors", halves)


def unpack(weights: Path, folder: Path) -> None:
    """A whole model in diffusers' layout, from weights that `train_for_seconds` wrote."""
    from tenth.models.encoders.dlib_face import FaceEncoder
    from tenth.models.pocket.loader import read_statistics
    from tenth.models.pocket.paths import STATISTICS_PATH

    encoder = FaceEncoder(*read_statistics(MODEL_DIR / STATISTICS_PATH))
    export_model(folder, {name: value.float() for name, value in load_file(weights).items()}, VAE_FILE, encoder)


def _quantize(values: Tensor, step: float) -> Tensor:
    return (values / step).round().clamp(-127, 127).to(torch.int8)


def _load_model(weights: Mapping[str, Tensor]) -> PocketModules:
    """UNet with its adapter, and text encoder, with these weights."""
    model = PocketModules.create(MODEL_DIR)
    install_ip_adapter(model.unet, init_ip_adapter(model.unet, 128))
    if any("cond_proj" in name for name in weights):
        add_augmentation_conditioning(model.unet)
    for name, module in (("unet", model.unet), ("text_encoder", model.text_encoder)):
        module.load_state_dict(extract_ema(weights, name), strict=name == "unet")  # the other counts its places in a buffer
    return model


def _shortened_schedule(config: TrainingConfig, total_images: int, batch_size: int, learning_rate: float) -> TrainingConfig:
    """A recipe's, for so many images in all: averages over a fortieth and a twelfth of them, no checkpoint but the last."""
    total_images = max(total_images, batch_size)
    shortened = replace(
        config,
        total_images=total_images,
        cooldown_images=2 * total_images // 5,
        warmup_images=min(total_images // 10, 50 * batch_size),
        checkpoint_every_images=total_images,
    )
    further_half_lives = (max(2, total_images // 12),)
    return replace(
        shortened,
        batch_size=batch_size,
        learning_rate=learning_rate,
        ema_halflife_images=max(1, total_images // 40),
        extra_ema_halflives_images=further_half_lives,
    )


def _measure_speed(
    model: PocketModules, dataset: PocketDataset, photo_indices: Tensor, recipe: DiffusionRecipe, batch_size: int
) -> float:
    """Images a second, forwards and backwards; nothing is learnt."""
    device = distributed_state().device
    for module in (model.unet, model.text_encoder):
        module.to(device)
    model.unet.to(memory_format=torch.channels_last).train()
    start = 0.0
    for step in range(NUM_TIMED_STEPS + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        rng = StepRNG(0, step, batch_size)
        with torch.autocast(device.type, torch.bfloat16):
            loss = training_loss(model, dataset, recipe, photo_indices[rng.integers(len(photo_indices))], rng)
        loss.backward()
        float(loss.detach())  # waits for the device
    for module in (model.unet, model.text_encoder):
        module.zero_grad(set_to_none=True)
    return NUM_TIMED_STEPS * batch_size / (time.monotonic() - start)
