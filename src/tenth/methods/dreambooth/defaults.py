"""The settings of DreamBooth that work without tuning, by the kind of model."""

from __future__ import annotations

from dataclasses import replace

from tenth.core.config import require
from tenth.core.errors import RecipeError
from tenth.core.types import DiffusionModel
from tenth.methods.dreambooth.data import SMALL_VOCAB_CLASS_PROMPTS, SMALL_VOCAB_PROMPTS, DreamBoothSettings
from tenth.methods.dreambooth.lora import ALL_LAYERS, ATTENTION_LAYERS, LoraSettings
from tenth.models.prompt_encoder import SMALL_VOCABULARY
from tenth.sampling.config import SamplingConfig
from tenth.training.flow_matching.time_sampling import TimeSampling
from tenth.training.schedule import TrainingConfig

LORA_SUFFIX = "lora"  # of the names of methods that train low-rank matrices
# Defaults of models of Stable Diffusion's size, and of small ones.
SCHEDULE = TrainingConfig(1_600, 2, warmup_images=40, ema_halflife_images=200, checkpoint_every_images=200)
SMALL_SCHEDULE = TrainingConfig(320, 8, warmup_images=40, ema_halflife_images=80, checkpoint_every_images=160)
SMALL_SCHEDULE_WITH_ADAPTER = TrainingConfig(160, 8, warmup_images=20, ema_halflife_images=40, checkpoint_every_images=80)
# Of transformers, of which a step takes longer: as many steps as in the published examples, one photo each.
FLOW_SCHEDULE = TrainingConfig(
    1_000,
    2,
    gradient_accumulation_steps=2,
    warmup_images=40,
    ema_halflife_images=200,
    checkpoint_every_images=200,
    precision="bf16",
)
MAX_FLOW_STEPS = 28  # of class images, and of the images that checkpoints are chosen by


def default_settings(name: str, model: DiffusionModel, *, with_adapter: bool = False) -> DreamBoothSettings:
    """Settings that work without tuning, for small models of faces and for models of Stable Diffusion's size.

    with_adapter: for training a UNet with an adapter on; of no meaning for a transformer.
    """
    if model.family is not None:
        return _flow_settings(name, model)
    small_vocabulary = len(model.pipeline.tokenizer.get_vocab()) < SMALL_VOCABULARY
    lora = None
    if name.endswith(LORA_SUFFIX):
        lora = LoraSettings(target_modules=ALL_LAYERS if small_vocabulary else ATTENTION_LAYERS)
    if not small_vocabulary:
        schedule = replace(SCHEDULE, learning_rate=1e-4 if lora else 2e-6)
        return DreamBoothSettings(schedule, lora, num_class_images=200, with_adapter=with_adapter, gradient_checkpointing=True)
    schedule = SMALL_SCHEDULE_WITH_ADAPTER if with_adapter else SMALL_SCHEDULE
    # The less is kept, the more of the prompts; likeness falls with it, not beside an adapter (docs/log.md; LoRA: not tried).
    strength = 0.3 if with_adapter else 1.0 if lora else 0.8
    return DreamBoothSettings(
        replace(schedule, learning_rate=2e-3 if lora else 3e-4),
        lora,
        train_text_encoder=True,
        strength=strength,
        prompts=SMALL_VOCAB_PROMPTS,
        class_prompts=SMALL_VOCAB_CLASS_PROMPTS,
        num_class_images=34,
        prior_loss_weight=0.0,  # class images cost half the time, and likeness where a prompt asks for more (docs/log.md)
        with_adapter=with_adapter,
    )


def _flow_settings(name: str, model: DiffusionModel) -> DreamBoothSettings:
    """Of a transformer: the family's layers and times, and no min-SNR, which is for noise schedules."""
    training = model.family.training
    lora = LoraSettings(target_modules=training.lora_targets) if name.endswith(LORA_SUFFIX) else None
    return DreamBoothSettings(
        replace(FLOW_SCHEDULE, learning_rate=1e-4 if lora else 1e-5),
        lora,
        num_class_images=100,
        sampling=SamplingConfig(steps=min(model.default_sampling.steps, MAX_FLOW_STEPS)),
        min_snr_gamma=0.0,
        time_sampling=TimeSampling(training.logit_mean, training.logit_std, training.shift or 0.0),
        gradient_checkpointing=True,
    )


def check_settings(settings: DreamBoothSettings, model: DiffusionModel, *, has_adapter: bool = False) -> None:
    """Raises RecipeError for settings that this kind of model, or a method alone, has no use for.

    They would silently change nothing. has_adapter: whether an adapter's method stands beside.
    """
    if settings.with_adapter and (model.family is not None or not has_adapter):
        found = f"with_adapter is true for {model.name.partition('@')[0]}{'' if has_adapter else ' and no adapter'}"
        needed = "a UNet and a method that reads photos by its IP-Adapter are needed"
        raise RecipeError(found, needed, "Leave it out, or name both methods, with a plus between them")
    if model.family is None:
        for key in ("time_sampling", "resolution"):
            if getattr(settings, key):
                needed = "only a transformer trained by flow matching has one"
                raise RecipeError(f"{key} for {model.name.partition('@')[0]}", needed, "Leave it out, or choose another model")
        return
    multiple = model.family.size_multiple
    require(settings.resolution % multiple == 0, "resolution", settings.resolution, f"a multiple of {multiple}")
    unused = {"train_text_encoder": settings.train_text_encoder, "min_snr_gamma": settings.min_snr_gamma}
    if wrong := [key for key, value in unused.items() if value]:
        needed = f"{model.family.name} is trained without it: its text encoders stay as they are, and all times count alike"
        raise RecipeError(f"{wrong[0]} is {unused[wrong[0]]}", needed, "Leave it out")
