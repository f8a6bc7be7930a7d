"""Guidance in a part of the steps, and on words alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.models.registry import load_model
from toy_drawing import FEW_STEPS, generate_float_image, generate_images, random_identity


@pytest.fixture(scope="module")
def stable(stable_folder: Path) -> Any:
    return load_model(str(stable_folder))


# Guidance in a part of the steps


def test_guidance_nowhere_is_the_picture_without_guidance(stable: Any) -> None:
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


def test_guidance_in_a_part_is_guidance_there_alone_by_diffusers_own_steps(stable: Any) -> None:
    """The middle one of three steps is guided: the same three steps by hand, each with the UNet's two halves."""
    identity, seen = random_identity(stable), []
    pipeline = stable.pipeline
    pipeline.scheduler.set_timesteps(3)
    times = [1 - float(t) / 1000 for t in pipeline.scheduler.timesteps]
    interval = times[1] - 0.01, times[1] + 0.01
    hook = pipeline.unet.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )  # before ours: the pipeline's rows
    counted: list[int] = []
    inner = pipeline.unet.conv_in.register_forward_pre_hook(lambda _, given: counted.append(len(given[0])))
    try:
        part = generate_float_image(stable, replace(FEW_STEPS, guidance_interval=interval), identity)
    finally:
        hook.remove()
        inner.remove()
    assert (seen, counted) == ([2, 2, 2], [1, 2, 1])

    weights = iter([1.0, FEW_STEPS.guidance_scale, 1.0])

    def by_hand(_: Any, __: Any, predicted: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        if next(weights) == 1.0:
            return (predicted[0].chunk(2)[1].repeat(2, 1, 1, 1),)
        return predicted

    hook = pipeline.unet.register_forward_hook(by_hand)
    try:
        theirs = generate_float_image(stable, FEW_STEPS, identity)
    finally:
        hook.remove()
    np.testing.assert_allclose(part, theirs, atol=1e-5)


def test_two_people_do_not_mix_where_guidance_stops(stable: Any) -> None:
    people = [random_identity(stable, seed, num_rows=2) for seed in (1, 2)]
    some = replace(FEW_STEPS, guidance_interval=(0.0, 0.5), guidance_rescale=0.3)
    both = generate_images(stable, some, *people)
    for image, person in zip(both, people, strict=True):
        assert np.abs(image - generate_images(stable, some, person)[0]).max() <= 1
    assert np.abs(both[0] - both[1]).max() > 1
    assert not stable.pipeline.unet._forward_hooks
    assert not stable.pipeline.unet._forward_pre_hooks


# Guidance on words alone


def test_further_guidance_on_words_is_the_sum_of_three_predictions(stable: Any) -> None:
    """The same steps by hand: the UNet reads [negative; prompt; the prompt with nobody]."""
    identity, share = random_identity(stable), 2.0
    pipeline = stable.pipeline
    ours = generate_float_image(stable, replace(FEW_STEPS, text_guidance_scale=share, guidance_rescale=0.0), identity)
    assert not pipeline.unet._forward_hooks
    assert np.abs(ours - generate_float_image(stable, replace(FEW_STEPS, guidance_rescale=0.0), identity)).max() > 1e-3

    unet, forward = pipeline.unet, pipeline.unet.forward

    def by_hand(sample: torch.Tensor, step: Any, encoder_hidden_states: torch.Tensor, **others: Any) -> Any:
        added = others.pop("added_cond_kwargs")
        rows = ((0, 0, 0), (1, 1, 1), (1, 1, 0))  # latents, text, person of each prediction

        def one(latents: int, text: int, person: int) -> torch.Tensor:
            words = {name: each.chunk(2)[text] for name, each in added.items() if name != "image_embeds"}
            words |= {"image_embeds": [added["image_embeds"][0].chunk(2)[person]]}
            given = sample.chunk(2)[latents], step, encoder_hidden_states.chunk(2)[text]
            (found,) = forward(*given, **others, added_cond_kwargs=words)
            return found

        negative, prompt, nobody = (one(*row) for row in rows)
        guided = negative + FEW_STEPS.guidance_scale * (prompt - negative) + share * (nobody - negative)
        return (torch.cat([guided, guided]),)

    unet.forward = by_hand
    try:
        theirs = generate_float_image(stable, replace(FEW_STEPS, guidance_rescale=0.0), identity)
    finally:
        del unet.forward
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_guidance_on_words_goes_with_an_interval_and_changes_nothing_where_it_cannot(stable: Any) -> None:
    some = replace(FEW_STEPS, text_guidance_scale=1.0, guidance_interval=(0.0, 0.5))
    people = [random_identity(stable, seed, num_rows=2) for seed in (1, 2)]
    both = generate_images(stable, some, *people)
    for image, person in zip(both, people, strict=True):
        assert np.abs(image - generate_images(stable, some, person)[0]).max() <= 1
    for without in (replace(FEW_STEPS, guidance_scale=1.0), replace(FEW_STEPS, guidance_interval=(1.0, 1.0))):
        np.testing.assert_array_equal(
            generate_images(stable, without, people[0])[0],
            generate_images(stable, replace(without, text_guidance_scale=3.0), people[0])[0],
        )
    np.testing.assert_array_equal(
        generate_images(stable, FEW_STEPS, None)[0],
        generate_images(stable, replace(FEW_STEPS, text_guidance_scale=3.0), None)[0],
    )
