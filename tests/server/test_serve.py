"""`tenth serve`: where it listens, what it says, how it ends; and what an application answers where something is wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from running_server import running_server
from tenth.cli.main import main
from tenth.core.errors import DataError
from tenth.server.api.errors import RequestError, not_found
from tenth.server.app import create_app
from tenth.server.settings import ServerSettings
from tenth.server.start import address, listen
from tenth.server.storage.database import explain_database_errors

Output = pytest.CaptureFixture[str]
NUM_THREADS = 40  # of anyio, in which routes run that are no coroutines


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_its_address_answers_and_ends(number: int, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        assert server.said == f"{server.url}/"
        assert server.client.get("/health").json()["status"] == "ok"
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

        # A second one at the same port, then one in the same folder.
        command = [sys.executable, "-m", "tenth.cli", "serve"]
        port = server.url.rpartition(":")[2]
        for words, found in ((["--port", port, "--data", str(tmp_path / "b")], "is taken"), (["--port", "0"], "another run")):
            second = subprocess.run(
                [*command, "--data", str(tmp_path / "data"), *words] if words[1] == "0" else [*command, *words],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (second.returncode, second.stdout) == (1, "")
            assert found in second.stderr
            assert len(second.stderr.splitlines()) == 1

        server.process.send_signal(number)
        _, stderr = server.process.communicate(timeout=30)
        assert server.process.returncode == (0 if number == signal.SIGTERM else 130)
        assert "Traceback" not in stderr


def test_a_server_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.delitem(sys.modules, "tenth.server.start", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "tenth: uvicorn is not installed; the server needs it. Run `pip install 'tenth[server]'`.\n",
    )


@pytest.mark.slow
def test_the_web_process_imports_no_torch(tmp_path: Path) -> None:
    made = f"s.create_app(s.ServerSettings(data={str(tmp_path)!r}))"
    code = f"import sys, tenth.server.start as s; {made}; print('torch' in sys.modules, 'dlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("127.0.0.1", 80, "http://127.0.0.1:80/"),
        ("::1", 80, "http://[::1]:80/"),
        ("server.example", 80, "http://server.example:80/login?token=secret"),
        ("0.0.0.0", 80, f"http://{socket.gethostname()}:80/login?token=secret"),
    ],
)
def test_the_address_is_one_that_opens(host: str, port: int, expected: str, tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path, host=host, token="secret" if "token" in expected else "")
    assert address(settings, port) == expected


def test_the_address_logs_in_with_any_token(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path, token="".join(map(chr, range(33, 127))))
    client = TestClient(create_app(settings), base_url="http://localhost", follow_redirects=False)
    assert client.get(address(settings, 80).removeprefix("http://127.0.0.1:80")).status_code == 303


def test_a_secret_of_webhooks_that_is_none_is_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="webhook_secret is not usable"):
        create_app(ServerSettings(data=tmp_path, webhook_hosts=("hooks.example:443",), webhook_secret="secret"))


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"192.0.2.7, port 0, cannot be listened at"):
        listen(ServerSettings(data=tmp_path, host="192.0.2.7", port=0))


def error_of(problem: Exception, tmp_path: Path) -> tuple[int, dict[str, str], dict[str, str]]:
    """What a route that raises an error answers: status, the error, headers."""
    app = create_app(ServerSettings(data=tmp_path / "data"))

    @app.get("/raises")
    def raises() -> None:
        raise problem

    answer = TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/raises")
    return answer.status_code, answer.json()["error"], dict(answer.headers)


def test_an_error_has_three_parts(tmp_path: Path) -> None:
    status, error, _ = error_of(DataError("2 photos", "three are needed", "Add one"), tmp_path)
    assert status == 400
    assert error == {
        "message": "2 photos; three are needed. Add one.",
        "type": "invalid_request_error",
        "code": "bad_request",
        "param": None,
        "found": "2 photos",
        "needed": "three are needed",
        "action": "Add one",
    }


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (409, "conflict"), (413, "too_large")])
def test_an_error_has_its_status(status: int, code: str, tmp_path: Path) -> None:
    assert error_of(RequestError(status, "a", "b", "c"), tmp_path)[1]["code"] == code
    assert error_of(not_found("job", "x"), tmp_path)[0] == 404


def test_an_error_that_will_pass_says_when(tmp_path: Path) -> None:
    status, error, headers = error_of(RequestError(429, "a", "b", "c", retry_after=2.4), tmp_path)
    assert (status, error["type"], headers["retry-after"]) == (429, "rate_limit_error", "2")


def test_a_full_disk_is_said_without_the_path(tmp_path: Path) -> None:
    problem = DataError(f"{tmp_path}/data/blobs/ab cannot be written", "room on the disk is needed", "Make room")
    problem.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    status, error, _ = error_of(problem, tmp_path)
    assert (status, error["code"], error["found"]) == (507, "disk_full", "the data folder/blobs/ab cannot be written")

    # SQLite says it otherwise.
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(DataError) as full, explain_database_errors(tmp_path / "server.db"):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert error_of(full.value, tmp_path)[:1] == (507,)


def test_a_database_that_fails_is_no_fault_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    holder, other = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError) as busy, explain_database_errors(path):
        other.execute("BEGIN EXCLUSIVE")
    status, error, headers = error_of(busy.value, tmp_path)
    assert (status, error["type"], error["code"]) == (503, "server_error", "unavailable")
    assert int(headers["retry-after"]) >= 1
    for connection in (holder, other):
        connection.close()

    path.write_bytes(b"no database " * 100)
    with pytest.raises(DataError) as damaged, explain_database_errors(path):
        sqlite3.connect(path).execute("SELECT * FROM jobs")
    status, error, headers = error_of(damaged.value, tmp_path)
    assert (status, error["type"], "retry-after" in headers) == (500, "server_error", False)


def test_a_fault_of_ours_shows_no_trace(tmp_path: Path) -> None:
    status, error, _ = error_of(KeyError("secret of ours"), tmp_path)
    assert (status, error["type"], error["code"]) == (500, "server_error", "internal")
    assert "secret" not in str(error)


def test_what_is_not_there_is_404(tmp_path: Path) -> None:
    client = TestClient(create_app(ServerSettings(data=tmp_path)), base_url="http://localhost")
    assert client.get("/nothing").json()["error"]["code"] == "not_found"
    assert client.post("/health").json()["error"]["code"] == "method_not_allowed"


def test_health_waits_for_no_thread(tmp_path: Path) -> None:
    app, begun, go_on = create_app(ServerSettings(data=tmp_path)), [], threading.Event()

    @app.get("/waits")
    def waits() -> None:
        begun.append(threading.get_ident())
        go_on.wait(60)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            waiting = [asyncio.create_task(client.get("/waits")) for _ in range(2 * NUM_THREADS)]
            try:
                while len(begun) < NUM_THREADS:
                    await asyncio.sleep(0.01)
                assert (await asyncio.wait_for(client.get("/health"), 30)).status_code == 200
                assert len(begun) == NUM_THREADS
            finally:
                go_on.set()
            await asyncio.gather(*waiting)

    asyncio.run(ask())


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "uploads").mkdir(parents=True)
    for folder in (data, data / "uploads"):
        folder.chmod(0o755)
    create_app(ServerSettings(data=data))
    assert {
        folder.name: oct(folder.stat().st_mode & 0o777) for folder in (data, *data.iterdir()) if folder.is_dir()
    } == dict.fromkeys(("data", "uploads", "jobs", "blobs"), "0o700")
