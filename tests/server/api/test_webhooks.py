"""Webhooks: only hosts that are listed, signed, tried again, and never into a private network by a name."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from served_api import WEBHOOK_SECRET, Served
from tenth.core.errors import DataError
from tenth.server.api.errors import RequestError
from tenth.server.api.jobs import webhook_message
from tenth.server.settings import ServerSettings
from tenth.server.webhooks import add_webhook, check_webhook, deliver_due, resolve, sign
from toy_image_jobs import work_off

REQUEST = {"prompts": ["a photo"]}
HTTP, HTTPS = "http:", "https:"  # apart from the hosts, as none of them is asked


@dataclass
class Receiver:
    """A server on this machine that keeps what it is told, and answers with a status."""

    port: int = 0
    status: int = 200
    messages: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(told.status)
            self.send_header("Location", f"http://127.0.0.1:{told.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def deliver(served: Served, settings: ServerSettings) -> int:
    services = served.services
    return deliver_due(settings, services.database, lambda job, owner: webhook_message(services, job, owner))


def make_due(served: Served) -> None:
    with served.services.database.transaction() as transaction:
        transaction.execute("UPDATE webhooks SET next = 0")


def test_a_host_is_told_once_when_the_job_ends_with_a_signature(anna: Served, receiver: Receiver) -> None:
    settings = replace(anna.services.settings, webhook_hosts=(f"127.0.0.1:{receiver.port}",))
    job = anna.submit()
    add_webhook(anna.services.database, job["id"], f"http://127.0.0.1:{receiver.port}/done?a=1")
    assert deliver(anna, settings) == 0  # it waits still
    anna.drawn()
    assert deliver(anna, settings) == 1
    assert deliver(anna, settings) == 0

    # A client of somebody else's verifies it.
    ((headers, body),) = receiver.messages
    openai.OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret=WEBHOOK_SECRET)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai.OpenAI(api_key="none").webhooks.verify_signature(body + b" ", headers, secret=WEBHOOK_SECRET)
    message = json.loads(body)
    assert message["type"] == "job.done"
    assert message["data"] == anna.job(job["id"])


def test_what_is_refused_is_tried_again_and_given_up(anna: Served, receiver: Receiver) -> None:
    settings = replace(anna.services.settings, webhook_hosts=(f"127.0.0.1:{receiver.port}",))
    receiver.status = 500
    add_webhook(anna.services.database, anna.drawn()["id"], f"http://127.0.0.1:{receiver.port}/")
    for attempt in range(1, 6):
        assert deliver(anna, settings) == 1
        assert deliver(anna, settings) == 0  # not before its time
        assert len(receiver.messages) == attempt
        make_due(anna)
    assert deliver(anna, settings) == 0


def test_the_end_of_a_job_that_is_tried_again_is_told_too(anna: Served, receiver: Receiver) -> None:
    settings = replace(anna.services.settings, webhook_hosts=(f"127.0.0.1:{receiver.port}",))
    job = anna.submit()
    add_webhook(anna.services.database, job["id"], f"http://127.0.0.1:{receiver.port}/")
    anna.client.delete(f"/v1/jobs/{job['id']}")
    assert (deliver(anna, settings), deliver(anna, settings)) == (1, 0)
    anna.client.post(f"/v1/jobs/{job['id']}/retry")
    assert deliver(anna, settings) == 0
    work_off(anna.services.settings.data)
    assert (deliver(anna, settings), deliver(anna, settings)) == (1, 0)
    assert [json.loads(body)["type"] for _, body in receiver.messages] == ["job.cancelled", "job.done"]
    first, second = (headers["webhook-id"] for headers, _ in receiver.messages)
    assert first != second  # a receiver drops what it has seen


def test_a_job_that_is_tried_again_while_its_end_is_told_is_told_again(anna: Served, receiver: Receiver) -> None:
    services = anna.services
    settings = replace(services.settings, webhook_hosts=(f"127.0.0.1:{receiver.port}",))
    job = anna.submit()
    add_webhook(services.database, job["id"], f"http://127.0.0.1:{receiver.port}/")
    anna.client.delete(f"/v1/jobs/{job['id']}")

    def retried(job_id: str, owner: str) -> dict[str, Any] | None:
        message = webhook_message(services, job_id, owner)
        services.queue.retry(job_id, owner)
        return message

    assert deliver_due(settings, services.database, retried) == 1
    work_off(services.settings.data)
    assert deliver(anna, settings) == 1


def test_a_redirect_is_not_followed(anna: Served, receiver: Receiver) -> None:
    settings = replace(anna.services.settings, webhook_hosts=(f"127.0.0.1:{receiver.port}",))
    receiver.status = 307
    add_webhook(anna.services.database, anna.drawn()["id"], f"http://127.0.0.1:{receiver.port}/")
    assert deliver(anna, settings) == 1
    assert len(receiver.messages) == 1


def test_a_host_that_is_no_longer_listed_is_not_told(
    anna: Served, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    add_webhook(anna.services.database, anna.drawn()["id"], f"http://127.0.0.1:{receiver.port}/")
    assert deliver(anna, anna.services.settings) == 1
    assert receiver.messages == []
    assert anna.services.database.rows("SELECT * FROM webhooks") == []
    assert "the webhook's host is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        f"{HTTP}//hooks.example/",
        f"{HTTPS}//hooks.example:8443/",
        f"{HTTPS}//other.example/",
        f"{HTTPS}//hooks.example.evil.example/",
        f"{HTTPS}//hooks.example:443@evil.example/",
        f"{HTTPS}//evil.example#hooks.example:443",
        f"{HTTPS}//evil.example\\@hooks.example:443/",
        f"{HTTPS}//user:password@hooks.example/",
        "ftp://hooks.example:443/",
        "file:///etc/passwd",
        f"{HTTP}//127.0.0.1:2/",
        f"{HTTP}//2130706433:1/",
        f"{HTTP}//0x7f.1:1/",
        f"{HTTP}//127.1:1/",
        f"{HTTP}//[::1]:1/",
        f"{HTTP}//[::ffff:127.0.0.1]:1/",
        f"{HTTP}//169.254.169.254/latest/meta-data/",
        f"{HTTPS}//hooks.example:443 /",
        f"{HTTPS}//hooks.example\r\nHost: evil.example/",
        f"{HTTPS}//hooks\u3002example/",
        f"{HTTPS}//hooks.example:x/",
        "//hooks.example:443/",
        f"{HTTP}//[",
        "",
    ],
)
def test_other_addresses_are_refused_before_the_job_is_queued(url: str, anna: Served) -> None:
    answer = anna.client.post("/v1/jobs", json={"person": "anna", "request": REQUEST, "webhook": url})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "webhook"
    assert anna.client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize(
    "url", [f"{HTTPS}//hooks.example/a", f"{HTTPS}//HOOKS.example:443/", f"{HTTPS}//hooks.example./", f"{HTTP}//127.0.0.1:1"]
)
def test_listed_addresses_are_taken(url: str, anna: Served) -> None:
    answer = anna.client.post("/v1/jobs", json={"person": "anna", "request": REQUEST, "webhook": url})
    assert answer.status_code == 202


def test_without_a_list_or_a_secret_nobody_is_told(anna: Served) -> None:
    for settings in (
        replace(anna.services.settings, webhook_hosts=()),
        replace(anna.services.settings, webhook_secret=""),
    ):
        with pytest.raises(RequestError, match="tells nobody"):
            check_webhook(settings, "https://hooks.example/")


PRIVATE = ("10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1", "100.64.0.1")
PRIVATE_V6 = ("::1", "fe80::1", "fc00::1", "::ffff:10.0.0.1")


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_V6])
def test_a_name_that_leads_into_a_private_network_is_refused(
    address: str, anna: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a name server says, and although the name is listed."""
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("93.184.215.14", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    target = check_webhook(anna.services.settings, "https://hooks.example/")
    with pytest.raises(DataError, match="private address"):
        resolve(target)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers[:1])
    assert resolve(target) == "93.184.215.14"


def test_a_message_goes_to_the_address_that_was_checked(
    anna: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up once: what a name server says the second time counts for nothing."""
    lookups: list[str] = []

    def resolved(*_: Any) -> str:
        lookups.append("once")
        return "127.0.0.1"

    monkeypatch.setattr("tenth.server.webhooks.resolve", resolved)
    settings = replace(anna.services.settings, webhook_hosts=(f"hooks.example:{receiver.port}",))
    add_webhook(anna.services.database, anna.drawn()["id"], f"http://hooks.example:{receiver.port}/")
    assert deliver(anna, settings) == 1
    ((headers, _),) = receiver.messages
    assert headers["host"] == f"hooks.example:{receiver.port}"
    assert lookups == ["once"]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "secret", "whsec_!"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(DataError, match="webhook_secret"):
        sign(secret, "msg", 0, b"")
