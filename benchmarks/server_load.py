"""A server under too much at once: slow uploads, large ones, a thousand jobs in a second; and whether /health answers then.

    python benchmarks/server_load.py [--tiny]

Starts `tenth serve` in a folder of its own and sends it, one after another: 200 uploads of a hundred bytes a second, 50 of
20 MB at once, 1,000 jobs in one second over 100 connections to a queue of 50. For each it prints how many answers had which
status, /health's times in milliseconds, and beside them by how much the process that asks was late itself; the most memory of
the server's processes and bytes in its folder in MB. The last line is all of it as JSON.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

TINY = "--tiny" in sys.argv
NUM_CONNECTIONS = 10 if TINY else 100  # for the jobs
NUM_SLOW, NUM_LARGE, NUM_JOBS, MAX_QUEUED = (20, 6, 100, 5) if TINY else (200, 50, 1000, 50)
LARGE_BYTES = 2_000_000 if TINY else 20_000_000
SLOW_SECONDS = 3 if TINY else 30
PROBE_SECONDS = 0.05 if TINY else 0.005  # from one question to the next
SETTINGS = f"max_queued = {MAX_QUEUED}\n[uploads]\ngrace_seconds = {2 if TINY else 10}.0\n"
BOUNDARY = "a-boundary"
FORM_HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'.encode()
FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()


class Server:
    """`tenth serve` at a free port, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, settings = folder / "data", folder / "settings.toml"
        settings.write_text(SETTINGS, encoding="utf-8")
        words = ["-m", "tenth.cli", "serve", "--port", "0", "--data", str(self.folder), "--settings", str(settings)]
        self.process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2].strip("/\n"))

    async def ask(self, method: str, path: str, kind: str = "", body: bytes = b"", pause: float = 0.0) -> int:
        """The status of an answer; 0 if the connection ended without one. pause: seconds between hundred bytes of the body."""
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if kind else ""
            writer.write(f"{head}\r\n".encode())
            answer = asyncio.create_task(reader.readline())
            for start in range(0, len(body), 100 if pause else 1 << 16):
                if answer.done():
                    break
                writer.write(body[start : start + (100 if pause else 1 << 16)])
                await writer.drain()
                await asyncio.sleep(pause)
            return int((await answer).split()[1])
        except (OSError, IndexError):
            return 0
        finally:
            if writer is not None:
                writer.close()

    async def post_all(self, bodies: list[bytes]) -> collections.Counter[int]:
        """The statuses of answers to these jobs, sent within a second by a process of its own."""
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return await asyncio.get_running_loop().run_in_executor(pool, flood, self.port, bodies)

    def megabytes(self) -> tuple[float, float]:
        """Memory of the server's processes, and what is in its folder."""
        memory, disk = 0, 0
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                memory += process.memory_info().rss
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                disk += path.stat().st_size if path.is_file() else 0
        return memory / 1e6, disk / 1e6


def flood(port: int, bodies: list[bytes]) -> collections.Counter[int]:
    """Send each job at its time over connections in turn, as bytes that were made before; the statuses of the answers."""
    head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    selector, statuses = selectors.DefaultSelector(), collections.Counter()
    waiting = [requests[number::NUM_CONNECTIONS] for number in range(NUM_CONNECTIONS)]
    free = list(range(NUM_CONNECTIONS))
    connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in free]
    received = [b""] * NUM_CONNECTIONS
    for number, connection in enumerate(connections):
        selector.register(connection, selectors.EVENT_READ, number)
    begun, num_sent = time.perf_counter(), [0] * NUM_CONNECTIONS
    while statuses.total() < len(requests):
        due = (time.perf_counter() - begun) * len(requests) / NUM_CONNECTIONS
        for number in [each for each in free if num_sent[each] <= due and num_sent[each] < len(waiting[each])]:
            connections[number].sendall(waiting[number][num_sent[number]])
            num_sent[number] += 1
            free.remove(number)
        for key, _ in selector.select(0.002):
            received[key.data] += connections[key.data].recv(1 << 16)
            answer, _, content = received[key.data].partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            if length and len(content) >= int(length[1]):
                statuses[int(answer.split()[1])] += 1
                received[key.data] = b""
                free.append(key.data)
    return statuses


def probe(port: int, ended: Any, found: Any) -> None:
    """Ask /health again and again, from a process of its own; the seconds of each, and by how many each pause was too long.

    The second is what any process here waits for a core, whatever the server does.
    """
    seconds, late = [], []
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    while not ended.is_set():
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(request)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            while connection.recv(1 << 16):
                pass
        end = time.perf_counter()
        time.sleep(PROBE_SECONDS)
        seconds.append(end - start)
        late.append(time.perf_counter() - end - PROBE_SECONDS)
    found.put((seconds, late))


def watch(server: Server, ended: threading.Event, most: list[float]) -> None:
    """Look at memory and disk every half second."""
    while not ended.wait(0.5):
        most[:] = map(max, most, server.megabytes())


async def measure(server: Server, name: str, requests: list) -> dict:
    """Send all of them; /health, memory and disk meanwhile."""
    ended, found, most = multiprocessing.Event(), multiprocessing.Queue(), [0.0, 0.0]
    probing = multiprocessing.Process(target=probe, args=(server.port, ended, found))
    watching = threading.Thread(target=watch, args=(server, ended, most))
    probing.start()
    watching.start()
    await asyncio.sleep(0.5)
    start, statuses = time.perf_counter(), collections.Counter()
    for answers in await asyncio.gather(*requests):
        statuses.update(answers if isinstance(answers, dict) else [answers])
    took = time.perf_counter() - start
    ended.set()
    seconds, late = map(sorted, found.get())
    probing.join()
    watching.join()
    health = {"median_ms": 1e3 * seconds[len(seconds) // 2], "p99_ms": 1e3 * seconds[int(len(seconds) * 0.99)]}
    health |= {"most_ms": 1e3 * seconds[-1], "asked": len(seconds), "probe_late_p99_ms": 1e3 * late[int(len(late) * 0.99)]}
    result = {"statuses": dict(statuses), "seconds": took, "health": health, "memory_mb": most[0], "disk_mb": most[1]}
    print(name, json.dumps(result), flush=True)
    return result


async def main() -> None:
    """Each load in turn."""
    form = f"multipart/form-data; boundary={BOUNDARY}"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            idle = server.megabytes()[0]
            slow = FORM_HEAD + bytes(100 * SLOW_SECONDS)
            noise = os.urandom(LARGE_BYTES)
            photo = min(EXAMPLE_PHOTOS_DIR.glob("*.png")).read_bytes()
            assert await server.ask("POST", "/v1/photos", form, FORM_HEAD + photo + FORM_END) == 200
            request = {"prompts": ["a photo of a person"], "num_images": 1}
            job = {"photos": [hashlib.sha256(photo).hexdigest()], "request": request}
            assert await server.ask("POST", "/v1/jobs", "application/json", json.dumps(job).encode()) == 202
            jobs = [json.dumps(job | {"request": request | {"seed": n}}).encode() for n in range(1, NUM_JOBS + 1)]
            loads = {
                "slow": [server.ask("POST", "/v1/photos", form, slow, 1.0) for _ in range(NUM_SLOW)],
                "large": [
                    server.ask("POST", "/v1/photos", form, FORM_HEAD + str(n).encode() + noise + FORM_END)
                    for n in range(NUM_LARGE)
                ],
                "jobs": [server.post_all(jobs)],
            }
            results = {name: await measure(server, name, requests) for name, requests in loads.items()}
        finally:
            server.process.terminate()
            server.process.wait()
        print(json.dumps({"name": "server_load", "idle_memory_mb": idle, **results}))


if __name__ == "__main__":
    asyncio.run(main())
