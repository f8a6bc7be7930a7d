"""The main path in a browser, on a server with a worker and the pocket model: from photos to a picture that stays."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from opened_page import WIDTHS, Opened, opened_page
from running_server import running_server

pytestmark = pytest.mark.slow

DROP = """(names_and_contents) => {
  const transfer = new DataTransfer();
  for (const [name, content] of names_and_contents) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  return transfer;
}"""
SERVED_SECONDS = 180  # for a picture, on a machine that has other work
TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of a server that lives for a test
EVIL = "<img src=x onerror=alert(1)>"


def drop(page: Page, files: Sequence[tuple[str, bytes]]) -> None:
    """Let files fall on the place for photos."""
    contents = [(name, base64.b64encode(content).decode()) for name, content in files]
    page.dispatch_event(".drop", "drop", {"dataTransfer": page.evaluate_handle(DROP, contents)})


def save_person(opened: Opened, files: Sequence[tuple[str, bytes]], name: str) -> None:
    """Drop the photos, look at the verdicts, and save the person."""
    page = opened.page
    drop(page, files)
    expect(page.get_by_text("9 of 10 photos will be used.")).to_be_visible(timeout=SERVED_SECONDS * 1000)
    expect(page.locator(".photo.used .face")).to_have_count(9)
    refused = page.locator(".photo.refused")
    expect(refused).to_contain_text(EVIL)
    expect(refused.locator(".reason")).not_to_be_empty()
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()
    page.get_by_label("Name").fill(name)
    page.get_by_label("This is me").check()
    page.get_by_label("Given by").fill(EVIL)
    page.get_by_role("button", name="Save person").click()
    expect(page.get_by_label("Person", exact=True)).to_have_value(name)


def draw_one(opened: Opened) -> None:
    """Draw a picture, reload the page meanwhile, and keep it."""
    page = opened.page
    page.get_by_label("Prompt").fill(f"a portrait photo of a person {EVIL}")
    page.get_by_label("Pictures", exact=True).fill("1")
    page.get_by_text("Advanced settings").click()
    page.get_by_label("Steps").fill("2")
    num_jobs = page.get_by_role("article").count()
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(num_jobs + 1)
    page.reload()
    card = page.get_by_role("article").first
    expect(card.locator(".tile img")).to_be_visible(timeout=SERVED_SECONDS * 1000)
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()
    card.get_by_role("button", name="Keep").click()
    expect(card.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")


def find_picture(opened: Opened, address: str) -> None:
    """The one picture of a gallery, and the same large with its settings."""
    page = opened.page
    opened.show(address)
    tile = page.locator(".tile")
    expect(tile).to_have_count(1)
    expect(tile.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
    tile.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"a portrait photo of a person {EVIL}")
    expect(page.locator(".large img")).to_have_js_property("naturalWidth", 128)
    assert opened.serious_findings() == []
    assert not opened.scrolls_sideways()


def test_from_photos_to_a_picture_that_is_kept(browser: Browser, face_photos: list[Path], tmp_path: Path) -> None:
    """One server for both widths, each of which has a person of its own: starting one takes as long as the rest."""
    files = [*((path.name, path.read_bytes()) for path in face_photos), (EVIL, b"no photo")]
    with running_server(tmp_path / "data") as server:
        for width in WIDTHS:
            with opened_page(browser, width) as opened:
                opened.show(f"{server.url}/#/people/new")
                save_person(opened, files, str(width))
                draw_one(opened)
                assert opened.page.locator("[src='x'], [onerror]").count() == 0
                assert opened.said == []

    # Another server, the same folder.
    with running_server(tmp_path / "data") as server:
        for width in WIDTHS:
            with opened_page(browser, width) as opened:
                find_picture(opened, f"{server.url}/#/gallery?person={width}")
                assert opened.page.locator("[src='x'], [onerror]").count() == 0
                assert opened.said == []


def test_a_server_with_a_token_asks_the_browser_for_it(browser: Browser, tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", TENTH_TOKEN=TOKEN) as server,
        opened_page(browser) as opened,
    ):
        page = opened.page
        opened.show(f"{server.url}/#/gallery")
        page.get_by_label("Token").fill("another")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert").filter(has_text="This token is not valid.")).to_be_visible()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
        page.reload()  # the cookie stays
        expect(page.get_by_role("heading", name="No pictures yet")).to_be_visible()
        assert page.evaluate("document.cookie") == ""  # no script reads it
