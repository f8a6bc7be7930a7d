"""A training set packed into one small file, and training on it for a given time (recipes/gpu-minutes.sh)."""

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
from tenth.core.files.writing import write_bytes
from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH
from tenth.training.checkpoint import load_checkpoint
from tenth.training.distributed import distributed_state
from tenth.training.pocket.augmentation import add_augmentation_conditioning
from tenth.training.pocket.autoencoder import load_autoencoder
from tenth.training.pocket.dataset import AugmentedLatents, PocketDataset, leave_one_out_means
from tenth.training.pocket.decoder import PACKAGED_AUTOENCODER
from tenth.training.pocket.diffusion import DiffusionRecipe, Prepared, prepare, train, training_loss
from tenth.training.pocket.export import export_model, write_half
from tenth.training.pocket.modules import PocketModules
from tenth.training.schedule import TrainingConfig
from tenth.training.state import ema_keys, tensors_under

DATASET_FILE, WEIGHTS_FILE, RECIPE_FILE = "examples.xz", "weights.safetensors", "recipe.toml"
QUANTIZATION_STEPS = {"latents": 0.18, "embeddings": 0.05}  # errors below the noise that the decoder was trained with
NUM_TIMED_STEPS = 12
USED_TIME_FRACTION = 0.92  # of the given time


def pack(recipe_file: Path, run: Path | None, folder: Path) -> None:
    """Write the data of a recipe's training, in a fifth of its size, and the initial weights, to a folder.

    run: the weights are the average of its newest checkpoint, in half precision; None: those with which the recipe begins.
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
        weights |= tensors_under(checkpoint.tensors, "average")
    write_half(folder / WEIGHTS_FILE, weights)


def serialize(data: Prepared) -> bytes:
    """The data set, quantized to 8 bits and compressed."""
    dataset = data.dataset
    scaled = {name: getattr(dataset, name) / step for name, step in QUANTIZATION_STEPS.items()}
    tensors = {name: values.round().clamp(-127, 127).to(torch.int8) for name, values in scaled.items()}
    tensors["latents"] = tensors["latents"].transpose(0, 2)  # (8, 2, N, 16, 16): a channel's values together
    tensors |= {"tokens": dataset.tokens.short(), "others": dataset.person_spans.int(), "seen": data.photo_indices.int()}
    return lzma.compress(save({name: value.contiguous() for name, value in tensors.items()}), preset=1)


def deserialize(content: bytes) -> tuple[PocketDataset, Tensor]:
    """What `serialize` was given, within the quantization error: the data set, and the indices of photos."""
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

    The measured speed decides how many images there is time for. Augmented photos are decoded from their latents.
    """
    start = time.monotonic()
    recipe = from_table(DiffusionRecipe, read_toml(folder / RECIPE_FILE) | {"identity_loss": {}}, RECIPE_FILE)
    dataset, photo_indices = deserialize((folder / DATASET_FILE).read_bytes())
    model, device = _load_model(load_file(folder / WEIGHTS_FILE)), distributed_state().device
    autoencoder = load_autoencoder(PACKAGED_AUTOENCODER)
    autoencoder.requires_grad_(False).to(device, memory_format=torch.channels_last)

    def decode_images(indices: Tensor, mirrored: Tensor) -> Tensor:
        decoded: Tensor = autoencoder.decoder(dataset.latents[indices, mirrored].to(device))
        return decoded.float()

    if recipe.augmentation.p_apply:
        dataset = replace(dataset, augmented=AugmentedLatents(decode_images, autoencoder.encoder, recipe.augmentation))

    # As many images as the rest of the time allows.
    speed = _measure_speed(model, dataset, photo_indices, recipe, batch_size)
    total_images = math.ceil(speed * USED_TIME_FRACTION * (seconds - (time.monotonic() - start)))
    schedule = _shortened_schedule(recipe.schedule, total_images, batch_size, learning_rate)
    print(f"{speed:.0f} images a second, so {schedule.total_images:,} images", flush=True)
    train(model, dataset, photo_indices, replace(recipe, schedule=schedule), output / "run")

    checkpoint = load_checkpoint(output / "run")
    assert checkpoint is not None
    for key in ema_keys([schedule.ema_halflife_images, *schedule.extra_ema_halflives_images]):
        write_half(output / f"{key}.safetensors", tensors_under(checkpoint.tensors, key))


def unpack(weights: Path, folder: Path) -> None:
    """Write a whole model in diffusers' layout, from weights that `train_for_seconds` wrote."""
    encoder = FaceEncoder(*read_statistics(MODEL_DIR / STATISTICS_PATH))
    floats = {name: value.float() for name, value in load_file(weights).items()}
    export_model(folder, floats, PACKAGED_AUTOENCODER, encoder)


def _load_model(weights: Mapping[str, Tensor]) -> PocketModules:
    """UNet with its adapter, and text encoder, with these weights."""
    model = PocketModules.create(MODEL_DIR)
    install_ip_adapter(model.unet, init_ip_adapter(model.unet, 128))
    if any("cond_proj" in name for name in weights):
        add_augmentation_conditioning(model.unet)
    model.unet.load_state_dict(tensors_under(weights, "unet"))
    model.text_encoder.load_state_dict(tensors_under(weights, "text_encoder"), strict=False)  # its position ids are a buffer
    return model


def _shortened_schedule(config: TrainingConfig, total_images: int, batch_size: int, learning_rate: float) -> TrainingConfig:
    """The schedule for so many images: averages over a fortieth and a twelfth of them, no checkpoint but the last."""
    total_images = max(total_images, batch_size)
    return replace(
        config,
        total_images=total_images,
        batch_size=batch_size,
        learning_rate=learning_rate,
        cooldown_images=2 * total_images // 5,
        warmup_images=min(total_images // 10, 50 * batch_size),
        checkpoint_every_images=total_images,
        ema_halflife_images=max(1, total_images // 40),
        extra_ema_halflives_images=(max(2, total_images // 12),),
    )


def _measure_speed(
    model: PocketModules, dataset: PocketDataset, photo_indices: Tensor, recipe: DiffusionRecipe, batch_size: int
) -> float:
    """Images a second, forward and backward; nothing is trained."""
    device = distributed_state().device
    for module in (model.unet, model.text_encoder):
        module.to(device)
    model.unet.to(memory_format=torch.channels_last).train()
    start = 0.0
    for step in range(NUM_TIMED_STEPS + 1):
        if step == 1:  # the first step is slower
            start = time.monotonic()
        rng = StepRNG(0, step, batch_size)
        with torch.autocast(device.type, torch.bfloat16):
            loss = training_loss(model, dataset, recipe, photo_indices[rng.integers(len(photo_indices))], rng)
        loss.backward()
        float(loss.detach())  # waits for the device
    for module in (model.unet, model.text_encoder):
        module.zero_grad(set_to_none=True)
    return NUM_TIMED_STEPS * batch_size / (time.monotonic() - start)
