"""A server in a network namespace that has this machine's own address and no route: everything it does must go without others.

    unshare --user --map-root-user --net python tests/offline_server.py FOLDER

Prints as JSON what it answered, and which connections and names any of its processes asked for.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

MAX_LOOKS = 1_500  # whether the job has ended: minutes, on a machine with much to do
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
# Each Python process of the server runs it first: it notes what leaves for a network.
AUDIT = """
import os, sys

def note(event, arguments):
    if event in ("started", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        descriptor = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{sys.argv[:3]} {event} {arguments[1:] or arguments}\\n".encode())
        os.close(descriptor)

note("started", [0])
sys.addaudithook(note)
"""


def raise_loopback() -> None:
    """A new namespace has its loopback down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING))


def has_route() -> bool:
    """Whether anything but this machine could be reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((socket.inet_ntoa(bytes([192, 0, 2, 7])), 9))
        except OSError:
            return False
    return True


def main(folder: Path) -> None:
    """Serve, and use what needs other processes."""
    from running_server import running_server
    from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

    hook, log = folder / "hook", folder / "audit.txt"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(AUDIT, encoding="utf-8")
    paths = os.pathsep.join([str(hook), os.environ["PYTHONPATH"]])
    with running_server(folder / "data", PYTHONPATH=paths, AUDIT=str(log)) as server:
        photos = [("photo", (path.name, path.read_bytes())) for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:3]]
        verdicts = server.client.post("/v1/photos", files=photos).json()
        statuses = [server.client.get(path).status_code for path in ("/health", "/openapi.json")]
        job = draw(server.client, [verdict["sha256"] for verdict in verdicts])
    asked = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    started = sum(" started " in line for line in asked)
    asked = [line for line in asked if " started " not in line]
    result = {
        "route": has_route(),
        "verdicts": verdicts,
        "statuses": statuses,
        "job": job,
        "processes": started,
        "asked": asked,
    }
    print(json.dumps(result))


def draw(client: httpx.Client, photos: list[str]) -> dict[str, Any]:
    """A job of the pocket model, as it ended, with how many bytes its picture has."""
    request = {"prompts": ["a photo of a quixotic person"], "num_images": 1, "sampling": {"steps": 2}}
    job = dict(client.post("/v1/jobs", json={"photos": photos, "request": request}).json())
    for _ in range(MAX_LOOKS):
        if job["status"] not in ("queued", "running"):
            break
        time.sleep(0.2)
        job = dict(client.get(f"/v1/jobs/{job['id']}").json())
    sizes = [len(client.get(f"/v1/pictures/{picture}/image.png").content) for picture in job["pictures"]]
    return {**job, "picture_bytes": sizes}


if __name__ == "__main__":
    raise_loopback()
    main(Path(sys.argv[1]))
