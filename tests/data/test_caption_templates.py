"""Captions say what the row says, in words of the vocabulary, the same for ever."""

from __future__ import annotations

import random
import re

import pytest

from tenth.data.captions.attributes import BINARY_ATTRIBUTES, Attributes
from tenth.data.captions.templates import (
    HAIR_COLORS,
    NEUTRAL_PROMPTS,
    UNKNOWN_PERSON,
    WORD_PATTERN,
    caption,
    captions,
    vocabulary,
)

SMILING_WOMAN: Attributes = {"gender": "F", "smiling": True, "blond_hair": True, "eyeglasses": True}
BALD_MAN: Attributes = {"gender": "M", "bald": True, "beard": True, "necktie": True, "outdoor": True}
SMILING = [
    "a photo of a woman with blond hair, wearing glasses, smiling",
    "a picture of a woman",
    "a picture of a smiling woman wearing eyeglasses",
]
BALD = [
    "a portrait photo of a bearded bald man wearing a tie, outside",
    "a portrait photo of a man with a beard and a bald head, outside",
    "a photo of a bearded man with a bald head, wearing a tie, outdoors",
]


def many(row: Attributes, count: int = 300) -> list[str]:
    return captions(row, "Anna/Anna_0001.jpg", count)


def random_rows(count: int) -> list[Attributes]:
    draws = random.Random(0)
    return [
        {"gender": draws.choice(["M", "F", None]), **{flag: draws.choice([True, False, None]) for flag in BINARY_ATTRIBUTES}}
        for _ in range(count)
    ]


def test_no_row_is_a_person() -> None:
    assert captions(None, "Anna/Anna_0001.jpg", 3) == [UNKNOWN_PERSON] * 3


def test_examples_stand_for_ever() -> None:
    assert [caption(SMILING_WOMAN, "Anna/Anna_0001.jpg", variant) for variant in range(3)] == SMILING
    assert [caption(BALD_MAN, "Bert/Bert_0001.jpg", variant) for variant in range(3)] == BALD


def test_each_key_and_variant_has_its_own_draws() -> None:
    assert many(SMILING_WOMAN) == many(SMILING_WOMAN)
    assert captions(SMILING_WOMAN, "a", 6) == captions(SMILING_WOMAN, "a", 9)[:6]
    assert captions(SMILING_WOMAN, "a", 9) != captions(SMILING_WOMAN, "b", 9)


def test_variant_0_says_all_that_is_there() -> None:
    for key in map(str, range(50)):
        said = caption(SMILING_WOMAN, key)
        assert all(word in said for word in ("woman", "smiling", "blond hair", "glasses"))


def test_phrasing_varies_and_short_captions_occur() -> None:
    said = many(SMILING_WOMAN)
    assert len(set(said)) > 60
    assert "a photo of a woman" in said
    assert {"glasses", "eyeglasses"} <= {word for line in said for word in WORD_PATTERN.findall(line)}
    assert 0.1 < sum("smiling" not in line for line in said) / len(said) < 0.6


def test_what_is_unknown_is_not_said() -> None:
    words = {word for line in many({"gender": None, "smiling": None}) for word in WORD_PATTERN.findall(line)}
    assert words == {"a", "photo", "portrait", "picture", "headshot", "of", "person"}


@pytest.mark.parametrize("flag", ["smiling", "mouth_open", "eyeglasses", "hat", "beard"])
def test_a_no_is_said_now_and_then_and_never_as_a_yes(flag: str) -> None:
    told = {"smiling": "not smiling", "mouth_open": "mouth closed", "eyeglasses": "(without|no) glasses"}
    denial = told.get(flag, f"without a {flag}")
    said = many({"gender": "M", flag: False})
    assert 0 < sum(re.search(denial, line) is not None for line in said) < 90
    assert not any(re.search(f"(?<!not )smiling|(?<!without )(?<!no )glasses|open|with a {flag}", line) for line in said)


def test_a_man_without_beard_and_mustache_is_clean_shaven() -> None:
    shaven: Attributes = {"gender": "M", "beard": False, "mustache": False}
    assert any("clean-shaven" in line for line in many(shaven))
    for row in ({**shaven, "gender": "F"}, {**shaven, "mustache": True}, {**shaven, "mustache": None}):
        assert not any("clean-shaven" in line for line in many(row))


@pytest.mark.parametrize(
    ("row", "never"),
    [
        ({"gender": "F", "beard": True, "mustache": True, "bald": True}, "beard|mustache|bald"),
        ({"gender": "M", "child": True, "beard": True}, "beard"),
        ({"gender": "M", "lipstick": True}, "lipstick"),
        ({"gender": "M", "sunglasses": True, "eyeglasses": True}, "(?<!sun)glasses"),
        ({"gender": "M", "black_hair": True, "gray_hair": True}, "hair"),
        ({"gender": "M", "child": True, "senior": True}, "boy|old|elderly"),
    ],
)
def test_what_contradicts_itself_is_not_said(row: Attributes, never: str) -> None:
    assert not any(re.search(never, line) for line in many(row))


@pytest.mark.parametrize(
    ("row", "noun"),
    [
        ({"gender": "M", "child": True}, "a boy"),
        ({"gender": "F", "child": True}, "a girl"),
        ({"child": True}, "a child"),
        ({"gender": "F", "youth": True}, "a young woman"),
        ({"gender": "M", "senior": True}, "an (old|elderly|older) man"),
    ],
)
def test_age_and_gender_make_the_noun(row: Attributes, noun: str) -> None:
    assert re.fullmatch(f"a [a-z ]+ of {noun}", caption(row, "a"))


def test_every_caption_is_in_the_vocabulary_and_well_formed() -> None:
    words = set(vocabulary())
    for number, row in enumerate(random_rows(400)):
        for line in captions(row, str(number), 8):
            assert set(WORD_PATTERN.findall(line)) <= words
            assert "".join(WORD_PATTERN.findall(line)) == line.replace(" ", "")  # nothing that is not a word
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |,,|^,|,$", line), line
            assert sum(colour in line for colour in HAIR_COLORS.values()) <= 1


def test_every_word_that_is_asked_for_is_in_the_vocabulary() -> None:
    asked = "man woman boy girl child young old elderly smiling mouth open glasses eyeglasses sunglasses mustache beard bald"
    asked += " black blond brown gray hair hat tie lipstick earrings outdoors without not clean-shaven neutral expression"
    assert set(asked.split()) <= set(vocabulary())
    assert set(WORD_PATTERN.findall(NEUTRAL_PROMPTS[0])) <= set(vocabulary())
    assert vocabulary() == sorted(set(vocabulary()))


def test_a_caption_names_nobody() -> None:
    assert not any("anna" in line.lower() for line in many(SMILING_WOMAN))
