"""The pocket model's UNet, text encoder and IP-Adapter, trained together on cached latents and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import Store, default_store
from tenth.core.errors import RecipeError
from tenth.core.rng import Draws
from tenth.data.face_crops import People, load_faces
from tenth.models.adapters.ip_adapter import install_adapter, set_adapter_scale, untrained_adapter
from tenth.models.encoders.dlib_face import FaceEncoder, statistics_of
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import CONFIGS
from tenth.training.averages import average_in, keys
from tenth.training.checkpoint import load_checkpoint
from tenth.training.loop import fit
from tenth.training.pocket.augmentation import Augment, tell
from tenth.training.pocket.autoencoder import open_autoencoder
from tenth.training.pocket.dataset import (
    Changed,
    Dropout,
    Examples,
    descriptors_of,
    latents_of,
    means_of_others,
    others_of,
    repeated,
)
from tenth.training.pocket.export import write_model
from tenth.training.pocket.identity_loss import Likeness, LikenessWeights
from tenth.training.pocket.modules import Told, Trainable
from tenth.training.schedule import Schedule


@dataclass(frozen=True)
class DiffusionRecipe:
    """recipes/pocket-diffusion.toml, then pocket-longer.toml, pocket-finish.toml and pocket-last.toml.

    autoencoder: the file that the first stage wrote.
    """

    data: People
    autoencoder: Path
    schedule: Schedule
    dropout: Dropout = field(default_factory=Dropout)
    start: Path | None = None  # a whole model whose weights it goes on from, as an earlier run wrote it; random without
    gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    rare: float = 0.0  # photos with a sign that fewer than this share have are seen more often (`repeated`)
    likeness: LikenessWeights = field(default_factory=LikenessWeights)
    augment: Augment = field(default_factory=Augment)
    stage: str = "diffusion"


@dataclass(frozen=True, eq=False)
class Prepared:
    """What learns, from what. seen: numbers of photos, those with rare signs several times (M,)."""

    parts: Trainable
    encoder: FaceEncoder
    autoencoder: PocketAutoencoder
    examples: Examples
    seen: Tensor


def train_diffusion(recipe: DiffusionRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final: a whole model in diffusers' layout with adapter and encoder.

    Of the schedule's further averages likewise, in folders beside it named after their half-lives: average-60000.
    """
    made = prepared(recipe, Store(default_store()))
    likeness = Likeness(made.autoencoder, made.encoder) if recipe.likeness.weight else None
    average = learn(made.parts, made.examples, made.seen, recipe, directory, likeness)
    write_model(directory / "final", average, recipe.autoencoder, made.encoder)
    write_averages(recipe, made.encoder, directory, directory)


def prepared(recipe: DiffusionRecipe, store: Store) -> Prepared:
    """Everything that a run of this recipe reads, computed once, and its first weights."""
    faces = load_faces(recipe.data, "train", store)
    torch.manual_seed(recipe.schedule.seed)
    parts = Trainable.create(CONFIGS)
    autoencoder = open_autoencoder(recipe.autoencoder)
    descriptors = descriptors_of(faces, store)
    if recipe.start:
        encoder, adapter = _start(parts, recipe.start, autoencoder)
    else:
        encoder = FaceEncoder(*statistics_of(descriptors))
        adapter = untrained_adapter(parts.unet, encoder.width)
    embeddings, others = encoder.standardised(descriptors), others_of([row.person for row in faces.rows])
    examples = Examples(
        latents=latents_of(faces, autoencoder, store),
        embeddings=embeddings,
        tokens=torch.stack([parts.tokens(row.captions) for row in faces.rows]),
        others=others,
        several=means_of_others(embeddings, others),
        changed=Changed(faces.pictures, autoencoder.encoder, recipe.augment) if recipe.augment.share else None,
    )
    install_adapter(parts.unet, adapter)
    if examples.changed:
        tell(parts.unet)
    return Prepared(parts, encoder, autoencoder, examples, repeated([row.caption for row in faces.rows], recipe.rare))


def learn(
    parts: Trainable,
    examples: Examples,
    seen: Tensor,
    recipe: DiffusionRecipe,
    directory: Path,
    likeness: Likeness | None = None,
) -> dict[str, Tensor]:
    """Train UNet, with its adapter, and text encoder. Gives their averaged weights, as `fit` does."""
    parts.unet.to(memory_format=torch.channels_last)
    parts.unet.train()
    modules = {"unet": parts.unet, "text_encoder": parts.text_encoder}

    def loss(indices: Tensor, draws: Draws) -> Tensor:
        return denoising_loss(parts, examples, recipe, seen[indices], draws, likeness)

    return fit(modules, loss, len(seen), recipe.schedule, directory)


def write_averages(recipe: DiffusionRecipe, encoder: FaceEncoder, run: Path, folder: Path) -> None:
    """A whole model in `folder` of each of the schedule's further averages, as the newest checkpoint of a run has them."""
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    _, *further = keys([recipe.schedule.half_life, *recipe.schedule.half_lives])
    for key in further:
        write_model(folder / key, average_in(checkpoint.tensors, key), recipe.autoencoder, encoder)


def denoising_loss(
    parts: Trainable,
    examples: Examples,
    recipe: DiffusionRecipe,
    indices: Tensor,
    draws: Draws,
    likeness: Likeness | None = None,
) -> Tensor:
    """One step's loss: mirrored at random, a caption at random, conditions dropped as the recipe says.

    likeness: looks at the faces that are predicted, of a share of the images that see their person.
    """
    drop = recipe.dropout
    draw, mirrored = draws.uniform(), draws.integers(2)
    variant = draws.integers(examples.tokens.shape[1])
    embeddings = examples.references(indices, drop, draws)  # (B, 1, 128)
    looked_at = draws.uniform() < recipe.likeness.share
    without_adapter = draws.once() < drop.base
    set_adapter_scale(parts.unet, 0.0 if without_adapter else 1.0)

    latents, changes = examples.latents[indices, mirrored], None
    if examples.changed:
        latents, changes = examples.changed(latents, indices, mirrored, draws)
        looked_at &= ~changes.any(1)  # a face that was moved is not where it is looked for

    no_text = (draw < drop.both) | ((draw >= drop.both + drop.image) & (draw < drop.both + drop.image + drop.text))
    no_image = draw < drop.both + drop.image
    tokens = torch.where(no_text[:, None], parts.tokens([""]), examples.tokens[indices, variant])  # (B, T)
    embeddings = torch.where(no_image[:, None, None], torch.zeros(()), embeddings)

    def unlike(predicted: Tensor, signal: Tensor) -> Tensor:
        assert likeness is not None
        error, weights = torch.zeros_like(signal), recipe.likeness
        (chosen,) = torch.where(looked_at & ~no_image & (signal >= weights.signal))
        if len(chosen):
            wanted, clean = examples.embeddings[indices[chosen]], latents[chosen]
            error[chosen] = weights.weight * signal[chosen] * likeness(predicted[chosen], wanted, clean, weights.features)
        return error

    also, device = None if likeness is None or without_adapter else unlike, parts.unet.device
    told = Told(tokens.to(device), embeddings.to(device), None if changes is None else changes.to(device))
    return parts.noise_loss(latents.to(device), told, draws, recipe.gamma, also)


def _start(
    parts: Trainable, folder: Path, autoencoder: PocketAutoencoder
) -> tuple[FaceEncoder, Mapping[str, Mapping[str, Tensor]]]:
    """The weights of a whole model into `parts`. Gives its encoder, whose embeddings they know, and its adapter.

    Raises ModelError if it is not whole, RecipeError if its latents are another autoencoder's.
    """
    model = load_pocket(folder)
    for mine, its in ((parts.unet, model.pipeline.unet), (parts.text_encoder, model.pipeline.text_encoder)):
        mine.load_state_dict(its.state_dict())
    known = model.pipeline.vae.encoder.state_dict()
    if any(not torch.equal(value.half(), known[name].half()) for name, value in autoencoder.encoder.state_dict().items()):
        raise RecipeError(f"{folder} knows the latents of another autoencoder", "one for both is needed", "Correct the recipe")
    assert isinstance(model.encoder, FaceEncoder)
    return model.encoder, model.adapter_parts
