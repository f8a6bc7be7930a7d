"""A row of an attribute table -> captions in plain words. Never a name; what is not known is not said."""

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
HAIR: Mapping[str, str] = {
    "black_hair": "black hair", "blond_hair": "blond hair", "brown_hair": "brown hair", "gray_hair": "gray hair",
}  # fmt: skip

# attribute -> (place in the sentence, phrase), one of which is drawn. "with" and "wearing" phrases are joined in lists.
YES: Mapping[str, tuple[tuple[str, str], ...]] = {
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
NO: Mapping[str, tuple[tuple[str, str], ...]] = {
    "smiling":    (("after", "not smiling"), ("before", "serious")),
    "mouth_open": (("after", "mouth closed"),),
    "eyeglasses": (("after", "without glasses"), ("after", "no glasses")),
    "hat":        (("after", "without a hat"),),
    "beard":      (("after", "without a beard"),),
}  # fmt: skip
CLEAN_SHAVEN = ("after", "clean-shaven")
NEUTRAL = (("with", "a neutral expression"), ("after", "neutral expression"))

BARE_SHARE = 0.15  # of the captions say nothing but the noun: short prompts are common at use
GENDER_SHARE = 0.93  # of the captions say man or woman where that is known
NO_SHARE = 0.2  # how much more rarely a "no" is said than a "yes": people describe what is there
PROMPTS = (
    "a portrait photo of a person, looking at the camera, studio background, neutral expression",
    "a close-up photo of the face of a person in front of a plain white background, soft light, sharp focus",
    "a black and white photo, a color photo, indoors, at night, in the sun, high quality, detailed",
    "and or is are his her their with without no not man men woman women people adult",
)
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|,")  # what `vocabulary` counts as a word; the comma is one

Phrase = tuple[str, str]  # place in the sentence, words
T = TypeVar("T")


def caption(attributes: Attributes | None, key: str, variant: int = 0) -> str:
    """One caption, the same for the same key (the photo's file) and variant.

    Variant 0 says everything that is known to be there; the others leave out at random, so that short captions occur too.
    """
    if attributes is None:
        return UNKNOWN_PERSON
    # Only random() is used of the generator: its sequence is the one that Python promises to keep between versions.
    draws = random.Random(int.from_bytes(hashlib.sha256(f"{key}#{variant}".encode()).digest(), "big"))
    said = {} if variant and draws.random() < BARE_SHARE else attributes
    share = 0.4 + 0.6 * draws.random() if variant else 1.0
    gender = str(attributes.get("gender") or "") if draws.random() < GENDER_SHARE or not variant else ""
    phrases = [phrase for phrase in _phrases(said, draws) if draws.random() < share]
    return _sentence(_pick(OPENINGS, draws), _noun(said, gender, draws, share), phrases, draws)


def captions(attributes: Attributes | None, key: str, count: int) -> list[str]:
    """`count` captions of one photo; training draws one of them each time. Some may be equal."""
    return [caption(attributes, key, variant) for variant in range(count)]


def vocabulary() -> list[str]:
    """Every word that a caption can contain and those of common neutral portrait prompts, sorted, each once; and the comma."""
    phrases = [words for table in (YES, NO) for options in table.values() for _, words in options]
    phrases += [CLEAN_SHAVEN[1], *(words for _, words in NEUTRAL), *HAIR.values(), *OPENINGS, *PROMPTS, UNKNOWN_PERSON]
    phrases += [word for table in (NOUNS, AGES) for words in table.values() for word in words]
    return sorted({word for phrase in [*phrases, "a an and with wearing ,"] for word in WORD.findall(phrase)})


def _phrases(attributes: Attributes, draws: random.Random) -> list[Phrase]:
    """What the row says, in the order of the table: yes always, no now and then. Contradictions are left out."""
    row = _consistent(attributes)
    phrases = [("with", HAIR[colour]) for colour in HAIR if row.get(colour) is True]
    phrases += [_pick(options, draws) for name, options in YES.items() if row.get(name) is True]
    if draws.random() < NO_SHARE and row.get("smiling") is False and row.get("mouth_open") is False:
        phrases.append(_pick(NEUTRAL, draws))
        row = {**row, "smiling": None, "mouth_open": None}
    if draws.random() < NO_SHARE and row.get("gender") == "M" and row.get("beard") is False and row.get("mustache") is False:
        phrases.append(CLEAN_SHAVEN)
        row = {**row, "beard": None}
    for name, options in NO.items():
        if draws.random() < NO_SHARE and row.get(name) is False:
            phrases.append(_pick(options, draws))
    return phrases


def _consistent(attributes: Attributes) -> dict[str, bool | str | None]:
    """The row without what contradicts itself: machine-made tables do. Nothing is added, only left out."""
    row = dict(attributes)
    unsaid = set[str]()
    if row.get("gender") != "M" or row.get("child") is True:
        unsaid |= {"beard", "mustache", "bald"}
    if row.get("gender") == "M":
        unsaid |= {"lipstick"}
    if row.get("sunglasses") is True:
        unsaid |= {"eyeglasses"}
    if row.get("smiling") is True:
        unsaid |= {"mouth_open"}  # an open mouth is then the smile
    if row.get("bald") is True or sum(row.get(colour) is True for colour in HAIR) > 1:
        unsaid |= set(HAIR)
    return {name: None if name in unsaid else value for name, value in row.items()}


def _noun(attributes: Attributes, gender: str, draws: random.Random, share: float) -> str:
    """'man', 'young woman', 'girl': gender and age, where known and not contradictory."""
    ages = [age for age in ("child", "youth", "senior") if attributes.get(age) is True]
    grown, child = NOUNS[gender]
    if ("senior" in ages and len(ages) > 1) or draws.random() >= share:
        return grown
    if "child" in ages:
        return child
    return f"{_pick(AGES[ages[0]], draws)} {grown}" if ages else grown


def _sentence(opening: str, noun: str, phrases: Sequence[Phrase], draws: random.Random) -> str:
    """Opening, article, adjectives, noun, "with ...", ", wearing ...", ", ..."."""
    words = {place: [words for at, words in phrases if at == place] for place in ("before", "with", "wearing", "after")}
    for listed in words.values():
        listed.sort(key=lambda _: draws.random())
    subject = " ".join([*words["before"], noun])
    article = "an" if subject[0] in "aeiou" else "a"
    sentence = f"{opening} {article} {subject}"
    if words["with"]:
        sentence += f" with {_listed(words['with'])}"
    if words["wearing"]:
        sentence += f"{',' if words['with'] else ''} wearing {_listed(words['wearing'])}"
    return ", ".join([sentence, *words["after"]])


def _listed(words: Sequence[str]) -> str:
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + [words[-1]])


def _pick(options: Sequence[T], draws: random.Random) -> T:
    return options[int(draws.random() * len(options))]
