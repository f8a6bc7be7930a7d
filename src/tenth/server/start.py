"""Start a server: the socket, the workers, uvicorn; and end them all."""

from __future__ import annotations

import asyncio
import errno
import resource
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

import uvicorn
import uvloop
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from tenth.core.errors import DataError
from tenth.core.files.claims import exclusive_folder
from tenth.core.marks.signer import current_signer
from tenth.server.app import create_app
from tenth.server.queue.supervisor import Supervisor, WorkerConfig
from tenth.server.security.connections import limited_protocol
from tenth.server.security.users import TOKEN_BYTES, read_users
from tenth.server.settings import ServerSettings

EXECUTOR = "tenth.server.drawing:execute"  # what workers do
NUM_THREADS = 8  # in which routes run: more of them work no faster, and keep each other and the loop from it
MAX_FILES = 8192  # open at once: connections, the photos that they bring, the database
GRACEFUL_SECONDS = 5  # for answers that are being sent when the server ends; a stream of events never ends by itself


def serve(settings: ServerSettings, started: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. started: called with the address to open, once requests are answered.

    Raises DataError if the address is taken or is none of this machine's, the key that signs pictures cannot be made, or the
    token, the users file or the secret of the webhooks is not usable; CheckpointError if another server has the folder.
    """
    if settings.users is not None:
        read_users(settings.users)  # before anything is made
    if not settings.is_loopback and not settings.token and settings.users is None:
        settings = replace(settings, token=secrets.token_urlsafe(TOKEN_BYTES))
    current_signer()  # a key that cannot be made is said now, not by each job
    end_on_signals()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES if most == resource.RLIM_INFINITY else min(most, MAX_FILES), most))
    with listen(settings) as listener, exclusive_folder(settings.data / "uploads"):
        app = create_app(settings)
        workers = WorkerConfig(EXECUTOR, settings.workers, retention_days=settings.retention_days)
        app.state.supervisor = Supervisor(settings.data, workers)
        app.state.supervisor.start()
        app.state.services.catalog.read_ahead()
        try:
            run_app(app, settings, listener, lambda: started(address(settings, listener.getsockname()[1])))
        finally:
            app.state.services.catalog.close()
            app.state.supervisor.stop()


def end_on_signals() -> None:
    """Let SIGTERM end the process as Ctrl-C does, and Ctrl-C too: shells let what they start in the background ignore it."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_app(app: FastAPI, settings: ServerSettings, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve an application at a socket until a signal, or until `app.state.server` is told to exit."""
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings.rates),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        proxy_headers=False,
    )
    server = app.state.server = uvicorn.Server(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(server, listener, started))


def listen(settings: ServerSettings) -> socket.socket:
    """The socket at the settings' host and port. Raises DataError if that cannot be."""
    where = f"{settings.host}, port {settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            found = f"{where}, is taken by another program, perhaps another `tenth serve`"
            raise DataError(found, "a free port is needed", "Give another --port; 0 takes any that is free") from problem
        if problem.errno == errno.EACCES:
            raise DataError(f"{where}, is not this user's", "a port from 1024 is needed", "Give another --port") from problem
        found = f"{where}, cannot be listened at ({problem.strerror or problem})"
        raise DataError(
            found, "an address of this machine is needed", "Give another --host; 127.0.0.1 is this machine alone"
        ) from problem


def address(settings: ServerSettings, port: int) -> str:
    """The address to open in a browser; with the token where one is needed."""
    host = socket.gethostname() if settings.host in ("0.0.0.0", "::") else settings.host
    login = f"login?token={quote(settings.token, safe='')}" if settings.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{login}"


async def _serve(server: uvicorn.Server, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve, and say so when requests are answered."""
    current_default_thread_limiter().total_tokens = NUM_THREADS
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)
    if server.started:
        started()
    await serving


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """What was begun is put in order."""
    del number, frame
    raise SystemExit(0)
