"""The recipe of the adapter stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenth.core.errors import RecipeError
from tenth.data.faces.crops import PhotoDataset
from tenth.models.aggregators.self_attention import SelfAttentionConfig
from tenth.models.aggregators.set_aggregator import SetAggregatorConfig
from tenth.training.adapter.reference_sampling import IdentityContrastiveLoss, ReferenceSampling
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.validation import ValidationConfig
from tenth.training.schedule import TrainingConfig

TRAINABLE_PARTS = ("aggregator", "adapter")


@dataclass(frozen=True)
class ConditioningDropout:
    """Shares of the images that lose a condition, so that guidance is learnt. Source: IP-Adapter's published training."""

    p_unconditional: float = 0.05
    p_no_image: float = 0.05  # only the image: the adapter then sees one zero embedding, which no aggregator touches
    p_no_text: float = 0.05  # only the text


@dataclass(frozen=True)
class EmbeddingPretraining:
    """Before any image is predicted, the aggregator learns on embeddings alone. An image of the schedule is a set here."""

    schedule: TrainingConfig
    loss: IdentityContrastiveLoss = field(default_factory=IdentityContrastiveLoss)


@dataclass(frozen=True)
class AdapterRecipe:
    """What a recipe with stage = "adapter" says."""

    aggregator: str  # "attention" or "set"
    data: PhotoDataset | None = None
    synthetic: SyntheticPeople | None = None  # instead of data: drawn people, to try a recipe out
    schedule: TrainingConfig | None = None  # of the diffusion objective; without it only `embedding_pretraining` is learnt
    embedding_pretraining: EmbeddingPretraining | None = None
    model: str = "pocket"  # a name, or a folder in diffusers' layout
    trainable: tuple[str, ...] = TRAINABLE_PARTS
    attention_aggregator: SelfAttentionConfig = field(default_factory=SelfAttentionConfig)
    set_aggregator: SetAggregatorConfig = field(default_factory=SetAggregatorConfig)
    references: ReferenceSampling = field(default_factory=ReferenceSampling)
    conditioning_dropout: ConditioningDropout = field(default_factory=ConditioningDropout)
    min_snr_gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    gradient_checkpointing: bool = False  # memory for time: activations are computed again in the backward pass
    save_half_precision: bool = False  # whether the adapter is written in half precision
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stage: str = "adapter"

    @property
    def init_seed(self) -> int:
        """Of the first weights."""
        return next(
            part.seed for part in (self.schedule, self.embedding_pretraining and self.embedding_pretraining.schedule) if part
        )

    def __post_init__(self) -> None:
        known = {"aggregator": (self.aggregator, ("attention", "set")), "trainable": (self.trainable, TRAINABLE_PARTS)}
        for key, (value, choices) in known.items():
            if not set(value if isinstance(value, tuple) else [value]) <= set(choices) or not value:
                raise RecipeError(f"{key} is {value!r}", f"one of {', '.join(choices)} is needed", "Correct the recipe")
        if (self.data is None) == (self.synthetic is None):
            raise RecipeError(
                "[data] and [synthetic]" if self.data else "neither [data] nor [synthetic]", "one is needed", "Say whose photos"
            )
        if self.synthetic and self.synthetic.photos_per_person < self.references.required_photos:
            raise RecipeError(
                f"{self.synthetic.photos_per_person} toy photos of each person",
                f"{self.references.required_photos} are needed",
                "Correct the recipe",
            )
        if self.schedule is None and self.embedding_pretraining is None:
            raise RecipeError(
                "neither [schedule] nor [embedding_pretraining]", "at least one of them is needed", "Add [schedule]"
            )
        if (
            self.aggregator == "attention"
            and not self.references.min_photos == self.references.max_photos == self.attention_aggregator.num_photos
        ):
            raise RecipeError(
                f"references from {self.references.min_photos} to {self.references.max_photos}",
                f"the attention reads exactly {self.attention_aggregator.num_photos}",
                "Set min_photos and max_photos to that number",
            )
