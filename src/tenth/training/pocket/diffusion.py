"""The pocket model's UNet, text encoder and IP-Adapter, trained together on cached latents and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.errors import RecipeError
from tenth.core.rng import StepRNG
from tenth.data.faces.crops import PhotoDataset, load_face_crops
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter, set_adapter_scale
from tenth.models.encoders.dlib_face import FaceEncoder, descriptor_statistics
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket, read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH
from tenth.training.averages import ema_keys, extract_ema
from tenth.training.checkpoint import load_checkpoint
from tenth.training.loop import fit
from tenth.training.pocket.augmentation import Augmentation, add_augmentation_conditioning
from tenth.training.pocket.autoencoder import load_autoencoder
from tenth.training.pocket.dataset import (
    AugmentedLatents,
    PocketConditioningDropout,
    PocketDataset,
    compute_descriptors,
    compute_latents,
    leave_one_out_means,
    person_spans_of,
    repeat_factor_sampling,
)
from tenth.training.pocket.export import export_model
from tenth.training.pocket.identity_loss import IdentityLoss, IdentityLossConfig
from tenth.training.pocket.modules import Conditioning, PocketModules
from tenth.training.schedule import TrainingConfig


@dataclass(frozen=True)
class DiffusionRecipe:
    """recipes/pocket-diffusion.toml, then pocket-diffusion-2.toml, -3 and -4; pocket-base.toml.

    autoencoder: the file that the first stage wrote.
    """

    data: PhotoDataset
    autoencoder: Path
    schedule: TrainingConfig
    conditioning_dropout: PocketConditioningDropout = field(default_factory=PocketConditioningDropout)
    init_from: Path | None = None  # a whole model whose weights it goes on from, as an earlier run wrote it; random without
    min_snr_gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    repeat_threshold: float = (
        0.0  # photos with a sign that fewer than this share have are seen more often (`repeat_factor_sampling`)
    )
    identity_loss: IdentityLossConfig = field(default_factory=IdentityLossConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    stage: str = "base-model"


@dataclass(frozen=True, eq=False)
class Prepared:
    """What learns, from what. photo_indices: numbers of photos, those with rare signs several times (M,)."""

    model: PocketModules
    encoder: FaceEncoder
    autoencoder: PocketAutoencoder
    dataset: PocketDataset
    photo_indices: Tensor


def train_diffusion(recipe: DiffusionRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final: a whole model in diffusers' layout with adapter and encoder.

    Of the schedule's further averages likewise, in folders beside it named after their half-lives: average-60000.
    """
    data = prepare(recipe, ArrayCache(default_cache_dir()))
    identity_loss = IdentityLoss(data.autoencoder, data.encoder) if recipe.identity_loss.weight else None
    ema = train(data.model, data.dataset, data.photo_indices, recipe, directory, identity_loss)
    export_model(directory / "final", ema, recipe.autoencoder, data.encoder)
    write_averages(recipe, data.encoder, directory, directory)


def prepare(recipe: DiffusionRecipe, cache: ArrayCache) -> Prepared:
    """Everything that a run of this recipe reads, computed once, and its first weights."""
    faces = load_face_crops(recipe.data, "train", cache)
    torch.manual_seed(recipe.schedule.seed)
    model = PocketModules.create(MODEL_DIR)
    autoencoder = load_autoencoder(recipe.autoencoder)
    descriptors = compute_descriptors(faces, cache)
    if recipe.init_from:
        encoder, adapter = _load_initial_weights(model, recipe.init_from, autoencoder)
    else:
        encoder = FaceEncoder(*descriptor_statistics(descriptors))
        adapter = init_ip_adapter(model.unet, encoder.embedding_dim)
    embeddings, person_spans = encoder.standardize(descriptors), person_spans_of([row.person for row in faces.entries])
    dataset = PocketDataset(
        latents=compute_latents(faces, autoencoder, cache),
        embeddings=embeddings,
        tokens=torch.stack([model.tokenize(row.captions) for row in faces.entries]),
        person_spans=person_spans,
        mean_embeddings=leave_one_out_means(embeddings, person_spans),
        augmented=AugmentedLatents(faces.images, autoencoder.encoder, recipe.augmentation)
        if recipe.augmentation.p_apply
        else None,
    )
    install_ip_adapter(model.unet, adapter)
    if dataset.augmented:
        add_augmentation_conditioning(model.unet)
    return Prepared(
        model,
        encoder,
        autoencoder,
        dataset,
        repeat_factor_sampling([row.caption for row in faces.entries], recipe.repeat_threshold),
    )


def train(
    model: PocketModules,
    dataset: PocketDataset,
    photo_indices: Tensor,
    recipe: DiffusionRecipe,
    directory: Path,
    identity_loss: IdentityLoss | None = None,
) -> dict[str, Tensor]:
    """Train UNet, with its adapter, and text encoder. Gives their averaged weights, as `fit` does."""
    model.unet.to(memory_format=torch.channels_last)
    model.unet.train()
    modules = {"unet": model.unet, "text_encoder": model.text_encoder}

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        return training_loss(model, dataset, recipe, photo_indices[indices], rng, identity_loss)

    return fit(modules, loss, len(photo_indices), recipe.schedule, directory)


def write_averages(recipe: DiffusionRecipe, encoder: FaceEncoder, run: Path, folder: Path) -> None:
    """A whole model in `folder` of each of the schedule's further averages, as the newest checkpoint of a run has them."""
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    _, *further = ema_keys([recipe.schedule.ema_halflife_images, *recipe.schedule.extra_ema_halflives_images])
    for key in further:
        export_model(folder / key, extract_ema(checkpoint.tensors, key), recipe.autoencoder, encoder)


def training_loss(
    model: PocketModules,
    dataset: PocketDataset,
    recipe: DiffusionRecipe,
    indices: Tensor,
    rng: StepRNG,
    identity_loss: IdentityLoss | None = None,
) -> Tensor:
    """One step's loss: mirrored at random, a caption at random, conditions dropped as the recipe says.

    identity_loss: looks at the faces that are predicted, of a share of the images that see their person.
    """
    dropout = recipe.conditioning_dropout
    uniform, mirrored = rng.uniform(), rng.integers(2)
    variant = rng.integers(dataset.tokens.shape[1])
    embeddings = dataset.reference_embeddings(indices, dropout, rng)  # (B, 1, 128)
    use_identity_loss = rng.uniform() < recipe.identity_loss.p_apply
    without_adapter = rng.scalar() < dropout.p_no_adapter
    set_adapter_scale(model.unet, 0.0 if without_adapter else 1.0)

    latents, augmentation = dataset.latents[indices, mirrored], None
    if dataset.augmented:
        latents, augmentation = dataset.augmented(latents, indices, mirrored, rng)
        use_identity_loss &= ~augmentation.any(1)  # a face that was moved is not where it is looked for

    drop_text = (uniform < dropout.p_unconditional) | (
        (uniform >= dropout.p_unconditional + dropout.p_no_image)
        & (uniform < dropout.p_unconditional + dropout.p_no_image + dropout.p_no_text)
    )
    drop_image = uniform < dropout.p_unconditional + dropout.p_no_image
    tokens = torch.where(drop_text[:, None], model.tokenize([""]), dataset.tokens[indices, variant])  # (B, T)
    embeddings = torch.where(drop_image[:, None, None], torch.zeros(()), embeddings)

    def identity_term(predicted_latents: Tensor, alphas_cumprod: Tensor) -> Tensor:
        assert identity_loss is not None
        error, config = torch.zeros_like(alphas_cumprod), recipe.identity_loss
        (selected,) = torch.where(use_identity_loss & ~drop_image & (alphas_cumprod >= config.min_alphas_cumprod))
        if len(selected):
            target_embeddings, target_latents = dataset.embeddings[indices[selected]], latents[selected]
            error[selected] = (
                config.weight
                * alphas_cumprod[selected]
                * identity_loss(predicted_latents[selected], target_embeddings, target_latents, config.feature_weight)
            )
        return error

    extra_loss, device = None if identity_loss is None or without_adapter else identity_term, model.unet.device
    conditioning = Conditioning(
        tokens.to(device), embeddings.to(device), None if augmentation is None else augmentation.to(device)
    )
    return model.denoising_loss(latents.to(device), conditioning, rng, recipe.min_snr_gamma, extra_loss)


def _load_initial_weights(
    model: PocketModules, folder: Path, autoencoder: PocketAutoencoder
) -> tuple[FaceEncoder, Mapping[str, Mapping[str, Tensor]]]:
    """The weights of a whole model into `model`. Gives its encoder, whose embeddings they know, and its adapter.

    Raises ModelError if it is not whole, RecipeError if its latents are another autoencoder's.
    """
    initial_model = load_pocket(folder)
    for module, source in (
        (model.unet, initial_model.pipeline.unet),
        (model.text_encoder, initial_model.pipeline.text_encoder),
    ):
        module.load_state_dict(source.state_dict())
    known_encoder = initial_model.pipeline.vae.encoder.state_dict()
    if any(
        not torch.equal(value.half(), known_encoder[name].half()) for name, value in autoencoder.encoder.state_dict().items()
    ):
        raise RecipeError(f"{folder} knows the latents of another autoencoder", "one for both is needed", "Correct the recipe")
    return FaceEncoder(*read_statistics(folder / STATISTICS_PATH)), initial_model.adapter_parts
