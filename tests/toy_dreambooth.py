"""DreamBooth on toy models, UNets and transformers: settings of three steps, people and images, which several tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.types import Identity, Person, Photo
from tenth.methods.dreambooth.data import DreamBoothSettings
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.flow_matching.time_sampling import TimeSampling
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
PROMPT, TWO_STEPS = "a photo of a person", SamplingConfig(steps=2)
FLOW_SETTINGS = replace(
    SETTINGS,
    lora=LoraSettings(
        rank=2, alpha=4, target_modules=("to_q", "to_k", "to_v", "to_qkv_mlp_proj", "to_out", "to_out.0", "img_mlp.net.2")
    ),
    min_snr_gamma=0.0,
    time_sampling=TimeSampling(),
    sampling=TWO_STEPS,
    resolution=64,
)


def person(*numbers: int) -> Person:
    pixels = [np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8) for number in numbers]
    return Person("anna", tuple(Photo(each, f"{number:064x}") for number, each in zip(numbers, pixels, strict=True)))


def draw(model: Any, identity: Identity | None, sampling: SamplingConfig = TWO_STEPS) -> np.ndarray:
    (sample,) = generate(model, [Request(identity, PROMPT, 0)], sampling)
    return sample.pixels.astype(int)


def all_weights(model: Any) -> dict[str, torch.Tensor]:
    parts = {name: part for name, part in model.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value.clone() for name, part in parts.items() for key, value in part.state_dict().items()}


def assert_as_before(model: Any, before: dict[str, torch.Tensor]) -> None:
    after = all_weights(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def tuned_identity(model: Any, settings: DreamBoothSettings, store: Path) -> Identity:
    """Of dreambooth-lora, by a cache in a folder. The model is as before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENTH_CACHE_DIR", str(store))
        before = all_weights(model)
        identity = DreamBooth("dreambooth-lora", settings)(person(1, 2), model).identity
        assert_as_before(model, before)
        return identity
