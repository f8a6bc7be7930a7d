"""A browser and servers for the page. The browser is the system's own; without one the tests are skipped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser

from opened_page import WIDTHS, Opened, opened_page, started_browser
from tenth.server.page.routes import router


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """An empty page; of the width of the test, if it has one."""
    with opened_page(browser, request.getfixturevalue("width") if "width" in request.fixturenames else WIDTHS[0]) as opened:
        yield opened


@pytest.fixture(scope="module")
def page_alone() -> Iterator[str]:
    """The address of a server of the page and nothing else, for what ToyApi answers."""
    app = FastAPI()
    app.include_router(router)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()
