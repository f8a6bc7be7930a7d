"""The pocket model's UNet, text encoder and IP-Adapter, trained together on cached latents and embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tenth.adapt.ip_adapter import untrained_adapter
from tenth.adapter import install_adapter, set_adapter_scale
from tenth.averages import average_in, keys
from tenth.checkpoint import load_checkpoint
from tenth.data.words import asked_for
from tenth.draws import Draws
from tenth.encode.dlib_net import chips_of, open_dlib_net
from tenth.encode.face import FaceEncoder, encoder_name, statistics_of
from tenth.encode.store import Array, Store, default_store
from tenth.errors import RecipeError
from tenth.frozen import weights_digest
from tenth.pocket.augment import KINDS, Augment, tell
from tenth.pocket.autoencoder import PocketAutoencoder
from tenth.pocket.faces import CROPS, Faces, People, load_faces, progress, to_unit
from tenth.pocket.likeness import Likeness, LikenessWeights
from tenth.pocket.load import load_pocket
from tenth.pocket.pack import CONFIGS, write_model
from tenth.pocket.trainable import Told, Trainable
from tenth.training import Schedule, fit


@dataclass(frozen=True)
class Dropout:
    """Shares of training in which a condition is missing, so that guidance and the model without adapter are learnt."""

    base: float = 0.3  # of the steps run without the adapter at all
    both: float = 0.1  # of the images lose text and image
    image: float = 0.05  # only the image
    text: float = 0.1  # only the text
    own: float = 0.5  # of the images are described by their own embedding, the others by another photo of the person
    several: float = 0.0  # of those others by all other photos of the person, their mean with the photos' norm restored


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
class Changed:
    """Latents of photos that are changed anew in each step. crops: uint8 (N, 3, H, W)."""

    crops: Tensor
    encoder: nn.Module
    augment: Augment

    @torch.no_grad()
    def __call__(self, latents: Tensor, indices: Tensor, mirrored: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The latents (B, 8, h, w) of a batch, those of a share of it replaced; how each was changed, (B, KINDS)."""
        chosen = draws.uniform() < self.augment.share
        amounts = (2 * draws.uniform(KINDS) - 1) * chosen[:, None]
        latents, (places,) = latents.clone(), torch.where(chosen)
        if len(places):
            crops = to_unit(self.crops[indices[places]])
            crops = torch.where(mirrored[places].bool()[:, None, None, None], crops.flip(-1), crops)
            latents[places] = self.encoder(self.augment(crops, amounts[places])).to(latents)
        return latents, amounts


@dataclass(frozen=True, eq=False)
class Examples:
    """Everything a training step reads, in memory. others: for each photo the first and number of its person's photos."""

    latents: Tensor  # (N, 2, 8, 16, 16): as it is, and mirrored
    embeddings: Tensor  # (N, 128)
    tokens: Tensor  # (N, V, T): V captions of each photo
    others: Tensor  # (N, 2)
    several: Tensor  # (N, 128): of each photo's person, without that photo
    changed: Changed | None = None  # where photos are changed

    def references(self, indices: Tensor, drop: Dropout, draws: Draws) -> Tensor:
        """Embeddings (B, 1, 128): of the photo itself with probability `own`, else of others of the person, if any."""
        first, number = self.others[indices].unbind(1)
        shift = 1 + (draws.uniform() * (number - 1)).long()
        other = first + (indices - first + shift) % number
        itself = draws.uniform() < drop.own
        found = self.embeddings[torch.where(itself, indices, other)]
        if drop.several:
            found = torch.where((~itself & (draws.uniform() < drop.several))[:, None], self.several[indices], found)
        return found[:, None]


def train_diffusion(recipe: DiffusionRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final: a whole model in diffusers' layout with adapter and encoder.

    Of the schedule's further averages likewise, in folders beside it named after their half-lives: average-60000.
    """
    store = Store(default_store())
    faces = load_faces(recipe.data, "train", store)
    torch.manual_seed(recipe.schedule.seed)
    parts = Trainable.create(CONFIGS)
    autoencoder = PocketAutoencoder.from_config(PocketAutoencoder.load_config(CONFIGS / "vae"))
    autoencoder.load_state_dict(load_file(recipe.autoencoder))
    descriptors = descriptors_of(faces, store)
    if recipe.start:
        encoder, adapter = _start(parts, recipe.start, autoencoder)
    else:
        encoder = FaceEncoder(*statistics_of(descriptors))
        adapter = untrained_adapter(parts.unet, encoder.width)
    embeddings, others = encoder.standardised(descriptors), _others([row.person for row in faces.rows])
    examples = Examples(
        latents=latents_of(faces, autoencoder, store),
        embeddings=embeddings,
        tokens=torch.stack([parts.tokens(row.captions) for row in faces.rows]),
        others=others,
        several=means_of_others(embeddings, others),
        changed=Changed(faces.crops, autoencoder.encoder, recipe.augment) if recipe.augment.share else None,
    )
    seen = repeated([row.caption for row in faces.rows], recipe.rare)
    likeness = Likeness(autoencoder, encoder) if recipe.likeness.weight else None
    install_adapter(parts.unet, adapter)
    if examples.changed:
        tell(parts.unet)
    parts.unet.to(memory_format=torch.channels_last)
    parts.unet.train()
    modules = {"unet": parts.unet, "text_encoder": parts.text_encoder}

    def loss(indices: Tensor, draws: Draws) -> Tensor:
        return denoising_loss(parts, examples, recipe, seen[indices], draws, likeness)

    average = fit(modules, loss, len(seen), recipe.schedule, directory)
    write_model(directory / "final", average, recipe.autoencoder, encoder)
    write_averages(recipe, encoder, directory, directory)


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

    also = None if likeness is None or without_adapter else unlike
    return parts.noise_loss(latents, Told(tokens, embeddings, changes), draws, recipe.gamma, also)


def repeated(captions: Sequence[str], rare: float) -> Tensor:
    """Photos by number, in order, those with a rare sign several times: (M,), M >= N.

    A sign that a share f < `rare` of the captions say counts sqrt(rare / f) times, the rarest of a photo decides. Source: Gupta
    et al. 2019, LVIS, arXiv:1908.03195, section 5.2.
    """
    said = [{sign for sign, wanted in asked_for(caption).items() if wanted} for caption in captions]
    counts = Counter(sign for signs in said for sign in signs)
    factors = [max([1.0, *((rare * len(said) / counts[sign]) ** 0.5 for sign in signs)]) for signs in said]
    # A running sum turns fractions into whole numbers without chance: 1.5 and 1.5 become 1 and 2.
    ends = torch.tensor(factors, dtype=torch.float64).cumsum(0).floor().long()
    return torch.repeat_interleave(torch.arange(len(said)), ends.diff(prepend=torch.zeros(1, dtype=torch.long)))


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


@torch.no_grad()
def descriptors_of(faces: Faces, store: Store) -> Tensor:
    """dlib's descriptors (N, 128) of the crops, each computed once; those of the photos are about 0.04 away."""
    net = open_dlib_net()

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(32), desc="embeddings"):
            yield from net(chips_of(to_unit(faces.crops[batch]))).numpy()

    return torch.from_numpy(store.remember_all(f"{CROPS}-{encoder_name()}", [row.digest for row in faces.rows], compute))


@torch.no_grad()
def latents_of(faces: Faces, model: PocketAutoencoder, store: Store) -> Tensor:
    """Latents (N, 2, 8, 16, 16) of each crop and its mirror image. They are the encoder's, whatever decoder is beside it."""

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(32), desc="latents"):
            pixels = to_unit(faces.crops[batch])
            yield from torch.stack([model.encoder(pixels), model.encoder(pixels.flip(-1))], 1).numpy()

    space = f"latents-{weights_digest(model.encoder)}"
    return torch.from_numpy(store.remember_all(space, [row.digest for row in faces.rows], compute))


def _others(people: Sequence[str]) -> Tensor:
    """(first, number) of the run of each person's photos; people.jsonl keeps a person's photos together: (N, 2)."""
    firsts: dict[str, int] = {}
    counts: dict[str, int] = {}
    for index, person in enumerate(people):
        firsts.setdefault(person, index)
        counts[person] = counts.get(person, 0) + 1
    return torch.tensor([(firsts[person], counts[person]) for person in people])


def means_of_others(embeddings: Tensor, others: Tensor) -> Tensor:
    """For each photo the mean of the person's others, as long as they are on average, or itself where it is alone: (N, 128)."""
    found = embeddings.clone()
    for first, number in others.unique(dim=0).tolist():
        if number > 1:
            rows = embeddings[first : first + number]
            means = (rows.sum(0) - rows) / (number - 1)
            lengths = rows.norm(dim=1)
            wanted = (lengths.sum() - lengths) / (number - 1)
            found[first : first + number] = means * (wanted / means.norm(dim=1).clamp(min=1e-6))[:, None]
    return found
