"""Every view in a browser, wide and narrow, light and dark: nothing serious by axe, nothing sideways or in the console."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import NOON, REQUEST, ToyApi, job, person, picture, run, verdict

pytestmark = pytest.mark.slow

FAILED = {"found": "bert's consent ended", "needed": "a consent that has not ended is needed", "action": "Record a new one"}
EXPIRED = {"basis": "self", "given_by": "Bert", "date": "2026-01-02", "until": "2026-06-30", "is_current": False}


def full_api() -> ToyApi:
    """Something of everything that the views can show."""
    by_two = [
        job(name, "done", NOON + 5, pictures=["p4", "p7"], request=REQUEST | {"method": method})
        for name, method in (("c1", "ip-adapter-max"), ("c2", "ip-adapter"))
    ]
    return ToyApi(
        people=[person("anna"), person("bert", consent=EXPIRED), person("Charlotte-Marie Vandenbroucke-Oppenheimer")],
        jobs=[
            job("q", "queued", NOON + 9, position=3),
            job("r", "running", NOON + 8, done=2),
            *by_two,
            job("f", "failed", error=FAILED),
            job("x", "cancelled", NOON - 1),
        ],
        pictures=[picture(number) for number in range(20, 0, -1)],
        verdicts=[
            verdict("01.png"),
            verdict("a-name-that-is-much-longer-than-its-picture.jpg", width=160, height=100, face=[0.4, 0.2, 0.6, 0.6]),
            verdict("blurred.png", False, "the face is blurred; use a sharper photo"),
            verdict("notes.txt", False, "it is not a photo", sha256=None, face=None, width=0, height=0),
        ],
        runs=[
            run("e1", "experiment"),
            run("t1", "training", history=[{"images": 1000, "loss": 0.1}, {"images": 2000, "loss": 0.05}]),
        ],
    )


VIEWS = {
    "#/draw": "Draw",
    "#/gallery": "Gallery",
    "#/gallery?person=anna": "Gallery",
    "#/picture/p5": REQUEST["prompts"][0],
    "#/compare/p1,p2,p3": "Compare",
    "#/compare/p4,p7,p10": "Compare",
    "#/people": "People",
    "#/people/new": "Add a person",
    "#/runs": "Runs",
    "#/runs/t1": "t1",
    "#/picture/none": "This cannot be shown",
}


@pytest.mark.parametrize("api", [full_api, ToyApi], ids=["full", "empty"])
def test_every_view_is_sound(api: type[ToyApi], width: int, opened: Opened, page_alone: str) -> None:
    api().between(opened.page)
    for address, title in VIEWS.items():
        if api is ToyApi and address.startswith(("#/picture/p", "#/runs/")):
            continue  # there is none
        opened.show(page_alone + address)
        expect(opened.page.locator("h1")).to_have_text(title)
        assert opened.serious_findings() == [], address
        assert not opened.scrolls_sideways(), address
    assert [text for text in opened.said if "404" not in text] == []


def test_what_opens_in_a_view_is_sound(width: int, opened: Opened, page_alone: str) -> None:
    full_api().between(opened.page)
    page = opened.page

    # The form, unfolded.
    opened.show(f"{page_alone}#/draw")
    page.get_by_text("Advanced settings").click()
    page.get_by_text("Draw by a second method too").click()
    expect(page.get_by_label("Second method", exact=True)).to_be_visible()
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()

    # Chosen pictures, and the question before they are deleted.
    opened.show(f"{page_alone}#/gallery")
    for box in page.get_by_role("checkbox").all()[:2]:
        box.check()
    expect(page.get_by_label("Chosen pictures")).to_contain_text("2 pictures chosen")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog", name="Delete 2 pictures?")).to_be_visible()
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()

    # Verdicts on photos.
    opened.show(f"{page_alone}#/people/new")
    page.locator("#photos").set_input_files([{"name": "a.png", "mimeType": "image/png", "buffer": b"a"}] * 4)
    expect(page.get_by_text("2 of 4 photos will be used.")).to_be_visible()
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()
    assert opened.said == []


def test_the_scheme_is_the_readers(width: int, opened: Opened, page_alone: str) -> None:
    full_api().between(opened.page)
    opened.show(f"{page_alone}#/people")
    light = []
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        colour = opened.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        light.append(sum(map(int, re.findall(r"\d+", colour)[:3])) / 3)
    assert light[0] > 230
    assert light[1] < 40


def test_the_keyboard_alone_reaches_everything(opened: Opened, page_alone: str) -> None:
    full_api().between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/gallery")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    # A picture is chosen, its bar reached, and the question answered with no by Escape.
    page.get_by_role("checkbox").first.focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("1 picture chosen")).to_be_visible()
    page.get_by_role("button", name="Delete").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    # After a change of view the focus is on its heading.
    page.get_by_role("link", name="People").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="People")).to_be_focused()
    assert page.title() == "People · tenth"
