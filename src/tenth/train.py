"""Train an aggregator and its adapter on many people. The whole flow, top to bottom.

The model and the encoders stay frozen and run once; what is predicted is a photo that is not among its references.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from tenth.adapt.album import Album, open_album
from tenth.adapt.references import IdentityObjective, References, choose
from tenth.adapt.toy import ToyPeople
from tenth.adapt.trained import pooled_only
from tenth.adapter import ADAPTER, adapter_name, save_adapter
from tenth.aggregate.attention import AttentionSettings, Learned, PhotoAttention, SetAggregator, SetSettings
from tenth.aggregate.saved import FILE, Trained, save_aggregator
from tenth.diffusion import LatentDiffusion
from tenth.draws import Draws
from tenth.encode.store import Store, default_store
from tenth.errors import RecipeError
from tenth.file_writing import written_folder
from tenth.frozen import Frozen
from tenth.pocket.faces import People
from tenth.training import PRECISIONS, Schedule, averaged, fit, load_averaged, processes
from tenth.types import Encoder, Pixels
from tenth.validation import Judge, Validation, open_judge, record, strip
from tenth.wording import counted

LEARNERS = ("aggregator", "adapter")


@dataclass(frozen=True)
class Dropped:
    """Shares of the images that lose a condition, so that guidance is learnt. Source: IP-Adapter's published training."""

    both: float = 0.05
    image: float = 0.05  # only the image: the adapter then sees one zero embedding, which no aggregator touches
    text: float = 0.05  # only the text


@dataclass(frozen=True)
class EmbeddingPhase:
    """Before any image is predicted, the aggregator learns on embeddings alone. An image of the schedule is a set here."""

    schedule: Schedule
    objective: IdentityObjective = field(default_factory=IdentityObjective)


@dataclass(frozen=True)
class AdapterRecipe:
    """What a recipe with stage = "adapter" says."""

    aggregator: str  # "attention" or "set"
    data: People | None = None
    toy: ToyPeople | None = None  # instead of data: drawn people, to try a recipe out
    schedule: Schedule | None = None  # of the diffusion objective; without it only `embedding` is learnt
    embedding: EmbeddingPhase | None = None
    model: str = "pocket"  # a name, or a folder in diffusers' layout
    learn: tuple[str, ...] = LEARNERS
    attention: AttentionSettings = field(default_factory=AttentionSettings)
    set: SetSettings = field(default_factory=SetSettings)
    references: References = field(default_factory=References)
    dropped: Dropped = field(default_factory=Dropped)
    gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    gradient_checkpointing: bool = False  # memory for time: activations are computed again in the backward pass
    half: bool = False  # whether the adapter is written in half precision
    validation: Validation = field(default_factory=Validation)
    stage: str = "adapter"

    @property
    def seed(self) -> int:
        """Of the first weights."""
        return next(part.seed for part in (self.schedule, self.embedding and self.embedding.schedule) if part)

    def __post_init__(self) -> None:
        known = {"aggregator": (self.aggregator, ("attention", "set")), "learn": (self.learn, LEARNERS)}
        for key, (value, choices) in known.items():
            if not set(value if isinstance(value, tuple) else [value]) <= set(choices) or not value:
                raise RecipeError(f"{key} is {value!r}", f"one of {', '.join(choices)} is needed", "Correct the recipe")
        if (self.data is None) == (self.toy is None):
            raise RecipeError(
                "[data] and [toy]" if self.data else "neither [data] nor [toy]", "one is needed", "Say whose photos"
            )
        if self.schedule is None and self.embedding is None:
            raise RecipeError("neither [schedule] nor [embedding]", "at least one of them is needed", "Add [schedule]")
        if self.aggregator == "attention" and not self.references.least == self.references.most == self.attention.photos:
            raise RecipeError(
                f"references from {self.references.least} to {self.references.most}",
                f"the attention reads exactly {self.attention.photos}",
                "Set least and most to that number",
            )


def train_adapter(recipe: AdapterRecipe, model: LatentDiffusion, directory: Path) -> None:
    """People -> `directory`/final, a folder that `--method` takes: ip-adapter.safetensors and aggregator.safetensors.

    best: the same of the checkpoint whose images are most like the validation people. validation.jsonl, samples.png: how it
    went. Raises DataError, before the first step, if nobody has enough photos or a value is not finite.
    """
    pooled_only(model.encoder, f"an aggregator ({recipe.aggregator})", model.name)
    store, state = Store(default_store()), processes()
    torch.manual_seed(recipe.seed)
    aggregator = new_aggregator(recipe, model.encoder.width)
    model.pipeline.to(state.device)
    frozen = Frozen(model.pipeline, model.adapter_parts)
    with state.main_process_first(), placed(model.encoder, state.device):  # the others then find everything in the store
        album = album_of(recipe, model, frozen, store)
        judge = judge_of(recipe, model, store) if state.is_main_process else None
    if state.is_main_process:
        print(
            f"learning from {counted(album.people, 'person')} and {counted(len(album.files), 'photo')}",
            file=sys.stderr,
        )
    learner = Learner(recipe, model, frozen, aggregator, album)

    if recipe.embedding is not None:
        learner.learn_embeddings(recipe.embedding, directory / "embedding")
    if recipe.schedule is not None:
        learner.learn_images(recipe.schedule, directory, judge)
    if state.is_main_process:
        learner.write(directory / "final")


@dataclass(frozen=True, eq=False)
class Learner:
    """What learns, from whom, and how."""

    recipe: AdapterRecipe
    model: LatentDiffusion
    frozen: Frozen
    aggregator: Learned
    album: Album

    def learn_embeddings(self, phase: EmbeddingPhase, directory: Path) -> None:
        """The aggregator alone, by the identity objective."""

        def loss(people: Tensor, draws: Draws) -> Tensor:
            return phase.objective(self.aggregator, self.album, people, draws)

        modules = {"aggregator": self.aggregator}
        load_averaged(modules, fit(modules, loss, self.album.people, phase.schedule, directory))

    def learn_images(self, schedule: Schedule, directory: Path, judge: Judge | None) -> None:
        """Aggregator and adapter, by predicting the photo that was left out."""
        adapter = [parameter for parameter in self.frozen.unet.parameters() if parameter.requires_grad]
        for part, parameters in (("adapter", adapter), ("aggregator", list(self.aggregator.parameters()))):
            for parameter in parameters:
                parameter.requires_grad_(part in self.recipe.learn)
        modules, precision = {"unet": self.frozen.unet, "aggregator": self.aggregator}, PRECISIONS[schedule.precision]

        def watch(seen: int, average: Mapping[str, Tensor]) -> dict[str, float | Pixels] | None:
            if judge is None:
                return None
            with averaged(modules, average):
                self.frozen.unet.eval()
                with self.frozen.autocast(precision):
                    pictures = judge.draw(self.model, self.aggregator)
                self.frozen.unet.train()
                score = judge.score(pictures)
                if record(directory, seen, score, pictures):
                    self.write(directory / "best")
            print(f"{seen:,} images: {score.value or 0:.3f} like the validation people", file=sys.stderr)
            return {"validation/similarity": score.value or 0.0, "validation/images": strip(pictures)}

        with self.frozen.narrowed(precision), self.frozen.checkpointed(self.recipe.gradient_checkpointing):
            average = fit(modules, self.loss, self.album.people, schedule, directory, watch)
        load_averaged(modules, average)

    def loss(self, people: Tensor, draws: Draws) -> Tensor:
        """One step's loss, a scalar. people: (B,), numbers in the album."""
        chosen = choose(self.album, people, self.recipe.references, draws)
        drop, draw = self.recipe.dropped, draws.uniform()
        mirrored, variant = draws.integers(2), draws.integers(self.album.captions.shape[1])
        no_image = draw < drop.both + drop.image
        no_text = (draw < drop.both) | ((draw >= drop.both + drop.image) & (draw < drop.both + drop.image + drop.text))
        captions = self.album.captions[chosen.target, variant].masked_fill(no_text, 0)  # (B,), 0 is the empty prompt
        device = self.frozen.unet.device
        pooled = self.aggregator(chosen.embeddings.to(device), chosen.present.to(device))  # (B, M, D)
        pooled = pooled.masked_fill(no_image[:, None, None].to(device), 0.0)
        latents = self.frozen.latents(self.album.moments[chosen.target, mirrored], draws).to(device)
        return self.frozen.loss(latents, self.album.texts[captions].to(device), pooled, draws, self.recipe.gamma)

    def write(self, folder: Path) -> None:
        """The folder of a trained method, whole or not at all."""
        adapter = self.model.adapter_name
        with written_folder(folder) as new:
            if self.recipe.schedule is not None and "adapter" in self.recipe.learn:
                weights = self.frozen.adapter()
                weights = {name: value.half() if self.recipe.half else value for name, value in weights.items()}
                save_adapter(weights, new / ADAPTER)
                adapter = adapter_name(new / ADAPTER)
            save_aggregator(Trained(self.aggregator, self.model.encoder.name, adapter), new / FILE)


@contextmanager
def placed(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """An encoder that is a network on the device while photos are read, and off it when memory is wanted for training."""
    if isinstance(encoder, nn.Module):
        encoder.to(device)
    try:
        yield
    finally:
        if isinstance(encoder, nn.Module):
            encoder.cpu()


def album_of(recipe: AdapterRecipe, model: LatentDiffusion, frozen: Frozen, store: Store) -> Album:
    """The train people of the data, or the toy people."""
    if recipe.data is None:
        return (recipe.toy or ToyPeople()).album(model.encoder.width, frozen)
    return open_album(recipe.data, recipe.references.photos, model.encoder, frozen, store)


def judge_of(recipe: AdapterRecipe, model: LatentDiffusion, store: Store) -> Judge | None:
    """The validation people of the data; toy people have none."""
    return None if recipe.data is None else open_judge(recipe.data, recipe.validation, model, store)


def new_aggregator(recipe: AdapterRecipe, width: int) -> Learned:
    """The recipe's aggregator, untrained."""
    if recipe.aggregator == "attention":
        return PhotoAttention(width, recipe.attention)
    return SetAggregator(width, recipe.set)
