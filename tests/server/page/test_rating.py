"""The page of `tenth benchmark rate`: what it answers, and what a rater sees and does in a real browser."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import Browser, expect

from opened_page import Opened, opened_page
from tenth.core.errors import InputError
from tenth.core.files.claims import exclusive_folder
from tenth.experiments.rating.study import Study, StudyOptions, open_study
from tenth.server.page.rating import create_rating_app, serve_rating
from tenth.server.settings import ServerSettings
from toy_rating import COLORS, rated_folders

PHONE, DESK = 375, 1280
HEIGHTS = {PHONE: 667, DESK: 900}  # pixels, of a small phone's window and of a computer's


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folders, tasks = rated_folders(tmp_path, sizes=(48, 96))
    return open_study(folders, tmp_path / "out", StudyOptions(tasks, pairs=4))


@pytest.fixture
def client(study: Study) -> TestClient:
    settings = ServerSettings(data=study.folder)
    return TestClient(create_rating_app(study, settings), base_url="http://127.0.0.1")


# What the server answers
def test_choices_are_stored_and_the_next_pair_comes(client: TestClient, study: Study) -> None:
    view = client.get("/v1/rating").json()
    assert (view["index"], view["pairs"], view["chosen"], view["choice"]) == (0, 4, 0, None)
    for index, choice in enumerate(("left", "tie", "right", "skip")):
        view = client.put(f"/v1/rating/{index}", json={"choice": choice}).json()
        assert study.choice(index) == choice
    assert (view["index"], view["chosen"]) == (None, 4)
    assert client.get("/v1/rating/1").json()["choice"] == "tie"
    assert client.post("/v1/rating/end").status_code == 204


def test_nothing_says_whose_an_image_is(client: TestClient, study: Study) -> None:
    """Not the page, not an answer's text or headers, not an image's metadata; only its pixels can."""
    for index, shown in enumerate(study.order):
        for side, system in (("left", shown.left), ("right", shown.right)):
            answer = client.get(f"/v1/rating/{index}/{side}.png")
            image = Image.open(io.BytesIO(answer.content))
            assert image.getpixel((0, 0)) == COLORS[system]
            assert not image.info
            assert b"secret" not in answer.content
            headers = {name for name in answer.headers if name != "content-length"}
            assert headers == set(client.get(f"/v1/rating/{index}/photos/0.png").headers) - {"content-length"}
            assert answer.headers["cache-control"] == "no-store"
        text = client.get(f"/v1/rating/{index}").text
        assert not any(name in text for name in (*study.systems, shown.pair.task, str(study.folder)))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/rating/4", 404),
        ("/v1/rating/-1", 404),
        ("/v1/rating/x", 400),
        ("/v1/rating/0/middle.png", 400),
        ("/v1/rating/0/photos/2.png", 404),
        ("/v1/rating/0/photos/-1.png", 404),
        ("/static/../rating.py", 404),
        ("/openapi.json", 404),
    ],
)
def test_other_addresses_are_refused(path: str, status: int, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["needed"]


def test_other_sites_and_names_are_refused(client: TestClient, study: Study) -> None:
    address, choice = "/v1/rating/0", {"choice": "left"}
    assert client.put(address, json=choice, headers={"Origin": "http://pictures.example"}).status_code == 403
    assert client.get("/v1/rating/0/left.png", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"Host": "pictures.example"}).status_code == 421
    assert client.put(address, json={"choice": "one"}).status_code == 400
    assert client.put(address, json=choice | {"system": "one"}).status_code == 400
    assert study.num_chosen == 0


def test_a_study_is_served_once(study: Study) -> None:
    found: list[Exception] = []

    def serve() -> None:
        try:
            serve_rating(study, 0, lambda _: None)
        except InputError as problem:
            found.append(problem)

    with exclusive_folder(study.folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenth.server.page.rating.end_on_signals", lambda: None)  # which are the main thread's
        other = threading.Thread(target=serve)
        other.start()
        other.join()
    assert "another run is writing to" in str(found[0])


def test_an_image_that_is_gone_is_said_without_its_folder(client: TestClient, study: Study) -> None:
    shown = study.order[0]
    shown.pair.images[shown.left].write_bytes(b"nothing")
    answer = client.get("/v1/rating/0/left.png")
    assert answer.status_code == 400
    assert not any(str(image.parent) in answer.text for image in shown.pair.images)


# What a rater sees
@dataclass(frozen=True)
class Rated:
    """A study that is served, its page at a width, and how to look at both images."""

    study: Study
    opened: Opened
    address: str

    def wait_for(self, index: int) -> None:
        """Until so many are chosen and the page is ready."""
        expect(self.opened.page.locator(".so-far p")).to_contain_text(f"{index} of 4 pairs")

    def colors(self) -> list[tuple[int, ...]]:
        """Of the middle of both images, as painted."""
        found = []
        for image in self.opened.page.locator(".side img").all():
            painted = Image.open(io.BytesIO(image.screenshot())).convert("RGB")
            found.append(painted.getpixel((painted.width // 2, painted.height // 2)))
        return found  # type: ignore[return-value]


@contextmanager
def served(study: Study) -> Iterator[str]:
    app = create_rating_app(study, ServerSettings(data=study.folder))
    listener = socket.create_server(("127.0.0.1", 0))
    server = app.state.server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def rated(browser: Browser, study: Study, request: pytest.FixtureRequest) -> Iterator[Rated]:
    width = request.param
    with served(study) as address, opened_page(browser, width) as opened:
        opened.page.goto(address)
        yield Rated(study, opened, address)
    assert opened.said == []


@pytest.mark.parametrize("rated", [DESK, PHONE], indirect=True, ids=["desk", "phone"])
def test_a_rater_chooses_by_keys_and_by_touch(rated: Rated) -> None:
    page, study = rated.opened.page, rated.study
    rated.wait_for(0)
    assert rated.colors() == [COLORS[study.order[0].left], COLORS[study.order[0].right]]
    assert not rated.opened.scrolls_sideways()
    assert rated.opened.serious_findings() == []
    boxes = [image.bounding_box() for image in page.locator(".side img").all()]
    assert None not in boxes
    assert {(box["width"], box["height"]) for box in boxes if box} == {(boxes[0]["width"], boxes[0]["height"])}  # type: ignore[index]

    # By keys, back again, and by what a finger can reach without scrolling.
    page.keyboard.press("ArrowLeft")
    rated.wait_for(1)
    page.keyboard.press("ArrowDown")
    rated.wait_for(2)
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("button", name="Equal")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Equal")).to_have_attribute("aria-pressed", "false")
    assert [study.choice(index) for index in range(4)] == ["left", "skip", None, None]
    page.get_by_role("button", name="The right image").click()
    rated.wait_for(3)
    button = page.get_by_role("button", name="Equal")
    box = button.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= HEIGHTS[page.evaluate("innerWidth")]
    button.click()
    expect(page.get_by_role("heading")).to_have_text("All pairs are chosen")
    assert [study.choice(index) for index in range(4)] == ["left", "skip", "right", "tie"]


@pytest.mark.parametrize("rated", [PHONE], indirect=True)
def test_arrows_in_the_strip_of_photos_choose_nothing(rated: Rated) -> None:
    page = rated.opened.page
    rated.wait_for(0)
    strip = page.get_by_label("Photos of the person", exact=True)
    page.keyboard.press("Tab")
    expect(strip).to_be_focused()
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(strip).to_be_focused()
    page.keyboard.press("s")  # which moves nothing there, and so chooses as anywhere
    rated.wait_for(1)
    assert [rated.study.choice(index) for index in range(2)] == ["skip", None]


@pytest.mark.parametrize("rated", [DESK], indirect=True)
def test_a_closed_page_goes_on_where_it_was(rated: Rated) -> None:
    page = rated.opened.page
    rated.wait_for(0)
    page.keyboard.press("ArrowRight")
    rated.wait_for(1)
    page.goto("about:blank")
    page.goto(rated.address)
    rated.wait_for(1)
    shown = rated.study.order[1]
    assert rated.colors() == [COLORS[shown.left], COLORS[shown.right]]
    assert (
        page.evaluate("performance.getEntriesByType('resource').map(each => each.name).filter(name => /one|two/.test(name))")
        == []
    )


@pytest.mark.parametrize("rated", [PHONE], indirect=True)
def test_a_broken_image_can_be_skipped(rated: Rated) -> None:
    rated.wait_for(0)
    shown = rated.study.order[1]
    shown.pair.images[0].write_bytes(b"nothing")
    rated.opened.page.goto(rated.address)  # whose first pair loads the second ahead
    rated.wait_for(0)
    rated.opened.page.keyboard.press("ArrowLeft")
    rated.wait_for(1)
    expect(rated.opened.page.locator(".problem")).to_be_visible()
    rated.opened.page.keyboard.press("ArrowLeft")  # there is no image to choose
    rated.opened.page.get_by_role("button", name="Skip").click()
    rated.wait_for(2)
    assert rated.study.choice(1) == "skip"
    rated.opened.said.clear()  # the browser says that an image was refused
