from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from served_api import TABLES, WEBHOOK_SECRET, Served
from tenth.server.app import create_app
from tenth.server.catalog import Catalog
from tenth.server.settings import ServerSettings

SECRET = "whsec_" + "c2VjcmV0" * 6
HOSTS = ("127.0.0.1:1", "hooks.example:443")


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(
        data=tmp_path / "data", max_queued=20, webhook_hosts=HOSTS, webhook_secret=WEBHOOK_SECRET, run_dirs=(tmp_path / "runs",)
    )


@pytest.fixture
def served(settings: ServerSettings) -> Iterator[Served]:
    app = create_app(settings)
    services = app.state.services = replace(app.state.services, catalog=Catalog(TABLES))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Served(app, services, client)


@pytest.fixture
def anna(served: Served) -> Served:
    """The same, with a person."""
    served.save("anna")
    return served
