"""Photos that are sent: counted while they stream, kept under names of ours, seen by nobody else."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from served_api import TABLES
from tenth.server.app import create_app
from tenth.server.catalog import Catalog
from tenth.server.owners import staged_path
from tenth.server.security.photo_child import THUMBNAIL_SUFFIX, UNSAFE, PhotoChild
from tenth.server.security.users import add_user
from tenth.server.settings import ServerSettings, UploadLimits
from toy_jobs import wait_for

SECRET = b"a photo of anna"
BOUNDARY = "a-boundary"


@pytest.fixture(autouse=True)
def any_photo_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the process that opens photos, which test_photo_child.py has: every file is a photo, with its thumbnail."""

    async def inspect(_: PhotoChild, names: Mapping[Path, str]) -> dict[Path, dict[str, Any]]:
        for path in names:
            path.with_name(f"{path.name}{THUMBNAIL_SUFFIX}").write_bytes(b"its thumbnail")
        verdict = {"accepted": True, "code": "ok", "reason": "", "face": None, "width": 1, "height": 1}
        return dict.fromkeys(names, verdict)

    monkeypatch.setattr(PhotoChild, "inspect", inspect)


def client(folder: Path, token: str = "", **settings: Any) -> TestClient:
    app = create_app(ServerSettings(data=folder / "data", **settings))
    app.state.services = replace(app.state.services, catalog=Catalog(TABLES))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url="http://localhost", headers=headers)


def send(inside: TestClient, *contents: bytes, name: str = "me.jpg") -> httpx.Response:
    return inside.post("/v1/photos", files=[("photo", (name, content)) for content in contents])


def staged(folder: Path) -> set[str]:
    return {path.name for path in (folder / "data/uploads").glob("*/*") if path.suffix != THUMBNAIL_SUFFIX}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("me.jpg", "me.jpg"),
        ("../../../etc/passwd", "passwd"),
        ("C:\\photos\\me.jpg", "me.jpg"),
        ("<img src=x onerror=alert(1)>.jpg", "<img src=x onerror=alert(1)>.jpg"),
        ("..", ".."),
        ("a" * 3000, "a" * 200),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "\N{REPLACEMENT CHARACTER}gpj.exe"),
    ],
)
def test_a_file_s_name_is_text_and_no_path(name: str, shown: str, tmp_path: Path) -> None:
    answer = send(client(tmp_path), SECRET, name=name)
    digest = hashlib.sha256(SECRET).hexdigest()
    assert [(row["file"], row["sha256"]) for row in answer.json()] == [(shown, digest)]
    assert staged(tmp_path) == {digest}
    own = {"session.key", "server.db", "server.db-wal", "server.db-shm", "key.pem"}
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} - own == {digest, f"{digest}.png"}
    assert answer.headers["Content-Type"] == "application/json"  # no browser reads it as a page
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "digest", ["../../session.key", "..%2F..%2Fsession.key", "0" * 63, "A" * 64, "0" * 64 + "%00", "0" * 64]
)
def test_an_id_is_no_path(digest: str, tmp_path: Path) -> None:
    assert client(tmp_path).get(f"/v1/photos/{digest}/thumbnail").status_code == 404
    assert staged_path(tmp_path / "data", "", digest) is None


def test_what_another_user_sent_does_not_exist(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    tokens = [add_user(users, name) for name in ("anna", "ben")]
    anna, ben = (client(tmp_path, token, users=users) for token in tokens)
    digest = send(anna, SECRET).json()[0]["sha256"]
    address = f"/v1/photos/{digest}/thumbnail"
    assert anna.get(address).content == b"its thumbnail"
    others, unknown = ben.get(address), ben.get(f"/v1/photos/{'0' * 64}/thumbnail")
    assert (others.status_code, unknown.status_code) == (404, 404)
    assert others.text.replace(digest, "") == unknown.text.replace("0" * 64, "")  # and nobody can tell
    assert client(tmp_path, users=users).get(address).status_code == 401
    assert staged_path(tmp_path / "data", "anna", digest) is not None
    assert staged_path(tmp_path / "data", "ben", digest) is None


def test_a_photo_twice_in_a_form_is_a_duplicate(tmp_path: Path) -> None:
    rows = send(client(tmp_path), SECRET, SECRET).json()
    assert [(row["accepted"], row["code"]) for row in rows] == [(True, "ok"), (False, "duplicate")]
    assert "same file as me.jpg" in rows[1]["reason"]


LIMITS = UploadLimits(photo_bytes=1000, request_bytes=5000, parts=3, json_bytes=500, free_bytes=0)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([b"a" * 1001], "me.jpg has more than"),
        ([b"a" * 900] * 4, "a form of more than 3 parts"),
        ([b"a" * 6000], "more than 5,000 bytes"),
    ],
)
def test_too_much_is_refused_while_it_streams(files: list[bytes], found: str, length: bool, tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=LIMITS)
    form = [("photo", ("me.jpg", content)) for content in files]
    request = inside.build_request("POST", "/v1/photos", files=form)
    content = request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    body = content if length else iter([content[start : start + 200] for start in range(0, len(content), 200)])
    answer = inside.post("/v1/photos", content=body, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (413, "too_large")
    if length or len(files[0]) < 6000:
        assert error["found"].startswith(found)
    assert staged(tmp_path) == set()


def form(*parts: str, end: bool = True) -> bytes:
    whole = "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts)
    return (whole + f"--{BOUNDARY}--\r\n" * end).encode()


FILE = 'Content-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\nbytes'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (form(), "no photo"),
        (form('Content-Disposition: form-data; name="photo"\r\n\r\ntext'), "no photo"),
        (form('Content-Disposition: form-data; name="other"; filename="a"\r\n\r\nx'), "other is not a parameter"),
        (form(FILE, end=False), "a form that is cut short"),
        (form(FILE)[:-30], "a form that is cut short"),
        (b"nonsense", "a form that is damaged"),
        (form("X: " + "a" * 100_000 + "\r\n\r\nx"), "a form that is damaged"),
    ],
)
def test_a_form_that_is_none_is_said_to_be(content: bytes, found: str, tmp_path: Path) -> None:
    inside = client(tmp_path)
    answer = inside.post("/v1/photos", content=content, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    assert answer.status_code == 400
    assert answer.json()["error"]["found"] == found
    for kind in ("multipart/form-data", "application/json", "text/plain"):
        assert inside.post("/v1/photos", content=b"x", headers={"Content-Type": kind}).json()["error"]["found"] == "no form"
    assert staged(tmp_path) == set()


@pytest.mark.parametrize(
    "refused",
    [
        form(FILE, FILE.replace('"photo"', '"other"')),
        form(FILE, 'Content-Disposition: form-data; name="photo"; filename="b.png"\r\n\r\n' + "a" * 1001),
        form(FILE, end=False),
    ],
    ids=["another field", "a later photo is too large", "cut short"],
)
def test_a_photo_that_nobody_looked_at_has_no_sha256(refused: bytes, tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=LIMITS)
    answer = inside.post("/v1/photos", content=refused, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    assert answer.status_code in (400, 413)
    body = {"photos": [hashlib.sha256(b"bytes").hexdigest()], "request": {"prompts": ["a photo"]}}
    assert inside.post("/v1/jobs", json=body).status_code == 404
    assert staged(tmp_path) == set()


def test_a_photo_has_its_sha256_only_after_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    async def inspect(_: PhotoChild, names: Mapping[Path, str]) -> dict[Path, dict[str, Any]]:
        seen.append(staged(tmp_path))
        return dict.fromkeys(names, UNSAFE)

    monkeypatch.setattr(PhotoChild, "inspect", inspect)
    rows = client(tmp_path).post("/v1/images/edits", files={"image": ("me.jpg", SECRET)}, data={"prompt": "a photo"})
    assert rows.json()["error"]["code"] == "unsafe"
    (names,) = seen
    assert len(names) == 1
    assert hashlib.sha256(SECRET).hexdigest() not in names
    assert staged(tmp_path) == set()


def test_a_photo_that_is_sent_again_takes_no_more_room(tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=UploadLimits(staged_bytes=3000, free_bytes=0))
    assert [send(inside, b"a" * 900).status_code for _ in range(6)] == [200] * 6


def test_an_edit_that_waits_for_its_job_keeps_no_upload_waiting(tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=UploadLimits(at_once=1, at_once_per_owner=1))
    waiting = threading.Thread(
        target=inside.post, args=["/v1/images/edits"], kwargs={"files": {"image": ("me.jpg", SECRET)}, "data": {"prompt": "a"}}
    )

    def queued() -> list[str]:
        return [job["id"] for job in inside.get("/v1/jobs").json()["data"] if job["status"] == "queued"]

    def cancelled() -> bool:
        for job in queued():
            inside.delete(f"/v1/jobs/{job}")
        return not waiting.is_alive()

    with inside:
        waiting.start()
        try:
            wait_for(lambda: bool(queued()))
            assert send(inside, b"another photo").status_code == 200
        finally:  # the client leaves no sooner than the edit ends
            wait_for(cancelled)


def test_an_owner_s_photos_have_a_quota_and_go_after_a_day(tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=UploadLimits(staged_bytes=3000, free_bytes=0))
    contents = [letter * 900 for letter in (b"a", b"b", b"c", b"d")]
    assert [send(inside, content).status_code for content in contents] == [200, 200, 200, 413]
    photos: Any = inside.app
    photos = photos.state.photos
    assert photos.remove_old() == 0
    old = time.time() - 25 * 3600
    for path in list((tmp_path / "data/uploads/_").iterdir())[:4]:
        os.utime(path, (old, old))
    assert photos.remove_old() >= 1
    assert send(inside, contents[3]).status_code == 200


def test_the_disk_keeps_room(tmp_path: Path) -> None:
    answer = send(client(tmp_path, uploads=UploadLimits(free_bytes=1 << 60)), SECRET)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert staged(tmp_path) == set()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = client(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tenth.server.security.staged_photos.move_file", refuse)
        answer = send(inside, SECRET)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert staged(tmp_path) == set()
