"""FLUX.2 klein: our loop's images are those of diffusers' own pipeline, from text alone and with photos in context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image

from tenth.core.errors import DataError, IdentityError
from tenth.core.types import Identity, Pixels
from tenth.models.families.loader import load_flow_model
from tenth.models.families.photos import crop_to_multiple, reduce_to, to_pixels
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_families import toy_family, toy_photo

PROMPT = "a photo of a person by a window"
SAMPLING = SamplingConfig(steps=3, guidance_scale=4.0, guidance_rescale=0.0)
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[True, False], ids=["distilled", "guided"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("flux2-klein", tmp_path_factory.mktemp("klein"), is_distilled=request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_flow_model(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return Flux2KleinPipeline.from_pretrained(folder)


def by_diffusers(pipeline: Any, prompt: str, seed: int, **settings: Any) -> np.ndarray:
    image: np.ndarray = pipeline(
        prompt=prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        output_type="np",
        generator=torch.Generator().manual_seed(seed),
        **{"height": 64, "width": 64} | settings,
    ).images[0]
    assert image.std() > 0.01
    return image


def identity(model: Any, *photos: Pixels) -> Identity:
    return Identity("photos-in-context", model.name, "", "", context=model.encode_photos(photos))


def test_text_alone_is_drawn_as_diffusers_draws_it(model: Any, pipeline: Any) -> None:
    ours = sample_float(SamplingBatch(model, SAMPLING, [PROMPT, "another"], [3, 4]))
    for image, prompt, seed in zip(ours, (PROMPT, "another"), (3, 4), strict=True):
        assert np.abs(image - by_diffusers(pipeline, prompt, seed)).max() < TOLERANCE
    assert np.abs(ours[0] - ours[1]).max() > 100 * TOLERANCE


@pytest.mark.parametrize("sizes", [[(64, 64)], [(80, 64), (64, 100), (70, 90)], [(64, 64)] * 4])
def test_photos_in_context_are_read_as_diffusers_reads_them(model: Any, pipeline: Any, sizes: list[tuple[int, int]]) -> None:
    photos = [toy_photo(*size, seed) for seed, size in enumerate(sizes)]
    context = {name: tensor[None] for name, tensor in identity(model, *photos).context.items()}
    ours = sample_float(SamplingBatch(model, SAMPLING, [PROMPT], [3], context=context))[0]
    theirs = by_diffusers(pipeline, PROMPT, 3, image=[Image.fromarray(photo) for photo in photos])
    assert np.abs(ours - theirs).max() < TOLERANCE
    assert np.abs(ours - by_diffusers(pipeline, PROMPT, 3)).max() > 100 * TOLERANCE  # the photos are seen


def test_a_large_photo_is_reduced_as_diffusers_reduces_it(pipeline: Any) -> None:
    photo = toy_photo(1500, 1000)
    reduced = pipeline.image_processor._resize_to_target_area(Image.fromarray(photo), 1024 * 1024)
    theirs = pipeline.image_processor.preprocess(
        reduced, height=reduced.height // 16 * 16, width=reduced.width // 16 * 16, resize_mode="crop"
    )[0]
    ours = to_pixels(crop_to_multiple(reduce_to(photo), 16))[0]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_an_identity_of_other_latents_is_refused(model: Any) -> None:
    good = identity(model, toy_photo(64, 64))
    model.validate(good)
    latents = good.context["latents.0"]
    for context in (
        {"latents.1": latents},
        {f"latents.{index}": latents for index in range(5)},
        {"latents.0": latents[:8]},
        {"latents.0": latents[None]},
        {"latents.0": latents.long()},
        {"latents.0": latents[:, :0]},
        {"latents.0": latents[:, :1, :1].expand(-1, 200, 200)},
        {"pixels": latents},
    ):
        with pytest.raises(IdentityError, match=r"photos in context .*reads those of 1 to 4 photos"):
            model.validate(Identity("photos-in-context", model.name, "", "", context=context))
    with pytest.raises(IdentityError, match="has no adapter"):
        model.validate(Identity("ip-adapter", model.name, "", "", embeddings=torch.zeros(1, 4)))
    with pytest.raises(IdentityError, match="made for model other"):
        model.validate(Identity("photos-in-context", "other", "", ""))
    for photos in ([], [toy_photo(64, 64)] * 5):
        with pytest.raises(DataError, match="takes 1 to 4"):
            model.encode_photos(photos)
