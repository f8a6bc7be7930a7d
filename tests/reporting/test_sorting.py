"""The page in a browser that runs its one script: tables are sorted, nothing else runs, and all can be read and reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from opened_page import Opened, opened_page, started_browser
from tenth.reporting.html.page import write_page

PHONE, WIDE = 375, 1280
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture
def address(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("tenth.reporting.html.page.can_plot", lambda: False)
    return write_page(run_folder).as_uri()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opened]:
    with opened_page(browser, WIDE) as opened:
        opened.page.goto(address)
        yield opened


def names(table: Locator) -> list[list[str]]:
    """The rows' names, by group."""
    bodies = table.locator("tbody").all()
    return [[row.inner_text() for row in body.locator("th[scope=row]").all()] for body in bodies]


def test_a_column_sorts_by_mouse_and_by_keyboard(opened: Opened) -> None:
    table = opened.page.get_by_role("region", name="Identity").first.locator("table")
    written = names(table)
    head = table.get_by_role("columnheader", name="copy-paste index")
    head.get_by_role("button").click()  # less is better
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(table)[0][-1] == "dreambooth"
    assert names(table)[1][-1] == "verbatim copies"
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert names(table)[0][0] == "dreambooth"

    # The order that was written is that of the similarity, best first; another column is sorted instead of the first.
    first = table.get_by_role("columnheader", name="ID similarity")
    first.get_by_role("button").click()
    assert first.get_attribute("aria-sort") == "descending"
    assert head.get_attribute("aria-sort") is None
    assert names(table)[0] == written[0]
    table.get_by_role("columnheader", name="method").get_by_role("button").click()
    assert names(table)[0] == sorted(written[0])
    assert opened.said == []


def test_a_row_without_a_value_stays_last(opened: Opened) -> None:
    table = opened.page.locator("table.dots").first
    opened.page.evaluate("document.querySelector('table.dots tbody tr td').textContent = '-'")  # dreambooth's
    head = table.get_by_role("columnheader", name="ID similarity")
    for _ in range(2):
        head.get_by_role("button").click()
        assert names(table)[0][-1] == "dreambooth"


def test_a_negative_number_is_less_than_none(opened: Opened) -> None:
    table = opened.page.locator("table.dots").first
    opened.page.evaluate("document.querySelector('table.dots tbody tr td').textContent = '\N{MINUS SIGN}0.500'")
    table.get_by_role("columnheader", name="ID similarity").get_by_role("button").click()
    assert names(table)[0][-1] == "dreambooth"


def test_no_other_script_runs(opened: Opened) -> None:
    """Whatever stands in a record: the browser refuses what is not the script of the page."""
    ran = """() => {
      const script = document.createElement("script");
      script.textContent = "document.title = 'ran'";
      document.body.append(script);
      const image = document.createElement("img");
      image.setAttribute("onerror", "document.title = 'ran'");
      image.src = "data:,";
      document.body.append(image);
      return new Promise(done => setTimeout(() => done(document.title), 200));
    }"""
    assert opened.page.evaluate(ran) == "tenth: 5 methods, 3 people"


def test_without_scripts_the_page_is_whole(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("button").count() == 0
    assert page.locator("table.dots tbody tr").first.inner_text().startswith("dreambooth")
    assert page.locator("table.contact img").first.is_visible()
    context.close()


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_everybody_can_read_it_light_and_dark(width: int, browser: Browser, address: str) -> None:
    with opened_page(browser, width) as opened:
        opened.page.goto(address)
        opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert opened.serious_findings() == []
        assert not opened.scrolls_sideways()
        photo, image = (opened.page.locator(f".contact {each} img").first.bounding_box() for each in ("th", "td"))
        assert photo is not None
        assert image is not None
        assert photo["width"] < image["width"] * 0.6  # two photos side by side are as wide as an image
        assert opened.said == []


def test_the_tables_are_there_as_csv(opened: Opened, tmp_path: Path) -> None:
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="table.csv").click()
    assert download.value.suggested_filename == "table.csv"
    download.value.save_as(tmp_path / "saved.csv")
    first, *rows = (tmp_path / "saved.csv").read_text().splitlines()
    assert first.startswith("prompt_set,photos,impostors,recognizer,row,")
    assert len(rows) > 40
