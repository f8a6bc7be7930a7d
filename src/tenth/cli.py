"""The command line: one command, one call. Exit codes are here, arguments in arguments.py, what commands do in commands.py.

0 done, 1 the user's input (one line on stderr), 2 wrong usage, 70 our fault, 130 stopped with Ctrl-C. stdout carries results,
stderr progress.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence

from tenth.arguments import build_parser
from tenth.errors import InputError
from tenth.terminal import let_go, one_line, speak_plainly

DONE, INPUT, USAGE, OUR_FAULT, STOPPED = 0, 1, 2, 70, 130
# What the machine refuses and the user can mend: permissions, a full disk, a path that cannot be.
REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ENOTEMPTY, errno.EBUSY, errno.ESTALE),
}
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
    except Exception:  # noqa: BLE001 - the last resort: nobody is left alone with a traceback
        return _our_fault()
    return status


def _complain(message: str) -> int:
    print(f"tenth: {one_line(message)}", file=sys.stderr)
    return INPUT


def _refused(problem: OSError) -> int:
    where = problem.filename or "a file"
    return _complain(f"{where}: {problem.strerror}; tenth reads or writes there. Check the path, its permissions and the disk.")


def _our_fault() -> int:
    traceback.print_exc()
    print(REPORT, file=sys.stderr)
    return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())
