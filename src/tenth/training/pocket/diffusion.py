"""Stage 2 of the pocket model: UNet, text encoder and IP-Adapter, trained together on cached latents and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import FilePath, Fraction, NonNegative, config_dataclass, require
from tenth.core.errors import RecipeError
from tenth.core.rng import StepRNG
from tenth.data.faces.crops import PhotoDataset, load_face_crops
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter, set_adapter_scale
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket, read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH
from tenth.training.checkpoint import load_checkpoint
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.pocket import dataset as pocket_dataset
from tenth.training.pocket.augmentation import Augmentation, add_augmentation_conditioning
from tenth.training.pocket.autoencoder import load_autoencoder
from tenth.training.pocket.dataset import AugmentedLatents, PocketConditioningDropout, PocketDataset
from tenth.training.pocket.export import export_model
from tenth.training.pocket.identity_loss import IdentityLoss, IdentityLossConfig
from tenth.training.pocket.modules import CaptionedPeople, PocketModules
from tenth.training.schedule import TrainingConfig
from tenth.training.state import ema_keys, tensors_under


@config_dataclass
class DiffusionRecipe:
    """recipes/pocket-diffusion.toml, -2, -3 and -4, and pocket-base.toml. autoencoder: the file that the first stage wrote."""

    data: PhotoDataset
    autoencoder: FilePath
    schedule: TrainingConfig
    conditioning_dropout: PocketConditioningDropout = field(default_factory=PocketConditioningDropout)
    init_from: FilePath | None = None  # a whole model whose weights it goes on from, as an earlier run wrote it; random without
    average_with: FilePath | None = None  # a whole model: its weights are averaged with the trained ones in what is written
    average_share: Fraction = 0.0  # how much of that average they are
    min_snr_gamma: NonNegative = 5.0  # of min-SNR weighting; 0 turns it off
    repeat_threshold: Fraction = 0.0  # attributes of a smaller share of the photos are seen more often: repeat_factor_sampling
    identity_loss: IdentityLossConfig = field(default_factory=IdentityLossConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    stage: Literal["base-model"] = "base-model"

    def __post_init__(self) -> None:
        possible = not self.average_share or self.average_with is not None
        require(possible, "average_share", self.average_share, "0 without average_with")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The modules that are trained, and the data. photo_indices: photos, those with rare attributes several times, (M,).

    captions: V of each of the N photos.
    average_with: the weights of the recipe's `average_with`, under the names of a checkpoint's averages; none without one.
    """

    model: PocketModules
    average_with: Mapping[str, Tensor]
    encoder: FaceEncoder
    autoencoder: PocketAutoencoder
    dataset: PocketDataset
    photo_indices: Tensor
    captions: tuple[tuple[str, ...], ...]


def train_diffusion(recipe: DiffusionRecipe, directory: Path) -> None:
    """Train and write a whole model to `directory`/final, and of the further averages to `directory`/average-HALFLIFE."""
    data = prepare(recipe, ArrayCache(default_cache_dir()))
    identity_loss = IdentityLoss(data.autoencoder, data.encoder) if recipe.identity_loss.weight else None
    train(data.model, data.dataset, data.photo_indices, recipe, directory, identity_loss)
    export_averages(recipe, data, directory)


def export_averages(recipe: DiffusionRecipe, data: Prepared, directory: Path) -> None:
    """Write the averages of the last checkpoint as models: `directory`/average-HALFLIFE, and last the first, to final.

    The main process does.
    Each is averaged with the model that the recipe names; what a stage does not train is as it was. Source of averaging a model
    with one that it was fine-tuned from: Wortsman et al. 2022, WiSE-FT, arXiv:2109.01903.
    """
    if not distributed_state().is_main_process:
        return
    checkpoint = load_checkpoint(directory)
    assert checkpoint is not None
    text_encoder = {f"text_encoder.{name}": value for name, value in data.model.text_encoder.state_dict().items()}
    first, *further = ema_keys([recipe.schedule.ema_halflife_images, *recipe.schedule.extra_ema_halflives_images])
    for key in (*further, first):
        trained = tensors_under(checkpoint.tensors, key)
        for name in trained.keys() & data.average_with.keys():
            trained[name] = torch.lerp(trained[name], data.average_with[name].to(trained[name]), recipe.average_share)
        folder = directory / ("final" if key == first else key)
        export_model(folder, text_encoder | trained, recipe.autoencoder, data.encoder)


def prepare(recipe: DiffusionRecipe, cache: ArrayCache) -> Prepared:
    """The data of this recipe, computed once, and the modules with their initial weights."""
    # Modules, autoencoder and embeddings.
    faces = load_face_crops(recipe.data, "train", cache)
    torch.manual_seed(recipe.schedule.seed)
    model = PocketModules.create(MODEL_DIR)
    autoencoder = load_autoencoder(recipe.autoencoder)
    descriptors = pocket_dataset.compute_descriptors(faces, cache)
    if recipe.init_from:
        encoder, adapter = _load_initial_weights(model, recipe.init_from, autoencoder)
    else:
        encoder = FaceEncoder(descriptors.mean(0), float(descriptors.var(0).mean().sqrt()))
        adapter = init_ip_adapter(model.unet, encoder.embedding_dim)

    average_with = {} if recipe.average_with is None else _model_weights(recipe.average_with, autoencoder)

    # Data.
    embeddings = encoder.standardize(descriptors)
    person_spans = pocket_dataset.person_spans_of([entry.person for entry in faces.entries])
    augmented = AugmentedLatents(faces.images, autoencoder.encoder, recipe.augmentation)
    dataset = PocketDataset(
        latents=pocket_dataset.compute_latents(faces, autoencoder, cache),
        embeddings=embeddings,
        tokens=torch.stack([model.tokenize(entry.captions) for entry in faces.entries]),
        person_spans=person_spans,
        mean_embeddings=pocket_dataset.leave_one_out_means(embeddings, person_spans),
        augmented=augmented if recipe.augmentation.p_apply else None,
    )
    captions = tuple(entry.captions for entry in faces.entries)
    photo_indices = pocket_dataset.repeat_factor_sampling([each.caption for each in faces.entries], recipe.repeat_threshold)

    # What is added to the UNet.
    install_ip_adapter(model.unet, adapter)
    if dataset.augmented:
        add_augmentation_conditioning(model.unet)
    return Prepared(model, average_with, encoder, autoencoder, dataset, photo_indices, captions)


def train(
    model: PocketModules,
    dataset: PocketDataset,
    photo_indices: Tensor,
    recipe: DiffusionRecipe,
    directory: Path,
    identity_loss: IdentityLoss | None = None,
) -> dict[str, Tensor]:
    """Train UNet, with its adapter, and text encoder. Returns their averaged weights, as `fit` does."""
    model.unet.to(memory_format=torch.channels_last)
    model.unet.train()
    modules = {"unet": model.unet, "text_encoder": model.text_encoder}

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        return training_loss(model, dataset, recipe, photo_indices[indices], rng, identity_loss)

    return fit(modules, loss, len(photo_indices), recipe.schedule, directory)


def training_loss(
    model: PocketModules,
    dataset: PocketDataset,
    recipe: DiffusionRecipe,
    indices: Tensor,
    rng: StepRNG,
    identity_loss: IdentityLoss | None = None,
) -> Tensor:
    """One step's loss, a scalar, on photos (B,). identity_loss: added for some of the images conditioned on their person."""
    # Random choices, in a fixed order.
    dropout = recipe.conditioning_dropout
    uniform, mirrored = rng.uniform(), rng.integers(2)
    variant = rng.integers(dataset.tokens.shape[1])
    embeddings = dataset.reference_embeddings(indices, dropout, rng)  # (B, 1, 128)
    use_identity_loss = rng.uniform() < recipe.identity_loss.p_apply
    without_adapter = rng.scalar() < dropout.p_no_adapter
    set_adapter_scale(model.unet, 0.0 if without_adapter else 1.0)

    # Latents, some of them of augmented photos. The identity loss expects faces in their place.
    latents, augmentation = dataset.latents[indices, mirrored], None
    if dataset.augmented:
        latents, augmentation = dataset.augmented(latents, indices, mirrored, rng)
        use_identity_loss &= ~augmentation.any(1)

    # Conditions, some of them dropped.
    drop_image, drop_text = dropout.masks(uniform)
    tokens = torch.where(drop_text[:, None], model.tokenize([""]), dataset.tokens[indices, variant])  # (B, T)
    embeddings = embeddings.masked_fill(drop_image[:, None, None], 0.0)
    use_identity_loss &= ~drop_image

    def identity_term(predicted_latents: Tensor, alphas_cumprod: Tensor) -> Tensor:
        assert identity_loss is not None
        error, config = torch.zeros_like(alphas_cumprod), recipe.identity_loss
        (selected,) = torch.where(use_identity_loss & (alphas_cumprod >= config.min_alphas_cumprod))
        if len(selected):
            targets = dataset.embeddings[indices[selected]], latents[selected]
            term = identity_loss(predicted_latents[selected], *targets, config.feature_weight)
            error[selected] = config.weight * alphas_cumprod[selected] * term
        return error

    device = model.unet.device
    amounts = None if augmentation is None else augmentation.to(device)
    conditions = CaptionedPeople(tokens.to(device), embeddings.to(device), amounts)
    extra_loss = None if identity_loss is None or without_adapter else identity_term
    return model.denoising_loss(latents.to(device), conditions, rng, recipe.min_snr_gamma, extra_loss)


def _load_initial_weights(
    model: PocketModules, folder: Path, autoencoder: PocketAutoencoder
) -> tuple[FaceEncoder, Mapping[str, Mapping[str, Tensor]]]:
    """Copy the weights of a model folder into `model`. Returns its encoder, which they were trained with, and its adapter.

    Raises ModelError if the folder is incomplete, RecipeError if it was trained on latents of another autoencoder.
    """
    initial = load_pocket(folder)
    model.unet.load_state_dict(initial.pipeline.unet.state_dict())
    model.text_encoder.load_state_dict(initial.pipeline.text_encoder.state_dict())
    theirs, ours = initial.pipeline.vae.encoder.state_dict(), autoencoder.encoder.state_dict()
    if not all(torch.equal(value.half(), theirs[name].half()) for name, value in ours.items()):
        raise RecipeError(f"{folder} knows the latents of another autoencoder", "one for both is needed", "Correct the recipe")
    return FaceEncoder(*read_statistics(folder / STATISTICS_PATH)), initial.adapter_parts


def _model_weights(folder: Path, autoencoder: PocketAutoencoder) -> dict[str, Tensor]:
    """The weights of a model folder, "unet.*" with the adapter's and "text_encoder.*". Raises as `_load_initial_weights`."""
    model = PocketModules.create(MODEL_DIR)
    _, adapter = _load_initial_weights(model, folder, autoencoder)
    install_ip_adapter(model.unet, adapter)
    parts = {"unet": model.unet, "text_encoder": model.text_encoder}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
