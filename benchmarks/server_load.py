"""A server under too much at once: slow uploads, large ones, a thousand jobs in a second; and whether /health answers then.

    python benchmarks/server_load.py [--tiny]

Starts `tenth serve` in a folder of its own and sends it, one after another: 200 uploads of a hundred bytes a second, 50 of
20 MB at once, 1,000 jobs in one second to a queue of 50. For each it prints how many answers had which status, /health's
median and 99th percentile in milliseconds, and the most memory of the server's processes and bytes in its folder in MB. The
last line is all of it as JSON.
"""

import asyncio
import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TINY = "--tiny" in sys.argv
NUM_SLOW, NUM_LARGE, NUM_JOBS, MAX_QUEUED = (20, 6, 100, 5) if TINY else (200, 50, 1000, 50)
LARGE_BYTES = 2_000_000 if TINY else 20_000_000
SLOW_SECONDS = 3 if TINY else 30
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

    def megabytes(self) -> tuple[float, float]:
        """Memory of the server's processes, and what is in its folder."""
        memory = 0
        for process in (root := psutil.Process(self.process.pid), *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                memory += process.memory_info().rss
        disk = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                disk += path.stat().st_size if path.is_file() else 0
        return memory / 1e6, disk / 1e6


async def measure(server: Server, name: str, requests: list, pause_between: float = 0.0) -> dict:
    """Send all of them, and ask /health and look at memory and disk meanwhile."""
    seconds, memory, disk = [], 0.0, 0.0

    async def watch() -> None:
        nonlocal memory, disk
        while True:
            start = time.perf_counter()
            assert await server.ask("GET", "/health") == 200
            seconds.append(time.perf_counter() - start)
            if len(seconds) % 5 == 1:
                found = await asyncio.to_thread(server.megabytes)
                memory, disk = max(memory, found[0]), max(disk, found[1])
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.3)
    start, tasks = time.perf_counter(), []
    for request in requests:
        tasks.append(asyncio.create_task(request))
        await asyncio.sleep(pause_between)
    statuses = collections.Counter(await asyncio.gather(*tasks))
    took = time.perf_counter() - start
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    seconds.sort()
    health = {
        "median_ms": 1e3 * seconds[len(seconds) // 2],
        "p99_ms": 1e3 * seconds[int(len(seconds) * 0.99)],
        "asked": len(seconds),
    }
    result = {"statuses": dict(statuses), "seconds": took, "health": health, "memory_mb": memory, "disk_mb": disk}
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
            jobs = [{"person": None, "photos": [], "request": {"prompts": ["a"], "seed": seed}} for seed in range(NUM_JOBS)]
            loads = {
                "slow": [server.ask("POST", "/v1/photos", form, slow, 1.0) for _ in range(NUM_SLOW)],
                "large": [
                    server.ask("POST", "/v1/photos", form, FORM_HEAD + str(n).encode() + noise + FORM_END)
                    for n in range(NUM_LARGE)
                ],
                "jobs": [server.ask("POST", "/v1/jobs", "application/json", json.dumps(job).encode()) for job in jobs],
            }
            pauses = {"slow": 0.0, "large": 0.0, "jobs": 0.8 / NUM_JOBS}
            results = {name: await measure(server, name, requests, pauses[name]) for name, requests in loads.items()}
        finally:
            server.process.terminate()
            server.process.wait()
        print(json.dumps({"name": "server_load", "idle_memory_mb": idle, **results}))


if __name__ == "__main__":
    asyncio.run(main())
