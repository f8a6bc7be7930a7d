"""Prompts of any length, read to their end, and none of them twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.types import Identity
from tenth.models.prompt_encoder import MAX_CACHED_BATCHES, SMALL_VOCABULARY
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.prompts.vocabulary import prompt_warnings
from toy_vocabulary import LETTERS, load_large_vocabulary

FEW = SamplingConfig(steps=2)
EMBEDDING_NAMES = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
SHORT = "a photo of a man"
LONG = "a portrait of a smiling woman with glasses " * 12  # far more than 77 tokens


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_large_vocabulary(request.param, tmp_path_factory.mktemp(request.param))


def named(parts: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    return {name: part for name, part in zip(EMBEDDING_NAMES, parts, strict=False) if part is not None}


def read(model: Any, prompts: list[str], negative: str, *, guided: bool = True) -> dict[str, torch.Tensor]:
    """As our encoder encodes them, by diffusers' names."""
    positive, negatives = model.prompt_encoder(prompts, negative, guided=guided)
    parts = (positive.hidden, negatives and negatives.hidden, positive.pooled, negatives and negatives.pooled)
    return named(parts)


def encoded(pipeline: Any, prompts: list[str], negative: str, *, guided: bool = True) -> dict[str, torch.Tensor]:
    """As diffusers itself encodes them."""
    with torch.no_grad():
        return named(pipeline.encode_prompt(
            prompt=prompts, device=pipeline.device, num_images_per_prompt=1,
            do_classifier_free_guidance=guided, negative_prompt=[negative] * len(prompts),
        ))  # fmt: skip


@contextmanager
def counted(pipeline: Any) -> Iterator[list[int]]:
    """The rows of every call of the first text encoder."""
    rows: list[int] = []
    hook = pipeline.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"] if "input_ids" in kwargs else args[0])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


def test_the_toy_reads_as_stable_diffusion_does(model: Any) -> None:
    assert len(model.pipeline.tokenizer) >= SMALL_VOCABULARY
    assert model.prompt_encoder.num_chunks(SHORT) == 1
    assert model.prompt_encoder.num_chunks("") == 1
    assert model.prompt_encoder.num_chunks("ab " * 75) == 1
    assert model.prompt_encoder.num_chunks("ab " * 76) == 2
    assert model.prompt_encoder.num_chunks(SHORT, "ab " * 151) == 3


@pytest.mark.parametrize("guided", [True, False])
def test_what_fits_is_read_as_diffusers_reads_it_to_the_bit(model: Any, guided: bool) -> None:
    for prompts in ([SHORT], [SHORT, "ab " * 75]):
        ours = read(model, prompts, "a hat", guided=guided)
        theirs = encoded(model.pipeline, prompts, "a hat", guided=guided)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_long_prompt_is_its_runs_one_after_the_other(model: Any) -> None:
    """Each run of 75 tokens is a prompt of its own, as diffusers encodes it; so is each of the negative's, and empty ones."""
    words = [f"{one}{other}" for one in LETTERS for other in LETTERS][:100]
    first, last = " ".join(words[:75]), " ".join(words[75:])
    ours = read(model, [f"{first} {last}", SHORT], "a hat", guided=True)
    parts = encoded(model.pipeline, [first, SHORT], "a hat"), encoded(model.pipeline, [last, ""], "")
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        assert ours[name].shape[1] == 2 * 77
        torch.testing.assert_close(ours[name], torch.cat([part[name] for part in parts], 1), rtol=0, atol=1e-6)
    assert ours.keys() == parts[0].keys()
    for name in ours.keys() - {"prompt_embeds", "negative_prompt_embeds"}:
        torch.testing.assert_close(ours[name], parts[0][name], rtol=0, atol=1e-6)


def test_the_end_of_a_long_prompt_counts_and_nothing_is_said_to_be_lost(model: Any) -> None:
    requests = [Request(None, f"{LONG}{end}", 1) for end in ("at night", "by day")]
    night, day = (sample.pixels for sample in generate(model, requests, FEW))
    assert not np.array_equal(night, day)
    assert not any("not read" in note for note in prompt_warnings(model, LONG))
    (sample,) = generate(model, [Request(None, SHORT, 1)], SamplingConfig(steps=2, negative_prompt=LONG))
    assert sample.pixels.shape == (16, 16, 3)


def test_a_short_prompt_beside_a_long_one_is_the_image_it_is_alone(model: Any) -> None:
    requests = [Request(None, SHORT, 1), Request(None, LONG, 1), Request(None, SHORT, 2)]
    beside = [sample.pixels.astype(int) for sample in generate(model, requests, FEW)]
    for image, request in zip(beside, requests, strict=True):
        alone = next(generate(model, [request], FEW)).pixels.astype(int)
        assert np.abs(image - alone).max() <= 1


def test_a_prompt_is_encoded_once_in_a_run(model: Any) -> None:
    model.prompt_encoder._cache.clear()
    requests = [Request(None, prompt, seed) for prompt in (SHORT, LONG) for seed in range(4)]
    with counted(model.pipeline) as rows:
        first = [sample.pixels for sample in generate(model, requests, FEW, batch=2)]
        once = len(rows)
        again = [sample.pixels for sample in generate(model, requests, FEW, batch=2)]
    assert len(rows) == once == 2 + 1  # the short one and the negative by diffusers, the long one with its negative together
    assert all(map(np.array_equal, first, again))
    for number in range(MAX_CACHED_BATCHES + 1):
        read(model, [f"{SHORT} {number * 'a '}"], "", guided=True)
    assert len(model.prompt_encoder._cache) == MAX_CACHED_BATCHES
    with counted(model.pipeline) as rows:
        read(model, [SHORT], "", guided=True)
        read(model, [SHORT], "", guided=True)
    assert len(rows) == 2


def test_another_person_s_text_encoder_is_another_text(model: Any) -> None:
    layer = "text_encoder.encoder.layers.0.self_attn.q_proj"
    weight = model.pipeline.text_encoder.get_parameter(f"{layer.removeprefix('text_encoder.')}.weight")
    plain = read(model, [SHORT], "", guided=True)["prompt_embeds"]
    found = []
    for seed in (1, 2):
        change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        tuned = Identity("dreambooth", model.name, "", "", weights={f"{layer}.weight.diff": change}, trigger_phrase="wn person")
        with model.applied([tuned]):
            found.append(read(model, [SHORT], "", guided=True)["prompt_embeds"])
            assert torch.equal(found[-1], encoded(model.pipeline, [SHORT], "")["prompt_embeds"])
        assert torch.equal(read(model, [SHORT], "", guided=True)["prompt_embeds"], plain)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], plain)


def test_a_text_encoder_that_learns_is_asked_each_time(model: Any) -> None:
    encoder = model.pipeline.text_encoder
    before = read(model, [SHORT], "", guided=True)["prompt_embeds"]
    encoder.train()
    try:
        parameter = next(encoder.parameters())
        kept = parameter.data
        parameter.data = kept + 1
        assert not torch.equal(read(model, [SHORT], "", guided=True)["prompt_embeds"], before)
        parameter.data = kept
    finally:
        encoder.eval()
    with torch.autocast("cpu", torch.bfloat16), counted(model.pipeline) as rows:
        half = [read(model, ["another man"], "", guided=True)["prompt_embeds"] for _ in range(2)]
    assert len(rows) == 2  # the prompt and the negative, once
    assert torch.equal(*half)
    after = read(model, ["another man"], "", guided=True)["prompt_embeds"]
    assert torch.equal(after, encoded(model.pipeline, ["another man"], "")["prompt_embeds"])


def test_a_model_of_few_words_is_given_no_more_than_it_was_trained_on(
    toy_model: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("diffusers", "transformers"):
        monkeypatch.setattr(logging.getLogger(library), "handlers", [caplog.handler])
    assert toy_model.prompt_encoder.num_chunks(LONG) == 1
    assert model_reads(toy_model, LONG).shape[1] == toy_model.pipeline.tokenizer.model_max_length
    assert any("its end is not read" in note for note in prompt_warnings(toy_model, LONG))
    assert not caplog.records  # the libraries say it too, with the whole prompt


def model_reads(model: Any, prompt: str) -> torch.Tensor:
    hidden: torch.Tensor = read(model, [prompt], "", guided=True)["prompt_embeds"]
    return hidden
