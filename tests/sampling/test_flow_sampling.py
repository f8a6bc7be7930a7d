"""The loop on a transformer trained by flow matching: batches, sizes, start images, schedulers, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.errors import DataError, IdentityError, InputError, ModelError, RecipeError
from tenth.core.files.png_metadata import save_sample
from tenth.core.types import Identity, Person
from tenth.experiments.generation.plan import plan_images
from tenth.experiments.generation.png_settings import read_png_settings
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.subject import subject_of
from tenth.models.families.flow_model import FlowModel
from tenth.models.families.loader import load_flow_model
from tenth.sampling.checks import check_people
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Progress, Request, batch_requests, generate, sampler_name
from tenth.sampling.noise import predicted_x0
from tenth.sampling.passes.hires import HiresConfig, native_sizes
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage
from tenth.sampling.people import PlacedPerson, Region
from tenth.sampling.prompts.vocabulary import guidance_notes, prompt_warnings
from tenth.sampling.sampler import SamplingBatch, Step, sample_float
from tenth.sampling.schedulers import SCHEDULERS, build_scheduler
from toy_families import toy_family, toy_photo

FEW = SamplingConfig(steps=2, guidance_rescale=0.0)
PROMPT = "a photo of a person"
FLOW_SCHEDULERS = [name for name, sampler in SCHEDULERS.items() if sampler.flow_class]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Guided by its negative prompt."""
    return load_flow_model(toy_family("flux2-klein", tmp_path_factory.mktemp("klein"), is_distilled=False))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_flow_model(toy_family("flux2-klein", tmp_path_factory.mktemp("klein")))


def identity(model: Any, *seeds: int, side: int = 64) -> Identity:
    photos = [toy_photo(side, side, seed) for seed in seeds]
    return Identity("photos-in-context", model.name, "", "", context=model.encode_photos(photos))


def draw(model: Any, *requests: Request, sampling: SamplingConfig = FEW, **settings: Any) -> list[np.ndarray]:
    return [sample.pixels for sample in generate(model, requests, sampling, **settings)]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_two_people_in_one_batch_are_each_as_alone(model: Any) -> None:
    anna, bert, carl = identity(model, 1), identity(model, 2), identity(model, 3, 4)
    requests = [Request(who, PROMPT, 5) for who in (anna, bert, carl, None)]
    assert [len(group) for group in batch_requests(model, requests, FEW, 4)] == [2, 1, 1]
    together = draw(model, *requests)
    for request, image in zip(requests, together, strict=True):
        assert furthest(image, draw(model, request)[0]) <= 1
    assert min(furthest(together[0], other) for other in together[1:]) > 1


def test_photos_of_another_size_make_another_batch(model: Any) -> None:
    requests = [Request(identity(model, 1), PROMPT, 0), Request(identity(model, 1, side=96), PROMPT, 0)]
    assert [len(group) for group in batch_requests(model, requests, FEW, 4)] == [1, 1]
    assert requests[0].identity.fingerprint != requests[1].identity.fingerprint


def test_a_seed_is_one_image_whatever_its_batch_and_prompts_beside_it(model: Any) -> None:
    alone = draw(model, Request(None, PROMPT, 5))[0]
    together = draw(model, Request(None, "a much longer prompt, of a man who smiles", 9), Request(None, PROMPT, 5))
    assert furthest(alone, together[1]) <= 1
    assert np.array_equal(alone, draw(model, Request(None, PROMPT, 5))[0])
    assert furthest(alone, draw(model, Request(None, PROMPT, 6))[0]) > 1


def test_the_negative_prompt_is_led_away_from_where_guidance_is_on(model: Any, distilled: Any) -> None:
    plain, other = draw(model, Request(None, PROMPT, 0)), draw(model, Request(None, PROMPT, 0, negative_prompt="a hat"))
    assert furthest(plain[0], other[0]) > 1
    without = replace(FEW, negative_prompt="a hat")
    for settings in (FEW, replace(FEW, guidance_scale=1.0)):
        assert guidance_notes(model, settings) == []
    strict = replace(without, guidance_scale=1.0, text_guidance_scale=8.0)
    assert guidance_notes(model, strict) == []  # guidance on the prompt alone leads away from the negative one too
    assert guidance_notes(distilled, strict)[1:] == ["text guidance does nothing: guidance is in this model's weights"]
    assert guidance_notes(model, without) == []
    for unguided, sampling in ((distilled, without), (model, replace(without, guidance_scale=1.0))):
        assert "the negative prompt is not read" in guidance_notes(unguided, sampling)[0]
        same = draw(unguided, Request(None, PROMPT, 0), sampling=sampling)
        assert np.array_equal(
            same[0], draw(unguided, Request(None, PROMPT, 0), sampling=replace(sampling, negative_prompt=""))[0]
        )


def test_other_sizes_are_drawn_in_one_pass_and_any_is_reached(model: Any) -> None:
    assert {Size(64, 64), Size(32, 32), Size(48, 80), Size(128, 32)} <= set(native_sizes(model))
    assert all(side % 16 == 0 for size in native_sizes(model) for side in (size.width, size.height))
    image = draw(model, Request(None, PROMPT, 3), hires=HiresConfig(48, 80))[0]
    assert image.shape == (80, 48, 3)
    batch = SamplingBatch(model, FEW.for_model(model), [PROMPT], [3], size=Size(48, 80))
    assert np.array_equal(np.rint(sample_float(batch)[0] * 255).astype(np.uint8), image)
    odd = HiresConfig(72, 88, strength=0.5)  # of no multiple of 16: the second pass is larger, and cut
    plan = odd.plan(model)
    assert [size.width % 16 for size in (plan.base, *plan.hires_sizes)] == [0, 0]
    assert draw(model, Request(identity(model, 1), PROMPT, 3), hires=odd)[0].shape == (88, 72, 3)


def test_a_start_image_is_as_noisy_as_the_first_of_its_steps(model: Any) -> None:
    """With a velocity of zero the noise stays: (1 - sigma) of the picture's latents and sigma of the seed's noise."""
    still = FlowModel(
        replace(model.family, predict=lambda _, latents, *__: torch.zeros_like(latents)), model.pipeline, model.name
    )
    picture = toy_photo(64, 64, 7)
    latents = model.encode(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    scheduler = build_scheduler(model.pipeline.scheduler)
    model.set_timesteps(scheduler, 8, model.latent_shape(64, 64))
    for strength, first in ((0.25, 6), (1.0, 0)):
        sigma = float(scheduler.sigmas[first])
        expected = model.decode((1 - sigma) * latents + sigma * noise)[0].permute(1, 2, 0) / 2 + 0.5
        made = draw(still, Request(None, PROMPT, 3, StartImage(picture, strength)), sampling=replace(FEW, steps=8))[0]
        assert furthest(made, np.rint(expected.clamp(0, 1).numpy() * 255).astype(np.uint8)) <= 1


def test_what_a_mask_keeps_stays_to_the_byte(model: Any) -> None:
    picture = toy_photo(64, 64, 7)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    for scheduler in FLOW_SCHEDULERS:
        start = StartImage(picture, 0.5, mask)
        made = draw(model, Request(None, PROMPT, 0, start), sampling=replace(FEW, steps=4, scheduler=scheduler))[0]
        assert np.array_equal(made[:, :32], picture[:, :32])
        assert furthest(made[:, 32:], picture[:, 32:]) > 1


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_schedulers_of_flow_end_at_the_image_that_the_velocity_points_to(model: Any, name: str) -> None:
    """On straight lines, whatever the scheduler, and the preview of each step is the image already."""
    scheduler = build_scheduler(model.pipeline.scheduler, name)
    shape, device = model.latent_shape(64, 64), model.device
    model.set_timesteps(scheduler, 6, shape)
    rng = torch.Generator(device).manual_seed(0)
    image, noise = (torch.randn(1, *shape, generator=rng) for _ in range(2))
    latents = noise.clone()
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        velocity = (latents - image) / sigma
        assert torch.allclose(predicted_x0(scheduler, latents, velocity, sigma * 1000), image, atol=1e-3)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    assert torch.allclose(latents, image, atol=1e-3)
    assert draw(model, Request(None, PROMPT, 0), sampling=replace(FEW, scheduler=name))[0].std() > 1
    assert sampler_name(model, replace(FEW, scheduler=name)) == SCHEDULERS[name].a1111_name
    assert sampler_name(model, FEW) == "Euler"


def test_steps_are_told_and_previewed(model: Any) -> None:
    told: list[Step] = []
    progress: list[Progress] = []
    batch = SamplingBatch(model, replace(FEW, guidance_scale=1.0), [PROMPT], [0])
    image = sample_float(batch, told.append)[0]
    assert [(step.number, step.total) for step in told] == [(1, 2), (2, 2)]
    previews = [step.preview()[0] for step in told]
    assert previews[0].shape == (64, 64, 3)
    assert furthest(previews[-1], np.rint(image * 255).astype(np.uint8)) <= 1  # the last step goes there
    draw(model, Request(None, PROMPT, 0), Request(None, PROMPT, 1), on_progress=progress.append)
    assert [(each.done, each.total) for each in progress] == [(2, 4), (4, 4)]


def test_the_preview_of_a_large_image_is_small(model: Any) -> None:
    told: list[Step] = []
    batch = SamplingBatch(model, replace(FEW, steps=2, guidance_scale=1.0), [PROMPT], [0], size=Size(512, 256))
    image = sample_float(batch, told.append)[0]
    preview = told[-1].preview()[0]
    assert preview.shape == (128, 256, 3)
    reduced = image.reshape(128, 2, 256, 2, 3).mean((1, 3)) * 255
    assert np.corrcoef(preview.mean((0, 1)), reduced.mean((0, 1)))[0, 1] > 0.5


def test_a_png_says_how_to_make_it_again_and_a1111_reads_its_sampler(model: Any, tmp_path: Path) -> None:
    sampling = replace(FEW, scheduler="unipc", negative_prompt="a hat")
    made = next(generate(model, [Request(identity(model, 1), PROMPT, 7)], sampling))
    save_sample(made, tmp_path / "0000.png")
    said = read_png_settings(tmp_path / "0000.png")
    assert (said.prompt, said.seed, said.model, said.method) == (PROMPT, 7, model.name, "photos-in-context")
    assert said.sampling == sampling.for_model(model)
    again = draw(model, Request(identity(model, 1), said.prompt, said.seed), sampling=said.sampling)[0]
    assert np.array_equal(again, made.pixels)
    parameters = Image.open(tmp_path / "0000.png").info["parameters"]
    assert "Negative prompt: a hat" in parameters
    assert "Steps: 2, Sampler: UniPC, CFG scale: 4.0, Seed: 7, Size: 64x64" in parameters


def test_bf16_computes_about_the_same(model: Any) -> None:
    plain, rounded = (
        draw(model, Request(None, PROMPT, 0), sampling=replace(FEW, precision=each))[0] for each in ("fp32", "bf16")
    )
    assert 0 < furthest(plain, rounded) < 60


def test_latents_that_are_not_finite_are_an_error_with_the_seed(model: Any) -> None:
    broken = identity(model, 1)
    broken = replace(broken, context={name: torch.full_like(tensor, torch.nan) for name, tensor in broken.context.items()})
    with pytest.raises(ModelError, match="the image of seed 7 has values that are not finite after step 1"):
        draw(model, Request(broken, PROMPT, 7))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scheduler": "ddim"}, "scheduler ddim for a model trained by flow matching; it takes one of: euler, dpm"),
        ({"scheduler": "dpm++-2m-karras"}, "it takes one of"),
        ({"text_guidance_scale": 1.0}, "text_guidance_scale 1.0 for .*this model has no adapter"),
        ({"ip_adapter_scale": 0.5}, "ip_adapter_scale 0.5 for"),
        ({"guidance_scale": 4.0}, "its guidance is in its weights"),
        ({"negative_prompt": "a (hat:1.3)"}, "with weights for .*a word cannot count more"),
    ],
)
def test_settings_that_it_does_not_read_are_refused_before_anything_is_drawn(
    distilled: Any, settings: dict[str, Any], said: str
) -> None:
    stream = generate(distilled, [Request(None, PROMPT, 0)], replace(FEW, **settings))
    with pytest.raises(RecipeError, match=said):
        next(stream)


def test_weights_of_a_prompt_and_regions_are_refused_and_a_long_prompt_is_said(model: Any) -> None:
    with pytest.raises(RecipeError, match=r"the prompt 'a \(man:1.2\)' with weights"):
        draw(model, Request(None, "a (man:1.2)", 0))
    assert draw(model, Request(None, r"a man \(smiling\)", 0))
    with pytest.raises(IdentityError, match="it has photos in context, which act everywhere"):
        PlacedPerson(identity(model, 1), Region())
    adapted = Identity("ip-adapter", model.name, "", "", embeddings=torch.zeros(1, 4))
    with pytest.raises(DataError, match=r"people in regions on .*attends to all of an image"):
        check_people(model, [PlacedPerson(adapted, Region())], None, None)
    assert prompt_warnings(model, "word " * 90) == []
    assert prompt_warnings(model, "word " * 120) == ["the prompt has 611 tokens and the model reads 512: its end is not read"]


def test_memory_that_does_not_suffice_is_an_error_where_there_is_no_smaller_profile(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("tenth.sampling.sampler.denoise", out_of_memory)
    with pytest.raises(ModelError, match="ran out of memory with the last memory profile"):
        draw(model, Request(None, PROMPT, 0))


def test_one_step_has_no_last_one_to_stretch_to(tmp_path: Path) -> None:
    """Qwen-Image's scheduler ends at a noise above 0, to which it stretches all steps but the first."""
    model = load_flow_model(toy_family("qwen-image-edit", tmp_path / "qwen"))
    for name in ("", "unipc", "lcm"):
        scheduler = build_scheduler(model.pipeline.scheduler, name)
        model.set_timesteps(scheduler, 1, (4, 8, 8))
        assert [round(float(timestep)) for timestep in scheduler.timesteps] in ([999], [1000])
    assert model.pipeline.scheduler.config.shift_terminal == 0.02


def test_a_prompt_that_the_model_does_not_read_is_refused_before_the_photos_are(model: Any) -> None:
    plan, nobody = plan_images(ImageRequest(("a (photo:1.2) of a person",))), Person("me", ())
    for name in ("dreambooth-lora", "photos-in-context"):  # both would ask for photos
        with pytest.raises(InputError, match="with weights for"):
            subject_of(nobody, plan, name, lambda _: model)
