"""Training of an aggregator and its adapter, to predict a photo of a person from others, beside a frozen model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import Count, FilePath, NonNegative, SomeItems, config_dataclass
from tenth.core.errors import RecipeError
from tenth.core.files.writing import atomic_folder
from tenth.core.rng import StepRNG
from tenth.core.types import DiffusionModel, Pixels
from tenth.core.wording import pluralize
from tenth.data.faces.crops import PhotoDataset
from tenth.models.adapters.ip_adapter import (
    ADAPTER_FILE,
    DEFAULT_NUM_TOKENS,
    adapter_name,
    init_ip_adapter,
    save_ip_adapter,
)
from tenth.models.aggregators import checkpoint
from tenth.models.aggregators.checkpoint import AggregatorCheckpoint, LearnedAggregator
from tenth.models.aggregators.self_attention import SelfAttentionAggregator, SelfAttentionConfig
from tenth.models.aggregators.set_aggregator import SetAggregator, SetAggregatorConfig
from tenth.training.adapter.dataset import AdapterDataset
from tenth.training.adapter.encoding import build_dataset, on_device
from tenth.training.adapter.reference_sampling import IdentityContrastiveLoss, ReferenceSampling, sample_references
from tenth.training.adapter.shards import open_training_set
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.validation import AdapterValidator, ValidationConfig, build_validator
from tenth.training.diffusion_loss import ConditioningDropout
from tenth.training.distributed import distributed_state
from tenth.training.flow_matching.frozen_model import FrozenModel, frozen_model
from tenth.training.flow_matching.time_sampling import TimeSampling
from tenth.training.loop import fit
from tenth.training.monitoring import append_history, image_strip
from tenth.training.schedule import TrainingConfig, autocast_dtype
from tenth.training.state import ema_weights, load_weights


@config_dataclass
class EmbeddingPretraining:
    """Before any image is predicted, the aggregator learns on embeddings alone. An image of the schedule is a set here."""

    schedule: TrainingConfig
    loss: IdentityContrastiveLoss = field(default_factory=IdentityContrastiveLoss)


@config_dataclass
class AdapterRecipe:
    """What a recipe with stage = "adapter" says."""

    aggregator: Literal["attention", "set"]
    data: PhotoDataset | None = None
    encoded: FilePath | None = (
        None  # folder of `tenth data encode`, for the training people; `data` then gives validation people
    )
    synthetic: SyntheticPeople | None = None  # instead of data: synthetic people, to try a recipe out
    schedule: TrainingConfig | None = None  # of the diffusion objective; without it only `embedding_pretraining` runs
    embedding_pretraining: EmbeddingPretraining | None = None
    model: str = "pocket"  # a name, or a folder in diffusers' layout
    trainable: SomeItems[Literal["aggregator", "adapter"]] = ("aggregator", "adapter")
    attention_aggregator: SelfAttentionConfig = field(default_factory=SelfAttentionConfig)
    set_aggregator: SetAggregatorConfig = field(default_factory=SetAggregatorConfig)
    references: ReferenceSampling = field(default_factory=ReferenceSampling)
    conditioning_dropout: ConditioningDropout = field(default_factory=ConditioningDropout)
    min_snr_gamma: NonNegative = 5.0  # of min-SNR weighting, of a UNet; 0 turns it off
    times: TimeSampling = field(default_factory=TimeSampling)  # of a transformer, trained by flow matching
    num_tokens: Count = DEFAULT_NUM_TOKENS  # of a photo, where the model has no adapter from which training goes on
    gradient_checkpointing: bool = False  # memory for time: activations are computed again in the backward pass
    save_half_precision: bool = False  # whether the adapter is written in half precision
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stage: Literal["adapter"] = "adapter"

    @property
    def init_seed(self) -> int:
        """Of the first weights."""
        pretraining = self.embedding_pretraining and self.embedding_pretraining.schedule
        return next(schedule.seed for schedule in (self.schedule, pretraining) if schedule)

    def __post_init__(self) -> None:
        references, num_photos = self.references, self.attention_aggregator.num_photos
        if (self.data is None and self.encoded is None) == (self.synthetic is None):
            found = "photos and [synthetic]" if self.synthetic else "neither [data] nor encoded nor [synthetic]"
            raise RecipeError(found, "one is needed", "Say whose photos")
        if self.synthetic and self.synthetic.photos_per_person < references.required_photos:
            found = f"{self.synthetic.photos_per_person} toy photos of each person"
            raise RecipeError(found, f"{references.required_photos} are needed", "Correct the recipe")
        if self.schedule is None and self.embedding_pretraining is None:
            found = "neither [schedule] nor [embedding_pretraining]"
            raise RecipeError(found, "at least one of them is needed", "Add [schedule]")
        if self.aggregator == "attention" and {references.min_photos, references.max_photos} != {num_photos}:
            needed = f"the attention reads exactly {num_photos}"
            found = f"references from {references.min_photos} to {references.max_photos}"
            raise RecipeError(found, needed, "Set min_photos and max_photos to that number")


def train_adapter(recipe: AdapterRecipe, model: DiffusionModel, directory: Path) -> None:
    """Train and write `directory`/final, a folder that `--method` takes: ip-adapter.safetensors and aggregator.safetensors.

    `directory`/best: the same of the checkpoint with the highest identity similarity on validation people. validation.jsonl and
    samples.png: the history. Raises DataError, before the first step, if nobody has enough photos or a value is not finite.
    """
    # The aggregator, and the frozen model with the adapter.
    checkpoint.require_pooled_embeddings(model.encoder, f"an aggregator ({recipe.aggregator})", model.name)
    cache, distributed = ArrayCache(default_cache_dir()), distributed_state()
    torch.manual_seed(recipe.init_seed)
    aggregator: LearnedAggregator = SetAggregator(model.encoder.embedding_dim, recipe.set_aggregator)
    if recipe.aggregator == "attention":
        aggregator = SelfAttentionAggregator(model.encoder.embedding_dim, recipe.attention_aggregator)
    model.pipeline.to(distributed.device)
    with frozen_model(model, recipe.times, first_adapter(recipe, model)) as frozen:
        # The data, computed by the main process; the others find it in the cache.
        with distributed.main_process_first(), on_device(model.encoder, distributed.device):
            dataset, validator = load_data(recipe, model, frozen, cache, validate=distributed.is_main_process)
        if distributed.is_main_process:
            people, photos = pluralize(dataset.num_people, "person"), pluralize(int(dataset.num_photos.sum()), "photo")
            print(f"training on {people} and {photos}", file=sys.stderr)

        # The two phases, and the result.
        trainer = AdapterTrainer(recipe, model, frozen, aggregator, dataset)
        if recipe.embedding_pretraining is not None:
            trainer.pretrain_on_embeddings(recipe.embedding_pretraining, directory / "embedding")
        if recipe.schedule is not None:
            trainer.train_on_images(recipe.schedule, directory, validator)
        if distributed.is_main_process:
            trainer.save_method(directory / "final")


def first_adapter(recipe: AdapterRecipe, model: DiffusionModel) -> dict[str, dict[str, Tensor]]:
    """The adapter with which training begins: the model's own, or a new one. Raises RecipeError if a new one is not trained."""
    if model.adapter_name:
        return model.adapter_parts
    if recipe.schedule is None or "adapter" not in recipe.trainable:
        found = f"{model.name.partition('@')[0]} has no adapter, and this recipe trains none"
        raise RecipeError(found, "an aggregator is trained for an adapter", 'Add [schedule], and "adapter" to trainable')
    return init_ip_adapter(model.pipeline.transformer, model.encoder.embedding_dim, recipe.num_tokens)


@dataclass(frozen=True, eq=False)
class AdapterTrainer:
    """The modules that are trained, and the data."""

    recipe: AdapterRecipe
    model: DiffusionModel
    frozen: FrozenModel
    aggregator: LearnedAggregator
    dataset: AdapterDataset

    def pretrain_on_embeddings(self, pretraining: EmbeddingPretraining, directory: Path) -> None:
        """Train the aggregator alone, on embeddings."""
        modules, loss = {"aggregator": self.aggregator}, partial(pretraining.loss, self.aggregator, self.dataset)
        load_weights(modules, fit(modules, loss, self.dataset.block_sizes, pretraining.schedule, directory))

    def train_on_images(self, schedule: TrainingConfig, directory: Path, validator: AdapterValidator | None) -> None:
        """Train aggregator and adapter to predict the target photo."""
        # What the recipe trains.
        adapter = [parameter for parameter in self.frozen.network.parameters() if parameter.requires_grad]
        for part, parameters in (("adapter", adapter), ("aggregator", list(self.aggregator.parameters()))):
            for parameter in parameters:
                parameter.requires_grad_(part in self.recipe.trainable)
        network, precision = self.frozen.network, autocast_dtype(schedule.precision, self.frozen.device)
        modules = {"network": network, "aggregator": self.aggregator}

        def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> dict[str, float | Pixels] | None:
            if validator is None:
                return None
            with ema_weights(modules, ema), self.frozen.text_encoders_loaded():
                network.eval()
                with self.frozen.autocast(precision):
                    images = validator.generate(self.model, self.aggregator)
                network.train()
                score, shown = validator.score(images), images[: validator.settings.num_shown]
                if append_history(directory, images_seen, score, shown):
                    self.save_method(directory / "best")
            similarity = score.value or 0.0
            print(f"{images_seen:,} images: identity similarity {similarity:.3f} on validation people", file=sys.stderr)
            return {"validation/similarity": similarity, "validation/images": image_strip(shown)}

        with (
            self.frozen.text_encoders_freed(),
            self.frozen.cast_frozen_weights(precision),
            self.frozen.gradient_checkpointing(self.recipe.gradient_checkpointing),
        ):
            ema = fit(modules, self.loss, self.dataset.block_sizes, schedule, directory, on_checkpoint)
        load_weights(modules, ema)

    def loss(self, person_indices: Tensor, rng: StepRNG) -> Tensor:
        """One step's loss, a scalar. person_indices: (B,), people of the data set."""
        # The target photo, mirrored at random, with a random caption, and its references.
        batch = sample_references(self.dataset, person_indices, self.recipe.references, rng)
        drop_image, drop_text = self.recipe.conditioning_dropout.masks(rng.uniform())
        mirrored, variant = rng.integers(2), rng.integers(self.dataset.max_captions)

        # Conditions, dropped at random: no image is a zero embedding.
        device = self.frozen.device
        prompt_embeddings = self.dataset.prompts(batch.target, variant, drop_text).to(device)
        pooled = self.aggregator(batch.embeddings.to(device), batch.mask.to(device))  # (B, M, D)
        pooled = pooled.masked_fill(drop_image[:, None, None].to(device), 0.0)

        latents = self.frozen.sample_latents(self.dataset.latents(batch.target, mirrored), rng).to(device)
        return self.frozen.per_sample_loss(latents, prompt_embeddings, pooled, rng, self.recipe.min_snr_gamma).mean()

    def save_method(self, folder: Path) -> None:
        """Write the folder of a trained method, whole or not at all."""
        adapter = self.model.adapter_name
        with atomic_folder(folder) as new:
            if self.recipe.schedule is not None and "adapter" in self.recipe.trainable:
                weights = self.frozen.adapter_state_dict()
                weights = {name: value.half() if self.recipe.save_half_precision else value for name, value in weights.items()}
                save_ip_adapter(weights, new / ADAPTER_FILE)
                adapter = adapter_name(new / ADAPTER_FILE)
            result = AggregatorCheckpoint(self.aggregator, self.model.encoder.name, adapter)
            checkpoint.save_aggregator(result, new / checkpoint.AGGREGATOR_FILE)


def load_data(
    recipe: AdapterRecipe, model: DiffusionModel, frozen: FrozenModel, cache: ArrayCache, *, validate: bool
) -> tuple[AdapterDataset, AdapterValidator | None]:
    """The training people of the files or the data, or synthetic people; the validation people of the data, if asked for."""
    min_photos = recipe.references.required_photos
    if recipe.encoded is not None:
        dataset = open_training_set(recipe.encoded, min_photos, model.encoder, frozen)
    elif recipe.data is not None:
        dataset = build_dataset(recipe.data, min_photos, model.encoder, frozen, cache)
    else:
        dataset = (recipe.synthetic or SyntheticPeople()).build_dataset(model.encoder.embedding_dim, frozen)
    if recipe.data is None or not validate:
        return dataset, None
    return dataset, build_validator(recipe.data, recipe.validation, model, cache)
