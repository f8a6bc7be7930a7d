"""What captions say of people, by a majority of their photos."""

from __future__ import annotations

from tenth.data.captions.attributes import Attributes
from tenth.data.captions.person_attributes import attributes_of_people
from tenth.data.captions.templates import captions


def test_most_photos_decide_and_an_even_split_is_unknown() -> None:
    photos = [
        ("anna", ["a photo of a young woman", "a portrait of a woman without glasses"]),
        ("anna", ["a photo of an old woman with glasses"]),
        ("anna", ["a photo of a woman with glasses"]),
        ("bert", ["a photo of a bearded man"]),
        ("bert", ["a photo of a man, without a beard"]),
        ("carl", ["a photo of a person", "an image of somebody"]),
    ]
    found = attributes_of_people(photos)
    assert list(found) == ["anna", "bert", "carl"]
    assert (found["anna"]["male"], found["anna"]["eyeglasses"]) == (False, True)
    assert not {"youth", "senior"} & set(found["anna"])  # once each: unknown
    assert found["bert"]["male"] is True
    assert "beard" not in found["bert"]
    assert found["carl"] == {}


def test_the_captions_of_a_table_give_its_genders_and_ages_back() -> None:
    rows: dict[str, Attributes] = {
        "anna": {"gender": "F", "senior": True, "eyeglasses": True},
        "bert": {"gender": "M", "youth": True, "black_hair": True, "eyeglasses": False},
    }
    photos = [(who, captions(row, f"{who}/{index}", 8)) for who, row in rows.items() for index in range(5)]
    found = attributes_of_people(photos)
    assert (found["anna"]["male"], found["anna"]["senior"], found["anna"]["youth"]) == (False, True, False)
    assert (found["bert"]["male"], found["bert"]["senior"], found["bert"]["black_hair"]) == (True, False, True)
    assert found["anna"]["eyeglasses"] is True
    assert found["bert"]["blond_hair"] is False
