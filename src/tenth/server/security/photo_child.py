"""The process in which strangers' photos are opened: it may take so much memory and time, and may die; the server goes on."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenth.server.settings import PhotoChildLimits

THUMBNAIL_SUFFIX = ".png"  # beside each photo that could be opened
MODULE = f"{__package__}.photo_inspection"  # which imports what this process must not
START_SECONDS = 60  # until its libraries are imported
MAX_ANSWER_BYTES = 4 << 20  # a photo's verdict has some hundred
MAX_WRITTEN_BYTES = 4 << 20  # by the process: a thumbnail has at most some 200 kB
SECRET_VARIABLES = ("TENTH_TOKEN", "HF_TOKEN")
UNSAFE = {
    "accepted": False,
    "code": "unsafe",
    "face": None,
    "width": None,
    "height": None,
    "reason": "opening it took more memory or time than a photo does; save a copy of it with another program",
}


class PhotoChild:
    """One process for one photo after another, started when it is needed and again whenever it died."""

    def __init__(self, limits: PhotoChildLimits) -> None:
        self.limits = limits
        self.process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def inspect(self, names: Mapping[Path, str]) -> dict[Path, dict[str, Any]]:
        """A verdict on each photo, by its path: {"accepted", "code", "reason", "face", "width", "height"}.

        names: what each is called. They are compared with each other. If the process dies over them each is tried alone,
        and one that kills it has the code "unsafe".
        """
        if not names:
            return {}
        verdicts = await self._ask(names)
        if verdicts is not None:
            return verdicts
        alone = {path: (await self._ask({path: name}) or {path: UNSAFE})[path] for path, name in names.items()}
        safe = {path: name for path, name in names.items() if alone[path] is not UNSAFE}
        return alone | ((await self._ask(safe) or {}) if len(safe) > 1 else {})

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._kill()

    async def _ask(self, names: Mapping[Path, str]) -> dict[Path, dict[str, Any]] | None:
        """The verdicts; None if the process died or took too long."""
        async with self._lock:
            start_seconds = 0 if self._is_running else START_SECONDS
            process = await self._started()
            try:
                answer = await self._answer(process, names, start_seconds)
                return {path: answer[str(path)] for path in names}
            except (TimeoutError, OSError, ValueError, LookupError, TypeError):  # no line, half of one, or another
                await self._kill()
                return None
            except asyncio.CancelledError:
                await self._kill()  # whoever asks next must not read this answer
                raise

    async def _answer(self, process: asyncio.subprocess.Process, names: Mapping[Path, str], start_seconds: float) -> Any:
        """What the process says of the photos. Raises TimeoutError, OSError or ValueError.

        It says null for each photo that it has opened, so that each has its own time; then all are compared.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(start_seconds + self.limits.seconds):
            process.stdin.write(json.dumps([[str(path), name] for path, name in names.items()]).encode() + b"\n")
            await process.stdin.drain()
            answer = json.loads(await process.stdout.readline())
        for left in range(len(names) - 1, -1, -1):
            if answer is not None:
                break
            async with asyncio.timeout(self.limits.seconds * (1 if left else len(names))):
                answer = json.loads(await process.stdout.readline())
        return answer

    @property
    def _is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def _started(self) -> asyncio.subprocess.Process:
        if self.process is None or self.process.returncode is not None:
            variables = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, str(self.limits.memory_bytes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=variables,
                limit=MAX_ANSWER_BYTES,
            )
        return self.process

    async def _kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.process = None


def limit_resources(max_bytes: int) -> None:
    """Limit this process: its memory, and the files that it writes; and no dump of its memory, which has faces in it."""
    for kind, most in (
        (resource.RLIMIT_DATA, max_bytes),
        (resource.RLIMIT_FSIZE, MAX_WRITTEN_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
