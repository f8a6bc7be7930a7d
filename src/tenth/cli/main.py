"""The command line: one command, one call. Exit codes are here, arguments in arguments.py, what commands do in commands.py.

0 done, 1 the user's input (one line on stderr), 2 wrong usage, 70 our fault, 130 stopped with Ctrl-C. stdout carries results,
stderr progress.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tenth.cli.arguments import build_parser
from tenth.core.console import allow_any_text, discard_stdout
from tenth.core.errors import InputError
from tenth.core.wording import printable

EXIT_OK, EXIT_INPUT, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
# What the machine refuses and the user can mend: permissions, a full disk, a path that cannot be.
USER_ERRNOS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ENOTEMPTY, errno.EBUSY, errno.ESTALE),
}
OUT_OF_MEMORY_TEXTS = ("OutOfMemoryError", "can't allocate memory", "Storage size calculation overflowed")  # as torch says it
MAX_ERROR_CHARS = 2000  # most characters of an error
BUG_REPORT_TEXT = """
tenth: this is a fault of tenth's, not yours. To report it, open an issue at the project with the text above, your command
and the output of `tenth doctor`. Take out names and paths that you do not want to show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage leaves with SystemExit(2), as argparse does."""
    allow_any_text()
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        if args.run is None:
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        status: int = args.run(args)
        sys.stdout.flush()
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
        return _print_os_error(problem) if problem.errno in USER_ERRNOS else _print_internal_error()
    except Exception as problem:  # noqa: BLE001 - the last resort: nobody is left alone with a traceback
        return _print_environment_error(problem) or _print_internal_error()
    return status


def _print_input_error(message: str) -> int:
    line = printable(message)
    shown = (
        line if len(line) <= MAX_ERROR_CHARS else f"{line[: MAX_ERROR_CHARS // 2]} ... {line[-MAX_ERROR_CHARS // 2 :]}"
    )  # what to do stands at the end
    print(f"tenth: {shown}", file=sys.stderr)
    return EXIT_INPUT


def _print_os_error(problem: OSError) -> int:
    where = problem.filename or "a file"
    return _print_input_error(
        f"{where}: {problem.strerror}; tenth reads or writes there. Check the path, its permissions and the disk."
    )


def _print_environment_error(problem: Exception) -> int:
    """The code for what is beyond the machine, or what a library cannot take from the environment; else 0."""
    if isinstance(problem, MemoryError) or any(sign in f"{type(problem).__name__}: {problem}" for sign in OUT_OF_MEMORY_TEXTS):
        return _print_input_error(
            "more memory is needed than there is; less at a time may fit. Ask for fewer or smaller things."
        )
    codes = [frame.f_code for frame, _ in traceback.walk_tb(problem.__traceback__)]
    importing = any(code.co_name == "<module>" and "huggingface_hub" in Path(code.co_filename).parts for code in codes)
    if isinstance(problem, ValueError) and importing:  # what it says may hold the password of an address
        return _print_input_error(
            "huggingface_hub cannot read the environment; its variables begin with HF_. Correct or unset those."
        )
    return 0


def _print_internal_error() -> int:
    traceback.print_exc()
    print(BUG_REPORT_TEXT, file=sys.stderr)
    return EXIT_INTERNAL


if __name__ == "__main__":
    sys.exit(main())
