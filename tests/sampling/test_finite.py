"""What is no number becomes no picture, wherever pixels are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.cli.main import main
from tenth.core.cache import ArrayCache
from tenth.core.errors import ModelError
from tenth.core.types import Features
from tenth.methods.dreambooth.data import DreamBoothSettings, compute_class_moments
from tenth.methods.identity_file import save_identity
from tenth.sampling.generate import Request, generate
from tenth.sampling.passes.face_detailer import detail_face
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.img2img import img2img
from tenth.sampling.sampler import SamplingBatch, to_uint8
from tenth.training.adapter.validation import AdapterValidator, ValidationConfig
from tenth.training.frozen_diffusion import FrozenDiffusion
from tenth.training.schedule import TrainingConfig
from toy_sizes import FEW_STEPS, PROMPT, noise_image, random_identity

NAN, INFINITE = float("nan"), float("inf")
Output = pytest.CaptureFixture[str]


@contextmanager
def spoilt(weight: torch.Tensor, value: float) -> Iterator[None]:
    """One number of a model's weight that is none."""
    place = (0,) * weight.ndim
    before = weight.detach()[place].clone()
    with torch.no_grad():
        weight[place] = value
    try:
        yield
    finally:
        with torch.no_grad():
            weight[place] = before


PARTS: dict[str, Callable[[Any], torch.Tensor]] = {
    "unet": lambda pipeline: pipeline.unet.conv_in.weight,
    "text encoder": lambda pipeline: next(pipeline.text_encoder.parameters()),
    "autoencoder": lambda pipeline: list(pipeline.vae.decoder.parameters())[-1],
}


@pytest.mark.parametrize("value", [NAN, INFINITE])
@pytest.mark.parametrize("part", PARTS)
def test_no_image_is_made_by_weights_that_are_no_numbers(part: str, value: float, toy_model: Any) -> None:
    weight = PARTS[part](toy_model.pipeline)
    if part == "text encoder":
        weight = toy_model.pipeline.text_encoder.get_input_embeddings().weight[toy_model.pipeline.tokenizer.bos_token_id]
    with spoilt(weight, value), pytest.raises(ModelError, match=r"Get or make .* again; or try --precision fp32"):
        list(generate(toy_model, [Request(None, f"{PROMPT} {part} {value}", 3)], FEW_STEPS))
    assert next(generate(toy_model, [Request(None, PROMPT, 3)], FEW_STEPS)).pixels.std() > 0


@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_no_image_is_made_of_an_identity_that_is_no_numbers(value: float, toy_model: Any) -> None:
    sound = random_identity(toy_model)
    embeddings = sound.embeddings.clone()
    embeddings[0, 0] = value
    requests = [Request(sound, PROMPT, 7), Request(replace(sound, embeddings=embeddings), PROMPT, 8)]
    with pytest.raises(ModelError, match="the image of seed 8 has values that are not finite after step 1"):
        list(generate(toy_model, requests, FEW_STEPS))


def test_it_is_seen_in_the_step_that_it_happens(toy_model: Any) -> None:
    done: list[int] = []
    weight = toy_model.pipeline.unet.conv_out.bias
    with spoilt(weight, NAN), pytest.raises(ModelError, match="after step 1"):
        list(generate(toy_model, [Request(None, PROMPT, 0)], FEW_STEPS, on_progress=lambda now: done.append(now.done)))
    assert done == []


@pytest.mark.parametrize("makes", ["second pass", "face pass", "size"])
def test_no_larger_image_is_made_of_what_is_no_number(makes: str, toy_model: Any) -> None:
    scene, image = SamplingBatch(toy_model, FEW_STEPS, [PROMPT], [5]), noise_image(0, 128, 128)
    by: dict[str, Callable[[], object]] = {
        "second pass": lambda: img2img(scene, image, 0.5),
        "face pass": lambda: detail_face(scene, image, (0, 0, 64), 0.5),
        "size": lambda: list(generate(toy_model, [Request(None, PROMPT, 5)], FEW_STEPS, hires=HiresConfig(256, 192))),
    }
    with (
        spoilt(toy_model.pipeline.vae.decoder[-2].bias, INFINITE),
        pytest.raises(ModelError, match="pixels that are not finite"),
    ):
        by[makes]()


def test_no_image_of_the_class_is_kept(toy_model: Any, tmp_path: Path) -> None:
    settings = DreamBoothSettings(TrainingConfig(total_images=4), class_noun="man", num_class_images=2, sampling=FEW_STEPS)
    store, frozen = ArrayCache(tmp_path / "store"), FrozenDiffusion(toy_model.pipeline)
    with spoilt(toy_model.pipeline.unet.conv_out.bias, NAN), pytest.raises(ModelError, match="values that are not finite"):
        compute_class_moments(settings, toy_model, frozen, store)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_strip_of_validation_people_is_drawn(toy_model: Any) -> None:
    judge = AdapterValidator(
        ValidationConfig(sampling=FEW_STEPS), [torch.ones(1, 128)] * 2, Features(np.zeros((0, 128)), ()), None
    )  # type: ignore[arg-type]
    aggregator: Any = type("First", (), {"pool": staticmethod(lambda rows: rows)})
    with toy_model.applied([random_identity(toy_model)]):
        assert len(judge.generate(toy_model, aggregator)) == 2
        with spoilt(toy_model.pipeline.unet.conv_out.bias, NAN), pytest.raises(ModelError, match="values that are not finite"):
            judge.generate(toy_model, aggregator)


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
def test_pixels_that_are_no_numbers_are_not_rounded(value: float) -> None:
    image = noise_image(0, 8, 8)
    assert to_uint8([image])[0].dtype == np.uint8
    image[3, 4, 1] = value
    with pytest.raises(ModelError, match="an image has pixels that are not finite"):
        to_uint8([noise_image(1, 8, 8), image])


def test_the_command_says_so_in_one_line_and_writes_none(
    toy_folder: Path, toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    save_identity(random_identity(toy_model), tmp_path / "me.safetensors")
    monkeypatch.setattr("tenth.models.registry.load_model", lambda *_, **__: toy_model)
    given = ["--prompt", PROMPT, "--steps", "1", "--model", str(toy_folder), "-o", str(tmp_path / "out")]
    with spoilt(toy_model.pipeline.unet.conv_out.bias, NAN):
        assert main(["generate", str(tmp_path / "me.safetensors"), *given]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "tenth: the image of seed 0 has values that are not finite after step 1, so it is not written;" in said.err
    assert not list(tmp_path.rglob("*.png"))
