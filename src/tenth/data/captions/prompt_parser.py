"""A prompt -> the attributes that it asks for: captions.py, read backwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tenth.data.captions.attributes import FLAGS, Attributes
from tenth.data.captions.templates import AGES, CLEAN_SHAVEN, HAIR, NEUTRAL, NO, NOUNS, WORD, YES

SIGNS = ("male", *FLAGS)  # what a picture can be asked for: yes or no to each

Asked = Mapping[str, bool]  # sign -> wanted or not wanted; what is not in it is left open


def asked_for(prompt: str) -> Asked:
    """What a prompt says of a face, in words that captions use. Empty for a prompt that leaves all open, such as "a photo".

    A longer phrase is read before the words in it: "without glasses" is no "glasses", "no beard" no "beard".
    """
    text = " ".join(WORD.findall(prompt.lower()))
    found: dict[str, bool] = {}
    for phrase, said in PHRASES.items():
        rest = re.sub(rf"\b{re.escape(phrase)}\b(?!-)", "|", text)
        if rest != text:
            text, found = rest, {**said, **found}
    return found


def signs_of(attributes: Attributes) -> dict[str, bool | None]:
    """A row of an attribute table as yes, no or not known for every sign.

    Tables that merge sources know of some signs only where they are: there the no is taken from what excludes it (another
    colour of hair, another age), or, for sunglasses, children and places, from their not being said.
    """
    known = {flag: attributes.get(flag) for flag in FLAGS}
    signs: dict[str, bool | None] = {flag: value if isinstance(value, bool) else None for flag, value in known.items()}
    signs["male"] = {"M": True, "F": False}.get(str(attributes.get("gender")))
    for group in (tuple(HAIR), ("child", "youth", "senior")):
        if any(signs[flag] for flag in group):
            signs |= {flag: bool(signs[flag]) for flag in group}
    return signs | {flag: bool(signs[flag]) for flag in ("sunglasses", "child", "outdoor")}


def _phrases() -> Iterator[tuple[str, dict[str, bool]]]:
    for sign, options in YES.items():
        yield from ((words, {sign: True}) for _, words in options)
    for sign, options in NO.items():
        yield from ((words, {sign: False}) for _, words in options)
    yield from ((words, {"smiling": False, "mouth_open": False}) for _, words in NEUTRAL)
    yield CLEAN_SHAVEN[1], {"beard": False, "mustache": False}
    yield from ((words, {colour: True}) for colour, words in HAIR.items())
    yield from ((word, {sign: True}) for sign, words in AGES.items() for word in words)
    for gender, (grown, child) in NOUNS.items():
        own = {"male": gender == "M"} if gender else {}
        yield from ((grown, own), (child, own | {"child": True}))


def _without_article(phrase: str) -> str:
    return re.sub(r"^an? ", "", phrase)


PHRASES = {_without_article(words): said for words, said in sorted(_phrases(), key=lambda item: -len(item[0]))}  # longest first
