"""The page's files as they are sent, and what they may not contain."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tenth.sampling.bounds import SETTING_RANGES
from tenth.sampling.schedulers import SCHEDULERS
from tenth.server.page.routes import router
from tenth.server.page.static_files import STATIC_DIR, static_files

SCRIPTS = sorted(STATIC_DIR.rglob("*.js"))
MOST_LINES = 300
AS_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|srcdoc|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function"
)


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def test_the_page_and_each_of_its_files_are_sent(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name, file in static_files().items():
        answer = client.get(f"/static/{name}")
        assert answer.content == (STATIC_DIR / name).read_bytes()
        assert answer.headers["content-type"] == file.media_type
        assert answer.headers["x-content-type-options"] == "nosniff"
    linked = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert len(linked) >= 6
    assert all(client.get(name).status_code == 200 for name in linked)


def test_all_files_are_sent() -> None:
    there = {path.relative_to(STATIC_DIR).as_posix() for path in STATIC_DIR.rglob("*") if path.is_file()}
    assert there == set(static_files())


def test_a_browser_that_has_a_file_is_told_so(client: TestClient) -> None:
    first = client.get("/static/main.js")
    again = client.get("/static/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
    assert client.get("/static/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "name", ["../routes.py", "%2e%2e/routes.py", "..%2froutes.py", "/etc/passwd", "%2fetc%2fpasswd", "", "none.js", "styles"]
)
def test_nothing_else_is_sent(name: str, client: TestClient) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_scripts_and_styles_come_from_here_alone(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'; img-src 'self' blob: data:" in policy
    assert "unsafe" not in policy
    page = client.get("/").text
    assert re.findall(r"<script(?![^>]*\ssrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []


def test_the_forms_bounds_are_the_librarys(client: TestClient) -> None:
    told = client.get("/static/choices.json").json()
    assert told["schedulers"] == list(SCHEDULERS)
    assert set(told["ranges"]) == set(SETTING_RANGES)
    assert told["defaults"] == {"ip_adapter_scale": 1.0, "text_guidance_scale": 0.0}
    assert told["ranges"]["steps"] == {"min": 1, "max": 1000, "integer": True}
    assert told["ranges"]["seed"]["max"] == 2**53 - 1 < SETTING_RANGES["seed"].maximum


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_small_and_reads_no_text_as_html(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    assert lines[0].startswith("// "), "it says what it is for"
    assert [line for line in lines if AS_HTML.search(line)] == []
    imported = re.findall(r'from "(\.[^"]+)"', "\n".join(lines))
    assert all((script.parent / name).is_file() for name in imported)


def test_the_page_needs_no_torch() -> None:
    code = "import sys, tenth.server.page.routes as r; r.choices(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
