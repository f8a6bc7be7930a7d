"""A server in a process of its own, whose worker draws flat colors: `python tests/toy_server.py DATA` prints its address."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn

from served_api import CONSENT, PHOTOS, TABLES
from tenth.server.app import create_app
from tenth.server.catalog import Catalog
from tenth.server.queue.supervisor import Supervisor, WorkerConfig
from tenth.server.settings import ServerSettings
from tenth.server.start import listen

TESTS = Path(__file__).parent
WAIT_SECONDS = 60


@contextmanager
def toy_server(data: Path) -> Iterator[str]:
    """The address of such a server, with a person named anna, until the block ends."""
    python_path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    command = [sys.executable, str(TESTS / "toy_server.py"), str(data)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": python_path}, cwd=data.parent
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)


def main(data: Path) -> None:
    """Serve until SIGTERM."""
    settings = ServerSettings(data=data, port=0)
    app = create_app(settings)
    app.state.services = replace(app.state.services, catalog=Catalog(TABLES))
    app.state.services.people("").save("anna", CONSENT, PHOTOS[:2])
    app.state.supervisor = Supervisor(data, WorkerConfig("toy_image_jobs:draw"))
    app.state.supervisor.start()
    with listen(settings) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        try:
            asyncio.run(server.serve(sockets=[listener]))
        finally:
            app.state.supervisor.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
