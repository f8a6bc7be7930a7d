"""DreamBooth on the toy model: settings of three steps, which several tests share."""

from __future__ import annotations

from tenth.methods.dreambooth.data import DreamBoothSettings
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.sampling.config import SamplingConfig
from tenth.training.schedule import TrainingConfig

SCHEDULE = TrainingConfig(
    total_images=12,
    batch_size=4,
    warmup_images=0,
    ema_halflife_images=4,
    checkpoint_every_images=4,
    learning_rate=0.1,
    precision="fp32",
)
SETTINGS = DreamBoothSettings(
    SCHEDULE,
    LoraSettings(rank=2, alpha=4),
    class_noun="person",
    num_class_images=3,
    sampling=SamplingConfig(steps=1),
)
