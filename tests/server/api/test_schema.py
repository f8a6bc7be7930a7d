"""The schema is true: its examples work, every route is typed and documented, and the document's commands run word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT, blocks_of
from served_api import PHOTOS, Served
from tenth.server.api.schemas import EXAMPLE_PHOTOS
from tenth.server.app import create_app
from tenth.server.settings import ServerSettings
from toy_image_jobs import working
from toy_server import toy_server

DOCUMENT = "docs/api.md"
METHODS = ("get", "post", "put", "patch", "delete")
# What has no schema of its own: files and streams. Routes of the page and of logging in are none of the API.
NO_JSON = {"image/png", "application/zip", "text/event-stream"}
NOT_OF_THE_API = re.compile(r"/$|/static/|/login|/v1/session")


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        if not NOT_OF_THE_API.match(path):
            yield from ((method, path, methods[method]) for method in METHODS if method in methods)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(ServerSettings(data=tmp_path_factory.mktemp("schema"))).openapi()


def test_every_route_is_typed_and_says_what_it_does(schema: dict[str, Any]) -> None:
    found = list(operations(schema))
    assert len(found) > 25
    for method, path, operation in found:
        where = f"{method} {path}"
        assert operation.get("description"), where
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            if status.startswith("2") and status != "204" and not NO_JSON & set(content) and "application/json" in content:
                typed = content["application/json"]["schema"]
                assert typed.keys() & {"$ref", "items", "properties"}, where
        assert operation["responses"]["4XX"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/ErrorView"
        }
        assert "422" not in operation["responses"], where


def example_of(schema: dict[str, Any], operation: dict[str, Any]) -> Any:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in body:
        body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    return body.get("example")


def test_every_example_works(schema: dict[str, Any], anna: Served) -> None:
    """Each body with an example is sent, each route without a body is asked; what stands in an address is filled in."""
    assert anna.upload(2) == EXAMPLE_PHOTOS
    job = anna.drawn(num_images=1)
    cancelled = anna.submit("cancelled")["id"]
    anna.client.delete(f"/v1/jobs/{cancelled}")
    photo = EXAMPLE_PHOTOS[0]
    filled = {
        "/v1/jobs/{id}/retry": {"id": cancelled},
        "/v1/pictures": {"id": job["pictures"][0]},
        "/v1/jobs": {"id": job["id"]},
        "/v1/photos": {"sha256": photo},
        "/v1/people": {"name": "anna"},
    }
    sent = []
    ordered = sorted(operations(schema), key=lambda each: (each[0] == "delete", "people" in each[1]))  # what removes: last
    with working(anna.services.settings.data):
        for method, path, operation in ordered:
            values = next((filled[key] for key in filled if path.startswith(key)), {})
            example = example_of(schema, operation)
            if path == "/v1/pictures/zip":
                example = {"ids": job["pictures"]}
            has_form = "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
            if path in ("/v1/events", "/v1/runs/{id}") or has_form or path == "/v1/photos":
                continue  # without an end; nothing there; a form, which its own tests send
            assert method in ("get", "delete") or path.endswith("/retry") or example is not None, f"{method} {path}: no example"
            answer = anna.client.request(method, path.format(**values), json=example)
            assert answer.is_success, f"{method} {path}: {answer.text}"
            sent.append(path)
    assert len(sent) > 20


def test_the_document_lists_every_route_and_no_other(schema: dict[str, Any]) -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z]+ /\S+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(f"{method.upper()} {path}" for method, path, _ in operations(schema))


def test_the_document_names_every_parameter_of_openais_routes(schema: dict[str, Any]) -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    properties = schema["components"]["schemas"]["GenerationForm"]["properties"]
    assert [name for name in properties if f"`{name}`" not in text] == []


def test_the_examples_of_people_are_the_photos_of_the_package() -> None:
    assert all(f'"{sha256}"' in (ROOT / DOCUMENT).read_text(encoding="utf-8") for sha256 in EXAMPLE_PHOTOS)


@pytest.mark.slow
def test_the_documents_commands_run_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    for path in PHOTOS[:3]:
        shutil.copy(path, tmp_path / "me")
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nmax-time = 60\n")
    blocks = [block for block in blocks_of(DOCUMENT) if block.language in ("", "python")]
    assert len(blocks) > 7
    with toy_server(tmp_path / "data") as url:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an environment that is active
        environment = os.environ | {"TENTH": url, "CURL_HOME": str(tmp_path), "no_proxy": "127.0.0.1", "PATH": path}
        for block in blocks:
            # In a document's shell what failed stops nothing; here it does.
            command = [sys.executable, "-c", block.text] if block.language else ["bash", "-ec", without_address(block.text)]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.location}: {done.stdout}{done.stderr}"
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "pictures.zip").read_bytes().startswith(b"PK")


def without_address(text: str) -> str:
    """A block without the line that names the address, which is another one here."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("export TENTH="))
