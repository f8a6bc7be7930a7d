"""Memory of a server with many streams of events: all opened, half of them dropped, the rest told of a job, all dropped; twice.

A server in a process of its own, and clients that only read. Prints one JSON object as its last line. megabytes: of the
server's process before, and then with all streams and after each round. ratio: after the last round over after the first,
1 where nothing is left of a stream that is gone. told: how many streams got each job; slowest: seconds until the last one
had it. `--streams=500`, `--rounds=2`. `--tiny` is for a test of this file.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tenth.server.queue.queue import JobQueue
from tenth.server.storage.database import Database

SERVER = """
import asyncio, sys, uvicorn
from tenth.server.app import create_app
from tenth.server.settings import ServerSettings
from tenth.server.start import listen
settings = ServerSettings(data=sys.argv[1], port=0)
with listen(settings) as listener:
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=1))
    print(listener.getsockname()[1], flush=True)
    asyncio.run(server.serve(sockets=[listener]))
"""
SETTLE_SECONDS, WAIT_SECONDS, OPEN_AT_ONCE = 1.0, 60.0, 50
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def option(name: str, default: int) -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith(f"--{name}=")), default)


async def opened(port: int) -> Stream:
    """A stream of events whose answer has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
    assert head.startswith(b"HTTP/1.1 200"), head
    return reader, writer


async def told(stream: Stream, job: str) -> float:
    """When a stream has a job."""
    await asyncio.wait_for(stream[0].readuntil(job.encode()), WAIT_SECONDS)
    return time.perf_counter()


async def measure(port: int, queue: JobQueue, process: psutil.Process) -> dict[str, Any]:
    num_streams, rounds = (20, 2) if "--tiny" in sys.argv else (option("streams", 500), option("rounds", 2))
    megabytes, counts, slowest = [process.memory_info().rss / 1e6], [], []
    for number in range(rounds):
        streams: list[Stream] = []
        while len(streams) < num_streams:
            streams += await asyncio.gather(*(opened(port) for _ in range(min(OPEN_AT_ONCE, num_streams - len(streams)))))
        megabytes.append(process.memory_info().rss / 1e6)
        for _, writer in streams[::2]:
            writer.transport.abort()
        await asyncio.sleep(SETTLE_SECONDS)
        start = time.perf_counter()
        job, _ = queue.submit(owner="", kind="images", payload={"number": number})
        times = await asyncio.gather(*(told(stream, job.id) for stream in streams[1::2]))
        counts.append(len(times))
        slowest.append(round(max(times) - start, 2))
        for _, writer in streams[1::2]:
            writer.transport.abort()
        await asyncio.sleep(SETTLE_SECONDS)
        megabytes.append(process.memory_info().rss / 1e6)
    found = {"streams": num_streams, "told": counts, "slowest": slowest, "connections": len(process.net_connections("tcp"))}
    return found | {"megabytes": [round(each, 1) for each in megabytes], "ratio": round(megabytes[-1] / megabytes[2], 3)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        queue = JobQueue(Database(Path(folder)), max_queued=1000)
        with subprocess.Popen([sys.executable, "-c", SERVER, folder], stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                found = asyncio.run(measure(port, queue, psutil.Process(server.pid)))
            finally:
                server.terminate()
    print(json.dumps({"name": "server_streams"} | found))


if __name__ == "__main__":
    main()
