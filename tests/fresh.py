"""Processes that have loaded nothing of tenth: each a fork of one that has loaded what tenth stands on, which takes seconds.

Commands and programs draw pictures in one step there, whatever is asked for: what they show is not looked at.
"""

from __future__ import annotations

import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 480  # after which a process is killed
STEPS = 1


@dataclass(frozen=True)
class Done:
    """How a process ended: 70 after an exception, below 0 by a signal."""

    code: int
    out: str
    err: str


class Fresh:
    """Forks of one server. environment: of all of them, beside the server's own."""

    def __init__(self, server: subprocess.Popen[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.server, self.folder, self.environment = server, folder, dict(environment or {})

    def within(self, **environment: str) -> Fresh:
        """Forks of the same server with more in their environment: what no library reads when it is imported."""
        return Fresh(self.server, self.folder, self.environment | environment)

    def command(self, words: Sequence[str], at: Path, environment: Mapping[str, str] | None = None) -> Done:
        """`tenth` with these words, as the console script calls it, in a folder."""
        return self._run({"command": list(words), "steps": STEPS}, at, environment)

    def line(self, line: str, at: Path) -> Done:
        """A line of a shell that begins with `tenth`."""
        return self.command(shlex.split(line, comments=True)[1:], at)

    def python(self, code: str, at: Path) -> Done:
        """A program, as `python -c` runs it, in a folder."""
        return self._run({"code": code, "steps": STEPS}, at)

    def script(self, path: Path, *arguments: object, at: Path, steps: int = 1_000) -> Done:
        """`python path arguments` in a folder, where pictures are drawn in so many steps at most."""
        return self._run({"script": [str(path), *map(str, arguments)], "steps": steps}, at)

    def _run(self, task: Mapping[str, Any], at: Path, environment: Mapping[str, str] | None = None) -> Done:
        paths = {name: str(self.folder / name) for name in ("out", "err")}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        more = {"at": str(at), "environment": {**self.environment, **(environment or {})}}
        print(json.dumps({**task, **paths, **more}), file=self.server.stdin, flush=True)
        code = int(self.server.stdout.readline())
        return Done(code, *(Path(path).read_text(encoding="utf-8") for path in paths.values()))


@contextmanager
def fresh_processes(folder: Path, **environment: str) -> Iterator[Fresh]:
    """folder: an empty one, for what they say."""
    more = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **more}
    ) as server:
        yield Fresh(server, folder)
        assert server.stdin is not None
        server.stdin.close()


def serve() -> None:
    """A fork for each line of stdin; its exit code as a line on stdout."""
    load_what_tenth_stands_on()
    for line in sys.stdin:
        task = json.loads(line)
        assert not [name for name in sys.modules if name.partition(".")[0] == "tenth"]
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            become(task)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def load_what_tenth_stands_on() -> None:
    """Its large libraries."""
    import accelerate  # noqa: F401
    import dlib  # noqa: F401
    import jinja2  # noqa: F401
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
    import numpy as np  # noqa: F401
    import peft  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection  # noqa: F401


def cut_short(steps: int) -> None:
    """The pipelines draw in so many steps at most."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    for pipeline in (StableDiffusionPipeline, StableDiffusionXLPipeline):

        def quick(self: Any, *given: Any, called: Any = pipeline.__call__, **named: Any) -> Any:
            return called(self, *given, **named | {"num_inference_steps": min(steps, named.get("num_inference_steps", steps))})

        pipeline.__call__ = quick


def become(task: Mapping[str, Any]) -> None:
    """Be the process that a task asks for, to its end."""
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), (task["out"], new), (task["err"], new))):
        os.dup2(os.open(path, flags), number)
    os.chdir(task["at"])
    os.environ.update(task["environment"])
    cut_short(task["steps"])
    code: Any = 0
    try:
        if "command" in task:
            from tenth.cli.main import main

            code = main(task["command"])
        elif "script" in task:
            sys.argv = task["script"]
            sys.path.insert(0, str(Path(sys.argv[0]).parent))
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            exec(compile(task["code"], "<the text>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own texts
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 - the test says what was raised
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve()
