"""A server that runs: `tenth serve` as a process of its own, at a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

WAIT_SECONDS = 60


@dataclass(frozen=True)
class RunningServer:
    """A server's address without a path, the one that it said, its process and its client."""

    url: str
    said: str
    process: subprocess.Popen[str]
    client: httpx.Client


@contextmanager
def running_server(data: Path, *words: str, **variables: str) -> Iterator[RunningServer]:
    """`tenth serve` until the block ends."""
    command = [sys.executable, "-m", "tenth.cli", "serve", "--port", "0", "--data", str(data), *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ)
        | {"PYTHONUNBUFFERED": ""}
        | variables,  # as for a service: the address comes through a pipe at once
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline().strip()
        assert said.startswith("http://"), process.stderr.read()
        url = f"http://127.0.0.1:{said.split('/')[2].rpartition(':')[2]}"  # the name that it said need not resolve
        with httpx.Client(base_url=url, timeout=WAIT_SECONDS, trust_env=False) as client:
            yield RunningServer(url, said, process, client)
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)
