from __future__ import annotations

import pytest

from tenth.sampling.prompts.trigger_phrase import insert_trigger_phrase


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a photo of a person", "a photo of a wn person"),
        ("a portrait of a smiling woman with a hat", "a portrait of a smiling wn woman with a hat"),
        ("A Man and a woman", "A wn Man and a woman"),
        ("a personal photo of a girl", "a personal photo of a wn girl"),
        ("snow in the mountains", "wn person, snow in the mountains"),
        ("a photo of a wn person", "a photo of a wn person"),
    ],
)
def test_the_word_is_put_before_the_noun_that_means_the_person(prompt: str, named: str) -> None:
    assert insert_trigger_phrase(prompt, "wn person") == named
    assert insert_trigger_phrase(prompt, "") == prompt


def test_a_neutral_noun_becomes_the_person_s_own() -> None:
    assert insert_trigger_phrase("a photo of a smiling person, outdoors", "wn man") == "a photo of a smiling wn man, outdoors"
    assert insert_trigger_phrase("a photo of a boy", "wn man") == "a photo of a wn boy"
