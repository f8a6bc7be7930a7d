"""Jobs over HTTP: submitted once, looked at, cancelled, tried again; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from served_api import Served
from tenth.server.queue.job import JobResult
from tenth.server.queue.leases import Leases
from tenth.server.storage.blobs import job_holder
from toy_image_jobs import work_off


def test_a_job_is_submitted_done_and_has_pictures(anna: Served) -> None:
    job = anna.submit("a photo", num_images=2, seed=5)
    assert (job["status"], job["position"], job["person"], job["pictures"]) == ("queued", 0, "anna", [])
    assert job["request"]["seed"] == 5
    assert job["request"]["sampling"]["ip_adapter_scale"] == 1.0  # the defaults stand in it

    work_off(anna.services.settings.data)
    done = anna.job(job["id"])
    assert (done["status"], done["done"], done["total"], done["position"], done["error"]) == ("done", 2, 2, None, None)
    assert len(done["pictures"]) == 2
    assert done["finished"] >= done["started"] >= done["created"]


def test_the_same_request_is_the_same_job(anna: Served) -> None:
    body = {"person": "anna", "request": {"prompts": ["a photo"]}}
    first, second = (anna.client.post("/v1/jobs", json=body) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]


def test_a_clients_key_stands_for_one_request(anna: Served) -> None:
    def post(prompt: str) -> Any:
        body = {"person": "anna", "request": {"prompts": [prompt]}}
        return anna.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})

    first = post("a")
    assert post("a").json()["id"] == first.json()["id"]
    other = post("b")
    assert other.status_code == 409
    assert other.json()["error"]["param"] == "Idempotency-Key"
    assert len(anna.client.get("/v1/jobs").json()["data"]) == 1


def test_a_key_without_text_is_none(anna: Served) -> None:
    bodies = [{"person": "anna", "request": {"prompts": [prompt]}} for prompt in ("a hat", "a coat")]
    answers = [anna.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": ""}) for body in bodies]
    assert [answer.status_code for answer in answers] == [202, 202]


def test_jobs_are_listed_in_pages_the_newest_first(anna: Served) -> None:
    ids = [anna.submit(prompt)["id"] for prompt in "abcde"]
    first = anna.client.get("/v1/jobs", params={"limit": 3}).json()
    assert [job["id"] for job in first["data"]] == ids[:1:-1]
    second = anna.client.get("/v1/jobs", params={"limit": 3, "before": first["next"]}).json()
    assert [job["id"] for job in second["data"]] == ids[1::-1]
    assert second["next"] is None
    work_off(anna.services.settings.data)
    anna.submit("f")
    assert len(anna.client.get("/v1/jobs", params={"status": "queued"}).json()["data"]) == 1


def test_a_job_is_cancelled_and_tried_again(anna: Served) -> None:
    job = anna.submit("a photo")
    address = f"/v1/jobs/{job['id']}"
    assert anna.client.delete(address).json()["status"] == "cancelled"
    assert work_off(anna.services.settings.data) == 0
    assert anna.client.post(f"{address}/retry").json()["status"] == "queued"
    work_off(anna.services.settings.data)
    assert anna.client.delete(address).json()["status"] == "done"  # too late: it stays as it is


def test_a_job_that_failed_says_why(anna: Served) -> None:
    job = anna.drawn("a failing photo")
    assert job["status"] == "failed"
    assert job["error"] == {"found": "no face in 3 photos", "needed": "one that shows a face is needed", "action": "Add photos"}


def test_a_preview_is_a_png_or_nothing(anna: Served) -> None:
    job = anna.submit("a photo")
    address = f"/v1/jobs/{job['id']}/preview"
    assert anna.client.get(address).status_code == 204
    preview = anna.services.database.job_folder(job["id"]) / "preview.png"
    preview.parent.mkdir(parents=True)
    preview.write_bytes(b"\x89PNG")
    answer = anna.client.get(address)
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")


UNKNOWN = "0" * 32


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", f"/v1/jobs/{UNKNOWN}"),
        ("DELETE", f"/v1/jobs/{UNKNOWN}"),
        ("POST", f"/v1/jobs/{UNKNOWN}/retry"),
        ("GET", f"/v1/jobs/{UNKNOWN}/preview"),
        ("GET", f"/v1/jobs/{UNKNOWN}/events"),
        ("GET", f"/v1/pictures/{UNKNOWN}"),
        ("GET", f"/v1/pictures/{UNKNOWN}/image.png"),
        ("GET", f"/v1/pictures/{UNKNOWN}/thumbnail.png"),
        ("DELETE", f"/v1/pictures/{UNKNOWN}"),
        ("GET", "/v1/people/nobody"),
        ("DELETE", "/v1/people/nobody"),
        ("GET", f"/v1/runs/{UNKNOWN}"),
    ],
)
def test_what_is_unknown_is_404(method: str, address: str, served: Served) -> None:
    answer = served.client.request(method, address)
    assert answer.status_code == 404
    assert {"message", "type", "code", "param", "found", "needed", "action"} == set(answer.json()["error"])


REQUEST = {"prompts": ["a photo"]}
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "nobody": ({"request": REQUEST}, 400, "neither a person nor photos"),
    "both": ({"person": "anna", "photos": ["0" * 64], "request": REQUEST}, 400, "a person and photos"),
    "unknown person": ({"person": "nobody", "request": REQUEST}, 404, "nobody"),
    "unknown photo": ({"photos": ["0" * 64], "request": REQUEST}, 404, "photo"),
    "no sha256": ({"photos": ["../server.db"], "request": REQUEST}, 400, "photos"),
    "unknown method": ({"person": "anna", "request": REQUEST | {"method": "dreambath"}}, 400, "'dreambath' is not a method"),
    "a path as a method": ({"person": "anna", "request": REQUEST | {"method": "/etc/passwd.toml"}}, 400, "is not a method"),
    "a path as a model": ({"person": "anna", "request": REQUEST | {"model": "/tmp"}}, 400, "is not a model"),
    "a path as an image": ({"person": "anna", "request": REQUEST | {"image": "/etc/passwd"}}, 404, "photo"),
    "unknown key": ({"person": "anna", "request": REQUEST | {"promts": []}}, 400, "'promts' is not a key"),
    "no prompt": ({"person": "anna", "request": {"prompts": []}}, 400, "prompts"),
    "too many steps": ({"person": "anna", "request": REQUEST | {"sampling": {"steps": 5000}}}, 400, "steps"),
    "unknown field": ({"person": "anna", "request": REQUEST, "colour": "red"}, 400, "colour"),
    "no request": ({"person": "anna"}, 400, "request is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_job_is_refused_and_nothing_is_queued(name: str, anna: Served) -> None:
    body, status, found = REFUSED[name]
    answer = anna.client.post("/v1/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert found in answer.json()["error"]["message"]
    assert anna.client.get("/v1/jobs").json()["data"] == []


def test_a_full_queue_says_when_to_come_back(anna: Served) -> None:
    for number in range(20):
        anna.submit(f"a photo {number}")
    body = {"person": "anna", "request": {"prompts": ["one more"]}}
    answer = anna.client.post("/v1/jobs", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    body["request"] = {"prompts": ["a photo 3"]}  # what waits already is that job
    assert anna.client.post("/v1/jobs", json=body).status_code == 200


def test_an_upload_is_enough_for_a_job_which_keeps_it(served: Served) -> None:
    photos = served.upload()
    answer = served.client.post("/v1/jobs", json={"photos": photos, "request": REQUEST | {"image": photos[0]}})
    assert answer.status_code == 202
    assert answer.json()["person"] is None
    blobs = served.services.blobs
    assert set(blobs.held(f"job:{answer.json()['id']}")) == set(photos)
    assert served.services.database.rows("SELECT * FROM blob_uses WHERE holder LIKE 'submission:%'") == []

    # Of a job that is refused nothing stays.
    served.services.queue.max_queued = 1
    (other,) = set(served.upload(3)) - set(photos)
    answer = served.client.post("/v1/jobs", json={"photos": [other], "request": REQUEST})
    assert answer.status_code == 429
    assert not blobs.path(other).exists()


def test_a_job_whose_photos_are_gone_is_not_tried_again(served: Served) -> None:
    photos = served.upload()
    job = served.client.post("/v1/jobs", json={"photos": photos, "request": REQUEST}).json()
    address = f"/v1/jobs/{job['id']}"
    served.client.delete(address)
    assert served.client.post(f"{address}/retry").json()["status"] == "queued"
    served.client.delete(address)
    services = served.services
    with services.database.transaction() as transaction:
        services.blobs.release(transaction, job_holder(job["id"]))
    answer = served.client.post(f"{address}/retry")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "were removed a day after" in answer.json()["error"]["found"]


@pytest.mark.parametrize(
    ("sent", "found", "needed", "param"),
    [
        (
            {"content": b"{}"},
            "a body that is not said to be JSON",
            "`Content-Type: application/json` is needed",
            "Content-Type",
        ),
        ({"json": {"person": "anna"}}, "request is missing", "it has to be there", "request"),
        ({"json": {"person": "anna", "request": {"prompts": []}}}, "the request: prompts is []", "one or more", None),
        ({"json": {"request": {"prompts": ["a"]}, "priority": "a"}}, "priority is 'a'", "a valid integer, unable", "priority"),
    ],
)
def test_what_is_needed_is_said_once(sent: dict[str, Any], found: str, needed: str, param: str | None, anna: Served) -> None:
    answer = anna.client.post("/v1/jobs", **sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["found"], error["param"]) == (400, found, param)
    assert error["needed"].startswith(needed)
    assert error["message"].count("needed: ") <= 1


def test_a_key_of_a_job_that_was_there_stands_for_it(anna: Served) -> None:
    job = anna.submit("a")
    same = {"person": "anna", "request": {"prompts": ["a"]}}
    keyed = anna.client.post("/v1/jobs", json=same, headers={"Idempotency-Key": "k"})
    assert (keyed.status_code, keyed.json()["id"]) == (200, job["id"])
    other = {"person": "anna", "request": {"prompts": ["b"]}}
    assert anna.client.post("/v1/jobs", json=other, headers={"Idempotency-Key": "k"}).status_code == 409


def test_what_is_to_be_known_of_a_job_stands_in_it(anna: Served) -> None:
    assert anna.submit("a")["notes"] == []
    leases = Leases(anna.services.database, "worker")
    job = leases.claim()
    assert job is not None
    leases.finish(job, JobResult((), {"notes": ["a note"]}))
    assert anna.job(job.id)["notes"] == ["a note"]
