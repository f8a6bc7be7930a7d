"""Parse the face attributes that a prompt asks for: the inverse of templates.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tenth.data.captions import templates
from tenth.data.captions.attributes import BINARY_ATTRIBUTES, Attributes

FACE_ATTRIBUTES = ("male", *BINARY_ATTRIBUTES)  # that a prompt can ask for

PromptAttributes = Mapping[str, bool]  # attribute -> wanted or not; attributes that the prompt leaves open are missing


def parse_prompt_attributes(prompt: str) -> PromptAttributes:
    """The attributes of a prompt that uses the captions' words. Empty for a prompt without any, such as "a photo".

    Longer phrases are matched before the words in them: "without glasses" is not "glasses", "no beard" not "beard".
    """
    text = " ".join(templates.WORD_PATTERN.findall(prompt.lower()))
    attributes: dict[str, bool] = {}
    for phrase, values in PHRASES.items():
        rest = re.sub(rf"\b{re.escape(phrase)}\b(?!-)", "|", text)
        if rest != text:
            text, attributes = rest, {**values, **attributes}
    return attributes


def attribute_labels(attributes: Attributes) -> dict[str, bool | None]:
    """A row of an attribute table as True, False or None (unknown) for every attribute.

    Tables merged from several sources list some attributes only where they are true. False then follows from an attribute that
    excludes it (another hair colour, another age) or, for sunglasses, child and outdoor, from their absence.
    """
    known = {flag: attributes.get(flag) for flag in BINARY_ATTRIBUTES}
    labels: dict[str, bool | None] = {flag: value if isinstance(value, bool) else None for flag, value in known.items()}
    labels["male"] = {"M": True, "F": False}.get(str(attributes.get("gender")))
    for group in (tuple(templates.HAIR_COLORS), ("child", "youth", "senior")):
        if any(labels[flag] for flag in group):
            labels |= {flag: bool(labels[flag]) for flag in group}
    return labels | {flag: bool(labels[flag]) for flag in ("sunglasses", "child", "outdoor")}


def _phrase_attributes() -> Iterator[tuple[str, dict[str, bool]]]:
    for table, value in ((templates.POSITIVE_PHRASES, True), (templates.NEGATIVE_PHRASES, False)):
        for attribute, options in table.items():
            yield from ((words, {attribute: value}) for _, words in options)
    yield from ((words, {"smiling": False, "mouth_open": False}) for _, words in templates.NEUTRAL_EXPRESSION)
    yield templates.CLEAN_SHAVEN[1], {"beard": False, "mustache": False}
    yield from ((words, {color: True}) for color, words in templates.HAIR_COLORS.items())
    yield from ((word, {attribute: True}) for attribute, words in templates.AGES.items() for word in words)
    for gender, (adult, child) in templates.NOUNS.items():
        values = {"male": gender == "M"} if gender else {}
        yield from ((adult, values), (child, values | {"child": True}))


# Without an article, the longest first.
PHRASES = {
    re.sub(r"^an? ", "", words): values for words, values in sorted(_phrase_attributes(), key=lambda item: -len(item[0]))
}
