"""People over HTTP: saved with a consent, listed, forgotten; and who may not be drawn."""

from __future__ import annotations

import datetime as dt

from served_api import PHOTOS, Served
from tenth.methods.people.record import Consent, today
from tenth.server.queue.leases import Leases


def test_a_person_is_saved_from_uploads_drawn_and_forgotten(served: Served) -> None:
    form = {"name": "anna", "photos": served.upload(), "consent": {"basis": "permission", "given_by": "Anna"}}
    answer = served.client.post("/v1/people", json=form)
    assert answer.status_code == 201, answer.text
    person = answer.json()
    assert (person["name"], person["num_photos"], person["methods"], person["problem"]) == ("anna", 2, [], "")
    assert person["consent"]["is_current"] is True
    assert person["consent"]["given_by"] == "Anna"
    assert served.client.get("/v1/people").json()["data"] == [person]
    assert served.client.get("/v1/people/anna").json() == person
    assert served.client.post("/v1/people", json=form).status_code == 409

    job = served.drawn(num_images=2)
    nameless = served.client.post("/v1/jobs", json={"photos": form["photos"], "request": {"prompts": ["a photo"]}}).json()
    blobs = [served.services.blobs.path(sha256) for sha256 in form["photos"]]
    assert all(path.is_file() for path in blobs)  # the job's own
    removed = served.client.delete("/v1/people/anna").json()["removed"]
    assert (removed["photos"], removed["pictures"], removed["jobs"]) == (2, 2, 2)
    assert served.client.get("/v1/people").json()["data"] == []
    assert [served.client.get(f"/v1/jobs/{each['id']}").status_code for each in (job, nameless)] == [404, 404]
    assert list((served.services.settings.data / "uploads/_").iterdir()) == []
    assert not any(path.exists() for path in blobs)
    assert served.client.get(f"/v1/pictures/{job['pictures'][0]}/image.png").status_code == 404
    assert served.client.delete("/v1/people/anna").status_code == 404


def test_nobody_is_drawn_after_the_last_day_of_their_consent(served: Served) -> None:
    yesterday = today() - dt.timedelta(days=1)
    served.save("anna")
    folder = served.services.people("").path("anna")
    record = (folder / "person.json").read_text()
    ended = Consent("permission", "Anna", yesterday - dt.timedelta(days=9), yesterday)
    text = record.replace('"until": null', f'"until": "{ended.until}"').replace(today().isoformat(), str(ended.date))
    (folder / "person.json").write_text(text)
    body = {"person": "anna", "request": {"prompts": ["a photo"]}}
    answer = served.client.post("/v1/jobs", json=body)
    assert answer.status_code == 400
    assert "consent ended" in answer.json()["error"]["found"]
    assert served.client.get("/v1/people/anna").json()["consent"]["is_current"] is False
    assert served.client.delete("/v1/people/anna").status_code == 200  # who may not be drawn can be forgotten


def test_a_person_needs_a_name_photos_and_a_consent(served: Served) -> None:
    photos = ["0" * 64]
    consent = {"basis": "permission", "given_by": "Anna"}
    bad = {
        "no consent": {"name": "anna", "photos": photos},
        "no such basis": {"name": "anna", "photos": photos, "consent": {"basis": "because"}},
        "nobody gave it": {"name": "anna", "photos": photos, "consent": {"basis": "permission"}},
        "no photo": {"name": "anna", "photos": [], "consent": consent},
        "a path as a name": {"name": "../anna", "photos": photos, "consent": consent},
        "a folder as a name": {"name": "..", "photos": photos, "consent": consent},
        "an ended consent": {"name": "anna", "photos": photos, "consent": consent | {"until": "2001-01-01"}},
        "a photo that was never uploaded": {"name": "anna", "photos": photos, "consent": consent},
    }
    for name, form in bad.items():
        answer = served.client.post("/v1/people", json=form)
        assert answer.status_code == (404 if "never" in name else 400), (name, answer.text)
    assert served.services.people("").names() == []


def test_an_owner_sees_nothing_of_another(served: Served) -> None:
    served.save("anna", owner="bert")
    assert served.client.get("/v1/people").json()["data"] == []
    assert served.client.get("/v1/people/anna").status_code == 404
    request = {"prompts": ["a photo"]}
    job, _ = served.services.queue.submit(owner="bert", kind="images", payload={"request": request}, person="anna")
    assert served.client.get(f"/v1/jobs/{job.id}").status_code == 404
    assert served.client.delete(f"/v1/jobs/{job.id}").status_code == 404
    assert served.client.get("/v1/jobs").json()["data"] == []
    assert served.client.get("/v1/models").json()["data"][-1]["id"] == "pocket"
    assert len(PHOTOS) == 9


def test_nobody_is_told_where_the_data_folder_is(anna: Served) -> None:
    job, data = anna.submit(), str(anna.services.settings.data)
    leases = Leases(anna.services.database, "a worker")
    claimed = leases.claim()
    assert claimed is not None
    leases.fail(claimed, {"found": f"{data}/blobs/aa is damaged", "needed": "b", "action": "c", "code": "input"}, retry=False)
    (anna.services.people("").path("anna") / "person.json").write_text("{")
    assert anna.job(job["id"])["error"]["found"] == "the data folder/blobs/aa is damaged"
    person = anna.client.get("/v1/people/anna").json()
    assert person["problem"].startswith("the data folder/people/anna/person.json is not JSON")
