"""DreamBooth on toys of Qwen-Image-Edit and Z-Image: the model stays as it was, and diffusers draws what was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImagePipeline, ZImagePipeline

from tenth.core.errors import IdentityError
from tenth.core.types import Identity
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.methods.export import export_lora, export_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.prompts.trigger_phrase import insert_trigger_phrase
from toy_dreambooth import FLOW_SETTINGS, PROMPT, all_weights, assert_as_before, draw, tuned_identity
from toy_families import load_toy, toy_family, toy_photo

FEW = SamplingConfig(steps=2, guidance_scale=1.0)
SETTINGS = replace(FLOW_SETTINGS, lora=LoraSettings(rank=2, alpha=4, target_modules=("to_q", "to_k", "to_v", "to_out.0")))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module", params=["qwen-image-edit", "z-image"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_toy(folder)


@pytest.fixture(scope="module")
def tuned(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return tuned_identity(model, SETTINGS, tmp_path_factory.mktemp("store"))


def pipeline_of(folder: Path) -> Any:
    """diffusers' own for a prompt alone."""
    kind = {"qwen-image-edit": QwenImagePipeline, "z-image": ZImagePipeline}[folder.name]
    made = kind.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def drawn_by(pipeline: Any, tuned: Identity | None = None) -> np.ndarray:
    """An image of a pipeline of diffusers, without guidance. tuned: whose name is in the prompt."""
    prompt = PROMPT if tuned is None else insert_trigger_phrase(PROMPT, tuned.trigger_phrase)
    off = {"guidance_scale": 0.0} if isinstance(pipeline, ZImagePipeline) else {"true_cfg_scale": 1.0}
    images = pipeline(
        prompt=prompt, height=64, width=64, num_inference_steps=2, generator=torch.Generator().manual_seed(0),
        output_type="np", **off,
    ).images  # fmt: skip
    return np.rint(images[0] * 255).astype(int)


def test_a_person_is_fine_tuned_and_the_model_stays(model: Any, tuned: Identity) -> None:
    before = all_weights(model)
    assert {key.partition(".")[0] for key in tuned.weights} == {"transformer"}
    assert np.abs(draw(model, tuned, FEW) - draw(model, None, FEW)).max() > 1
    assert_as_before(model, before)


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_diffusers_loads_the_lora_and_draws_the_same(
    model: Any, tuned: Identity, folder: Path, layout: str, tmp_path: Path
) -> None:
    if (folder.name, layout) == ("qwen-image-edit", "kohya"):
        with pytest.raises(IdentityError, match=r"could be of several families; .* Use `--layout diffusers`"):
            export_lora(tuned, tmp_path / "lora.safetensors", layout)
        return
    export_lora(tuned, tmp_path / "lora.safetensors", layout)
    theirs = pipeline_of(folder)
    assert np.abs(drawn_by(theirs) - draw(model, None, FEW)).max() <= 1
    theirs.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    assert np.abs(drawn_by(theirs, tuned) - draw(model, tuned, FEW)).max() <= 1


def test_a_model_of_a_person_is_loaded_by_diffusers_and_by_us(
    model: Any, tuned: Identity, folder: Path, tmp_path: Path
) -> None:
    export_model(tuned, model, tmp_path / folder.name)
    expected, named = draw(model, tuned, FEW), Identity("none", "", "", "", trigger_phrase=tuned.trigger_phrase)
    assert np.abs(drawn_by(pipeline_of(tmp_path / folder.name), tuned) - expected).max() <= 1
    again = load_toy(tmp_path / folder.name)
    assert np.abs(draw(again, replace(named, model=again.name), FEW) - expected).max() <= 1


def test_photos_in_context_and_weights_go_together(model: Any, tuned: Identity) -> None:
    if not model.max_context_photos:
        with pytest.raises(IdentityError, match=r"photos in context named latents\.0; z-image reads no photos"):
            draw(model, replace(tuned, context={"latents.0": torch.zeros(16, 8, 8)}), FEW)
        return
    seen = replace(tuned, context=model.encode_photos([toy_photo(64, 64)]))
    assert np.abs(draw(model, seen, FEW) - draw(model, tuned, FEW)).max() > 1
