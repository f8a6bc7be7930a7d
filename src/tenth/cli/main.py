"""The command line: one command, one call. Exit codes are here, the commands in app.py.

0 done, 1 the user's input (one line on stderr), 2 wrong usage, 70 our fault, 130 stopped with Ctrl-C. stdout carries results,
stderr progress.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from tenth.cli.app import build_command
from tenth.core.console import allow_any_text, discard_stdout
from tenth.core.errors import InputError
from tenth.core.wording import did_you_mean, printable

EXIT_OK, EXIT_INPUT, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
MEMORY_TEXT = "more memory is needed than there is; less at a time may fit. Ask for fewer or smaller things."
HUB_TEXT = "huggingface_hub cannot read the environment; its variables begin with HF_. Correct or unset those."
# What the machine refuses and the user can mend: permissions, a full disk, a path that cannot be.
USER_ERRNOS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ENOTEMPTY, errno.EBUSY, errno.ESTALE),
}
OUT_OF_MEMORY_TEXTS = ("OutOfMemoryError", "can't allocate memory", "Storage size calculation overflowed")  # as torch says it
COMPLETION_VARIABLE = "_TENTH_COMPLETE"  # set by the scripts of `tenth --show-completion`
MAX_ERROR_CHARS = 2000  # most characters of an error
BUG_REPORT_TEXT = """
tenth: this is a fault of tenth's, not yours. To report it, open an issue at the project with the text above, your command
and the output of `tenth doctor`. Take out names and paths that you do not want to show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _collect_less_garbage()
    allow_any_text()
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except typer.TyperException as problem:
        return _print_usage_error(problem)
    except typer.Exit as leaving:
        return leaving.exit_code
    except InputError as problem:
        return _print_input_error(str(problem))
    except KeyboardInterrupt as stop:
        print(f"\ntenth: stopped. {stop}".rstrip(), file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        discard_stdout()  # whoever read stdout has seen enough
        return EXIT_OK
    except OSError as problem:
        discard_stdout()
        if problem.errno not in USER_ERRNOS:
            return _print_internal_error()
        where = f"{problem.filename or 'a file'}: {problem.strerror}"
        return _print_input_error(f"{where}; tenth reads or writes there. Check the path, its permissions and the disk.")
    except Exception as problem:  # noqa: BLE001 - the last resort: nobody is left alone with a traceback
        text = _environment_text(problem)
        return _print_input_error(text) if text else _print_internal_error()
    return status


def _collect_less_garbage() -> None:
    """Importing torch makes a million objects that stay: Python need not search them again and again, nor at the exit."""
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)


def _run(words: list[str]) -> int:
    """The command's exit code. Its errors stay what they are, which typer's own way of running it would not let them."""
    command = build_command()
    if COMPLETION_VARIABLE in os.environ:  # a shell asks what could come next
        command.main(words, prog_name="tenth", standalone_mode=False)
    with command.make_context("tenth", words) as context:
        return int(command.invoke(context))


def _print_usage_error(problem: typer.TyperException) -> int:
    """One line: what was found, and where the help is."""
    context = getattr(problem, "ctx", None)
    name = context.command_path if context else "tenth"
    message = problem.format_message()
    unknown = getattr(problem, "option_name", None)
    if unknown and hasattr(problem, "possibilities"):  # with what it resembles, as everywhere else
        message = f"No such option: {unknown}. {did_you_mean(unknown, problem.possibilities or [])}".rstrip()
    stop = "" if message.endswith((".", "?")) else "."
    _print_line(f"{name}: {message}{stop} `{name} --help` says more.")
    return EXIT_USAGE


def _print_line(message: str) -> None:
    """One line on stderr, not too long: what to do stands at its end."""
    line = printable(message)
    if len(line) > MAX_ERROR_CHARS:
        line = f"{line[: MAX_ERROR_CHARS // 2]} ... {line[-MAX_ERROR_CHARS // 2 :]}"
    print(line, file=sys.stderr)


def _print_input_error(message: str) -> int:
    _print_line(f"tenth: {message}")
    return EXIT_INPUT


def _environment_text(problem: Exception) -> str:
    """What to say where something is beyond the machine, or a library cannot take it from the environment; else ''."""
    if isinstance(problem, MemoryError) or any(sign in f"{type(problem).__name__}: {problem}" for sign in OUT_OF_MEMORY_TEXTS):
        return MEMORY_TEXT
    codes = [frame.f_code for frame, _ in traceback.walk_tb(problem.__traceback__)]
    importing = any(code.co_name == "<module>" and "huggingface_hub" in Path(code.co_filename).parts for code in codes)
    return HUB_TEXT if isinstance(problem, ValueError) and importing else ""  # its own may hold the password of an address


def _print_internal_error() -> int:
    traceback.print_exc()
    print(BUG_REPORT_TEXT, file=sys.stderr)
    return EXIT_INTERNAL


if __name__ == "__main__":
    sys.exit(main())
