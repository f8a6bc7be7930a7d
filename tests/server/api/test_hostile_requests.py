"""Requests that nobody in good faith sends: each is refused in three parts, none is a fault, and no file is reached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from served_api import Served

JSON = {"Content-Type": "application/json"}
REQUEST = {"prompts": ["a photo"]}
HALF = "\\ud83d"  # of a character, as JSON writes it
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"person": "\xff"}',
    "deep": b'{"request":' + b"[" * 100_000,
    "deep and whole": b'{"request":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a list": b"[]",
    "half a character": f'{{"person": "{HALF}", "request": {{"prompts": ["{HALF}"]}}}}'.encode(),
    "a zero byte": json.dumps({"person": "anna\0", "request": REQUEST}).encode(),
    "no number": b'{"person": "anna", "request": {"prompts": ["a"], "sampling": {"guidance_scale": NaN}}}',
    "endless": b'{"person": "anna", "request": {"prompts": ["a"], "sampling": {"guidance_scale": 1e999}}}',
    "a huge number": b'{"person": "anna", "request": {"prompts": ["a"], "seed": ' + b"9" * 4_000 + b"}}",
    "a huge priority": b'{"person": "anna", "request": {"prompts": ["a"]}, "priority": 1' + b"0" * 30 + b"}",
    "a book": json.dumps({"person": "anna", "request": {"prompts": ["a" * 30_000]}}).encode(),
    "ten thousand prompts": json.dumps({"person": "anna", "request": {"prompts": ["a"] * 10_000, "num_images": 100}}).encode(),
    "twice a key": b'{"person": "anna", "person": "nobody", "request": {"prompts": ["a"]}}',
}
ROUTES = ("/v1/jobs", "/v1/people", "/v1/pictures/zip", "/v1/images/generations", "/sdapi/v1/txt2img")


def refusal(answer: Any) -> str:
    """What an answer says that is no success and no fault."""
    assert 400 <= answer.status_code < 500, answer.text[:300]
    error = answer.json()["error"]
    assert min(map(len, (error["found"], error["needed"], error["action"]))) > 0
    return str(answer.text)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_is_refused_by_every_route(name: str, anna: Served) -> None:
    for route in ROUTES:
        assert "Traceback" not in refusal(anna.client.post(route, content=BODIES[name], headers=JSON))
    assert anna.services.queue.list("") == []
    assert anna.services.people("").names() == ["anna"]


ADDRESSES = (
    "/v1/jobs/..%2f..%2fserver.db",
    "/v1/jobs/%00",
    "/v1/jobs/" + "a" * 5_000,
    "/v1/pictures/..%2f..%2fserver.db/image.png",
    "/v1/pictures/%2e%2e/image.png",
    "/v1/people/..%2f..",
    "/v1/people/%2e%2e%2fserver.db",
    "/v1/people/%ff",
    "/v1/photos/..%2f..%2fserver.db/thumbnail",
    "/v1/runs/..%2f..%2fserver.db",
    "/v1/events?after=" + "9" * 40,
    "/v1/jobs?limit=0",
    "/v1/jobs?limit=1e9",
    "/v1/jobs?before=x",
    "/v1/jobs?before=" + "f" * 40,
    "/v1/jobs?status=running%27%20OR%201",
    "/v1/pictures?before=1;DROP TABLE pictures",
    "/v1/pictures?limit=-1",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_leads_to_a_file_or_a_fault(address: str, anna: Served) -> None:
    assert "Traceback" not in refusal(anna.client.get(address))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "'; DROP TABLE jobs; --", "{{7*7}}", "%s%n", "\u202eanna", "🙂" * 50]
)
def test_text_comes_back_as_it_was_sent_and_as_json(text: str, anna: Served) -> None:
    job = anna.drawn(text, num_images=1)
    assert job["request"]["prompts"] == [text]
    answer = anna.client.get(f"/v1/pictures/{job['pictures'][0]}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["prompt"] == text
    assert "Traceback" not in refusal(anna.client.get("/v1/people/" + text.replace("/", "%2F").replace("%s", "%25s")))
    assert len(anna.client.get("/v1/jobs").json()["data"]) == 1
