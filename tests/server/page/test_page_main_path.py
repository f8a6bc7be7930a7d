"""The main path in a browser, on a server with a worker and the pocket model: from photos to a picture that stays."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from opened_page import Look, Opened
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


def test_from_photos_to_a_picture_that_is_kept(look: Look, opened: Opened, face_photos: list[Path], tmp_path: Path) -> None:
    page = opened.page
    files = [(path.name, path.read_bytes()) for path in face_photos]
    with running_server(tmp_path / "data") as server:
        opened.show(f"{server.url}/#/people/new")
        save_person(opened, [*files, (EVIL, b"no photo")], "anna")

        # Drawn, with a reload in between.
        page.get_by_label("Prompt").fill(f"a portrait photo of a person {EVIL}")
        page.get_by_label("Pictures", exact=True).fill("1")
        page.get_by_label("Seed", exact=True).fill("3")
        page.get_by_text("Advanced settings").click()
        page.get_by_label("Steps").fill("2")
        page.get_by_role("button", name="Draw").click()
        expect(page.get_by_role("article")).to_have_count(1)
        page.reload()
        card = page.get_by_role("article")
        expect(card.locator(".tile img")).to_be_visible(timeout=SERVED_SECONDS * 1000)
        assert opened.serious_findings() == []
        assert not opened.scrolls_sideways()
        card.get_by_role("button", name="Keep").click()
        expect(card.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
        page.goto("about:blank")  # a page that stays says that the server does not answer

    # Another server, the same folder.
    with running_server(tmp_path / "data") as server:
        opened.show(f"{server.url}/#/gallery")
        tile = page.locator(".tile")
        expect(tile).to_have_count(1)
        expect(tile.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
        tile.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"a portrait photo of a person {EVIL}")
        expect(page.locator(".large img")).to_have_js_property("naturalWidth", 128)
        assert opened.serious_findings() == []
        assert not opened.scrolls_sideways()
        assert page.locator("[src='x'], [onerror]").count() == 0
        assert opened.said == []
