"""The page in a real browser: something is there, in light and in dark, and nothing scrolls sideways on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.types import Pixels
from tenth.reporting.html.page import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCHEMES = {"light": 1, "dark": 0}  # as the browser numbers them
WIDE, NARROW, PHONE, HEIGHT = 1280, 400, 360, 1200
SECONDS = 240  # on a machine that has other work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser in PATH: {', '.join(NAMES)}"),
]


@pytest.fixture
def page_file(run_folder: Path) -> Path:
    """The page with every part of it open."""
    path = write_page(run_folder)
    path.write_text(path.read_text().replace("<details>", "<details open>"))
    return path


def browse(page: Path, *flags: str) -> str:
    """What the browser prints. A profile of its own, so that nothing of an earlier visit is there."""
    assert BROWSER is not None
    profile = page.parent / "profile"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    shutil.rmtree(profile, ignore_errors=True)
    return done.stdout


def seen(page: Path, scheme: str, width: int) -> Pixels:
    picture = page.with_name(f"{scheme}-{width}.png")
    settings = f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    browse(page, f"--window-size={width},{HEIGHT}", settings, f"--screenshot={picture}")
    return np.asarray(Image.open(picture).convert("RGB"))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_is_there(scheme: str, width: int, page_file: Path) -> None:
    pixels = seen(page_file, scheme, width)
    assert pixels.shape[1] == width
    light = pixels.mean(-1)
    middle = float(np.median(light))
    assert middle > 240 if scheme == "light" else middle < 40
    written = np.abs(light - middle) > 90  # text and rules stand out from the paper
    assert 0.005 < written.mean() < 0.4
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    rows = written.any(1).nonzero()[0]
    assert rows[0] < 200  # it begins at the top
    assert rows[-1] > 1000  # and goes on to the end of the window


@pytest.mark.parametrize(
    ("part", "colour", "pixels"),
    [
        ("images", (60, 160, 90), 30_000),
        ("images", (60, 90, 200), 30_000),
        ("similarity-against-copying", (11, 98, 168), 150),
        ("similarity-by-number-of-photos", (11, 98, 168), 500),
    ],
)
def test_images_and_drawings_are_painted(part: str, colour: tuple[int, int, int], pixels: int, page_file: Path) -> None:
    alone = f"<style>header, section:not(#{part}) {{ display: none; }}</style></head>"
    page_file.write_text(page_file.read_text().replace("</head>", alone))
    found = seen(page_file, "light", WIDE).astype(int)
    assert (np.abs(found - colour).max(-1) < 12).sum() > pixels


@pytest.mark.parametrize("width", [PHONE, NARROW, WIDE])
def test_nothing_scrolls_sideways_but_tables(width: int, page_file: Path) -> None:
    """The window of a headless browser has a least width, so a frame of the width is asked instead."""
    frame = page_file.with_name("frame.html")
    inner = page_file.read_text()
    inner = re.sub(r"<meta http-equiv[^>]+>", "", inner).replace("</body>", f"{MEASURE}</body>")
    page_file.write_text(inner)
    frame.write_text(f'<iframe src="report.html" width="{width}" height="900" style="border:0"></iframe>{LISTEN}')
    told = re.search(r'data-told="(\d+) (\d+) (\d+)"', browse(frame, "--dump-dom", "--virtual-time-budget=5000"))
    assert told is not None
    across, inside, scrolling = map(int, told.groups())
    assert inside == width
    assert across <= inside
    assert scrolling > 0 or width == WIDE  # wide tables scroll in their own box


MEASURE = """<script>
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth);
  parent.postMessage(`${document.documentElement.scrollWidth} ${innerWidth} ${boxes.length}`, "*");
});
</script>"""
LISTEN = '<script>addEventListener("message", event => { document.body.dataset.told = event.data; });</script>'


def test_the_browser_finds_the_tables(page_file: Path) -> None:
    found = browse(page_file, "--dump-dom")
    for text in ("0.130<small>[0.110, 0.150]</small>", "needs the Inception file", "<h2>Reproduce</h2>"):
        assert text in found
    assert found.count("<script") == 1  # the one that sorts
