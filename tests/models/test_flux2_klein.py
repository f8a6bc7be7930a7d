"""FLUX.2 klein: our loop's images are those of diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline

from tenth.models.families.loader import load_flow_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_families import toy_family

PROMPT = "a photo of a person by a window"


@pytest.fixture(scope="module", params=[True, False], ids=["distilled", "guided"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("flux2-klein", tmp_path_factory.mktemp("klein"), is_distilled=request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_flow_model(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return Flux2KleinPipeline.from_pretrained(folder)


def test_text_alone_is_drawn_as_diffusers_draws_it(model: Any, pipeline: Any) -> None:
    sampling = SamplingConfig(steps=3, guidance_scale=4.0, guidance_rescale=0.0)
    ours = sample_float(SamplingBatch(model, sampling, [PROMPT, "another"], [3, 4]))
    assert ours[0].shape == (64, 64, 3)
    for image, prompt, seed in zip(ours, (PROMPT, "another"), (3, 4), strict=True):
        theirs = pipeline(
            prompt=prompt, height=64, width=64, num_inference_steps=3, guidance_scale=4.0, output_type="np",
            generator=torch.Generator().manual_seed(seed),
        ).images[0]  # fmt: skip
        assert np.abs(image - theirs).max() < 1e-4
        assert theirs.std() > 0.01
