"""A picture is drawn again as it was drawn: the same person, and all settings, also those that the form does not show."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import METHODS, REQUEST, ToyApi, job, person, picture

pytestmark = pytest.mark.slow


def test_again_as_this_one_fills_the_form(opened: Opened, page_alone: str) -> None:
    request = REQUEST | {"method": "ip-adapter-max", "num_images": 3, "sampling": {"steps": 5, "negative_prompt": "hat"}}
    jobs = [job("done", "done", pictures=["p9"], request=request)]
    api = ToyApi(people=[person("bert"), person("anna")], jobs=jobs, pictures=[picture(9)])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/picture/p9")
    page.get_by_role("link", name="Again as this one").click()
    expect(page.get_by_label("Prompt")).to_have_value(REQUEST["prompts"][0])
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(2)
    (sent,) = (each["request"] for each in api.submitted)
    assert (sent["seed"], sent["num_images"], sent["method"]) == (9, 1, "ip-adapter-max")
    assert sent["sampling"] == {"steps": 5, "negative_prompt": "hat"}
    expect(page.get_by_label("Person", exact=True)).to_have_value("anna")


def test_a_seed_that_a_browser_cannot_hold_is_not_drawn_wrongly(opened: Opened, page_alone: str) -> None:
    ToyApi(people=[person("anna")], pictures=[picture(1, seed=2**63 - 1)]).between(opened.page)
    opened.show(f"{page_alone}#/draw?from=p1")
    expect(opened.page.get_by_role("alert").filter(has_text="larger than the page can send")).to_be_visible()


def test_a_picture_of_uploaded_photos_is_drawn_of_nobody_else(opened: Opened, page_alone: str) -> None:
    jobs = [job("done", "done", person=None, pictures=["p9"])]
    api = ToyApi(people=[person("bert"), person("anna")], jobs=jobs, pictures=[picture(9, person=None)])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/draw?from=p9")
    expect(page.get_by_role("alert").filter(has_text="not of a saved person")).to_be_visible()
    whom = page.get_by_label("Person", exact=True)
    expect(whom).to_have_value("")
    page.get_by_role("button", name="Draw").click()
    expect(whom).to_be_focused()
    assert api.submitted == []

    # Whoever is chosen is drawn by the same settings.
    whom.select_option("anna")
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(2)
    (sent,) = api.submitted
    assert (sent["person"], sent["request"]["seed"], sent["request"]["prompts"]) == ("anna", 9, REQUEST["prompts"])


def test_settings_without_a_control_are_sent_again_until_they_are_left_out(width: int, opened: Opened, page_alone: str) -> None:
    scale = {"up": {"block_0": [0, 1, 0]}}
    unshown = {"guidance_rescale": 0.7, "guidance_interval": [0.2, 0.9], "precision": "auto", "ip_adapter_scale": scale}
    start = {"strength": 0.5, "face_detailer": False, "image": "a" * 64, "mask": ""}
    request = REQUEST | start | {"candidates": 8, "keep_all": True, "style": "smiling", "size": "256x320"}
    jobs = [
        job("done", "done", pictures=["p9"], request=request | {"sampling": {"steps": 5, "negative_prompt": "hat"} | unshown})
    ]
    made = {"negative_prompt": "hat, serious"}  # the style's words are in the picture's own prompts
    api = ToyApi(people=[person("anna")], jobs=jobs, pictures=[picture(9, prompt="a person, smiling")], settings=made)
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/draw?from=p9")
    note = page.get_by_text("Also as in the picture")
    expect(note).to_contain_text("strength 0.5")
    expect(note).to_contain_text("guidance rescale 0.7")
    expect(note).not_to_contain_text("precision")
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(2)

    page.get_by_label("Seed", exact=True).fill("10")
    page.get_by_role("button", name="Leave these out").click()
    expect(note).to_be_hidden()
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(3)

    first, second = (each["request"] for each in api.submitted)
    shown: dict[str, Any] = {"prompts": ["a person, smiling"], "num_images": 1, "seed": 9, "method": "", "model": "pocket"}
    shown |= {"size": "256x320", "candidates": None, "sampling": {"steps": 5, "negative_prompt": "hat, serious"}}
    assert first == shown | {
        "strength": 0.5,
        "face_detailer": False,
        "image": "a" * 64,
        "sampling": shown["sampling"] | unshown,
    }
    assert second == shown | {"seed": 10}
    assert opened.said == []


def test_a_method_that_is_gone_is_not_another_one(opened: Opened, page_alone: str) -> None:
    request = REQUEST | {"method": "gone", "model": "gone-too", "sampling": {}}
    jobs = [job("done", "done", pictures=["p9"], request=request)]
    api = ToyApi(people=[person("anna")], jobs=jobs, pictures=[picture(9)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    opened.page.get_by_label("Method", exact=True).select_option(list(METHODS)[1])
    opened.show(f"{page_alone}#/draw?from=p9")
    opened.page.get_by_role("button", name="Draw").click()
    expect(opened.page.get_by_role("article")).to_have_count(2)
    (sent,) = api.submitted
    assert (sent["request"]["method"], sent["request"]["model"]) == ("gone", "gone-too")
