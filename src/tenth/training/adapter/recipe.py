"""The recipe of the adapter stage."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from tenth.core.config import NonNegative, SomeItems, config_dataclass
from tenth.core.errors import RecipeError
from tenth.data.faces.crops import PhotoDataset
from tenth.models.aggregators.self_attention import SelfAttentionConfig
from tenth.models.aggregators.set_aggregator import SetAggregatorConfig
from tenth.training.adapter.reference_sampling import IdentityContrastiveLoss, ReferenceSampling
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.validation import ValidationConfig
from tenth.training.diffusion_loss import ConditioningDropout
from tenth.training.schedule import TrainingConfig


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
    synthetic: SyntheticPeople | None = None  # instead of data: synthetic people, to try a recipe out
    schedule: TrainingConfig | None = None  # of the diffusion objective; without it only `embedding_pretraining` runs
    embedding_pretraining: EmbeddingPretraining | None = None
    model: str = "pocket"  # a name, or a folder in diffusers' layout
    trainable: SomeItems[Literal["aggregator", "adapter"]] = ("aggregator", "adapter")
    attention_aggregator: SelfAttentionConfig = field(default_factory=SelfAttentionConfig)
    set_aggregator: SetAggregatorConfig = field(default_factory=SetAggregatorConfig)
    references: ReferenceSampling = field(default_factory=ReferenceSampling)
    conditioning_dropout: ConditioningDropout = field(default_factory=ConditioningDropout)
    min_snr_gamma: NonNegative = 5.0  # of min-SNR weighting; 0 turns it off
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
        if (self.data is None) == (self.synthetic is None):
            found = "[data] and [synthetic]" if self.data else "neither [data] nor [synthetic]"
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
