"""Weights in a prompt: "a (smiling:1.3) man" -> its words, and how much each counts.

As A1111 reads them: (word) 1.1, (word:1.3), [word] 1 / 1.1, all of which multiply where they are nested; what is not closed
ends with the prompt. As compel reads them: word++ and (two words)++ 1.1 for each plus, word-- 0.9 for each minus, and
(two words)1.3. A backslash before a bracket, brace, plus, minus, bar, underscore or backslash makes it a character like any
other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenth.core.errors import RecipeError
from tenth.core.wording import shorten

EMPHASIS = 1.1  # of (word), and of each plus; [word] divides by it
MINUS = 0.9  # of each minus
MAX_WEIGHT = 10.0  # beyond it there is nothing but noise
MAX_OPEN = 50  # brackets that are open at once
CLOSING = {")": "(", "]": "["}
TOKEN = re.compile(r"\\(?P<escaped>[()\[\]{}|_+\\-])|(?P<bracket>[()\[\]])|(?P<text>[^\\()\[\]]+|\\)")
COLON_WEIGHT = re.compile(r":\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*$")  # before a closing parenthesis
SUFFIX = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?![\w.]*\w)|(?P<marks>\++|-+)(?![\w+-])")  # after one
WORD = re.compile(r"[^\s,.;:!?]+")


@dataclass(frozen=True)
class Fragment:
    """Some text of a prompt, and how much it counts: 1 as in a prompt without weights."""

    text: str
    weight: float = 1.0


def split_weights(prompt: str) -> list[Fragment]:
    """The prompt's fragments, in order; one, of weight 1, where nothing is weighted.

    Sources: A1111, modules/prompt_parser.py, parse_prompt_attention; compel, doc/syntax.md.
    Raises RecipeError for a weight that is not between 0 and MAX_WEIGHT.
    """
    fragments: list[Fragment] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}  # where in the fragments what is not closed yet begins
    position = 0
    while position < len(prompt):
        token = TOKEN.match(prompt, position)
        assert token is not None  # it takes any character
        position = token.end()
        bracket = token["bracket"]
        if token["escaped"]:
            fragments.append(Fragment(token["escaped"]))
        elif bracket in open_at:
            open_at[bracket].append(len(fragments))
            if len(open_at[bracket]) > MAX_OPEN:
                raise _invalid_weight(
                    f"more than {MAX_OPEN} brackets that are open at once", f"at most {MAX_OPEN} are possible"
                )
        elif bracket and open_at[CLOSING[bracket]]:
            start, factor = open_at[CLOSING[bracket]].pop(), 1 / EMPHASIS
            if bracket == ")":
                factor, position = _factor(prompt, fragments[start:], position)
                fragments[start:] = [*fragments[start:-1], *map(_without_weight, fragments[start:][-1:])]
            _multiply(fragments, start, factor)
        else:
            fragments += _marked_words(bracket or token["text"])

    # What is open still.
    for bracket, starts in open_at.items():
        for start in starts:
            _multiply(fragments, start, EMPHASIS if bracket == "(" else 1 / EMPHASIS)
    for fragment in fragments:
        if not 0 <= fragment.weight <= MAX_WEIGHT:
            found = f"the weight {fragment.weight:g} of {shorten(repr(fragment.text))}"
            raise _invalid_weight(found, f"a number from 0 to {MAX_WEIGHT:g} is needed")
    return _merged(fragments)


def _invalid_weight(found: str, needed: str) -> RecipeError:
    return RecipeError(found, needed, r"Correct it, or write \( and \) for parentheses that are none of a weight")


def plain_text(prompt: str) -> str:
    """The prompt without weights and backslashes."""
    return "".join(fragment.text for fragment in split_weights(prompt))


def _factor(prompt: str, inside: Sequence[Fragment], position: int) -> tuple[float, int]:
    """By what a closing parenthesis multiplies, and where what belongs to it ends. position: after it."""
    if inside and (colon := COLON_WEIGHT.search(inside[-1].text)):
        return float(colon["number"]), position
    suffix = SUFFIX.match(prompt, position)
    if suffix is None:
        return EMPHASIS, position
    return float(suffix["number"]) if suffix["number"] else _power(suffix["marks"]), suffix.end()


def _without_weight(fragment: Fragment) -> Fragment:
    return replace(fragment, text=COLON_WEIGHT.sub("", fragment.text))


def _power(marks: str) -> float:
    """Of some pluses, or some minuses; infinite beyond any weight."""
    return float((EMPHASIS if marks[0] == "+" else MINUS) ** min(len(marks), 1_000))


def _multiply(fragments: list[Fragment], start: int, factor: float) -> None:
    fragments[start:] = [replace(each, weight=each.weight * factor) for each in fragments[start:]]


def _marked_words(text: str) -> list[Fragment]:
    """Text in which some words end in pluses or minuses."""
    fragments, end = [], 0
    for word in WORD.finditer(text):
        for mark in "+-":
            bare = word[0].rstrip(mark)
            if bare and bare != word[0]:
                fragments += [Fragment(text[end : word.start()]), Fragment(bare, _power(word[0][len(bare) :]))]
                end = word.end()
                break
    return [*fragments, Fragment(text[end:])]


def _merged(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Neighbours of equal weight as one, and nothing empty unless it is all."""
    merged: list[Fragment] = []
    for fragment in fragments:
        if merged and fragment.weight == merged[-1].weight:
            merged[-1] = Fragment(merged[-1].text + fragment.text, fragment.weight)
        elif fragment.text:
            merged.append(fragment)
    return merged or [Fragment("")]
