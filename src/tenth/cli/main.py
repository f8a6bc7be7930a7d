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
from tenth.core.console import let_go, one_line, speak_plainly
from tenth.core.errors import InputError

DONE, INPUT, USAGE, OUR_FAULT, STOPPED = 0, 1, 2, 70, 130
# What the machine refuses and the user can mend: permissions, a full disk, a path that cannot be.
REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ENOTEMPTY, errno.EBUSY, errno.ESTALE),
}
NO_MEMORY = ("OutOfMemoryError", "can't allocate memory", "Storage size calculation overflowed")  # as torch says it
LINE = 2000  # most characters of an error
REPORT = """
tenth: this is a fault of tenth's, not yours. To report it, open an issue at the project with the text above, your command
and the output of `tenth doctor`. Take out names and paths that you do not want to show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage leaves with SystemExit(2), as argparse does."""
    speak_plainly()
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        if args.run is None:
            parser.print_help(sys.stderr)
            return USAGE
        status: int = args.run(args)
        sys.stdout.flush()
    except InputError as problem:
        return _complain(str(problem))
    except KeyboardInterrupt as stop:
        print(f"\ntenth: stopped. {stop}".rstrip(), file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        let_go()  # whoever read stdout has seen enough
        return DONE
    except OSError as problem:
        let_go()
        return _refused(problem) if problem.errno in REFUSED else _our_fault()
    except Exception as problem:  # noqa: BLE001 - the last resort: nobody is left alone with a traceback
        return _beyond(problem) or _our_fault()
    return status


def _complain(message: str) -> int:
    line = one_line(message)
    shown = line if len(line) <= LINE else f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"  # what to do stands at the end
    print(f"tenth: {shown}", file=sys.stderr)
    return INPUT


def _refused(problem: OSError) -> int:
    where = problem.filename or "a file"
    return _complain(f"{where}: {problem.strerror}; tenth reads or writes there. Check the path, its permissions and the disk.")


def _beyond(problem: Exception) -> int:
    """The code for what is beyond the machine, or what a library cannot take from the environment; else 0."""
    if isinstance(problem, MemoryError) or any(sign in f"{type(problem).__name__}: {problem}" for sign in NO_MEMORY):
        return _complain("more memory is needed than there is; less at a time may fit. Ask for fewer or smaller things.")
    codes = [frame.f_code for frame, _ in traceback.walk_tb(problem.__traceback__)]
    importing = any(code.co_name == "<module>" and "huggingface_hub" in Path(code.co_filename).parts for code in codes)
    if isinstance(problem, ValueError) and importing:  # what it says may hold the password of an address
        return _complain("huggingface_hub cannot read the environment; its variables begin with HF_. Correct or unset those.")
    return 0


def _our_fault() -> int:
    traceback.print_exc()
    print(REPORT, file=sys.stderr)
    return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())
