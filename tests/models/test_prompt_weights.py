"""Weights in prompts: how they are read, and that the embeddings are compel's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.errors import RecipeError
from tenth.models.pocket.loader import load_pocket
from tenth.models.prompt_weights import MAX_WEIGHT, Fragment, plain_text, split_weights
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.prompts.trigger_phrase import insert_trigger_phrase
from tenth.sampling.prompts.vocabulary import prompt_warnings
from toy_vocabulary import load_large_vocabulary

LONG = "a portrait of a woman with glasses " * 12  # of more than 77 tokens

# As A1111 writes them, and as compel does; compel multiplies where they are nested, too.
PAIRS = {
    "a photo of a (smiling:1.3) man": "a photo of a (smiling)1.3 man",
    "a photo of a (smiling) man": "a photo of a smiling+ man",
    "a photo of a [smiling] man": f"a photo of a (smiling){1 / 1.1} man",
    "a (photo of a:1.2) (man:0.5) smiling": "a (photo of a)1.2 (man)0.5 smiling",
    "a (photo:0) of a (man:0.7) with (glasses:0.2) and (hat:1.4)": "a (photo)0 of a (man)0.7 with (glasses)0.2 and (hat)1.4",
    "a ((photo) of a:1.2) man": "a ((photo)1.1 of a)1.2 man",
    "a photo++ of a man-- (with a hat)++ (at night)--": "a photo++ of a man-- (with a hat)++ (at night)--",
    "(a photo)1.5 of (a man)0.8": "(a photo)1.5 of (a man)0.8",
    "(man:1.3)": "(man)1.3",
}  # fmt: skip


def compel_s(model: Any, prompt: str, *, truncate: bool = False) -> torch.Tensor:
    """Hidden states (T, C) of compel's, of all text encoders beside each other."""
    compel = pytest.importorskip("compel", reason="compel is not installed")
    pipeline, hidden = model.pipeline, []
    double = hasattr(pipeline, "text_encoder_2")
    kind = "PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED" if double else "LAST_HIDDEN_STATES_NORMALIZED"
    for suffix in ("", "_2") if double else ("",):
        encode = compel.Compel(
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
            truncate_long_prompts=truncate,
            returned_embeddings_type=compel.ReturnedEmbeddingsType[kind],
            split_long_text_mode=compel.SplitLongTextMode.BRUTAL,
        )
        hidden.append(encode(prompt)[0])
    return torch.cat(hidden, -1)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_large_vocabulary(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.items())
def test_the_embeddings_are_compels(ours: str, theirs: str, model: Any) -> None:
    prompts, negative = model.prompt_encoder([ours, "a man"], theirs, guided=True)
    plain, _ = model.prompt_encoder([plain_text(ours)], "", guided=False)
    expected = compel_s(model, theirs)
    torch.testing.assert_close(prompts.hidden[0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(negative.hidden[0], expected, rtol=0, atol=1e-4)
    assert (prompts.hidden[0] - plain.hidden[0]).abs().max() > 1e-2
    assert torch.equal(prompts.hidden[1], model.prompt_encoder(["a man"], "", guided=False)[0].hidden[0])
    if plain.pooled is not None:  # compel weighs none of it either
        torch.testing.assert_close(prompts.pooled[:1], plain.pooled, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.4, 1.4])
def test_a_long_prompt_is_weighted_in_every_chunk(weight: float, model: Any) -> None:
    ours, theirs = (text.format(LONG, weight) for text in ("{0} a (man:{1}) {0} a (hat:{1})", "{0} a (man){1} {0} a (hat){1}"))
    prompts, negative = model.prompt_encoder([ours], "", guided=True)
    assert model.prompt_encoder.num_chunks(ours) > 2
    torch.testing.assert_close(prompts.hidden[0], compel_s(model, theirs), rtol=0, atol=1e-4)
    assert negative.hidden.shape == prompts.hidden.shape


def test_the_pocket_model_reads_them_too() -> None:
    model = load_pocket()
    pairs = PAIRS | {"a portrait photo of a (smiling:1.3) (man:0.6)" * 9: "a portrait photo of a (smiling)1.3 (man)0.6" * 9}
    for ours, theirs in pairs.items():
        prompts, _ = model.prompt_encoder([ours], "", guided=False)
        torch.testing.assert_close(prompts.hidden[0], compel_s(model, theirs, truncate=True), rtol=0, atol=1e-4)
    few = SamplingConfig(steps=2)
    images = [next(generate(model, [Request(None, text, 1)], few)).pixels for text in ("a (smiling:1.5) man", "a smiling man")]
    assert not np.array_equal(*images)
    beside = [
        each.pixels for each in generate(model, [Request(None, "a (smiling:1.5) man", 1), Request(None, "a man", 2)], few)
    ]
    assert np.abs(beside[0].astype(int) - images[0]).max() <= 1


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a photo of a man", [("a photo of a man", 1)]),
        ("", [("", 1)]),
        ("()", [("", 1)]),
        (r"a \(smiling\) \[man\] \{a\|b\} \_\_ C\+\+ \\", [(r"a (smiling) [man] {a|b} __ C++ \\"[:-1], 1)]),
        (r"a \man", [(r"a \man", 1)]),
        ("a (man", [("a ", 1), ("man", 1.1)]),
        ("a man) smiling]", [("a man) smiling]", 1)]),
        ("((man))", [("man", 1.1**2)]),
        ("a (man: 1.3 )", [("a ", 1), ("man", 1.3)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a [man:1.5)", [("a ", 1.5), ("man", 1.5 / 1.1)]),
        ("(man)1.3, hat", [("man", 1.3), (", hat", 1)]),
        ("(man)2nd", [("man", 1.1), ("2nd", 1)]),
        ("a well-known man - old", [("a well-known man - old", 1)]),
        ("a man+, + smiling---.", [("a ", 1), ("man", 1.1), (", + ", 1), ("smiling", 0.9**3), (".", 1)]),
        ("(a man:1.0)", [("a man", 1)]),
    ],
)  # fmt: skip
def test_how_weights_are_read(prompt: str, fragments: list[tuple[str, float]]) -> None:
    found = split_weights(prompt)
    assert [each.text for each in found] == [text for text, _ in fragments]
    assert [each.weight for each in found] == pytest.approx([weight for _, weight in fragments])


def test_a_prompt_of_any_characters_is_read_in_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        prompt = "".join(rng.choice(list("ab :1.5()[]+-\\{}"), size=40))
        try:
            assert all(0 <= each.weight <= MAX_WEIGHT for each in split_weights(prompt))
        except RecipeError as problem:
            assert "the weight" in problem.found  # noqa: PT017 - most are fine
    for text in ("a" * 20_000, "(" * 20_000, "a+" * 10_000, "1" * 20_000, "(a" * 10_000, "[a" * 10_000):
        try:
            split_weights(text)
        except RecipeError:
            assert text[0] in "(["


@pytest.mark.parametrize("prompt", ["(man:11)", "(man:-1)", "(at 12:30)", "man" + "+" * 5_000, "(" * 30 + "man"])
def test_a_weight_out_of_bounds_is_refused(prompt: str) -> None:
    with pytest.raises(RecipeError, match=r"a number from 0 to 10 is needed. Correct it, or write"):
        Request(None, prompt, 0)
    with pytest.raises(RecipeError, match="the weight"):
        SamplingConfig(negative_prompt=prompt)


def test_the_trigger_phrase_and_the_warnings_read_the_words_alone(toy_model: Any) -> None:
    assert insert_trigger_phrase("a photo of a (smiling man:1.3)", "wn person") == "a photo of a (smiling wn man:1.3)"
    assert insert_trigger_phrase("a photo of a (wn person:1.3)", "wn person") == "a photo of a (wn person:1.3)"
    assert prompt_warnings(toy_model, "a (photo:1.3) of [a] ((man))") == []
    assert Fragment("a").weight == 1
