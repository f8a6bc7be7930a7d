"""Z-Image: our loop's images are those of diffusers' own pipelines; of Omni, with photos as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKL, ZImageOmniPipeline, ZImagePipeline
from PIL import Image
from torch import Tensor

from tenth.core.types import Pixels
from tenth.models.families import z_image
from tenth.models.families.loader import load_flow_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_families import toy_family
from toy_qwen_families import random_photos, stacked_contexts

PROMPTS = ["a photo of a person by a window in the rain", "a person", "a hat"]
GUIDED = SamplingConfig(steps=2, guidance_scale=5.0, negative_prompt="blurred")
PLAIN = SamplingConfig(steps=2, guidance_scale=1.0)
SIZE = Size(48, 64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: toy_family(name, tmp_path_factory.mktemp(name)) for name in ("z-image", "z-image-omni")}


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> Any:
    return load_flow_model(folders["z-image"])


class Float32Autoencoder(AutoencoderKL):  # type: ignore[misc]
    """For diffusers' Omni, which rounds photos to 16 bits whatever its autoencoder is in."""

    def encode(self, pixels: Tensor) -> Any:
        return super().encode(pixels.float())


@pytest.fixture(scope="module")
def omni(folders: dict[str, Path]) -> Any:
    return load_flow_model(folders["z-image-omni"])


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    vae = Float32Autoencoder.from_pretrained(folders["z-image-omni"] / "vae")
    omni = ZImageOmniPipeline.from_pretrained(folders["z-image-omni"], vae=vae)
    return {"z-image": ZImagePipeline.from_pretrained(folders["z-image"]), "z-image-omni": omni}


def black_and_white(*sides: tuple[int, int], seed: int = 7) -> list[Pixels]:
    """Photos whose pixels 16 bits hold exactly."""
    return [np.where(photo < 128, 0, 255).astype(np.uint8) for photo in random_photos(*sides, seed=seed)]


def drawn(pipeline: Any, prompts: list[str], seeds: list[int], **more: Any) -> npt.NDArray[np.float32]:
    """diffusers' images."""
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 4.0, "negative_prompt": ["blurred"] * len(prompts)} | more
    images = pipeline(
        prompt=list(prompts),
        height=SIZE.height,
        width=SIZE.width,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
        **settings,
    ).images
    assert images.std() > 0.01
    return np.asarray(images)


@pytest.mark.parametrize(
    ("sampling", "settings"),
    [
        (GUIDED, {}),
        (PLAIN, {"guidance_scale": 0.0, "negative_prompt": None}),
        (
            SamplingConfig(steps=2, guidance_scale=5.0, guidance_rescale=1.0, negative_prompt="blurred"),
            {"cfg_normalization": True},
        ),
        (
            SamplingConfig(steps=2, guidance_scale=5.0, guidance_interval=(0, 0.1), negative_prompt="blurred"),
            {"cfg_truncation": 0.1},
        ),
    ],
    ids=["guided", "plain", "normalized", "truncated"],
)
def test_prompts_are_drawn_as_diffusers_draws_them(model: Any, pipelines: Any, sampling: Any, settings: Any) -> None:
    expected = drawn(pipelines["z-image"], PROMPTS, [3, 4, 5], **settings)
    ours = sample_float(SamplingBatch(model, sampling, PROMPTS, [3, 4, 5], size=SIZE))
    assert np.abs(np.stack(ours) - expected).max() < 1e-4


def test_the_settings_of_guidance_matter(model: Any) -> None:
    guided = sample_float(SamplingBatch(model, GUIDED, PROMPTS[:1], [3], size=SIZE))[0]
    for setting in ({"guidance_scale": 1.0}, {"guidance_rescale": 1.0}, {"guidance_interval": (0.0, 0.1)}):
        other = sample_float(SamplingBatch(model, replace(GUIDED, **setting), PROMPTS[:1], [3], size=SIZE))[0]
        assert np.abs(other - guided).max() > 0.01


@pytest.mark.parametrize("sampling", [GUIDED, PLAIN], ids=["guided", "plain"])
@pytest.mark.parametrize(
    "sides", [[], [(80, 112)], [(80, 112), (150, 100), (64, 64)]], ids=["no photo", "one photo", "three photos"]
)
def test_omni_reads_photos_as_diffusers_reads_them(
    omni: Any, pipelines: Any, sides: list[tuple[int, int]], sampling: Any
) -> None:
    given, prompts = black_and_white(*sides), PROMPTS[:2]
    context = omni.family.encode_photos(omni.pipeline, given) if given else {}
    settings = {} if sampling is GUIDED else {"guidance_scale": 0.0, "negative_prompt": None}
    images = [Image.fromarray(photo) for photo in given] or None
    expected = drawn(pipelines["z-image-omni"], prompts, [3, 4], image=images, **settings)
    batch = SamplingBatch(omni, sampling, prompts, [3, 4], size=SIZE, context=stacked_contexts(context, context))
    assert np.abs(np.stack(sample_float(batch)) - expected).max() < 1e-4


def test_two_people_in_a_batch_are_each_as_alone(omni: Any) -> None:
    contexts = [omni.family.encode_photos(omni.pipeline, random_photos((80, 112), (64, 64), seed=seed)) for seed in (1, 2)]
    alone = [
        sample_float(SamplingBatch(omni, GUIDED, [prompt], [3], size=SIZE, context=stacked_contexts(context)))[0]
        for prompt, context in zip(PROMPTS, contexts, strict=False)
    ]
    together = sample_float(SamplingBatch(omni, GUIDED, PROMPTS[:2], [3, 3], size=SIZE, context=stacked_contexts(*contexts)))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < 1e-4
    exchanged = SamplingBatch(omni, GUIDED, [PROMPTS[0]], [3], size=SIZE, context=stacked_contexts(contexts[1]))
    assert np.abs(sample_float(exchanged)[0] - alone[0]).max() > 0.01


def test_turbo_is_known_by_its_schedule(folders: dict[str, Path], tmp_path: Path) -> None:
    """Eight steps without guidance, where the model that it was distilled from takes fifty, guided."""
    turbo = load_flow_model(toy_family("z-image", tmp_path, shift=3.0))
    assert (turbo.default_sampling.steps, turbo.default_sampling.guidance_scale) == (8, 1.0)
    slow = load_flow_model(folders["z-image"]).default_sampling
    assert (slow.steps, slow.guidance_scale) == (50, 5.0)


def test_a_long_prompt_is_cut_off(model: Any, pipelines: Any) -> None:
    long = "a" * 1_000
    ours = sample_float(SamplingBatch(model, PLAIN, [long], [3], size=SIZE))[0]
    theirs = drawn(pipelines["z-image"], [long], [3], guidance_scale=0.0, negative_prompt=None)[0]
    assert np.abs(ours - theirs).max() < 1e-4
    assert z_image.count_tokens(model.pipeline, long) > model.family.max_prompt_tokens


def test_latents_stay_float32_between_steps_beside_weights_in_16_bits(model: Any, folders: dict[str, Path]) -> None:
    half, steps, kinds = load_flow_model(folders["z-image"]), replace(GUIDED, steps=8), set()
    half.pipeline.to(torch.bfloat16)

    def drawn_of(loaded: Any) -> npt.NDArray[np.float32]:
        batch = SamplingBatch(loaded, steps, PROMPTS[:1], [3], size=SIZE)
        return sample_float(batch, lambda step: kinds.update({step.scaled_latents.dtype, step.prediction.dtype}))[0]

    exact, ours = drawn_of(model), drawn_of(half)
    assert kinds == {torch.float32}
    pipeline = ZImagePipeline.from_pretrained(folders["z-image"], dtype=torch.bfloat16)
    theirs = drawn(pipeline, PROMPTS[:1], [3], num_inference_steps=8)[0]
    assert np.abs(ours - exact).mean() < 1.3 * np.abs(theirs - exact).mean()
