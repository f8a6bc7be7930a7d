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

    both: float = 0.05
    image: float = 0.05  # only the image: the adapter then sees one zero embedding, which no aggregator touches
    text: float = 0.05  # only the text


@dataclass(frozen=True)
class EmbeddingPretraining:
    """Before any image is predicted, the aggregator learns on embeddings alone. An image of the schedule is a set here."""

    schedule: TrainingConfig
    objective: IdentityContrastiveLoss = field(default_factory=IdentityContrastiveLoss)


@dataclass(frozen=True)
class AdapterRecipe:
    """What a recipe with stage = "adapter" says."""

    aggregator: str  # "attention" or "set"
    data: PhotoDataset | None = None
    toy: SyntheticPeople | None = None  # instead of data: drawn people, to try a recipe out
    schedule: TrainingConfig | None = None  # of the diffusion objective; without it only `embedding` is learnt
    embedding: EmbeddingPretraining | None = None
    model: str = "pocket"  # a name, or a folder in diffusers' layout
    learn: tuple[str, ...] = TRAINABLE_PARTS
    attention: SelfAttentionConfig = field(default_factory=SelfAttentionConfig)
    set: SetAggregatorConfig = field(default_factory=SetAggregatorConfig)
    references: ReferenceSampling = field(default_factory=ReferenceSampling)
    dropped: ConditioningDropout = field(default_factory=ConditioningDropout)
    gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    gradient_checkpointing: bool = False  # memory for time: activations are computed again in the backward pass
    half: bool = False  # whether the adapter is written in half precision
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    stage: str = "adapter"

    @property
    def init_seed(self) -> int:
        """Of the first weights."""
        return next(part.seed for part in (self.schedule, self.embedding and self.embedding.schedule) if part)

    def __post_init__(self) -> None:
        known = {"aggregator": (self.aggregator, ("attention", "set")), "learn": (self.learn, TRAINABLE_PARTS)}
        for key, (value, choices) in known.items():
            if not set(value if isinstance(value, tuple) else [value]) <= set(choices) or not value:
                raise RecipeError(f"{key} is {value!r}", f"one of {', '.join(choices)} is needed", "Correct the recipe")
        if (self.data is None) == (self.toy is None):
            raise RecipeError(
                "[data] and [toy]" if self.data else "neither [data] nor [toy]", "one is needed", "Say whose photos"
            )
        if self.toy and self.toy.photos < self.references.required_photos:
            raise RecipeError(
                f"{self.toy.photos} toy photos of each person",
                f"{self.references.required_photos} are needed",
                "Correct the recipe",
            )
        if self.schedule is None and self.embedding is None:
            raise RecipeError("neither [schedule] nor [embedding]", "at least one of them is needed", "Add [schedule]")
        if self.aggregator == "attention" and not self.references.least == self.references.most == self.attention.photos:
            raise RecipeError(
                f"references from {self.references.least} to {self.references.most}",
                f"the attention reads exactly {self.attention.photos}",
                "Set least and most to that number",
            )
