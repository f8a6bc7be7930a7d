from __future__ import annotations

import pytest

from tenth.data.captions.attributes import BINARY_ATTRIBUTES
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, attribute_labels, parse_prompt_attributes
from tenth.data.captions.templates import caption

NONE = dict.fromkeys(("gender", *BINARY_ATTRIBUTES))


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a photo of a person", {}),
        ("a photo of a smiling person", {"smiling": True}),
        ("A Portrait of an old WOMAN wearing a hat, outdoors", {"senior": True, "male": False, "hat": True, "outdoor": True}),
        ("a man with sunglasses, without glasses", {"male": True, "sunglasses": True, "eyeglasses": False}),
        ("a bald man with a gray beard, not smiling", {"male": True, "bald": True, "beard": True, "smiling": False}),
        ("a person without a beard", {"beard": False}),
        ("clean-shaven boy", {"beard": False, "mustache": False, "male": True, "child": True}),
        ("a headshot, neutral expression", {"smiling": False, "mouth_open": False}),
        ("a manly hatter in a mans-land", {}),
    ],
)
def test_a_prompt_is_read_phrase_by_phrase(prompt: str, asked: dict[str, bool]) -> None:
    assert parse_prompt_attributes(prompt) == asked


@pytest.mark.parametrize("variant", range(8))
@pytest.mark.parametrize("sign", ["smiling", "eyeglasses", "hat", "necktie", "gray_hair", "senior", "outdoor", "mouth_open"])
def test_what_a_caption_says_is_read_from_it(sign: str, variant: int) -> None:
    row = {**NONE, "gender": "M", sign: True}
    for key in map(str, range(20)):
        asked = parse_prompt_attributes(caption(row, key, variant))
        assert set(asked) <= {sign, "male"}
        assert all(asked.values())
        if variant == 0:
            assert asked == {sign: True, "male": True}


def test_a_table_that_knows_only_yes_gets_its_no_from_what_excludes_it() -> None:
    signs = attribute_labels({**NONE, "gender": "F", "black_hair": True, "senior": True, "smiling": None, "hat": False})
    assert set(signs) == set(FACE_ATTRIBUTES)
    assert (signs["male"], signs["black_hair"], signs["brown_hair"], signs["youth"]) == (False, True, False, False)
    assert (signs["smiling"], signs["hat"], signs["outdoor"], signs["sunglasses"]) == (None, False, False, False)
    unknown = attribute_labels(NONE)
    assert (unknown["male"], unknown["black_hair"], unknown["senior"]) == (None, None, None)
