"""How images are drawn: samplers, scales of blocks, and the settings that pictures and records say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from tenth.core.config import from_table, to_table
from tenth.core.errors import CheckpointError, RecipeError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.data.faces.crops import PhotoDataset
from tenth.experiments.images import ImageJob, is_generated
from tenth.experiments.output_folders import ensure_writable_experiment
from tenth.experiments.recipe import ExperimentRecipe
from tenth.models.adapters.networks.unet import cross_attention_layers
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import MODEL_DIR
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import SamplingBatch, initial_noise, sample
from tenth.sampling.schedulers import SCHEDULERS, a1111_name, build_scheduler
from toy_drawing import FEW_STEPS, PROMPT, diffusers_image, generate_float_image, generate_images, random_identity
from toy_models import write_stable


@pytest.fixture(scope="module")
def stable(stable_folder: Path) -> Any:
    return load_model(str(stable_folder))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model with the pocket model's noise schedule, which ends in pure noise."""
    folder = write_stable("sd15", tmp_path_factory.mktemp("small") / "model")
    shutil.copyfile(MODEL_DIR / "scheduler/scheduler_config.json", folder / "scheduler/scheduler_config.json")
    return load_model(str(folder))


# Settings in records and pictures


def test_settings_are_a_table_and_come_back_from_it() -> None:
    other = replace(FEW_STEPS, scheduler="unipc", guidance_interval=(0.2, 1.0), ip_adapter_scale={"mid": 1})
    for sampling in (FEW_STEPS, other):
        table = to_table(sampling)
        assert list(table) == list(vars(FEW_STEPS))
        assert from_table(SamplingConfig, json.loads(json.dumps(table))) == sampling


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": "euler"},
        {"guidance_interval": (0.0, 0.5)},
        {"ip_adapter_scale": {"mid": 1}},
        {"steps": 4},
        {"text_guidance_scale": 1.0},
        {"precision": "bf16"},
    ],
)
def test_a_image_counts_as_drawn_only_with_the_very_settings(change: dict[str, Any], small: Any, tmp_path: Path) -> None:
    path, picture = tmp_path / "0.png", ImageJob(None, None, None, PROMPT, 0, tmp_path / "0.png")
    few_steps = FEW_STEPS.for_model(small)
    recipe = ExperimentRecipe(PhotoDataset(Path(), Path()), "validation", sampling=few_steps)

    def drawn(settings: SamplingConfig, wanted: SamplingConfig) -> bool:
        info = PngImagePlugin.PngInfo()
        said = {"prompt": PROMPT, "seed": 0, "method": "none", "model": small.name, "tenth": "0.0.9"} | to_table(settings)
        info.add_text("tenth", json.dumps(said))
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
        return is_generated(path, "none", picture, replace(recipe, sampling=wanted), small)

    other = replace(few_steps, **change)
    assert [drawn(*both) for both in ((few_steps, few_steps), (other, other), (few_steps, other), (other, few_steps))] == [
        True,
        True,
        False,
        False,
    ]


def test_an_experiment_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    ensure_writable_experiment(tmp_path, {"sampling": to_table(FEW_STEPS), "seed": 0})
    ensure_writable_experiment(tmp_path, {"sampling": to_table(FEW_STEPS), "seed": 0})
    with pytest.raises(CheckpointError, match="other settings: sampling "):
        ensure_writable_experiment(tmp_path, {"sampling": to_table(replace(FEW_STEPS, scheduler="euler")), "seed": 0})


# Samplers


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if "karras" not in name])
def test_every_sampler_draws_a_seed_s_one_image_and_leaves_the_model_its_own(name: str, small: Any) -> None:
    own, sampling = small.pipeline.scheduler, replace(FEW_STEPS, scheduler=name)
    people = [random_identity(small), random_identity(small, 1)]
    both = generate_images(small, sampling, *people)
    assert small.pipeline.scheduler is own
    assert np.array_equal(both[0], generate_images(small, sampling, *people)[0])
    assert np.abs(both[1] - generate_images(small, sampling, people[1])[0]).max() <= 1
    assert (name == "ddim") == np.array_equal(both[0], generate_images(small, FEW_STEPS, *people)[0])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_diffusers_with_that_sampler_draws_the_same(name: str, stable: Any) -> None:
    import diffusers

    sampling, identity = replace(FEW_STEPS, scheduler=name), random_identity(stable)
    ours, own = generate_float_image(stable, sampling, identity), stable.pipeline.scheduler
    chosen = SCHEDULERS[name]
    try:
        stable.pipeline.scheduler = getattr(diffusers, chosen.class_name).from_config(own.config, **chosen.settings)
        assert a1111_name(stable.pipeline.scheduler) == chosen.a1111_name
        eta = {"eta": 0.3} if name == "tcd" else {}  # its scheduler's own, where a pipeline gives 0
        theirs = diffusers_image(stable, FEW_STEPS, identity, **eta)
    finally:
        stable.pipeline.scheduler = own
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_another_sampler_takes_what_the_model_s_file_says_for_it(tmp_path: Path) -> None:
    """The published Stable Diffusion 1.5 has PNDM, which clips no sample, and says so for those who could."""
    folder = write_stable("sd15", tmp_path / "model")
    for path, change in (
        (
            folder / "scheduler/scheduler_config.json",
            {"_class_name": "PNDMScheduler", "clip_sample": False, "skip_prk_steps": True},
        ),
        (folder / "model_index.json", {"scheduler": ["diffusers", "PNDMScheduler"]}),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    own = load_model(str(folder)).pipeline.scheduler
    assert type(own).__name__ == "PNDMScheduler"
    assert build_scheduler(own, "ddim").config.clip_sample is False
    pocket = load_pocket().pipeline.scheduler
    assert type(pocket).__name__ == "UniPCMultistepScheduler"
    ddim = build_scheduler(pocket, "ddim").config
    assert (ddim.clip_sample, ddim.rescale_betas_zero_snr, ddim.timestep_spacing) == (False, True, "trailing")


def test_the_sampler_stands_in_the_image(stable: Any, small: Any, tmp_path: Path) -> None:
    own = "Euler" if hasattr(stable.pipeline, "text_encoder_2") else "DDIM"
    for model, sampling, label in (
        (stable, FEW_STEPS, own),
        (small, FEW_STEPS, "DDIM"),
        (stable, replace(FEW_STEPS, scheduler="dpm++-2m-karras"), "DPM++ 2M Karras"),
    ):
        save_sample(next(generate(model, [Request(None, PROMPT, 1)], sampling)), tmp_path / "0.png")
        with Image.open(tmp_path / "0.png") as image:
            assert f"Steps: 3, Sampler: {label}, CFG scale" in image.info["parameters"]
        assert read_sample(tmp_path / "0.png").get("scheduler", "") == sampling.scheduler


def test_the_pocket_model_s_noise_has_no_mean_and_others_is_as_drawn(stable: Any) -> None:
    noises = []
    for model in (load_pocket(), stable):
        batch = SamplingBatch(model, FEW_STEPS, [PROMPT] * 2, [3, 4])
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        drawn = torch.stack([torch.randn(batch.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
        noises.append((initial_noise(batch, generators), drawn))
    (centred, drawn), (other, other_drawn) = noises
    assert torch.equal(other, other_drawn)
    assert float(centred.mean((2, 3)).abs().max()) < 1e-6
    torch.testing.assert_close(centred, drawn - drawn.mean((2, 3), keepdim=True))


def test_guidance_is_each_model_s_own_unless_it_is_given(stable: Any) -> None:
    pocket = load_pocket()
    assert SamplingConfig().for_model(pocket).guidance_scale == 1.0 < (SamplingConfig().for_model(stable).guidance_scale or 0)
    identity, plain = random_identity(pocket), replace(FEW_STEPS, guidance_scale=None)
    own, same, other = (
        generate_float_image(pocket, replace(plain, **given), identity)
        for given in ({}, {"guidance_scale": 1.0, "text_guidance_scale": 0.0}, {"text_guidance_scale": 2.0})
    )
    assert np.array_equal(own, same)
    assert not np.allclose(own, other, atol=0.01)


def test_samplers_that_cannot_be_are_said(small: Any) -> None:
    with pytest.raises(RecipeError, match="'heun' is not a scheduler; choose one of: ddim, euler"):
        SamplingConfig(scheduler="heun")
    with pytest.raises(RecipeError, match="51 steps of lcm; it takes at most 50"):
        SamplingConfig(scheduler="lcm", steps=51)
    with pytest.raises(RecipeError, match="dpm\\+\\+-2m-karras for a model whose noise ends in nothing but noise"):
        generate_images(small, replace(FEW_STEPS, scheduler="dpm++-2m-karras"))


# Scales of blocks


def test_scales_of_blocks_reach_exactly_those(stable: Any) -> None:
    with stable.applied([random_identity(stable)]) as embeddings:
        for scale, wanted in (
            ({"up": {"block_1": [0.25, 0.75]}}, {"up_blocks.1.attentions.0": 0.25, "up_blocks.1.attentions.1": 0.75}),
            ({"mid": 0.5, "down": 1}, {"mid_block": 0.5, "down_blocks.0": 1}),
            (0.3, {"": 0.3}),
        ):
            sample(SamplingBatch(stable, replace(FEW_STEPS, ip_adapter_scale=scale), [PROMPT], [0], embeddings))
            for _, name, _ in cross_attention_layers(stable.pipeline.unet):
                (found,) = stable.pipeline.unet.attn_processors[name].scale
                assert found == next((value for start, value in wanted.items() if name.startswith(start)), 0)


def test_one_number_in_every_block_is_that_number(small: Any) -> None:
    everywhere = {"down": 0.5, "mid": 0.5, "up": 0.5}
    assert np.array_equal(
        generate_images(small, replace(FEW_STEPS, ip_adapter_scale=everywhere)),
        generate_images(small, replace(FEW_STEPS, ip_adapter_scale=0.5)),
    )
    assert not np.array_equal(
        generate_images(small, replace(FEW_STEPS, ip_adapter_scale={"mid": 0.5})),
        generate_images(small, replace(FEW_STEPS, ip_adapter_scale=0.5)),
    )


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"left": 1}, "scale has 'left'; down, mid, up, double, single are needed"),
        ({"up": {"block_0": [0, "1"]}}, "scale of up.block_0 is '1'; a number from 0 to 2 is needed"),
        ({"up": {"block_0": {"layer": 1}}}, "scale of up.block_0 is"),
        ({"down": True}, "scale of down is True"),
        (float("nan"), "scale is nan"),
        (-1.0, "scale is -1.0"),
    ],
)
def test_scales_that_are_none_are_said(scale: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        SamplingConfig(ip_adapter_scale=scale)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (
            {"up": {"block_9": 1}},
            r"scale names up.block_9 with 1; the layers with an adapter are down.block_0 of 1, up.block_1 of",
        ),
        ({"up": {"block_1": [1, 1, 1]}}, r"up.block_1 with \[1, 1, 1\]"),
        ({"mid": [1, 1]}, r"mid with \[1, 1\]"),
    ],
)
def test_blocks_that_this_model_has_not_are_said(scale: Any, said: str, stable: Any) -> None:
    with pytest.raises(RecipeError, match=said.replace("names", "has")):
        generate_images(stable, replace(FEW_STEPS, ip_adapter_scale=scale))


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.5), (0.5,), (float("nan"), 1.0)])
def test_intervals_that_are_none_are_said(interval: Any) -> None:
    with pytest.raises(RecipeError, match="needed: two numbers from 0 to 1"):
        SamplingConfig(guidance_interval=interval)


def test_a_recipe_has_them_all() -> None:
    table = {"scheduler": "euler", "guidance_interval": [0.1, 0.9], "ip_adapter_scale": {"up": {"block_0": [0, 1, 0]}}}
    assert from_table(SamplingConfig, table) == SamplingConfig(
        scheduler="euler", guidance_interval=(0.1, 0.9), ip_adapter_scale={"up": {"block_0": [0, 1, 0]}}
    )
    assert from_table(SamplingConfig, {"ip_adapter_scale": 1}).ip_adapter_scale == 1.0
    with pytest.raises(RecipeError, match="scale is 'much'"):
        from_table(SamplingConfig, {"ip_adapter_scale": "much"})
