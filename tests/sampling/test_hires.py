"""Pictures of other sizes than the models': passes, seeds, people and weights in each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.models.latents import encode
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Progress, Request, generate
from tenth.sampling.passes.face_detailer import detail_face
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.img2img import img2img, resize_to_cover
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import SamplingBatch
from toy_drawing import diffusers_arguments
from toy_sizes import FEW_STEPS, HIRES, PROMPT, generate_samples, max_difference, noise_image, noting, random_identity

FIRST = {"sd15": Size(16, 16), "sdxl": Size(24, 16)}  # where it begins: SDXL knows several shapes


@pytest.fixture(scope="module")
def stable_model(stable_folder: Path) -> Any:
    """Of the layout of Stable Diffusion 1.5 and of SDXL; draws 16 x 16."""
    return load_model(str(stable_folder))


def family(model: Any) -> str:
    return "sdxl" if model.pipeline.unet.config.addition_embed_type else "sd15"


def state(model: Any) -> tuple[object, ...]:
    """Everything of a model that a pass touches."""
    digest, pipeline = hashlib.sha256(), model.pipeline
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    unet = pipeline.unet
    held = (dict(unet.attn_processors), unet.encoder_hid_proj, pipeline.scheduler, sorted(vars(pipeline)))
    return digest.hexdigest(), held, pipeline.vae.training, getattr(pipeline.vae, "use_tiling", None), pipeline.vae.dtype


@contextmanager
def watched(model: Any, note: Callable[[Any, dict[str, Any]], object]) -> Iterator[list[Any]]:
    """What `note` says of each call of the UNet: of its latents and its named arguments."""
    noted: list[Any] = []
    hook = model.pipeline.unet.register_forward_pre_hook(
        lambda _, given, named: noted.append(note(given[0], named)), with_kwargs=True
    )
    try:
        yield noted
    finally:
        hook.remove()


def test_images_have_the_size_and_say_how(stable_model: Any, tmp_path: Path) -> None:
    (sample,) = generate_samples(stable_model, [random_identity(stable_model)])
    assert sample.pixels.shape == (24, 32, 3)
    save_sample(sample, tmp_path / "0000.png")
    said = read_sample(tmp_path / "0000.png")
    first = str(FIRST[family(stable_model)])
    assert (said["size"], said["passes"], said["strength"]) == ("32x24", [first, "32x24"], 0.5)
    assert (said["face_detailed"], said["seed"], said["steps"]) == (False, 5, 4)
    with Image.open(tmp_path / "0000.png") as image:
        assert "Size: 32x24, Denoising strength: 0.5, Model: " in image.info["parameters"]


def test_the_trained_size_is_the_image_without_a_size(stable_model: Any) -> None:
    people = [random_identity(stable_model), None, random_identity(stable_model, 1)]
    plain = list(generate(stable_model, [Request(who, PROMPT, number) for number, who in enumerate(people)], FEW_STEPS))
    asked_for = generate_samples(stable_model, people, HiresConfig(16, 16, face_detailer=False), seed=0)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(plain, asked_for, strict=True))
    assert "size" not in plain[0].settings
    (small,) = generate_samples(stable_model, [None], HiresConfig(8, 8, face_detailer=False), seed=1)
    reduced = Image.fromarray(plain[1].pixels).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(reduced).astype(int) - small.pixels).max() <= 1


def test_a_seed_is_one_image_and_people_do_not_mix(stable_model: Any) -> None:
    people = [random_identity(stable_model, 1), random_identity(stable_model, 2), random_identity(stable_model, 3)]
    together = generate_samples(stable_model, list(people))
    again = generate_samples(stable_model, list(people))
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(together, again, strict=True))
    alone = [generate_samples(stable_model, [who], seed=5 + number)[0] for number, who in enumerate(people)]
    assert all(max_difference(one, other) <= 1 for one, other in zip(together, alone, strict=True))
    as_one = generate_samples(stable_model, [people[0]] * 3)
    assert max_difference(as_one[0], together[0]) <= 1
    assert min(max_difference(as_one[number], together[number]) for number in (1, 2)) > 1
    assert max_difference(as_one[0], as_one[1]) > 1


def test_each_pass_has_noise_of_its_own(stable_model: Any) -> None:
    image = noise_image(0, 16, 16)
    scene = SamplingBatch(stable_model, FEW_STEPS, [PROMPT], [5])
    found = [
        img2img(other, image, 0.5) for other in (scene.with_new_noise("second pass", 0), scene.with_new_noise("second pass", 1))
    ]
    assert np.abs(found[0] - found[1]).max() > 1 / 255
    assert [scene.with_new_noise(purpose, 0).seeds for purpose in ("second pass", "face pass")] != [[5], [5]]
    assert scene.with_new_noise("second pass", 0).seeds == scene.with_new_noise("second pass", 0).seeds


@pytest.mark.parametrize("scheduler", ["own", "pndm"])
def test_a_second_pass_is_diffusers_image_to_image(stable_model: Any, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, sampling, image = (
        stable_model.pipeline,
        SamplingConfig(steps=4, guidance_scale=2.0, guidance_rescale=0.0),
        noise_image(1, 24, 32),
    )
    if scheduler == "pndm":  # that of the published Stable Diffusion 1.5
        monkeypatch.setattr(pipeline, "scheduler", PNDMScheduler(skip_prk_steps=True, steps_offset=1))
    with stable_model.applied([random_identity(stable_model)]) as embeddings:
        ours = img2img(SamplingBatch(stable_model, sampling, [PROMPT], [5], embeddings), image, 0.5)
        several = family(stable_model) == "sdxl"
        kind = StableDiffusionXLImg2ImgPipeline if several else StableDiffusionImg2ImgPipeline
        parts = dict(pipeline.components) | ({} if several else {"requires_safety_checker": False})
        theirs = kind(**parts)
        theirs.set_progress_bar_config(disable=True)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1
        call = diffusers_arguments([PROMPT], [5], sampling) | {"image": encode(pipeline.vae, pixels), "strength": 0.5}
        del call["guidance_rescale"]
        guided = torch.cat([torch.zeros_like(embeddings), embeddings])
        drawn = theirs(**call, ip_adapter_image_embeds=[guided]).images[0]
    assert drawn.shape == ours.shape == (24, 32, 3)
    np.testing.assert_allclose(ours, drawn, atol=2e-5)


def test_sdxl_is_told_the_size_of_each_pass(stable_model: Any) -> None:
    with watched(stable_model, lambda latents, named: (latents.shape[-2:], named["added_cond_kwargs"])) as noted:
        generate_samples(stable_model, [None])
    first = FIRST[family(stable_model)]
    shapes = [tuple(shape) for shape, _ in noted]
    assert shapes == [(first.height // 2, first.width // 2)] * 4 + [(12, 16)] * 2
    told = [more["time_ids"].tolist() for _, more in noted if more and "time_ids" in more]
    if family(stable_model) == "sdxl":
        assert told == [[[16, 24, 0, 0, 16, 24]] * 2] * 4 + [[[24, 32, 0, 0, 24, 32]] * 2] * 2  # heights first
    else:
        assert told == []


def test_an_identitys_weights_are_on_in_every_pass(stable_model: Any) -> None:
    weight = stable_model.pipeline.unet.conv_in.weight
    before = weight.detach().clone()
    who = random_identity(
        stable_model, weights={"unet.conv_in.weight.diff": torch.full_like(before, 0.5)}, trigger_phrase="sks man"
    )
    with watched(stable_model, lambda latents, _: (latents.shape[-1], float((weight.detach() - before).mean()))) as noted:
        (sample,) = generate_samples(stable_model, [who])
    assert [width for width, _ in noted] == [FIRST[family(stable_model)].width // 2] * 4 + [16] * 2
    assert all(added == pytest.approx(0.5, abs=1e-5) for _, added in noted)
    assert torch.equal(weight, before)
    assert max_difference(sample, generate_samples(stable_model, [replace(who, weights={})])[0]) > 1


def test_the_model_is_as_before_also_after_an_exception(stable_model: Any) -> None:
    before, requests = state(stable_model), [Request(random_identity(stable_model), PROMPT, 0)]
    list(generate(stable_model, requests, FEW_STEPS, hires=HIRES))
    assert state(stable_model) == before

    def stop(now: Progress) -> None:
        if now.done == 5:  # in the second pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(generate(stable_model, requests, FEW_STEPS, on_progress=stop, hires=HIRES))
    assert state(stable_model) == before


@pytest.mark.parametrize("before", [False, True])
def test_a_large_image_is_coded_in_tiles(stable_model: Any, before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.models.latents.MAX_UNTILED_PIXELS", 16 * 16)
    vae = stable_model.pipeline.vae
    monkeypatch.setattr(vae, "use_tiling", before)
    monkeypatch.setattr(vae, "tile_sample_min_size", 16)
    monkeypatch.setattr(vae, "tile_latent_min_size", 8)
    coded: list[int] = []
    hooks = [part.register_forward_pre_hook(lambda _, given: coded.append(given[0].shape[-1])) for part in (vae.encoder, vae.decoder)]  # fmt: skip # noqa: E501
    (sample,) = generate_samples(stable_model, [None])
    for hook in hooks:
        hook.remove()
    assert sample.pixels.shape == (24, 32, 3)
    assert max(coded) == 16  # a picture of 32 in tiles of 16, its latents of 16 in tiles of 8
    assert coded.count(8) > 2
    assert vae.use_tiling is before


def test_half_precision_of_sdxls_autoencoder_overflows_and_is_not_used(stable_folder: Path) -> None:
    pipeline = load_model(str(stable_folder)).pipeline
    pipeline.vae.to(torch.float16)
    pipeline.vae.register_to_config(force_upcast=True)
    precisions: list[torch.dtype] = []
    pipeline.vae.encoder.register_forward_pre_hook(lambda _, given: precisions.append(given[0].dtype))
    latents = encode(pipeline.vae, torch.rand(1, 3, 16, 16))
    assert (precisions, pipeline.vae.dtype, latents.dtype) == ([torch.float32], torch.float16, torch.float32)


def test_progress_counts_every_step_once(stable_model: Any) -> None:
    told: list[tuple[int, int]] = []
    requests = [Request(None, PROMPT, seed) for seed in range(3)]
    list(
        generate(
            stable_model,
            requests,
            FEW_STEPS,
            2,
            noting(told),
            HiresConfig(32, 24, 0.5, face_detailer=False),
        )
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {3 * (4 + 2)}
    assert told[-1] == (18, 18)
    told.clear()
    list(generate(stable_model, requests, FEW_STEPS, 2, noting(told), HiresConfig(32, 24, 0.5)))
    assert told[-1] == (24, 24)  # there is no face: its steps count as done


@pytest.mark.parametrize("wrong", [{"width": 30}, {"height": 0}, {"strength": -0.1}, {"strength": 1.5}, {"strength": float("nan")}, {"strength": 0, "face_detailer": True}])  # fmt: skip # noqa: E501
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"the size 30x24|the size 32x0|the strength |the face detailer with strength 0"):
        replace(HIRES, **wrong)


def test_too_large_a_size_is_refused_before_anything_is_drawn(stable_model: Any) -> None:
    with (
        watched(stable_model, lambda *_: None) as noted,
        pytest.raises(DataError, match="times 16x16, which this model generates"),
    ):
        generate_samples(stable_model, [None], HiresConfig(72, 72))
    assert noted == []


def test_the_pocket_model_enlarges(toy_model: Any) -> None:
    small, large = (
        next(generate(toy_model, [Request(random_identity(toy_model), PROMPT, 3)], SamplingConfig(steps=2), hires=highres))
        for highres in (HiresConfig(128, 128, None, False), HiresConfig(256, 256, None, False))
    )
    enlarged = Image.fromarray(small.pixels).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(enlarged).astype(int) - large.pixels).max() <= 2
    assert (large.settings["passes"], large.settings["strength"]) == (["128x128"], 0)


def test_a_strength_that_melts_a_pocket_models_faces_is_refused_before_anything_is_drawn(toy_model: Any) -> None:
    with watched(toy_model, lambda *_: None) as noted:
        for side, strength in ((512, 0.4), (136, 0.01)):
            with pytest.raises(DataError, match=r"no detail but that of 128x128: .* Leave the strength out"):
                generate_samples(toy_model, [None], HiresConfig(side, side, strength))
        assert noted == []
    (small,) = generate_samples(
        toy_model, [None], HiresConfig(64, 64, 0.4)
    )  # drawn at its own size, and reduced: nothing melts
    assert small.pixels.shape == (64, 64, 3)


def test_a_pocket_model_draws_a_large_face_again_at_its_own_size(toy_model: Any) -> None:
    with watched(toy_model, lambda latents, _: tuple(latents.shape[-2:])) as noted:
        detail_face(SamplingBatch(toy_model, FEW_STEPS, [PROMPT], [1]), noise_image(2, 256, 320), (8, 8, 240), 0.5)
    assert set(noted) == {(16, 16)}


def test_a_image_is_fitted_by_its_middle() -> None:
    image = np.zeros((16, 32, 3), np.float32)
    image[:, 8:24] = 1
    assert (resize_to_cover(image, Size(16, 16)) == 1).mean() > 0.8
    assert resize_to_cover(image, Size(32, 16)) is image
    assert resize_to_cover(image, Size(64, 32)).shape == (32, 64, 3)
