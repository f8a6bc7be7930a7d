"""What DreamBooth trained on a tiny transformer, in files that others read, beside packed weights, and beside photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tenth.core.types import Identity
from tenth.methods.export import export_lora
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.families.loader import load_flow_model
from toy_dreambooth import FLOW_SETTINGS, PROMPT, tuned_identity
from toy_families import toy_family

FAMILIES = ["flux2-klein", "qwen-image-edit", "z-image"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_flow_model(folder)


@pytest.fixture(scope="module")
def tuned(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return tuned_identity(model, FLOW_SETTINGS, tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_diffusers_loads_what_was_trained_and_draws_the_same(
    tuned: Identity, folder: Path, layout: str, tmp_path: Path
) -> None:
    """A pipeline of diffusers with the exported file, and one to whose weights ours are added."""
    export_lora(tuned, tmp_path / "lora.safetensors", layout)
    ours, theirs = text_pipeline(folder), text_pipeline(folder)
    plain = drawn_by(ours)
    theirs.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    with applied_weights(ours, tuned.weights):
        expected = drawn_by(ours)
    assert expected.shape == (64, 64, 3)
    assert np.abs(drawn_by(theirs) - expected).max() <= 1e-5
    assert np.abs(plain - expected).max() > 1e-3
    assert np.array_equal(drawn_by(ours), plain)


def text_pipeline(folder: Path) -> Any:
    """The family's pipeline of diffusers; of Qwen-Image-Edit, which wants a photo, the one that draws from text alone."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    if isinstance(pipeline, diffusers.QwenImageEditPlusPipeline):
        parts = ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")
        return diffusers.QwenImagePipeline(**{name: getattr(pipeline, name) for name in parts})
    return pipeline


def drawn_by(pipeline: Any) -> np.ndarray:
    """An image in [0, 1] of a pipeline of diffusers."""
    seed = torch.Generator().manual_seed(3)
    images = pipeline(prompt=PROMPT, height=64, width=64, num_inference_steps=2, generator=seed, output_type="np").images
    return np.asarray(images[0])


def test_a_file_that_was_exported_is_read_back_by_lora(model: Any, tuned: Identity, folder: Path, tmp_path: Path) -> None:
    with model.applied([tuned]):
        expected = {name: value.clone() for name, value in model.pipeline.transformer.state_dict().items()}
    for layout in ("diffusers", "kohya"):
        export_lora(tuned, tmp_path / f"{layout}.safetensors", layout)
        merged = load_flow_model(folder, lora=tmp_path / f"{layout}.safetensors").pipeline.transformer.state_dict()
        for name, value in expected.items():
            torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6)
