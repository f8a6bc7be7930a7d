"""Train an aggregator and its adapter on many people. The whole flow, top to bottom.

The model and the encoders stay frozen and run once; what is predicted is a photo that is not among its references.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tenth.core.cache import Store, default_store
from tenth.core.file_writing import written_folder
from tenth.core.rng import Draws
from tenth.core.types import Encoder, Pixels
from tenth.core.wording import counted
from tenth.models.adapters.ip_adapter import ADAPTER, adapter_name, save_adapter
from tenth.models.aggregators.checkpoint import FILE, Learned, Trained, pooled_only, save_aggregator
from tenth.models.aggregators.self_attention import PhotoAttention
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.training.adapter.dataset import Album, open_album
from tenth.training.adapter.recipe import AdapterRecipe, EmbeddingPhase
from tenth.training.adapter.reference_sampling import choose
from tenth.training.adapter.synthetic_data import ToyPeople
from tenth.training.adapter.validation import Judge, open_judge
from tenth.training.distributed import processes
from tenth.training.frozen_diffusion import Frozen
from tenth.training.loop import fit
from tenth.training.monitoring import record, strip
from tenth.training.schedule import PRECISIONS, Schedule
from tenth.training.state import averaged, load_averaged


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
