"""The page goes on following its jobs: after some of them are gone, and after the server was."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import NOON, ToyApi, job, person

pytestmark = pytest.mark.slow

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_jobs_that_are_gone_leave_and_the_others_are_followed(opened: Opened, page_alone: str) -> None:
    stays = job("stays", "running", NOON + 1, done=1)
    api = ToyApi(people=[person("anna")], jobs=[job("gone", "running", NOON + 2, done=2), stays, job("ended", "failed", NOON)])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/draw")
    expect(page.get_by_role("article")).to_have_count(3)
    page.get_by_role("link", name="People").click()
    expect(page.get_by_role("heading", name="anna")).to_be_visible()
    api.jobs[:] = [stays]  # as after their person was forgotten
    page.get_by_role("link", name="Draw", exact=True).click()
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_role("alert").filter(has_text="there is no such thing")).to_have_count(0)
    stays.update(done=3)
    expect(page.get_by_role("article")).to_contain_text("75 %")
    api.jobs.clear()
    expect(page.get_by_text("Nothing is drawn yet")).to_be_visible()


def test_a_page_seen_before_its_server_is_there_goes_on_with_it(opened: Opened, page_alone: str) -> None:
    running = job("r", "running", done=1)
    api = ToyApi(people=[person("anna")], jobs=[running])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/draw")
    expect(page.get_by_role("article")).to_contain_text("25 %")
    page.evaluate(HIDE, True)
    page.unroute_all()
    for address in ("**/v1/**", "**/health"):
        page.route(address, lambda route: route.abort())
    page.evaluate(HIDE, False)
    expect(page.locator("#banner")).to_contain_text("The server does not answer")
    page.unroute_all()
    running.update(done=3)
    api.between(page)
    expect(page.get_by_role("article")).to_contain_text("75 %")
    expect(page.locator("#banner")).to_be_empty()


def test_a_page_that_asks_for_a_token_does_not_go_on_asking(opened: Opened, page_alone: str) -> None:
    refused = {"found": "no token", "needed": "the server's token is needed", "action": "Log in"}
    api = ToyApi(people=[person("anna")])
    api.between(opened.page)
    page = opened.page
    page.clock.install()
    opened.show(f"{page_alone}#/draw")
    expect(page.get_by_text("Nothing is drawn yet")).to_be_visible()
    page.evaluate(HIDE, True)
    api.refusals = {"GET /v1/jobs": (401, refused, {})}
    page.evaluate(HIDE, False)
    page.get_by_label("Token").fill("half of a tok")
    page.clock.run_for(60_000)
    expect(page.get_by_label("Token")).to_have_value("half of a tok")
    assert opened.said == [text for text in opened.said if "401" in text]
