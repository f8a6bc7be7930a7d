from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.server.app import create_app
from tenth.server.catalog import Catalog, Tables
from tenth.server.services import Services
from tenth.server.settings import ServerSettings
from toy_image_jobs import work_off

PHOTOS = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
TABLES = Tables({"ip-adapter-consensus": "all photos", "ip-adapter": "one"}, {"pocket": "small"}, "ip-adapter-consensus", "pocket")
SECRET = "whsec_" + "c2VjcmV0" * 6  # noqa: S105  # of a test
CONSENT = {"basis": "permission", "given_by": "Anna"}


@dataclass(frozen=True)
class Served:
    """An application, its services and a client of it."""

    app: FastAPI
    services: Services
    client: TestClient

    def upload(self, number: int = 2) -> list[str]:
        """The sha256 of that many example photos, uploaded."""
        files = [("photo", (path.name, path.read_bytes(), "image/png")) for path in PHOTOS[:number]]
        return [each["sha256"] for each in self.client.post("/v1/photos", files=files).json()]

    def save(self, name: str = "anna", **consent: str) -> dict[str, Any]:
        """A person, saved."""
        form = {"name": name, "photos": self.upload(), "consent": CONSENT | consent}
        answer = self.client.post("/v1/people", json=form)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def submit(self, prompt: str = "a photo", person: str = "anna", **request: Any) -> dict[str, Any]:
        """A job, submitted."""
        answer = self.client.post("/v1/jobs", json={"person": person, "request": {"prompts": [prompt], **request}})
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    def drawn(self, prompt: str = "a photo", **request: Any) -> dict[str, Any]:
        """A job that is done."""
        job = self.submit(prompt, **request)
        work_off(self.services.database)
        return dict(self.client.get(f"/v1/jobs/{job['id']}").json())


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(
        data=tmp_path / "data", max_queued=20, webhook_hosts=("127.0.0.1:1", "hooks.example:443"), webhook_secret=SECRET
    )


@pytest.fixture
def served(settings: ServerSettings) -> Iterator[Served]:
    app = create_app(settings)
    services = replace(app.state.services, catalog=Catalog(TABLES))
    app.state.services = services
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Served(app, services, client)
