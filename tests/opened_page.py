"""The page in the system's own browser: wide or narrow, with what it says to the console or asks in dialogs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
WIDTHS, HEIGHT = (1280, 400), 900
MILLISECONDS = 60_000  # on a machine that has other work
SERIOUS = ("serious", "critical")
BY_SCHEME = {"runOnly": ["color-contrast"]}  # the rules of axe whose answer a scheme can change
expect.set_options(timeout=MILLISECONDS)


@contextmanager
def started_browser() -> Iterator[Browser]:
    """The system's browser; without one the tests are skipped."""
    if PROGRAM is None:
        pytest.skip(f"no browser in PATH: {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it said to the console or asked in dialogs: nothing, if all is well."""

    page: Page
    said: list[str] = field(default_factory=list)

    def show(self, address: str) -> None:
        """Go to an address, anew even where only what follows # differs, and wait until the view is there."""
        self.page.goto("about:blank")
        self.page.goto(address)
        self.page.wait_for_selector(".view:not([aria-busy])")

    def refused(self, dialog: Dialog) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def serious_findings(self) -> list[str]:
        """What a user of a screen reader or of the keyboard would stumble over, light and dark."""
        found = Axe().run(self.page).response["violations"]
        self.page.emulate_media(color_scheme="dark")
        found += Axe().run(self.page, options=BY_SCHEME).response["violations"]
        self.page.emulate_media(color_scheme="light")
        return [f"{each['id']}: {node['html']}" for each in found if each["impact"] in SERIOUS for node in each["nodes"]]

    def scrolls_sideways(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@contextmanager
def opened_page(browser: Browser, width: int = WIDTHS[0]) -> Iterator[Opened]:
    size = {"width": width, "height": HEIGHT}
    context = browser.new_context(viewport=size, color_scheme="light", reduced_motion="reduce")  # type: ignore[arg-type]
    opened = Opened(context.new_page())
    opened.page.set_default_timeout(MILLISECONDS)
    opened.page.on("dialog", opened.refused)
    opened.page.on("pageerror", lambda problem: opened.said.append(str(problem)))
    opened.page.on("console", lambda message: opened.said.append(message.text) if message.type == "error" else None)
    yield opened
    context.close()
