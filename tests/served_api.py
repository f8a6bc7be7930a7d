"""An application in a test's process, with people and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from tenth.methods.people.record import Consent
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.server.catalog import Tables
from tenth.server.services import Services
from toy_image_jobs import work_off

PHOTOS = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
METHODS = {"ip-adapter": "one photo", "ip-adapter-consensus": "all photos"}
TABLES = Tables(METHODS, {"pocket": "small"}, "ip-adapter-consensus", "pocket")
WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 6
CONSENT = Consent("permission", "Anna")


@dataclass(frozen=True)
class Served:
    """An application, its services and a client of it."""

    app: FastAPI
    services: Services
    client: TestClient

    def upload(self, number: int = 2) -> list[str]:
        """The sha256 of that many example photos, uploaded."""
        files = [("photo", (path.name, path.read_bytes(), "image/png")) for path in PHOTOS[:number]]
        answer = self.client.post("/v1/photos", files=files)
        assert answer.status_code == 200, answer.text
        return [each["sha256"] for each in answer.json()]

    def save(self, name: str = "anna", owner: str = "", consent: Consent = CONSENT) -> None:
        """A person, saved: without the process that looks at uploads, which takes seconds to start."""
        self.services.people(owner).save(name, consent, PHOTOS[:2])

    def submit(self, prompt: str = "a photo", person: str = "anna", **request: Any) -> dict[str, Any]:
        """A job, submitted."""
        answer = self.client.post("/v1/jobs", json={"person": person, "request": {"prompts": [prompt], **request}})
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it stands."""
        return dict(self.client.get(f"/v1/jobs/{job_id}").json())

    def drawn(self, prompt: str = "a photo", **request: Any) -> dict[str, Any]:
        """A job, submitted and done."""
        job = self.submit(prompt, **request)
        work_off(self.services.settings.data)
        return self.job(job["id"])
