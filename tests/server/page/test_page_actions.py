"""What a user does on the page, and what the server is asked by it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from opened_page import Opened
from toy_page_api import NOON, ToyApi, job, person, picture, run, verdict

pytestmark = pytest.mark.slow

FULL = {"found": "50 jobs wait", "needed": "fewer than 50 may wait", "action": "Try again later"}


# Streams that the test opens and fills.
STREAMS = """
window.streams = [];
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  readyState = 1;
  constructor() { super(); window.streams.push(this); }
  close() {}
};
"""


def test_the_form_becomes_a_request(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna"), person("bert")])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/draw?person=bert")
    page.get_by_label("Prompt").fill("a smiling person\n\n  an old person ")
    page.get_by_label("Not in the picture").fill("hat")
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_label("Pictures", exact=True).fill("2")
    page.get_by_label("Draw by a second method too").check()
    page.get_by_label("Method", exact=True).select_option("ip-adapter")
    page.get_by_label("Second method", exact=True).select_option("ip-adapter-max")
    page.get_by_text("Advanced settings").click()
    page.get_by_label("Steps").fill("4")
    page.get_by_label("Size").fill("256 x 320")
    page.get_by_label("Scheduler").select_option("ddim")
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("article")).to_have_count(2)
    first, second = (each["request"] for each in api.submitted)
    sampling = {"steps": 4, "scheduler": "ddim", "negative_prompt": "hat"}
    assert first == {
        "prompts": ["a smiling person", "an old person"],
        "num_images": 2,
        "seed": 7,
        "method": "ip-adapter",
        "model": "pocket",
        "size": "256x320",
        "candidates": None,
        "sampling": sampling,
    }
    assert second == first | {"method": "ip-adapter-max"}
    assert [each["person"] for each in api.submitted] == ["bert", "bert"]
    expect(page.get_by_label("Seed", exact=True)).not_to_have_value("7")  # a new one each time
    assert opened.said == []


def test_an_invalid_form_is_not_sent(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")])
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    opened.page.get_by_role("button", name="Draw").click()
    expect(opened.page.get_by_label("Prompt")).to_be_focused()
    assert api.submitted == []


def test_what_was_typed_is_there_after_a_reload(opened: Opened, page_alone: str) -> None:
    ToyApi(people=[person("anna")], jobs=[job("r", "running", done=2)]).between(opened.page)
    opened.show(f"{page_alone}#/draw")
    opened.page.get_by_label("Prompt").fill("a person in the rain")
    opened.page.reload()
    expect(opened.page.get_by_label("Prompt")).to_have_value("a person in the rain")
    expect(opened.page.get_by_role("article")).to_contain_text("50 %")  # and the job that runs


def test_a_full_queue_says_when_to_come_back(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")], refusals={"POST /v1/jobs": (429, FULL, {"Retry-After": "7"})})
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    opened.page.get_by_label("Prompt").fill("a person")
    opened.page.get_by_role("button", name="Draw").click()
    alert = opened.page.get_by_role("alert").filter(has_text="50 jobs wait.")
    expect(alert).to_contain_text("Try again later.")
    expect(alert).to_contain_text("The server takes more in 7 s.")
    api.refusals.clear()
    opened.page.get_by_role("button", name="Draw").click()
    expect(opened.page.get_by_role("article")).to_have_count(1)
    expect(alert).to_have_count(0)


def test_a_server_that_does_not_answer_and_comes_back(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")])
    opened.page.route("**/v1/**", lambda route: route.abort())
    opened.page.route("**/health", lambda route: route.abort())
    opened.show(f"{page_alone}#/people")
    expect(opened.page.locator("#banner")).to_contain_text("The server does not answer")
    opened.page.unroute_all()
    api.between(opened.page)
    expect(opened.page.get_by_role("heading", name="anna")).to_be_visible()
    expect(opened.page.locator("#banner")).to_be_empty()


def test_jobs_are_followed_without_a_stream_of_events(opened: Opened, page_alone: str) -> None:
    running = job("r", "running", done=1)
    api = ToyApi(people=[person("anna")], jobs=[running], pictures=[picture(1), picture(2)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    card = opened.page.get_by_role("article")
    expect(card).to_contain_text("25 %")
    expect(card.get_by_role("img")).to_be_visible()  # the preview
    running.update(done=3)
    expect(card).to_contain_text("75 %")
    running.update(status="done", pictures=["p1", "p2"])
    expect(card).to_contain_text("Done")
    expect(card.locator(".tile img")).to_have_count(2)
    expect(card.get_by_role("button", name="Cancel")).to_have_count(0)


def test_what_ends_between_the_list_of_jobs_and_the_stream_is_seen(opened: Opened, page_alone: str) -> None:
    running = job("r", "running", done=1)
    ToyApi(people=[person("anna")], jobs=[running], pictures=[picture(1), picture(2)]).between(opened.page)
    opened.page.add_init_script(STREAMS)
    opened.show(f"{page_alone}#/draw")
    card = opened.page.get_by_role("article")
    expect(card).to_contain_text("25 %")
    opened.page.wait_for_function("streams.length === 1")
    running.update(status="done", pictures=["p1", "p2"])
    opened.page.evaluate("streams[0].dispatchEvent(new Event('open'))")
    expect(card).to_contain_text("Done")
    expect(card.locator(".tile img")).to_have_count(2)


def test_a_job_is_cancelled_and_one_that_failed_is_tried_again(opened: Opened, page_alone: str) -> None:
    jobs = [job("r", "running", NOON + 1), job("f", "failed", error=FULL)]
    api = ToyApi(people=[person("anna")], jobs=jobs)
    api.between(opened.page)
    opened.show(f"{page_alone}#/draw")
    running, failed = (opened.page.locator(f"[data-id={name}]") for name in "rf")
    expect(failed.get_by_role("alert")).to_contain_text("Fewer than 50 may wait.")
    failed.get_by_role("button", name="Try again").click()
    running.get_by_role("button", name="Cancel").click()
    expect(running).to_contain_text("Cancelled")
    expect(failed).to_contain_text("Waiting")
    assert [(method, path) for method, path, _ in api.asked if method != "GET"] == [
        ("POST", "/v1/jobs/f/retry"),
        ("DELETE", "/v1/jobs/r"),
    ]


def test_a_token_is_asked_for_and_kept_by_the_server(opened: Opened, page_alone: str) -> None:
    refused = {"found": "no token", "needed": "the server's token is needed", "action": "Log in"}
    api = ToyApi(
        people=[person("anna")], refusals={"GET /v1/people": (401, refused, {}), "POST /v1/session": (401, refused, {})}
    )
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/people")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert").filter(has_text="No token.")).to_be_visible()
    assert opened.serious_findings() == []
    api.refusals.clear()
    page.get_by_label("Token").fill(" right ")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="anna")).to_be_visible()
    assert [values for _, path, values in api.asked if path == "/v1/session"] == [{"token": "wrong"}, {"token": "right"}]


def test_a_person_is_forgotten_after_a_question(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")], pictures=[picture(1)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/people")
    opened.page.get_by_role("button", name="Forget anna").click()
    opened.page.get_by_role("dialog").get_by_role("button", name="Forget anna").click()
    expect(opened.page.get_by_text("anna is forgotten: 9 photos, 12 pictures.")).to_be_visible()
    expect(opened.page.get_by_role("heading", name="Nobody is saved")).to_be_visible()


def test_photos_are_judged_together_and_one_can_be_taken_out(opened: Opened, page_alone: str) -> None:
    api = ToyApi(verdicts=[verdict("a.png"), verdict("bb.png", False, "the face is blurred")])
    api.between(opened.page)
    page = opened.page
    opened.show(f"{page_alone}#/people/new")
    expect(page.get_by_role("button", name="Save person")).to_be_disabled()
    page.locator("#photos").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": b"a"} for name in ("a.png", "bb.png")]
    )
    expect(page.get_by_text("1 of 2 photos will be used.")).to_be_visible()
    api.verdicts.pop()
    page.get_by_role("button", name="Remove bb.png").click()
    expect(page.get_by_text("1 of 1 photo will be used.")).to_be_visible()
    page.get_by_label("Name").fill("anna")
    page.get_by_label("I have permission").check()
    page.get_by_label("Given by").fill("Anna")
    page.get_by_label("Until").fill("2999-12-31")
    page.get_by_role("button", name="Save person").click()
    expect(page.get_by_role("heading", name="Draw", exact=True)).to_be_visible()
    saved = [values for method, path, values in api.asked if (method, path) == ("POST", "/v1/people")]
    consent = {"basis": "permission", "given_by": "Anna", "until": "2999-12-31"}
    assert saved == [{"name": "anna", "photos": [verdict("a.png")["sha256"]], "consent": consent}]


def test_a_run_is_followed(opened: Opened, page_alone: str) -> None:
    known = run("t1", "training", history=[{"images": 1000, "loss": 0.5}])
    ToyApi(runs=[known]).between(opened.page)
    opened.show(f"{page_alone}#/runs/t1")
    expect(opened.page.locator("tbody tr")).to_have_count(1)
    known["history"].append({"images": 2000, "loss": 0.25})
    expect(opened.page.locator("tbody tr")).to_have_count(2)


def test_methods_are_compared_with_identity_in_each_cell(opened: Opened, page_alone: str) -> None:
    shown = [
        picture(number, seed=seed, method=method, identity=number / 10)
        for number, (seed, method) in enumerate([(1, "a"), (1, "b"), (2, "a"), (2, "b")], 1)
    ]
    ToyApi(pictures=shown).between(opened.page)
    opened.show(f"{page_alone}#/compare/p1,p2,p3,p4")
    expect(opened.page.locator("thead th")).to_have_text(["Prompt and seed", "a", "b"])
    expect(opened.page.locator("td .identity")).to_have_text(
        ["Identity 0.10", "Identity 0.20", "Identity 0.30", "Identity 0.40"]
    )


def test_chosen_pictures_are_saved_as_a_zip(opened: Opened, page_alone: str) -> None:
    api = ToyApi(pictures=[picture(2), picture(1)])
    api.between(opened.page)
    opened.show(f"{page_alone}#/gallery")
    for box in opened.page.get_by_role("checkbox").all():
        box.check()
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="ZIP").click()
    assert download.value.suggested_filename == "pictures.zip"
    assert [values for _, path, values in api.asked if path == "/v1/pictures/zip"] == [{"ids": ["p2", "p1"]}]


def test_a_hidden_page_holds_no_connection_and_goes_on_when_it_is_seen(opened: Opened, page_alone: str) -> None:
    api = ToyApi(people=[person("anna")])
    api.between(opened.page)
    opened.page.clock.install()
    opened.show(f"{page_alone}#/draw")
    expect(opened.page.get_by_text("Nothing is drawn yet")).to_be_visible()
    hide = "hidden => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })"
    tell = "() => document.dispatchEvent(new Event('visibilitychange'))"
    opened.page.evaluate(hide, True)
    opened.page.evaluate(tell)
    num_asked = len(api.asked)
    opened.page.clock.run_for(60_000)
    assert len(api.asked) == num_asked
    api.jobs.append(job("r", "running", done=1))
    opened.page.evaluate(hide, False)
    opened.page.evaluate(tell)
    expect(opened.page.get_by_role("article")).to_contain_text("25 %")
