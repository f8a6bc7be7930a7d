"""A gallery of a hundred thousand pictures: read by pages as it is scrolled, and never more elements than a few screens."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import ToyApi, picture

pytestmark = pytest.mark.slow

MANY, PAGE = 100_000, 48
MOST_TILES = 6 * PAGE
SCROLL = "scrollTo(0, document.documentElement.scrollHeight)"


def numbers_shown(opened: Opened) -> list[int]:
    """The seeds of those tiles that are there, in the order of the page."""
    found: list[str] = opened.page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.dataset.id)")
    return [int(each[1:]) for each in found]


def test_elements_stay_few_however_far_one_scrolls(opened: Opened, page_alone: str) -> None:
    api = ToyApi(num_pictures=MANY)
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    first = opened.page.locator(f"[data-id=p{MANY - 1}]")
    expect(first).to_be_visible()
    assert len(api.asked) < 300  # not what is out of sight

    # Down through many pages: those that left are empty, and hold their height.
    for page in range(1, 16):
        opened.page.evaluate(SCROLL)
        expect(opened.page.locator(f"[data-id=p{MANY - 1 - page * PAGE}]")).to_be_attached()
        assert len(numbers_shown(opened)) <= MOST_TILES
    expect(first).to_have_count(0)
    expect(opened.page.locator(".tiles").first).to_be_empty()
    shown = numbers_shown(opened)
    assert shown == list(range(shown[0], shown[0] - len(shown), -1))  # each once, in order

    # And back: they are read again.
    opened.page.evaluate("scrollTo(0, 0)")
    expect(first).to_be_visible()
    assert len(numbers_shown(opened)) <= MOST_TILES
    assert opened.said == []


def test_pages_are_asked_for_by_key(opened: Opened, page_alone: str) -> None:
    api = ToyApi(num_pictures=MANY)
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    opened.page.evaluate(SCROLL)
    expect(opened.page.locator(f"[data-id=p{MANY - 1 - PAGE}]")).to_be_attached()
    asked = [values for _, path, values in api.asked if path == "/v1/pictures"]
    assert asked[:2] == [{"limit": str(PAGE)}, {"limit": str(PAGE), "before": f"p{MANY - PAGE}"}]


def test_what_is_chosen_stays_chosen_out_of_sight(opened: Opened, page_alone: str) -> None:
    api = ToyApi(num_pictures=MANY)
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    box = opened.page.locator(f"[data-id=p{MANY - 1}] input")
    box.check()
    for page in range(1, 8):
        opened.page.evaluate(SCROLL)
        expect(opened.page.locator(f"[data-id=p{MANY - 1 - page * PAGE}]")).to_be_attached()
    expect(box).to_have_count(0)
    expect(opened.page.get_by_text("1 picture chosen")).to_be_visible()
    opened.page.evaluate("scrollTo(0, 0)")
    expect(box).to_be_checked()
    assert opened.said == []


def test_one_persons_pictures(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[], pictures=[picture(1), picture(2, person="bert"), picture(3)])
    api.people = [{"name": name, "num_photos": 1} for name in ("anna", "bert")]
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    expect(opened.page.locator(".tile")).to_have_count(3)
    opened.page.get_by_label("Person", exact=True).select_option("bert")
    expect(opened.page.locator(".tile")).to_have_count(1)
    assert opened.page.url.endswith("#/gallery?person=bert")


def test_a_deleted_picture_leaves_the_gallery(opened: Opened, page_alone: str) -> None:
    api = ToyApi(pictures=[picture(number) for number in (3, 2, 1)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    opened.page.locator("[data-id=p2] input").check()
    opened.page.get_by_role("button", name="Delete").click()
    opened.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert not [each for each in api.asked if each[0] == "DELETE"]
    opened.page.get_by_role("button", name="Delete").click()
    opened.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(opened.page.locator(".tile")).to_have_count(2)
    expect(opened.page.get_by_text("1 picture deleted.")).to_be_visible()
    assert [path for method, path, _ in api.asked if method == "DELETE"] == ["/v1/pictures/p2"]
    expect(opened.page.get_by_label("Chosen pictures")).to_be_hidden()


def test_a_page_that_comes_back_has_what_it_had_without_what_was_deleted(opened: Opened, page_alone: str) -> None:
    num_pages = 10
    newest = num_pages * PAGE - 1
    api = ToyApi(pictures=[picture(number) for number in range(newest, -1, -1)])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/gallery")
    deleted = [newest - 2, newest - PAGE - 2]  # one of the first page, one of the second
    for number in deleted:
        page.locator(f"[data-id=p{number}] input").check()
    for index in range(1, num_pages):
        page.evaluate(SCROLL)
        expect(page.locator(f"[data-id=p{newest - index * PAGE}]")).to_be_attached()
    expect(page.locator(f"[data-id=p{newest - PAGE}]")).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 pictures deleted.")).to_be_visible()
    api.pictures.insert(0, picture(newest + 1))  # drawn meanwhile

    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(f"[data-id=p{newest}]")).to_be_visible()
    expect(page.locator(f"[data-id=p{newest - 2 * PAGE + 1}]")).to_be_attached()
    shown = numbers_shown(opened)[: 2 * PAGE - len(deleted)]
    assert shown == [number for number in range(newest, newest - 2 * PAGE, -1) if number not in deleted]
    assert opened.said == []


def test_chosen_pictures_that_are_gone_stop_neither_a_zip_nor_a_deletion(opened: Opened, page_alone: str) -> None:
    api = ToyApi(pictures=[picture(number) for number in (4, 3, 2, 1)])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/gallery")
    for box in page.get_by_role("checkbox").all():
        box.check()
    del api.pictures[1]  # in another window
    with page.expect_download():
        page.get_by_role("button", name="ZIP").click()
    expect(page.get_by_text("3 pictures chosen")).to_be_visible()
    expect(page.get_by_text("1 picture is gone and not in the ZIP.")).to_be_visible()
    expect(page.locator(".tile")).to_have_count(3)
    assert [values for _, path, values in api.asked if path == "/v1/pictures/zip"][-1] == {"ids": ["p4", "p2", "p1"]}

    del api.pictures[0]
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 pictures deleted, 1 was gone already.")).to_be_visible()
    expect(page.get_by_label("Chosen pictures")).to_be_hidden()
    expect(page.locator(".tile")).to_have_count(0)
    assert api.pictures == []
