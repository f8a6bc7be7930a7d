"""What a recipe of the stage `adversarial` says."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from tenth.core.config import Count, FilePath, Fraction, NonNegative, config_dataclass, require
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.training.pocket.diffusion import DiffusionRecipe

NUM_TIMESTEPS = 1_000  # of the pocket model's scheduler


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

    attribute_heads: the file of recipes/pocket-attribute-heads.toml, trained on the model that the recipe goes on from.
    """

    share: Fraction = 0.0  # how many there are beside a batch's images, as a share of these
    weight: NonNegative = 1.0  # of what they show, beside what all images show
    guided_weight: NonNegative = 0.0  # of the difference from what another model shows with guidance
    guided_model: FilePath | None = None  # that model's folder; None: the one that the training goes on from
    guidance_scale: NonNegative = 1.4  # of that, and
    text_guidance_scale: NonNegative = 5.0  # which together showed most of what was asked for (docs/log.md)
    adversarial_weight: NonNegative = 0.02  # as of `loss`; gradients through all steps of sampling weigh otherwise
    p_other_person: Fraction = 0.5  # of them show another person, of the same gender, than the photo of which their prompt is
    p_without_person: Fraction = 0.0  # of the steps show nobody in particular, as without an adapter
    hard_attributes: tuple[str, ...] = ()  # asked for more often than others, as they are learnt late
    hard_weight: Count = 1  # so many times as often
    min_timestep: Count = 100  # from which noise is added before the discriminator looks: with less it teaches patterns
    max_timestep: Count = 480  # up to which
    attribute_heads: FilePath | None = None
    attribute_weight: NonNegative = 0.0  # of the attributes that they are asked for

    def __post_init__(self) -> None:
        needed = not self.attribute_weight or (self.attribute_heads is not None and self.share > 0)
        below = self.min_timestep < self.max_timestep
        require(below, "sampled.min_timestep", self.min_timestep, f"less than max_timestep, {self.max_timestep}")
        unknown = set(self.hard_attributes) - set(FACE_ATTRIBUTES)
        require(not unknown, "sampled.hard_attributes", sorted(unknown), f"some of {', '.join(FACE_ATTRIBUTES)}")
        require(self.max_timestep < NUM_TIMESTEPS, "sampled.max_timestep", self.max_timestep, f"less than {NUM_TIMESTEPS}")
        require(
            needed, "sampled.attribute_weight", self.attribute_weight, "0 without attribute_heads and a share of sampled images"
        )


@config_dataclass
class AdversarialRecipe(DiffusionRecipe):
    """recipes/pocket-adversarial.toml, pocket-prompts.toml. Other keys as of its base; no augmentation, no face features."""

    loss: AdversarialLoss = field(default_factory=AdversarialLoss)
    sampled: SampledImages = field(default_factory=SampledImages)
    stage: Literal["adversarial"] = "adversarial"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        p_apply, feature_weight = self.augmentation.p_apply, self.identity_loss.feature_weight
        require(not p_apply, "augmentation.p_apply", p_apply, "0 in this stage")
        require(
            not feature_weight, "identity_loss.feature_weight", feature_weight, "0 in this stage: the discriminator sees them"
        )
