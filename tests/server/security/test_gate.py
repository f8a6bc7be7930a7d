"""Who gets in, and from where: what every request passes before a route sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from tenth.core.errors import DataError, RecipeError
from tenth.server.app import create_app
from tenth.server.security.headers import SECURITY_HEADERS
from tenth.server.security.rate_limit import MAX_CLIENTS, RateLimit, network_of
from tenth.server.security.users import SESSION_COOKIE, SESSION_SECONDS, Users, add_user, load_users
from tenth.server.settings import RateLimits, ServerSettings, UploadLimits

TOKEN = "a" * 43
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NAMES = "/v1/photos/" + "0" * 64 + "/thumbnail"  # an address that needs a token; nothing is there


def client(folder: Path, name: str = "localhost", **settings: Any) -> TestClient:
    app = create_app(ServerSettings(data=folder / "data", **settings))
    return TestClient(app, base_url=f"http://{name}", raise_server_exceptions=False, follow_redirects=False)


def code(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7310", "127.0.0.1:1234", "127.8.8.8", "[::1]:80"])
def test_this_machine_is_known_by_its_names(host: str, tmp_path: Path) -> None:
    assert client(tmp_path).get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "localhost.rebound.example", "127.0.0.1.rebound.example", "192.0.2.7", "", "a b", "localhost:x"]
)
def test_a_rebound_name_is_refused_by_every_address(host: str, tmp_path: Path) -> None:
    for path in ("/", "/health", NAMES, "/v1/photos", "/nothing"):
        assert code(client(tmp_path).get(path, headers={"Host": host})) == "421 unknown_host"


def test_names_of_a_server_that_others_reach(tmp_path: Path) -> None:
    open_to_others = client(tmp_path, host="0.0.0.0", token=TOKEN, hosts=("pictures.example",))
    for host, status in (("192.0.2.7", 200), ("Pictures.example:443", 200), ("[2001:db8::1]", 200), ("rebound.example", 421)):
        assert open_to_others.get("/health", headers={"Host": host}).status_code == status


FOREIGN: tuple[Mapping[str, str], ...] = (
    {"Origin": "http://foreign.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},  # another program of this machine
    {"Origin": "http://[broken"},
    {"Origin": "http://localhost.foreign.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a form
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_changes_nothing(headers: Mapping[str, str], tmp_path: Path) -> None:
    inside = client(tmp_path)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method, path in (("POST", "/v1/photos"), ("DELETE", "/v1/session"), ("PATCH", "/v1/pictures/1")):
        assert code(inside.request(method, path, headers={**headers, **form})) == "403 forbidden"
    files = {"photo": ("a.png", b"a photo")}
    assert code(inside.post("/v1/photos", files=files, headers=headers)) == "403 forbidden"
    assert not list((tmp_path / "data").glob("uploads/*/*"))


def test_a_page_of_another_site_reads_nothing(tmp_path: Path) -> None:
    inside = client(tmp_path)
    for headers in FOREIGN[:-1]:
        assert code(inside.get(NAMES, headers=headers)) == "403 forbidden"
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert code(inside.get(NAMES, headers=link)) == "404 not_found"  # a link may lead here
    assert code(inside.options("/v1/photos", headers={"Origin": "http://foreign.example"})) == "403 forbidden"  # no CORS


def test_the_own_page_and_other_programs_may_ask(tmp_path: Path) -> None:
    inside = client(tmp_path, "localhost:7310")
    for headers in ({"Origin": "http://localhost:7310", "Sec-Fetch-Site": "same-origin"}, {}):
        assert inside.delete("/v1/session", headers=headers).status_code == 204


def test_a_token_is_needed_where_there_is_one(tmp_path: Path) -> None:
    inside = client(tmp_path, token=TOKEN)
    assert inside.get("/health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
        assert code(inside.get(NAMES, headers=headers)) == "401 unauthorized"
    assert code(inside.get(NAMES, headers=BEARER)) == "404 not_found"


def test_the_token_becomes_a_cookie(tmp_path: Path) -> None:
    inside = client(tmp_path, token=TOKEN)
    for answer in (inside.get(f"/login?token={TOKEN}"), inside.post("/v1/session", json={"token": TOKEN})):
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
    assert inside.get("/login?token=" + TOKEN).headers["Location"] == "/"
    assert code(inside.get(NAMES)) == "404 not_found"
    assert inside.delete("/v1/session").status_code == 204
    assert code(inside.get(NAMES)) == "401 unauthorized"

    # A wrong one sets none; a link of another site logs nobody in.
    for answer in (inside.get("/login?token=wrong"), inside.post("/v1/session", json={"token": "wrong"})):
        assert code(answer) == "401 unauthorized"
        assert "Set-Cookie" not in answer.headers
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert code(inside.get(f"/login?token={TOKEN}", headers=link)) == "403 forbidden"


def test_a_cookie_ends_and_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = load_users(ServerSettings(data=tmp_path, token=TOKEN))
    session = users.session("")
    assert users.session_owner(session) == ""
    assert load_users(ServerSettings(data=tmp_path, token=TOKEN)).session_owner(session) == ""  # after a restart too
    assert load_users(ServerSettings(data=tmp_path, token="another")).session_owner(session) is None
    assert Users(users.hashes, b"another key").session_owner(session) is None
    _, expires, signature = session.split(".")
    for made in (f".{int(expires) + 1}.{signature}", f"anna.{expires}.{signature}", f".{expires}.", "", "..", ".9e9.é"):
        assert users.session_owner(made) is None
    monkeypatch.setattr("time.time", lambda: int(expires) + 1)
    assert users.session_owner(session) is None
    assert (tmp_path / "session.key").stat().st_mode & 0o777 == 0o600
    assert SESSION_SECONDS > 0
    assert SESSION_COOKIE.isidentifier()


def test_wrong_tokens_are_counted(tmp_path: Path) -> None:
    inside = client(tmp_path, token=TOKEN, rates=RateLimits(failures_at_once=3))
    answers = [code(inside.get(NAMES, headers={"Authorization": "Bearer wrong"})) for _ in range(5)]
    assert answers == ["401 unauthorized"] * 3 + ["429 too_many_requests"] * 2
    assert code(inside.post("/v1/session", json={"token": TOKEN})) == "429 too_many_requests"
    assert code(inside.get(NAMES, headers=BEARER)) == "429 too_many_requests"  # a right guess is not told from a wrong one


def test_whoever_is_logged_in_or_sends_no_token_guesses_nothing(tmp_path: Path) -> None:
    inside = client(tmp_path, token=TOKEN, rates=RateLimits(failures_at_once=3))
    assert [code(inside.get(NAMES)) for _ in range(5)] == ["401 unauthorized"] * 5
    assert inside.post("/v1/session", json={"token": TOKEN}).status_code == 204
    for _ in range(3):
        inside.get(NAMES, headers={"Authorization": "Bearer wrong"})
    assert code(inside.get(NAMES, headers=BEARER)) == "429 too_many_requests"
    assert code(inside.get(NAMES)) == "404 not_found"  # by its cookie


@pytest.mark.parametrize("token", ["gehe\u00edmnis", "two words", " secret", "a\nb", "a" * 501])
def test_a_token_that_no_client_could_send_is_refused(token: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="signs of ASCII are needed"):
        load_users(ServerSettings(data=tmp_path, token=token))


def test_users_have_a_token_each(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    anna, ben = add_user(path, "anna"), add_user(path, "ben")
    assert path.stat().st_mode & 0o777 == 0o600
    assert anna not in path.read_text(encoding="utf-8")
    users = load_users(ServerSettings(data=tmp_path, users=path))
    assert [users.owner(token) for token in (anna, ben, "", "wrong", "\udcff")] == ["anna", "ben", None, None, None]
    again = add_user(path, "anna")
    users = load_users(ServerSettings(data=tmp_path, users=path))
    assert [users.owner(token) for token in (anna, again, ben)] == [None, "anna", "ben"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"users": []}', '{"users": {}}', '{"users": {"../a": {"token_sha256": "%s"}}}', '{"users": {"a": 1}}'],
)
def test_a_users_file_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_text(text.replace("%s", "0" * 64), encoding="utf-8")
    with pytest.raises(DataError, match=r"users.json"):
        load_users(ServerSettings(data=tmp_path, users=path))
    for name in ("../a", "Anna", "", "a" * 33, "_"):
        with pytest.raises(DataError, match="a name of up to 32"):
            add_user(tmp_path / "new.json", name)
    with pytest.raises(
        DataError, match=r"TENTH_TOKEN\) and the users file .*users.json; users have a token each\. Unset TENTH_TOKEN"
    ):
        load_users(ServerSettings(data=tmp_path, users=path, token=TOKEN))


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    inside = client(tmp_path)
    app: Any = inside.app

    @app.get("/raises")
    def raises() -> None:
        raise KeyError

    for path in ("/health", "/nothing", NAMES, "/raises"):
        headers = inside.get(path).headers
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, path


def test_a_client_that_asks_too_often_waits(tmp_path: Path) -> None:
    inside = client(tmp_path, rates=RateLimits(reads_at_once=3, reads_per_second=0.5))
    answers = [inside.get(NAMES) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [404] * 3 + [429] * 2
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2
    assert inside.get("/health").status_code == 200


def test_a_bucket_fills_as_time_goes() -> None:
    now = [0.0]
    rate = RateLimit(2, 3, lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.take("b") == 0
    now[0] = 0.5
    assert [rate.take("a"), rate.take("a")] == [0, 0.5]
    now[0] = 1000
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    for number in range(MAX_CLIENTS + 1):
        rate.take(str(number))
    assert len(rate._buckets) == MAX_CLIENTS


def test_a_household_is_one_client() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("testclient") == ""


def test_a_body_that_is_no_form_is_small(tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=UploadLimits(json_bytes=100))
    assert code(inside.post("/v1/session", json={"token": "a" * 200})) == "413 too_large"
    assert code(inside.post("/v1/session", content=iter([b"a" * 60] * 3))) == "413 too_large"  # which says no length
    assert code(inside.post("/v1/session", json={"token": 1})) == "400 bad_request"


@pytest.mark.parametrize("path", ["/v1/session", "/v1/jobs", "/v1/people", "/sdapi/v1/txt2img", "/v1/photos/"])
def test_only_what_takes_forms_takes_a_large_one(path: str, tmp_path: Path) -> None:
    inside = client(tmp_path, uploads=UploadLimits(json_bytes=100))
    headers = {"Content-Type": "multipart/form-data; boundary=a"}
    assert code(inside.post(path, content=b"a" * 200, headers=headers)) == "413 too_large"


def test_settings_are_those_of_the_table() -> None:
    with pytest.raises(RecipeError, match="known keys: data, host"):
        ServerSettings(hots=())  # type: ignore[call-arg]
    assert ServerSettings(host="::1").is_loopback
    assert not ServerSettings(host="0.0.0.0").is_loopback
