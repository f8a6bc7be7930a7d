"""What every request passes before a route sees it, and what every answer has."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import ExitStack

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenth.server.api.errors import RequestError, error_response
from tenth.server.security.body_limits import RequestBody, UploadSlots
from tenth.server.security.headers import SECURITY_HEADERS
from tenth.server.security.hosts import SAFE_METHODS, allowed_hosts, check_host, check_origin
from tenth.server.security.rate_limit import RateLimit, network_of
from tenth.server.security.users import SESSION_COOKIE, Users
from tenth.server.settings import ServerSettings

LOGIN_PATHS = ("/login", "/v1/session")
OPEN_PATHS = ("/", *LOGIN_PATHS)  # without a token: the page, which asks for it
OPEN_FOLDER = "/static/"
HEALTH = "/health"  # without a token and a limit: who watches the server asks it


class Gate:
    """An application behind the checks of host, origin, token, rate and size.

    Sets request.state.owner, and request.state.end_upload: what a route calls once it has read and looked at its photos.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, users: Users) -> None:
        rates = settings.rates
        self.app, self.settings, self.users, self.hosts = app, settings, users, allowed_hosts(settings)
        self.reads = RateLimit(rates.reads_per_second, rates.reads_at_once)
        self.changes = RateLimit(rates.changes_per_second, rates.changes_at_once)
        self.failures = RateLimit(rates.failures_per_second, rates.failures_at_once)
        self.uploads = UploadSlots(settings.uploads)
        self.turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        body = RequestBody(scope, receive, self.settings.uploads)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                await body.end_if_small()
                if not body.complete:
                    headers["Connection"] = "close"
            elif not body.complete and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.linger()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            client = self.admit(scope)
            body.check_length()
            if scope["method"] not in SAFE_METHODS:
                await self.await_turn()
            with ExitStack() as upload:
                if body.is_form:
                    upload.enter_context(self.uploads.slot(client))
                scope["state"]["end_upload"] = upload.close
                await self.app(scope, body.receive, answer)
        except RequestError as problem:
            await error_response(problem)(scope, receive, answer)

    async def await_turn(self) -> None:
        """Let one change begin with each round of the loop: a hundred at once would keep every read waiting."""
        async with self.turn:
            await asyncio.sleep(0)

    def admit(self, scope: Scope) -> str:
        """Who asks, as limits count them. Raises RequestError for whoever may not."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        scope.setdefault("state", {})["owner"] = ""
        hosts = headers.getlist("host")
        if len(hosts) != 1:  # a proxy might heed another one
            raise RequestError(400, f"{len(hosts)} headers Host", "exactly one is needed", "Send HTTP/1.1 with one")
        check_host(hosts[0], self.hosts, loopback=self.settings.is_loopback)
        if path == HEALTH and method in SAFE_METHODS:
            return ""
        check_origin(method, headers)

        # The token, unless what is asked for is open.
        address = network_of((scope.get("client") or ("",))[0])
        client = f"address {address}"
        if self.users.hashes and not (path in OPEN_PATHS or path.startswith(OPEN_FOLDER)):
            owner = self.owner_of(Request(scope), client)
            if owner is None:
                found, needed = "no valid token", "this server's token is needed, as `Authorization: Bearer TOKEN`"
                raise RequestError(401, found, needed, "Give the token that `tenth serve` printed")
            scope["state"]["owner"] = owner
            client = f"user {owner}" if owner else client
        elif path in LOGIN_PATHS:
            self._limit(self.failures, client)
        self._limit(self.reads if method in SAFE_METHODS else self.changes, client)
        return client

    def owner_of(self, request: Request, client: str) -> str | None:
        """The user whose token or cookie a request has; None if it has none that holds.

        Raises RequestError after too many wrong ones, and for a token before it is looked at: an answer would confirm a guess.
        A cookie has the server's own signature, which nobody guesses.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(SESSION_COOKIE, "")
        if hmac.compare_digest(scheme.lower().encode(), b"bearer"):
            self._refuse_for(self.failures, self.failures.wait(client))
            owner = self.users.owner(token.strip())
        elif cookie:
            owner = self.users.session_owner(cookie)
        else:
            self._limit(self.reads if request.method in SAFE_METHODS else self.changes, client)
            return None
        if owner is None:
            self._limit(self.failures, client)
        return owner

    def _limit(self, rate: RateLimit, client: str) -> None:
        self._refuse_for(rate, rate.take(client))

    @staticmethod
    def _refuse_for(rate: RateLimit, wait: float) -> None:
        """Raises RequestError if there are seconds to wait."""
        if wait:
            needed = f"at most {rate.per_second:g} a second are taken, {rate.at_once:,} at once"
            raise RequestError(429, "too many requests", needed, "Wait a moment", retry_after=wait)
