"""Processes that have loaded nothing of tenth: each a fork of one that has loaded what tenth stands on, which takes seconds.

What need not show that is a fork of one that has loaded tenth as well, and has drawn a picture. Commands and programs draw
pictures in one step there, whatever is asked for: what they show is not looked at.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch

from checked_networks import checked_once

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 480  # after which a process is killed
STEPS = 1
LOADED = "-loaded"  # the end of an address
INTERPRETER = "interpreter"


@dataclass(frozen=True)
class Done:
    """How a process ended: 70 after an exception, below 0 by a signal."""

    code: int
    out: str
    err: str


class Fresh:
    """Forks of one server. folder: for what they say. environment: of all of them, beside the server's own."""

    def __init__(self, address: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.address, self.folder, self.environment = address, folder, dict(environment or {})

    @property
    def loaded(self) -> Fresh:
        """Forks of a process that has loaded tenth: they begin in a tenth of the time."""
        return Fresh(f"{self.address}{LOADED}", self.folder, self.environment)

    def within(self, **environment: str) -> Fresh:
        """Forks of the same server with more in their environment: what no library but the hub's reads when it is imported."""
        return Fresh(self.address, self.folder, self.environment | environment)

    def command(self, words: Sequence[str], at: Path, environment: Mapping[str, str] | None = None) -> Done:
        """`tenth` with these words, as the console script calls it, in a folder."""
        return self._run({"command": list(words), "steps": STEPS}, at, environment)

    def line(self, line: str, at: Path) -> Done:
        """A line of a shell that begins with `tenth`."""
        return self.command(shlex.split(line, comments=True)[1:], at)

    def python(self, code: str, at: Path) -> Done:
        """A program, as `python -c` runs it, in a folder."""
        return self._run({"code": code, "steps": STEPS}, at)

    def script(self, path: Path, *arguments: object, at: Path, steps: int = 1_000, executable: Path | None = None) -> Done:
        """`python path arguments` where pictures are drawn in so many steps at most. executable: for its own processes."""
        more = {"steps": steps, "executable": str(executable or sys.executable)}
        return self._run({"script": [str(path), *map(str, arguments)], **more}, at)

    def interpreter(self, path: Path) -> Path:
        """A program at this path that runs commands, scripts and programs from stdin as `python` does, each in a fork."""
        words = shlex.join([sys.executable, "-S", str(Path(__file__)), INTERPRETER, self.address])
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    def _run(self, task: Mapping[str, Any], at: Path, environment: Mapping[str, str] | None = None) -> Done:
        paths = {name: str(self.folder / name) for name in ("out", "err")}
        more = {
            "at": str(at),
            "server": str(Path(self.address).parent),
            "environment": {**self.environment, **(environment or {})},
        }
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw", encoding="utf-8") as stream:
            connection.settimeout(SECONDS + 120)  # longer than any process lives: the server itself is gone
            connection.connect(self.address)
            print(json.dumps({**task, **paths, **more}), file=stream, flush=True)
            code = int(stream.readline())
        return Done(code, *(Path(path).read_text(encoding="utf-8") for path in paths.values()))


@contextmanager
def fresh_server() -> Iterator[str]:
    """The address of a server for several processes, which ends with the one that started it."""
    more = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    unix = socket.AF_UNIX
    with TemporaryDirectory(prefix="tenth-") as folder, socket.socket(unix) as plain, socket.socket(unix) as loaded:
        address = f"{folder}/socket"
        for listener, end in ((plain, ""), (loaded, LOADED)):
            listener.bind(f"{address}{end}")
            listener.listen()
        numbers = [plain.fileno(), loaded.fileno()]
        command = [sys.executable, __file__, *map(str, numbers)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=numbers, env={**os.environ, **more}
        ):
            yield address


def serve(listener: socket.socket, loaded: socket.socket | None = None) -> None:
    """A fork for each connection, until stdin ends. Who needs none waits for no library. loaded: for forks that have tenth."""
    while sys.stdin not in (ready := select.select([sys.stdin, *filter(None, (listener, loaded))], [], [])[0]):
        load_what_tenth_stands_on()
        if loaded in ready:
            assert loaded is not None
            if os.fork() == 0:
                listener.close()
                load_tenth()
                serve(loaded)
                return
            loaded.close()
            loaded = None
            continue
        connection, _ = listener.accept()
        if os.fork() == 0:
            answer(connection)
        connection.close()

        # Those that have ended: nobody else asks for them.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def answer(connection: socket.socket) -> NoReturn:
    """Fork what a line asks for, and say its exit code."""
    with connection.makefile("rw", encoding="utf-8") as stream:
        task = json.loads(stream.readline())
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            become(task)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=stream, flush=True)
    os._exit(0)


@cache
def load_what_tenth_stands_on() -> None:
    """Its large libraries. Nothing of these is looked through for garbage."""
    gc.disable()
    import accelerate  # noqa: F401
    import c2pa  # noqa: F401
    import cryptography.x509  # noqa: F401
    import dlib  # noqa: F401
    import jinja2  # noqa: F401
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
    import numpy as np  # noqa: F401
    import peft  # noqa: F401
    import pydantic.dataclasses  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("")  # a table of a thousand patterns, made once in a process

    gc.freeze()
    gc.enable()


def load_tenth() -> None:
    """All of tenth, and what it and its libraries make once in a process: by one command, of which nothing is kept."""
    gc.disable()
    import tenth
    from tenth.cli.main import main
    from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

    for module in pkgutil.walk_packages(tenth.__path__, "tenth."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pipelines = importlib.import_module("tenth.models.pipelines")
    pipelines.check_networks = checked_once(pipelines.check_networks)
    with TemporaryDirectory() as folder, patch.dict(os.environ, {"TENTH_CACHE_DIR": folder}), redirect_stderr(io.StringIO()):
        words = ["--prompt", "a person", "-n", "1", "--steps", "1", "-o", f"{folder}/out"]
        assert main(["generate", str(EXAMPLE_PHOTOS_DIR), *words]) == 0
    gc.freeze()
    gc.enable()


def skip_flush(descriptor: int) -> None:
    """In the place of `os.fsync`: no test switches the machine off, and the system keeps what a killed process has written."""
    os.fstat(descriptor)  # an error where it is not open


class OnLoading(MetaPathFinder):
    """Changes a module as soon as it is loaded."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self.name, self.change = name, change

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        spec: Any = PathFinder.find_spec(fullname, path, target)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), self.change(module))
        return spec


def shorten_loop(most: int, sampler: Any) -> None:
    """Pictures are drawn in so many steps at most."""
    last_timesteps = sampler.last_timesteps
    sampler.last_timesteps = lambda scheduler, steps, *others: last_timesteps(scheduler, min(steps, most), *others)


def check_once(folder: Path, pipelines: Any) -> None:
    """Networks are checked by the first process of all that meets them. folder: where it says so to the others."""
    pipelines.check_networks = checked_once(pipelines.check_networks, folder)


def become(task: Mapping[str, Any]) -> None:
    """Be the process that a task asks for, to its end."""
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), (task["out"], new), (task["err"], new))):
        os.dup2(os.open(path, flags), number)
    import huggingface_hub.constants

    os.chdir(task["at"])
    os.environ.update(task["environment"])
    importlib.reload(huggingface_hub.constants)  # read from the environment
    changes = {"tenth.sampling.sampler": partial(shorten_loop, task["steps"])}
    changes["tenth.models.pipelines"] = partial(check_once, Path(task["server"]))
    for name, change in changes.items():
        if name in sys.modules:
            change(sys.modules[name])
        else:
            sys.meta_path.insert(0, OnLoading(name, change))
    os.fsync = skip_flush
    code: Any = 0
    try:
        if "command" in task:
            from tenth.cli.main import main

            code = main(task["command"])
        elif "script" in task:
            sys.argv, sys.executable = task["script"], task["executable"]
            sys.path.insert(0, str(Path(sys.argv[0]).parent))
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = task.get("words", sys.argv)
            exec(compile(task["code"], "<the text>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own texts
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 - the test says what was raised
        traceback.print_exc()
        code = 70
    if isinstance(code, str):  # as Python says it
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def interpret(address: str, words: Sequence[str]) -> int:
    """What `python` with these words would do here and now, in a fork: -m tenth.cli.main WORDS, - WORDS, FILE WORDS."""
    task: dict[str, Any] = {"steps": 1_000}
    if words[:2] == ["-m", "tenth.cli.main"]:
        task["command"] = words[2:]
    elif words[0] == "-":
        task |= {"code": sys.stdin.read(), "words": words}
    else:
        assert not words[0].startswith("-"), words
        task |= {"script": words, "executable": sys.executable}
    with TemporaryDirectory() as folder:
        done = Fresh(address, Path(folder), os.environ)._run(task, Path.cwd())
    sys.stdout.write(done.out)
    sys.stderr.write(done.err)
    return done.code


if __name__ == "__main__" and sys.argv[1] == INTERPRETER:
    sys.exit(interpret(sys.argv[2], sys.argv[3:]))
elif __name__ == "__main__":
    serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
