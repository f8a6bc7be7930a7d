"""A prompt -> the attributes that it asks for: captions.py, read backwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tenth.data.captions.attributes import BINARY_ATTRIBUTES, Attributes
from tenth.data.captions.templates import (
    AGES,
    CLEAN_SHAVEN,
    HAIR_COLORS,
    NEGATIVE_PHRASES,
    NEUTRAL_EXPRESSION,
    NOUNS,
    POSITIVE_PHRASES,
    WORD_PATTERN,
)

FACE_ATTRIBUTES = ("male", *BINARY_ATTRIBUTES)  # what a picture can be asked for: yes or no to each

PromptAttributes = Mapping[str, bool]  # sign -> wanted or not wanted; what is not in it is left open


def parse_prompt_attributes(prompt: str) -> PromptAttributes:
    """What a prompt says of a face, in words that captions use. Empty for a prompt that leaves all open, such as "a photo".

    A longer phrase is read before the words in it: "without glasses" is no "glasses", "no beard" no "beard".
    """
    text = " ".join(WORD_PATTERN.findall(prompt.lower()))
    attributes: dict[str, bool] = {}
    for phrase, values in PHRASES.items():
        rest = re.sub(rf"\b{re.escape(phrase)}\b(?!-)", "|", text)
        if rest != text:
            text, attributes = rest, {**values, **attributes}
    return attributes


def attribute_labels(attributes: Attributes) -> dict[str, bool | None]:
    """A row of an attribute table as yes, no or not known for every sign.

    Tables that merge sources know of some signs only where they are: there the no is taken from what excludes it (another
    colour of hair, another age), or, for sunglasses, children and places, from their not being said.
    """
    known = {flag: attributes.get(flag) for flag in BINARY_ATTRIBUTES}
    labels: dict[str, bool | None] = {flag: value if isinstance(value, bool) else None for flag, value in known.items()}
    labels["male"] = {"M": True, "F": False}.get(str(attributes.get("gender")))
    for group in (tuple(HAIR_COLORS), ("child", "youth", "senior")):
        if any(labels[flag] for flag in group):
            labels |= {flag: bool(labels[flag]) for flag in group}
    return labels | {flag: bool(labels[flag]) for flag in ("sunglasses", "child", "outdoor")}


def _phrase_attributes() -> Iterator[tuple[str, dict[str, bool]]]:
    for attribute, options in POSITIVE_PHRASES.items():
        yield from ((words, {attribute: True}) for _, words in options)
    for attribute, options in NEGATIVE_PHRASES.items():
        yield from ((words, {attribute: False}) for _, words in options)
    yield from ((words, {"smiling": False, "mouth_open": False}) for _, words in NEUTRAL_EXPRESSION)
    yield CLEAN_SHAVEN[1], {"beard": False, "mustache": False}
    yield from ((words, {color: True}) for color, words in HAIR_COLORS.items())
    yield from ((word, {sign: True}) for sign, words in AGES.items() for word in words)
    for gender, (adult, child) in NOUNS.items():
        values = {"male": gender == "M"} if gender else {}
        yield from ((adult, values), (child, values | {"child": True}))


def _without_article(phrase: str) -> str:
    return re.sub(r"^an? ", "", phrase)


PHRASES = {
    _without_article(words): said for words, said in sorted(_phrase_attributes(), key=lambda item: -len(item[0]))
}  # longest first
