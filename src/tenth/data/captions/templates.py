"""Captions from a row of an attribute table. They contain no names and mention no unknown attribute."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenth.data.captions.attributes import Attributes

UNKNOWN_PERSON = "a photo of a person"

OPENINGS = ("a photo of", "a photo of", "a portrait of", "a portrait photo of", "a picture of", "a headshot of")
NOUNS: Mapping[str, tuple[str, str]] = {"M": ("man", "boy"), "F": ("woman", "girl"), "": ("person", "child")}
AGES: Mapping[str, tuple[str, ...]] = {"youth": ("young",), "senior": ("old", "elderly", "older")}
HAIR_COLORS: Mapping[str, str] = {f"{color}_hair": f"{color} hair" for color in ("black", "blond", "brown", "gray")}

# attribute -> (place in the sentence, phrase); one is sampled. "with" and "wearing" phrases are joined to a list.
POSITIVE_PHRASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "smiling":    (("before", "smiling"), ("before", "smiling"), ("after", "smiling")),
    "mouth_open": (("with", "an open mouth"), ("after", "mouth open")),
    "eyeglasses": (("with", "glasses"), ("with", "eyeglasses"), ("wearing", "glasses"), ("wearing", "eyeglasses")),
    "sunglasses": (("with", "sunglasses"), ("wearing", "sunglasses")),
    "mustache":   (("with", "a mustache"),),
    "beard":      (("with", "a beard"), ("with", "a beard"), ("before", "bearded")),
    "bald":       (("before", "bald"), ("with", "a bald head")),
    "hat":        (("wearing", "a hat"), ("with", "a hat")),
    "necktie":    (("wearing", "a tie"), ("with", "a tie")),
    "lipstick":   (("wearing", "lipstick"), ("with", "lipstick")),
    "earrings":   (("wearing", "earrings"), ("with", "earrings")),
    "outdoor":    (("after", "outdoors"), ("after", "outside")),
}  # fmt: skip
NEGATIVE_PHRASES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "smiling":    (("after", "not smiling"), ("before", "serious")),
    "mouth_open": (("after", "mouth closed"),),
    "eyeglasses": (("after", "without glasses"), ("after", "no glasses")),
    "hat":        (("after", "without a hat"),),
    "beard":      (("after", "without a beard"),),
}  # fmt: skip
CLEAN_SHAVEN = ("after", "clean-shaven")
NEUTRAL_EXPRESSION = (("with", "a neutral expression"), ("after", "neutral expression"))

P_BARE = 0.15  # of captions with the noun only: short prompts are common
P_GENDER = 0.93  # of captions that mention a known gender
P_NEGATIVE = 0.2  # of mentioning an absent attribute: people describe what is there
NEUTRAL_PROMPTS = (
    "a portrait photo of a person, looking at the camera, studio background, neutral expression",
    "a close-up photo of the face of a person in front of a plain white background, soft light, sharp focus",
    "a black and white photo, a color photo, indoors, at night, in the sun, high quality, detailed",
    "and or is are his her their with without no not man men woman women people adult",
)
WORD_PATTERN = re.compile(r"[a-z]+(?:-[a-z]+)*|,")  # the comma is a word, too

Phrase = tuple[str, str]  # place in the sentence, words
T = TypeVar("T")


def caption(attributes: Attributes | None, key: str, variant: int = 0) -> str:
    """One caption, a pure function of its arguments. key: the photo's file.

    Variant 0 mentions every attribute that is present; others omit some at random, so that there are short captions, too.
    """
    if attributes is None:
        return UNKNOWN_PERSON
    # Only random() is used: Python guarantees its sequence between versions, but not that of other methods.
    rng = random.Random(int.from_bytes(hashlib.sha256(f"{key}#{variant}".encode()).digest(), "big"))
    known = {} if variant and rng.random() < P_BARE else attributes
    p_mention = 0.4 + 0.6 * rng.random() if variant else 1.0
    gender = str(attributes.get("gender") or "") if rng.random() < P_GENDER or not variant else ""
    phrases = [phrase for phrase in _phrases(known, rng) if rng.random() < p_mention]
    return _sentence(_pick(OPENINGS, rng), _noun(known, gender, rng, p_mention), phrases, rng)


def captions(attributes: Attributes | None, key: str, count: int) -> list[str]:
    """`count` captions of one photo, of which training samples one each time. Some may be equal."""
    return [caption(attributes, key, variant) for variant in range(count)]


def vocabulary() -> list[str]:
    """The sorted words of all possible captions and of common neutral portrait prompts, and the comma."""
    phrases = [words for table in (POSITIVE_PHRASES, NEGATIVE_PHRASES) for options in table.values() for _, words in options]
    phrases += [words for _, words in (CLEAN_SHAVEN, *NEUTRAL_EXPRESSION)]
    phrases += [*HAIR_COLORS.values(), *OPENINGS, *NEUTRAL_PROMPTS, UNKNOWN_PERSON]
    phrases += [word for table in (NOUNS, AGES) for words in table.values() for word in words]
    return sorted({word for phrase in [*phrases, "a an and with wearing ,"] for word in WORD_PATTERN.findall(phrase)})


def _phrases(attributes: Attributes, rng: random.Random) -> list[Phrase]:
    """Phrases in the order of the table: all present attributes, some absent ones, no contradictions."""
    row = _without_contradictions(attributes)
    phrases = [("with", HAIR_COLORS[color]) for color in HAIR_COLORS if row.get(color) is True]
    phrases += [_pick(options, rng) for name, options in POSITIVE_PHRASES.items() if row.get(name) is True]
    if rng.random() < P_NEGATIVE and row.get("smiling") is False and row.get("mouth_open") is False:
        phrases.append(_pick(NEUTRAL_EXPRESSION, rng))
        row = {**row, "smiling": None, "mouth_open": None}
    if rng.random() < P_NEGATIVE and row.get("gender") == "M" and row.get("beard") is False and row.get("mustache") is False:
        phrases.append(CLEAN_SHAVEN)
        row = {**row, "beard": None}
    for name, options in NEGATIVE_PHRASES.items():
        if rng.random() < P_NEGATIVE and row.get(name) is False:
            phrases.append(_pick(options, rng))
    return phrases


def _without_contradictions(attributes: Attributes) -> dict[str, bool | str | None]:
    """The row without contradictory attributes, which predicted tables contain."""
    row, omitted = dict(attributes), set[str]()
    if row.get("gender") != "M" or row.get("child") is True:
        omitted |= {"beard", "mustache", "bald"}
    if row.get("gender") == "M":
        omitted |= {"lipstick"}
    if row.get("sunglasses") is True:
        omitted |= {"eyeglasses"}
    if row.get("smiling") is True:
        omitted |= {"mouth_open"}  # the open mouth is then part of the smile
    if row.get("bald") is True or sum(row.get(colour) is True for colour in HAIR_COLORS) > 1:
        omitted |= set(HAIR_COLORS)
    return {name: None if name in omitted else value for name, value in row.items()}


def _noun(attributes: Attributes, gender: str, rng: random.Random, p_mention: float) -> str:
    """'man', 'young woman', 'girl': gender and age, where known and not contradictory."""
    ages = [age for age in ("child", "youth", "senior") if attributes.get(age) is True]
    adult, child = NOUNS[gender]
    if ("senior" in ages and len(ages) > 1) or rng.random() >= p_mention:
        return adult
    if "child" in ages:
        return child
    return f"{_pick(AGES[ages[0]], rng)} {adult}" if ages else adult


def _sentence(opening: str, noun: str, phrases: Sequence[Phrase], rng: random.Random) -> str:
    """Opening, article, adjectives, noun, "with ...", ", wearing ...", ", ..."."""
    words = {place: [words for at, words in phrases if at == place] for place in ("before", "with", "wearing", "after")}
    for group in words.values():
        group.sort(key=lambda _: rng.random())
    subject = " ".join([*words["before"], noun])
    sentence = f"{opening} {'an' if subject[0] in 'aeiou' else 'a'} {subject}"
    if words["with"]:
        sentence += f" with {_join_words(words['with'])}"
    if words["wearing"]:
        sentence += f"{',' if words['with'] else ''} wearing {_join_words(words['wearing'])}"
    return ", ".join([sentence, *words["after"]])


def _join_words(words: Sequence[str]) -> str:
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + [words[-1]])


def _pick(options: Sequence[T], rng: random.Random) -> T:
    return options[int(rng.random() * len(options))]
