"""Images that start from a picture: diffusers' own algorithms, seeds and batches, and what a mask keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from tenth.core.errors import DataError, ModelError, PhotoError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.models.latents import encode
from tenth.models.pipelines import load_pipeline
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Progress, Request, batch_requests, generate
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage, begin_with, fit_region
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_drawing import diffusers_arguments
from toy_models import write_stable
from toy_sizes import FEW_STEPS, PROMPT, noise_image, random_identity

PLAIN = SamplingConfig(steps=4, guidance_scale=2.0, guidance_rescale=0.0)


@pytest.fixture(scope="module")
def stable(stable_folder: Path) -> Any:
    """Of the layout of Stable Diffusion 1.5 and of SDXL; draws 16 x 16 with latents of 8 x 8."""
    return load_model(str(stable_folder))


def pixels_of(seed: int, height: int, width: int) -> Any:
    return np.rint(255 * noise_image(seed, height, width)).astype(np.uint8)


def left_half(height: int, width: int) -> Any:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def draw(model: Any, start: StartImage | None, *seeds: int, sampling: SamplingConfig = FEW_STEPS) -> list[Any]:
    requests = [Request(random_identity(model, seed), PROMPT, seed, start) for seed in seeds or (5,)]
    return [sample.pixels for sample in generate(model, requests, sampling)]


# diffusers' algorithms


@pytest.mark.parametrize("scheduler", ["own", "pndm"])
@pytest.mark.parametrize(("masked", "strength"), [(False, 0.5), (False, 1.0), (True, 0.5), (True, 1.0)])
def test_it_is_diffusers_image_to_image_and_inpainting(
    masked: bool, strength: float, scheduler: str, stable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a mask along the latents' squares; elsewhere diffusers looks at one pixel of each, and we at all."""
    pipeline, sdxl = stable.pipeline, hasattr(stable.pipeline, "text_encoder_2")
    if scheduler == "pndm":  # that of the published Stable Diffusion 1.5
        monkeypatch.setattr(pipeline, "scheduler", PNDMScheduler(skip_prk_steps=True, steps_offset=1))
    start = StartImage(pixels_of(1, 16, 16), strength, left_half(16, 16) if masked else None)
    kinds = {
        (False, False): StableDiffusionImg2ImgPipeline,
        (False, True): StableDiffusionInpaintPipeline,
        (True, False): StableDiffusionXLImg2ImgPipeline,
        (True, True): StableDiffusionXLInpaintPipeline,
    }
    parts = dict(pipeline.components) | ({} if sdxl else {"requires_safety_checker": False})
    theirs = kinds[sdxl, masked](**parts)
    theirs.set_progress_bar_config(disable=True)
    pixels = torch.from_numpy(start.pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    call = diffusers_arguments([PROMPT], [5], PLAIN) | {"image": encode(pipeline.vae, pixels), "strength": strength}
    del call["guidance_rescale"]
    if masked:
        mask = torch.from_numpy(start.mask).float()[None, None] / 255  # type: ignore[arg-type]
        call |= {"mask_image": mask, "height": 16, "width": 16, "masked_image_latents": torch.zeros(1, 4, 8, 8)}
    with stable.applied([random_identity(stable)]) as embeddings:
        batch = SamplingBatch(stable, PLAIN, [PROMPT], [5], embeddings)
        ours = sample_float(begin_with(batch, [start], [fit_region(stable, start)]))[0]
        guided = torch.cat([torch.zeros_like(embeddings), embeddings])
        drawn = theirs(**call, ip_adapter_image_embeds=[guided]).images[0]
    np.testing.assert_allclose(ours, drawn, atol=2e-5)


# Strength, seeds and batches


def test_strength_is_how_much_is_made_anew(stable: Any) -> None:
    """Two seeds are the more alike, the more of the picture stays."""
    pixels, apart = pixels_of(1, 16, 16), []
    for strength in (0.25, 1.0):
        one, other = (draw(stable, StartImage(pixels, strength), seed)[0].astype(int) for seed in (1, 2))
        apart.append(np.abs(one - other).mean())
    assert apart[0] < apart[1]
    with pytest.raises(DataError, match="a number above 0, at most 1"):
        StartImage(pixels, 0.0)


def test_a_seed_is_one_image_whatever_its_batch(stable: Any) -> None:
    mask = np.pad(np.full((8, 8), 255, np.uint8), 8)
    for start in (StartImage(pixels_of(1, 16, 16), 0.5), StartImage(pixels_of(1, 24, 24), 0.5, mask)):
        together = draw(stable, start, 1, 2, 3)
        again = draw(stable, start, 1, 2, 3)
        assert all(np.array_equal(*pair) for pair in zip(together, again, strict=True))
        for seed, image in zip((1, 2, 3), together, strict=True):
            assert np.abs(draw(stable, start, seed)[0].astype(int) - image).max() <= 1


def test_what_cannot_share_a_batch_does_not(stable: Any) -> None:
    one, other = StartImage(pixels_of(1, 16, 16), 0.5), StartImage(pixels_of(2, 16, 16), 0.5)
    starts = [one, other, None, StartImage(one.pixels, 0.75), StartImage(pixels_of(1, 16, 32), 0.75)]
    requests = [Request(None, PROMPT, 0, start) for start in starts]
    assert [len(group) for group in batch_requests(stable, requests, SamplingConfig(), 4)] == [2, 1, 1, 1]
    apart = [next(generate(stable, [request], FEW_STEPS)).pixels for request in requests]
    for image, sample in zip(apart, generate(stable, requests, FEW_STEPS), strict=True):
        assert np.abs(image.astype(int) - sample.pixels).max() <= 1


def test_progress_counts_the_steps_that_are_taken(stable: Any) -> None:
    told: list[Progress] = []
    requests = [Request(None, PROMPT, seed, StartImage(pixels_of(1, 16, 16), 0.5)) for seed in range(2)]
    list(generate(stable, [*requests, Request(None, PROMPT, 1)], FEW_STEPS, on_progress=told.append))
    assert {now.total for now in told} == {2 + 2 + 4}
    assert told[-1].done == 8
    told.clear()
    list(generate(stable, requests, FEW_STEPS, on_progress=told.append, hires=HiresConfig(32, 32, 0.5, face_detailer=False)))
    assert told[-1].done == told[-1].total == 2 * (2 + 2)


def test_with_a_size_its_first_pass_starts_from_the_picture(stable: Any) -> None:
    start, hires = StartImage(pixels_of(1, 16, 16), 0.25), HiresConfig(32, 32, 0.0, face_detailer=False)
    (sample,) = generate(stable, [Request(None, PROMPT, 1, start)], FEW_STEPS, hires=hires)
    assert sample.pixels.shape == (32, 32, 3)
    small = np.asarray(Image.fromarray(sample.pixels).resize((16, 16)))
    (plain,) = generate(stable, [Request(None, PROMPT, 1, start)], FEW_STEPS)
    assert np.abs(small.astype(int) - plain.pixels).mean() < np.abs(small.astype(int) - pixels_of(9, 16, 16)).mean()


# Masks


def test_outside_the_mask_every_pixel_stays_at_the_pictures_own_size(stable: Any, toy_model: Any) -> None:
    for model, height, width in ((stable, 50, 37), (toy_model, 200, 150)):
        mask = np.zeros((height, width), np.uint8)
        mask[height // 2 - 8 : height // 2 + 5, 15:29] = 255
        start = StartImage(pixels_of(1, height, width), None, mask)
        (made,) = draw(model, start, sampling=SamplingConfig(steps=2))
        assert made.shape == start.pixels.shape
        assert np.array_equal(made[mask == 0], start.pixels[mask == 0])
        assert (made[mask == 255] != start.pixels[mask == 255]).any(-1).mean() > 0.9


def test_grey_of_a_mask_is_blended(stable: Any) -> None:
    white, pixels = left_half(16, 16), pixels_of(1, 16, 16)
    grey = white // 255 * 51
    grey[0, 0] = 255
    made = [draw(stable, StartImage(pixels, 1.0, mask))[0].astype(int) for mask in (white, grey)]
    part = (slice(1, None), slice(0, 8))
    expected = pixels[part] + (made[0][part] - pixels[part]) / 5
    assert np.abs(made[1][part] - expected).max() <= 1


def test_a_mask_moves_what_the_model_sees(stable: Any) -> None:
    mask = np.zeros((100, 1000), np.uint8)
    mask[10:60, 930:990] = 255
    left, top, width, height = fit_region(stable, StartImage(pixels_of(1, 100, 1000), None, mask)).box
    assert (top, height, left + width) == (0, 100, 990)
    mask[10:60, 5:10] = 255
    with pytest.raises(DataError, match="the mask reaches from 5,10 to 990,60; the model sees the part of the shape"):
        list(generate(stable, [Request(None, PROMPT, 0, StartImage(pixels_of(1, 100, 1000), None, mask))], FEW_STEPS))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((16, 16), np.uint8), "the mask is black everywhere; white is made anew and black stays"),
        (np.full((8, 16), 255, np.uint8), "the mask has 16x8 pixels; the picture has 16x16"),
    ],
)
def test_masks_that_are_none(mask: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        StartImage(pixels_of(1, 16, 16), None, mask)


def test_a_mask_and_a_size_exclude_each_other(stable: Any) -> None:
    start = StartImage(pixels_of(1, 16, 16), None, left_half(16, 16))
    with pytest.raises(DataError, match="a mask and the size 32x32"):
        list(generate(stable, [Request(None, PROMPT, 0, start)], FEW_STEPS, hires=HiresConfig(32, 32)))


# How a picture is fitted


def test_a_picture_is_cropped_to_a_trained_shape_and_resized(stable: Any) -> None:
    region = fit_region(stable, StartImage(pixels_of(1, 300, 330)))
    left, top, width, height = region.box
    assert (left + width / 2, top + height / 2) == pytest.approx((165, 150), abs=1)
    assert width / height == pytest.approx(region.size.width / region.size.height, rel=0.01)
    assert width == 330 or height == 300
    assert fit_region(stable, StartImage(pixels_of(1, 16, 16))).box == (0, 0, 16, 16)


def test_on_aligned_faces_it_is_the_square_of_the_face(face_photos: list[Path], toy_model: Any) -> None:
    face = StartImage.open(face_photos[0])
    assert fit_region(toy_model, face).box == (0, 0, 128, 128)  # of the model's own size: as it is
    scene = np.full((400, 600, 3), 90, np.uint8)
    scene[150:278, 300:428] = face.pixels
    region = fit_region(toy_model, StartImage(scene))
    assert region.box == pytest.approx((300, 150, 128, 128), abs=6)
    assert (region.size, region.centered) == (Size(128, 128), False)
    two = scene.copy()
    two[10:266, 10:266] = np.asarray(Image.fromarray(face.pixels).resize((256, 256)))  # a larger one
    assert fit_region(toy_model, StartImage(two)).box[2] > 200
    mask = np.zeros((400, 600), np.uint8)
    mask[200:230, 340:380] = 255
    assert fit_region(toy_model, StartImage(two, None, mask)).box == pytest.approx((300, 150, 128, 128), abs=6)
    assert fit_region(toy_model, StartImage(pixels_of(1, 200, 300))).centered


# Files and records


def test_files_are_opened_and_named_by_their_bytes(face_photos: list[Path], toy_model: Any, tmp_path: Path) -> None:
    Image.fromarray(left_half(128, 128)).save(tmp_path / "mask.jpg")
    start = StartImage.open(face_photos[0], None, tmp_path / "mask.jpg")
    assert start.mask is not None
    assert set(np.unique(start.mask)) == {0, 255}  # what the JPEG made of black and white is gone
    (sample,) = generate(toy_model, [Request(None, PROMPT, 1, start)], SamplingConfig(steps=1))
    save_sample(sample, tmp_path / "0.png")
    said = read_sample(tmp_path / "0.png")["start_image"]
    assert said == {"sha256": start.digest, "strength": 0.6, "mask_sha256": start.mask_digest}
    with Image.open(tmp_path / "0.png") as image:
        assert "Size: 128x128, Denoising strength: 0.6, Model: " in image.info["parameters"]


def test_a_large_picture_is_reduced_and_refused_with_a_mask(tmp_path: Path) -> None:
    Image.new("RGB", (4200, 8)).save(tmp_path / "wide.png")
    assert StartImage.open(tmp_path / "wide.png").pixels.shape[1] == 4096
    with pytest.raises(PhotoError, match="4200 x 8 pixels; at most 4096 pixels a side"):
        StartImage.open(tmp_path / "wide.png", None, tmp_path / "wide.png")


def test_a_unet_for_inpainting_is_refused(tmp_path: Path) -> None:
    folder = write_stable("sd15", tmp_path / "model")
    pipeline: Any = load_pipeline(folder)
    unet = type(pipeline.unet)(**{**pipeline.unet.config, "in_channels": 9})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="reads 9 channels and gives 4; a UNet that reads latents alone is needed"):
        load_model(str(folder))


def test_a_step_without_a_start_is_as_before(stable: Any) -> None:
    plain = draw(stable, None)
    assert np.array_equal(plain[0], draw(stable, None)[0])
    assert not np.array_equal(plain[0], draw(stable, replace(StartImage(pixels_of(1, 16, 16)), strength=0.5))[0])
