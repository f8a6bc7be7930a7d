from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.errors import DataError, RecipeError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.core.types import Identity
from tenth.models.pocket.loader import load_pocket
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Progress, Request, generate
from toy_sizes import noting

FEW = SamplingConfig(steps=2)


def identity(model: Any, rows: int = 1, seed: int = 0) -> Identity:
    embeddings = torch.randn(rows, 128, generator=torch.Generator().manual_seed(seed))
    return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings)


def test_samples_come_in_order_whatever_their_shapes(toy_model: Any) -> None:
    people = [identity(toy_model), identity(toy_model, 9), None, identity(toy_model, 1, 1), identity(toy_model)]
    requests = [Request(who, "a man", seed) for seed, who in enumerate(people)]
    samples = list(generate(toy_model, requests, FEW, batch=2))
    assert [sample.seed for sample in samples] == [0, 1, 2, 3, 4]
    assert [sample.method for sample in samples] == ["ip-adapter", "ip-adapter", "none", "ip-adapter", "ip-adapter"]
    assert all(sample.pixels.shape == (128, 128, 3) for sample in samples)


def test_progress_counts_every_step_once(toy_model: Any) -> None:
    told: list[tuple[int, int]] = []
    list(
        generate(
            toy_model,
            [Request(None, "a man", seed) for seed in range(3)],
            FEW,
            2,
            noting(told),
        )
    )
    assert told == [(2, 6), (4, 6), (5, 6), (6, 6)]


def test_it_is_a_stream(toy_model: Any) -> None:
    stream = generate(toy_model, [Request(None, "a man", seed) for seed in range(400)], FEW, 1)
    assert next(stream).seed == 0


def test_the_image_says_how_to_make_it_again(toy_model: Any, tmp_path: Path) -> None:
    sample = next(generate(toy_model, [Request(identity(toy_model), "a man", 7)], replace(FEW, negative_prompt="a hat")))
    save_sample(sample, tmp_path / "0000.png")
    said = read_sample(tmp_path / "0000.png")
    assert (said["prompt"], said["seed"], said["steps"], said["negative_prompt"]) == ("a man", 7, 2, "a hat")
    assert said["model"] == toy_model.name
    with Image.open(tmp_path / "0000.png") as image:
        assert (
            "Negative prompt: a hat\nSteps: 2, Sampler: UniPC, CFG scale: 1.0, Seed: 7, Size: 128x128"
            in image.info["parameters"]
        )
        assert np.array_equal(np.asarray(image), sample.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["0000.png"]


@pytest.mark.parametrize("name", ["a, b", "sd:15", 'the "best"', "two\nlines", "\u00e9t\u00e9, 2"])
def test_a_value_that_would_end_early_is_quoted_as_a1111_does(name: str, toy_model: Any, tmp_path: Path) -> None:
    sample = next(generate(toy_model, [Request(None, "a man: smiling, old", 7)], FEW))
    save_sample(replace(sample, model=name, method=f"{name}!"), tmp_path / "0000.png")
    with Image.open(tmp_path / "0000.png") as image:
        prompt, line = image.info["parameters"].split("\n")
    assert prompt == "a man: smiling, old"
    before, _, rest = line.partition("Model: ")
    read, end = json.JSONDecoder().raw_decode(rest)
    assert read == name
    assert before == "Steps: 2, Sampler: UniPC, CFG scale: 1.0, Seed: 7, Size: 128x128, "
    rest = rest[end:].removeprefix(", Method: ")
    read, end = json.JSONDecoder().raw_decode(rest)
    assert read == f"{name}!"
    assert rest[end:].startswith(", Version: tenth ")
    save_sample(replace(sample, model="sd15@0123-a b"), tmp_path / "0001.png")
    with Image.open(tmp_path / "0001.png") as image:
        assert "Model: sd15@0123-a b, Method: none, " in image.info["parameters"]


def test_half_precision_is_the_same_image_and_a_seed_still_one_image() -> None:
    model, seeds, plain = load_pocket(), range(3), FEW
    exact, half = (
        [each.pixels.astype(int) for each in generate(model, [Request(None, "a man", seed) for seed in seeds], sampling)]
        for sampling in (plain, replace(plain, precision="bf16"))
    )
    assert 0 < max(np.abs(one - other).max() for one, other in zip(exact, half, strict=True)) <= 6
    assert max(np.abs(one - other).mean() for one, other in zip(exact, half, strict=True)) < 1
    alone = next(generate(model, [Request(None, "a man", 1)], replace(plain, precision="bf16"))).pixels
    assert np.abs(alone - half[1]).max() <= 1
    with pytest.raises(RecipeError, match="precision is 'int8'"):
        SamplingConfig(precision="int8")


def test_foreign_images_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="carries no settings"):
        read_sample(tmp_path / "x.png")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(toy_model: Any, seed: int) -> None:
    with pytest.raises(RecipeError, match="a whole number from 0"):
        next(generate(toy_model, [Request(None, "a man", seed)], FEW))


def test_each_step_gives_a_preview_that_grows_into_the_image(toy_model: Any) -> None:
    previews: list[list[np.ndarray]] = []
    seeds, totals = (0, 1), set()

    def ask(now: Progress) -> None:
        totals.add((now.total, now.step.total if now.step else None))
        if now.step is not None:
            previews.append(now.step.preview())

    samples = list(generate(toy_model, [Request(None, "a man", seed) for seed in seeds], SamplingConfig(steps=6), 2, ask))
    assert len(previews) == 6
    assert totals == {(12, 6)}
    assert all(len(step) == 2 and step[0].shape == (128, 128, 3) and step[0].dtype == np.uint8 for step in previews)
    last = [np.abs(one.astype(int) - made.pixels).max() for one, made in zip(previews[-1], samples, strict=True)]
    first = [np.abs(one.astype(int) - made.pixels).max() for one, made in zip(previews[0], samples, strict=True)]
    assert max(last) <= 2 < min(first)


def test_a_preview_of_stable_diffusion_is_a_pixel_for_each_place_of_the_latents(stable_folder: Path) -> None:
    model, shapes = load_model(str(stable_folder)), []

    def ask(now: Progress) -> None:
        shapes.extend(image.shape for image in now.step.preview())

    with_preview = next(generate(model, [Request(None, "a man", 0)], SamplingConfig(steps=3), on_progress=ask))
    without = next(generate(model, [Request(None, "a man", 0)], SamplingConfig(steps=3)))
    assert shapes == [(8, 8, 3)] * 3
    assert np.array_equal(with_preview.pixels, without.pixels)
