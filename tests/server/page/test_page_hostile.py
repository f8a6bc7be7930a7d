"""Texts that would run if they were ever read as HTML, wherever a view shows a text: they are seen, and nothing runs."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import NOON, REQUEST, ToyApi, job, person, picture, run, verdict

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"
WORSE = "\"'></title></script><script>alert(2)</script><svg onload=alert(3)>"
INTRUDERS = "[src='x'], [onerror], [onload], main svg:not(.icon), body script"


def hostile_api() -> ToyApi:
    """Hostile texts in every field that is shown."""
    consent: dict[str, Any] = {"basis": WORSE, "given_by": EVIL, "date": EVIL, "until": WORSE, "is_current": False}
    error = {"found": EVIL, "needed": WORSE, "action": "javascript:alert(4)"}
    request = REQUEST | {"prompts": [EVIL, WORSE], "method": WORSE, "model": EVIL}
    texts = {"prompt": EVIL, "person": WORSE, "method": EVIL, "job": "d"}
    return ToyApi(
        people=[person(EVIL, created=EVIL, problem=WORSE), person(WORSE, consent=consent)],
        jobs=[
            job("r", "running", NOON + 9, person=EVIL, request=request, error=error),
            job("d", "done", person=WORSE, request=request, pictures=["p1"]),
            job("f", EVIL, NOON - 1, request=request),
        ],
        pictures=[picture(1, **texts), picture(2, **texts | {"prompt": WORSE, "method": WORSE})],
        verdicts=[verdict(EVIL, warnings=[WORSE]), verdict(WORSE, False, EVIL)],
        runs=[
            run(
                "e1",
                EVIL,
                name=WORSE,
                status=EVIL,
                metrics={EVIL: WORSE},
                settings={WORSE: {EVIL: EVIL}},
                history=[{EVIL: WORSE}],
            )
        ],
        settings={"negative_prompt": EVIL, "scheduler": WORSE, EVIL: WORSE, "people": [{"name": EVIL}]},
    )


@pytest.mark.parametrize(
    "address",
    [
        "draw",
        "gallery",
        "picture/p1",
        "compare/p1,p2",
        "people",
        "runs",
        "runs/e1",
        "draw?from=p1",
        "gallery?person=%3Cimg+src=x%3E",
    ],
)
def test_no_text_becomes_an_element(address: str, opened: Opened, page_alone: str) -> None:
    hostile_api().between(opened.page)
    opened.show(f"{page_alone}#/{address}")
    expect(opened.page.locator("main")).to_contain_text("<img src=x")  # as it was written
    opened.page.wait_for_load_state("networkidle")
    assert opened.page.locator(INTRUDERS).count() == 0
    assert opened.said == []


def test_no_file_name_becomes_an_element(opened: Opened, page_alone: str) -> None:
    hostile_api().between(opened.page)
    opened.show(f"{page_alone}#/people/new")
    files = [{"name": name, "mimeType": "image/png", "buffer": b"a"} for name in (EVIL, WORSE)]
    opened.page.locator("#photos").set_input_files(files)  # type: ignore[arg-type]
    expect(opened.page.locator(".verdict")).to_have_count(2)
    expect(opened.page.locator(".photos")).to_contain_text(EVIL)
    assert opened.page.locator(INTRUDERS).count() == 0
    assert opened.said == []


def test_no_answer_of_an_error_becomes_an_element(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")])
    api.refusals["POST /v1/jobs"] = (400, {"found": EVIL, "needed": WORSE, "action": EVIL}, {})
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    opened.page.get_by_label("Prompt").fill(EVIL)
    opened.page.get_by_role("button", name="Draw").click()
    expect(opened.page.get_by_role("alert").filter(has_text=EVIL)).to_be_visible()
    assert opened.page.locator(INTRUDERS).count() == 0
    assert [text for text in opened.said if "400" not in text] == []


@pytest.mark.parametrize("name", [EVIL, "../../etc/passwd", "a/b?c#d", "%2e%2e"])
def test_a_persons_name_is_one_part_of_an_address(name: str, opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person(name)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/people")
    with opened.page.expect_request(lambda request: request.method == "DELETE") as asked:
        opened.page.get_by_role("button", name="Forget").click()
        opened.page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    assert asked.value.url.count("/") == len(f"{page_alone}v1/people/x".split("/")) - 1
    assert "?" not in asked.value.url
    assert opened.said == []


def test_the_policy_stops_what_would_be_put_into_the_page(opened: Opened, page_alone: str) -> None:
    ToyApi().between(opened.page)
    opened.show(f"{page_alone}#/people")
    with pytest.raises(Exception, match="TrustedHTML"):
        opened.page.evaluate("document.body.innerHTML = '<img src=x onerror=alert(1)>'")
    opened.page.evaluate(
        "document.head.append(Object.assign(document.createElement('style'), { textContent: 'body { display: none }' }))"
    )
    assert opened.page.locator("h1").is_visible()
    assert any("style-src" in text or "default-src" in text for text in opened.said)
