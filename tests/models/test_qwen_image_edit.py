"""Qwen-Image-Edit: our loop's images are those of diffusers' own pipelines, with photos and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline, QwenImagePipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus
from PIL import Image

from tenth.core.errors import DataError
from tenth.models.denoiser import Conditioning
from tenth.models.families import qwen_image_edit
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import SamplingBatch, sample_float
from toy_families import load_toy, toy_family
from toy_qwen_families import TOY_AREA, random_photos, stacked_contexts

PROMPTS = ["a photo of a person by a window", "in the rain", "a person"]
GUIDED = SamplingConfig(steps=2, guidance_scale=2.5, negative_prompt="blurred")
PLAIN = SamplingConfig(steps=2, guidance_scale=1.0)
SIZE = Size(48, 64)


@pytest.fixture(scope="module", params=[False, True], ids=["2509", "2511"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("qwen-image-edit", tmp_path_factory.mktemp("qwen"), zero_cond_t=request.param)


@pytest.fixture(scope="module", autouse=True)
def small_photos() -> Iterator[None]:
    assert edit_plus.VAE_IMAGE_SIZE == qwen_image_edit.PHOTO_AREA
    assert edit_plus.CONDITION_IMAGE_SIZE == qwen_image_edit.SEEN_AREA
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_plus, "VAE_IMAGE_SIZE", TOY_AREA)
        yield


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_toy(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """diffusers' own, whose text encoder is told which tokens are photos', as the processor of transformers 5 says."""
    made = QwenImageEditPlusPipeline.from_pretrained(folder)
    mark = made.tokenizer.convert_tokens_to_ids(qwen_image_edit.PHOTO_MARK)

    def tell(module: Any, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"mm_token_type_ids": (kwargs["input_ids"] == mark).int()}

    made.text_encoder.register_forward_pre_hook(tell, with_kwargs=True)
    return made


def drawn(pipeline: Any, prompt: str, seed: int, *, guided: bool = True, **more: Any) -> npt.NDArray[np.float32]:
    """diffusers' image."""
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        prompt=prompt,
        negative_prompt="blurred" if guided else None,
        true_cfg_scale=2.5 if guided else 1.0,
        height=SIZE.height,
        width=SIZE.width,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **more,
    ).images[0]
    assert image.std() > 0.01
    return np.asarray(image)


@pytest.mark.slow
@pytest.mark.parametrize("guided", [True, False], ids=["guided", "plain"])
@pytest.mark.parametrize("sides", [[(200, 150)], [(200, 150), (90, 160), (128, 128)]], ids=["one photo", "three photos"])
def test_photos_are_read_as_diffusers_reads_them(model: Any, pipeline: Any, sides: list[tuple[int, int]], guided: bool) -> None:
    given = random_photos(*sides)
    context = model.family.encode_photos(model.pipeline, given)
    batch = SamplingBatch(model, GUIDED if guided else PLAIN, PROMPTS[:1], [3], size=SIZE, context=stacked_contexts(context))
    expected = drawn(pipeline, PROMPTS[0], 3, guided=guided, image=[Image.fromarray(photo) for photo in given])
    assert np.abs(sample_float(batch)[0] - expected).max() < 1e-4


def test_without_photos_it_reads_prompts_as_the_model_that_it_was_trained_from(model: Any, pipeline: Any) -> None:
    """diffusers' QwenImageEditPlusPipeline takes no prompt alone; QwenImagePipeline does, of the same parts."""
    parts = {name: each for name, each in pipeline.components.items() if name != "processor"}
    text_alone = QwenImagePipeline(**parts)
    with pytest.raises(AttributeError):
        pipeline(prompt=PROMPTS[0])
    ours = sample_float(SamplingBatch(model, GUIDED, PROMPTS, [3, 4, 5], size=SIZE))
    for image, prompt, seed in zip(ours, PROMPTS, (3, 4, 5), strict=True):
        assert np.abs(image - drawn(text_alone, prompt, seed)).max() < 1e-4


def test_two_people_in_a_batch_are_each_as_alone(model: Any) -> None:
    contexts = [model.family.encode_photos(model.pipeline, random_photos((120, 120), (90, 160), seed=seed)) for seed in (1, 2)]
    alone = [
        sample_float(SamplingBatch(model, GUIDED, [prompt], [3], size=SIZE, context=stacked_contexts(context)))[0]
        for prompt, context in zip(PROMPTS, contexts, strict=False)
    ]
    together = sample_float(SamplingBatch(model, GUIDED, PROMPTS[:2], [3, 3], size=SIZE, context=stacked_contexts(*contexts)))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < 1e-3  # a quarter of a step of 8 bits
    same_prompt = SamplingBatch(model, GUIDED, [PROMPTS[0]], [3], size=SIZE, context=stacked_contexts(contexts[1]))
    assert np.abs(sample_float(same_prompt)[0] - alone[0]).max() > 0.01


def test_photos_have_positions_in_rows_and_columns(model: Any, folder: Path) -> None:
    """diffusers 0.42 with transformers 5 gives them positions of text. Once this fails, `pipeline` above needs no hook."""
    untold = QwenImageEditPlusPipeline.from_pretrained(folder)
    given = random_photos((200, 150))
    context = model.family.encode_photos(model.pipeline, given)
    batch = SamplingBatch(model, GUIDED, PROMPTS[:1], [3], size=SIZE, context=stacked_contexts(context))
    other = drawn(untold, PROMPTS[0], 3, image=[Image.fromarray(photo) for photo in given])
    assert np.abs(sample_float(batch)[0] - other).max() > 1e-3


def test_the_correction_of_guidance_is_by_a_share(model: Any) -> None:
    guided, plain = torch.randn(2, 2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    correct = qwen_image_edit.correct_guidance
    assert torch.equal(correct(guided, plain, 0.0), guided)
    whole = correct(guided, plain, 1.0)
    lengths = [torch.nn.functional.pixel_unshuffle(each, 2).norm(dim=1) for each in (whole, plain)]
    torch.testing.assert_close(*lengths)
    torch.testing.assert_close(correct(guided, plain, 0.25), guided + 0.25 * (whole - guided))


def test_a_prompt_with_the_mark_of_a_photo_is_refused(model: Any) -> None:
    with pytest.raises(DataError, match=r"^a prompt with <\|image_pad\|>; it stands for the photos, .*\. Leave it out\.$"):
        sample_float(SamplingBatch(model, PLAIN, ["a <|image_pad|>"], [3], size=SIZE))


def test_a_long_prompt_is_cut_off(model: Any, pipeline: Any) -> None:
    long = "a" * 3_000
    text_alone = QwenImagePipeline(**{name: each for name, each in pipeline.components.items() if name != "processor"})
    ours = sample_float(SamplingBatch(model, PLAIN, [long], [3], size=SIZE))[0]
    assert np.abs(ours - drawn(text_alone, long, 3, guided=False, max_sequence_length=1024)).max() < 1e-4
    context = stacked_contexts(model.family.encode_photos(model.pipeline, random_photos((120, 120))))
    embeddings = [model.prompt_encoder([text], context, model.device) for text in (long, long + "b")]
    assert torch.equal(embeddings[0].hidden, embeddings[1].hidden)


def test_one_step_goes_straight_to_the_image(model: Any) -> None:
    """Where diffusers' scheduler of these settings divides zero by zero."""
    image = sample_float(SamplingBatch(model, replace(PLAIN, steps=1), PROMPTS[:1], [3], size=SIZE))[0]
    noise = torch.randn(1, *model.latent_shape(SIZE.height, SIZE.width), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        conditioning = Conditioning(model.prompt_encoder(PROMPTS[:1], {}, model.device))
        velocity = model.denoiser()(noise, torch.tensor(1000.0), conditioning)
        expected = (model.decode(noise - velocity)[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(image - expected).max() < 1e-4
    assert model.pipeline.scheduler.config.shift_terminal == 0.02
