"""Guidance in a part of the steps, and on words alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.models.denoiser import Conditioning, predict, sdxl_time_ids
from tenth.models.registry import load_model
from tenth.sampling.guidance import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL, Guidance, rescale_contrast
from tenth.sampling.sampler import SamplingBatch, decode_images, initial_noise, prompt_and_person
from tenth.sampling.schedulers import build_scheduler
from toy_drawing import FEW_STEPS, PROMPT, generate_float_image, generate_images, random_identity


@pytest.fixture(scope="module")
def stable(stable_folder: Path) -> Any:
    return load_model(str(stable_folder))


# Guidance in a part of the steps


def test_guidance_nowhere_is_the_image_without_guidance(stable: Any) -> None:
    nowhere, off = replace(FEW_STEPS, guidance_interval=(1.0, 1.0)), replace(FEW_STEPS, guidance_scale=1.0)
    np.testing.assert_allclose(
        generate_float_image(stable, nowhere, random_identity(stable)),
        generate_float_image(stable, off, random_identity(stable)),
        atol=1e-5,
    )
    assert (
        np.abs(
            generate_float_image(stable, FEW_STEPS, random_identity(stable))
            - generate_float_image(stable, off, random_identity(stable))
        ).max()
        > 1e-3
    )


def test_guidance_in_a_part_is_guidance_there_alone(stable: Any) -> None:
    """The middle one of three steps is guided: the same three steps by diffusers' networks and scheduler, written out."""
    identity, unet, scheduler = random_identity(stable), stable.pipeline.unet, build_scheduler(stable.pipeline.scheduler)
    scheduler.set_timesteps(3)
    times = [1 - float(t) / 1000 for t in scheduler.timesteps]
    part = replace(FEW_STEPS, guidance_interval=(times[1] - 0.01, times[1] + 0.01), guidance_rescale=0.0)
    rows: list[int] = []
    hook = unet.conv_in.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        ours = generate_float_image(stable, part, identity)
    finally:
        hook.remove()
    assert rows == [1, 2, 1]  # what is not needed is not computed

    with torch.no_grad(), stable.applied([identity]) as embeddings:
        batch = SamplingBatch(stable, part, [PROMPT], [5], embeddings)
        generator = torch.Generator().manual_seed(5)
        latents = initial_noise(batch, [generator]) * scheduler.init_noise_sigma
        terms = prompt_and_person(batch, Guidance(part.guidance_scale))
        for number, timestep in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(latents, timestep)
            predicted = predict(unet, scaled, timestep, terms[CONDITIONAL])
            if number == 1:
                negative = predict(unet, scaled, timestep, terms[UNCONDITIONAL])
                predicted = negative + part.guidance_scale * (predicted - negative)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
        (theirs,) = decode_images(batch, latents)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_two_people_do_not_mix_where_guidance_stops(stable: Any) -> None:
    people = [random_identity(stable, seed, num_rows=2) for seed in (1, 2)]
    some = replace(FEW_STEPS, guidance_interval=(0.0, 0.5), guidance_rescale=0.3)
    both = generate_images(stable, some, *people)
    for image, person in zip(both, people, strict=True):
        assert np.abs(image - generate_images(stable, some, person)[0]).max() <= 1
    assert np.abs(both[0] - both[1]).max() > 1


# Guidance on words alone


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_further_guidance_on_words_is_the_sum_of_three_predictions(stable: Any, scale: float) -> None:
    """The same steps by diffusers' networks and scheduler, written out."""
    identity, share, unet = random_identity(stable), 2.0, stable.pipeline.unet
    plain = replace(FEW_STEPS, guidance_rescale=0.0)
    more = replace(plain, guidance_scale=scale, text_guidance_scale=share)
    ours = generate_float_image(stable, more, identity)
    assert np.abs(ours - generate_float_image(stable, plain, identity)).max() > 1e-3

    scheduler = build_scheduler(stable.pipeline.scheduler)
    scheduler.set_timesteps(more.steps)
    with torch.no_grad(), stable.applied([identity]) as embeddings:
        prompts, negative_prompts = stable.prompt_encoder([PROMPT], more.negative_prompt, guided=True)
        nobody, size = torch.zeros_like(embeddings), sdxl_time_ids(prompts, 16, 16)
        batch = SamplingBatch(stable, more, [PROMPT], [5], embeddings)
        latents = initial_noise(batch, [torch.Generator().manual_seed(5)]) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, timestep)
            negative = predict(unet, scaled, timestep, Conditioning(negative_prompts, nobody, size))
            prompt = predict(unet, scaled, timestep, Conditioning(prompts, embeddings, size))
            text_only = predict(unet, scaled, timestep, Conditioning(prompts, nobody, size))
            guided = negative + more.guidance_scale * (prompt - negative) + share * (text_only - negative)
            latents = scheduler.step(guided, timestep, latents).prev_sample
        (theirs,) = decode_images(batch, latents)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_centred_guidance_on_words_leaves_every_channel_s_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = {name: torch.randn(2, 4, 8, 8, generator=generator) for name in (UNCONDITIONAL, CONDITIONAL, TEXT_ONLY)}
    plain, more, centred = Guidance(1.5), Guidance(1.5, 3.0), Guidance(1.5, 3.0, centred=True)
    means = [each.combine(predicted).mean((2, 3)) for each in (plain, more, centred)]
    torch.testing.assert_close(means[2], means[0])
    assert float((means[1] - means[0]).abs().max()) > 0.1
    difference = (centred.combine(predicted) - more.combine(predicted)).flatten(2)
    assert float(difference.std(2).max()) < 1e-5  # and what is in a channel beside its mean is as it was


def test_without_a_person_both_guidances_are_on_the_prompt(stable: Any) -> None:
    """So is one that is as strong as both: the conditional prediction is that of the prompt alone, and is made once."""
    guidance = Guidance(1.5, 3.0, has_person=False)
    assert guidance.terms(0.5) == (UNCONDITIONAL, CONDITIONAL)
    assert Guidance(1.5, 3.0).terms(0.5) == (UNCONDITIONAL, CONDITIONAL, TEXT_ONLY)
    both, one, other = (
        generate_images(stable, replace(FEW_STEPS, guidance_scale=scale, text_guidance_scale=more), None)[0]
        for scale, more in ((2.0, 3.0), (5.0, 0.0), (2.0, 0.0))
    )
    assert np.abs(both - one).max() <= 1 < np.abs(both - other).max()


def test_the_contrast_is_corrected_as_diffusers_does() -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    guided, conditional = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for share in (0.3, 1.0):
        torch.testing.assert_close(rescale_contrast(guided, conditional, share), rescale_noise_cfg(guided, conditional, share))


def test_guidance_on_words_goes_with_an_interval_and_changes_nothing_where_it_cannot(stable: Any) -> None:
    some = replace(FEW_STEPS, text_guidance_scale=1.0, guidance_interval=(0.0, 0.5))
    people = [random_identity(stable, seed, num_rows=2) for seed in (1, 2)]
    both = generate_images(stable, some, *people)
    for image, person in zip(both, people, strict=True):
        assert np.abs(image - generate_images(stable, some, person)[0]).max() <= 1
    nowhere = replace(FEW_STEPS, guidance_interval=(1.0, 1.0))
    np.testing.assert_array_equal(
        generate_images(stable, nowhere, people[0])[0],
        generate_images(stable, replace(nowhere, text_guidance_scale=3.0), people[0])[0],
    )
