"""What a recipe of the stage `adversarial` says."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from tenth.core.config import Count, FilePath, Fraction, NonNegative, config_dataclass, require
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.sampling.config import within_range
from tenth.training.pocket.diffusion import DiffusionRecipe

NUM_TIMESTEPS = 1_000  # of the pocket model's scheduler
HARD_ATTRIBUTES = tuple(name for name in FACE_ATTRIBUTES if name != "male")  # prompts say a gender beside all else


def num_sampled(fraction: float, batch_size: int) -> int:
    """How many images a step samples."""
    return int(fraction * batch_size)


@config_dataclass
class AdversarialLoss:
    """What the UNet learns by beside the denoising error and the identity loss."""

    adversarial_weight: NonNegative = 0.02
    pattern_weight: NonNegative = 0.05  # that fine detail is as strong at each place of the decoder's squares
    jitter: Fraction = 0.0  # of a crop's side: by up to so much crops are enlarged and moved before the identity loss
    max_timestep: Count = 650  # below it are the adversarial loss and predictions to go on from; above it the mean is right
    p_below: Fraction = 0.7  # of the images have a timestep below, whatever the others have
    p_on_policy: Fraction = 0.4  # of these go on from the UNet's own prediction, as sampling does
    step_size: Count = 300  # longest step of sampling, in timesteps
    min_step: Fraction = 0.6  # shortest step after which the discriminator looks, as a share of step_size


@config_dataclass
class SampledImages:
    """Images that are sampled from noise inside of a step, without guidance, which they learn to do without.

    attribute_heads: the file of recipes/pocket-attribute-heads.toml, trained on the UNet that the discriminator reads.
    """

    fraction: Fraction = 0.0  # how many there are beside a batch's images, as a fraction of these
    weight: NonNegative = 1.0  # of all their losses, the discriminator's own too
    guided_weight: NonNegative = 0.0  # of the difference from what another model shows with guidance
    guided_model: FilePath | None = None  # that model's folder; None: the one that the training goes on from
    guidance_scale: Annotated[float, within_range("guidance_scale")] = 1.4
    text_guidance_scale: Annotated[float, within_range("text_guidance_scale")] = 5.0
    adversarial_weight: NonNegative = 0.02  # as of `loss`; gradients through all steps of sampling weigh otherwise
    p_other_person: Fraction = 0.5  # of them show another person, of the same gender, than the photo of which their prompt is
    guide_hard_alone: bool = False  # text guidance is for prompts that request a hard attribute, not for others
    p_without_person: Fraction = 0.0  # of the steps are without the adapter
    hard_attributes: tuple[str, ...] = ()  # in more prompts than others, as they are learnt late
    hard_weight: Count = 1  # in so many times as many
    min_timestep: Count = 100  # from which noise is added before the discriminator looks: with less it teaches patterns
    max_timestep: Count = 480  # up to which
    attribute_heads: FilePath | None = None
    attribute_weight: NonNegative = 0.0  # of the attributes that they are asked for

    def __post_init__(self) -> None:
        # Values.
        below = self.min_timestep < self.max_timestep
        require(below, "sampled.min_timestep", self.min_timestep, f"less than max_timestep, {self.max_timestep}")
        unknown = set(self.hard_attributes) - set(HARD_ATTRIBUTES)
        require(not unknown, "sampled.hard_attributes", sorted(unknown), f"some of {', '.join(HARD_ATTRIBUTES)}")
        require(self.max_timestep < NUM_TIMESTEPS, "sampled.max_timestep", self.max_timestep, f"less than {NUM_TIMESTEPS}")

        # Keys that would change nothing.
        for key in ("guided_weight", "attribute_weight", "p_without_person", "hard_attributes"):
            value = getattr(self, key)
            require(self.fraction > 0 or not value, f"sampled.{key}", value, "left out without a fraction of sampled images")
        chosen = self.hard_weight > 1 or self.guide_hard_alone
        text_guided = self.guided_weight and self.text_guidance_scale
        needs = {
            "attribute_weight": ("attribute_heads", self.attribute_heads),
            "attribute_heads": ("attribute_weight", self.attribute_weight),
            "guided_model": ("guided_weight", self.guided_weight),
            "hard_attributes": ("hard_weight above 1, or guide_hard_alone", chosen),
            "guide_hard_alone": (
                "hard_attributes, guided_weight and text_guidance_scale",
                text_guided and self.hard_attributes,
            ),
        }
        for key, (other, given) in needs.items():
            value = getattr(self, key)
            require(bool(given) or not value, f"sampled.{key}", value, f"left out without {other}")
        weighted = bool(self.hard_attributes) or self.hard_weight == 1
        require(weighted, "sampled.hard_weight", self.hard_weight, "left out without hard_attributes")


@config_dataclass
class AdversarialRecipe(DiffusionRecipe):
    """recipes/pocket-adversarial.toml and pocket-prompts*.toml. Other keys as of its base; no augmentation or face features."""

    loss: AdversarialLoss = field(default_factory=AdversarialLoss)
    sampled: SampledImages = field(default_factory=SampledImages)
    feature_model: FilePath | None = None  # whose UNet discriminator and heads read; None: that of init_from
    stage: Literal["adversarial"] = "adversarial"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        sampled, batch_size = self.sampled.fraction, self.schedule.batch_size
        some = not sampled or num_sampled(sampled, batch_size) > 0
        require(some, "sampled.fraction", sampled, f"0, or at least one image of a batch of {batch_size}")
        p_apply, feature_weight = self.augmentation.p_apply, self.identity_loss.feature_weight
        require(not p_apply, "augmentation.p_apply", p_apply, "0 in this stage")
        require(
            not feature_weight, "identity_loss.feature_weight", feature_weight, "0 in this stage: the discriminator sees them"
        )
