"""`tenth serve`: the page and the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tenth.cli.parameters import option, whole_number

SETTINGS_HELP = "a TOML file with any of the server's settings (docs/serve.md); options come before it"
USERS_HELP = "a file with users and their tokens' hashes: each then sees what is their own alone"
ADD_USER_HELP = "add a user to the file of --users, print the token that is theirs, and serve nothing"
DATA_HELP = "where pictures, people and jobs are kept [default: $TENTH_DATA_DIR, else tenth in the user's data folder]"
HOST_HELP = "the address to listen at; other than this machine's own, a token is needed [default: 127.0.0.1]"


def serve(
    host: Annotated[str | None, option("ADDRESS", HOST_HELP, parser=str)] = None,
    port: Annotated[
        int | None, option("N", "the port to listen at; 0 takes a free one [default: 7310]", parser=whole_number)
    ] = None,
    data: Annotated[Path | None, option("DIR", DATA_HELP)] = None,
    users: Annotated[Path | None, option("FILE", USERS_HELP)] = None,
    add_user: Annotated[str | None, option("NAME", ADD_USER_HELP, parser=str)] = None,
    workers: Annotated[int | None, option("N", "processes that make images [default: 1]", parser=whole_number)] = None,
    settings: Annotated[Path | None, option("FILE", SETTINGS_HELP)] = None,
) -> int:
    """Serve the page and the API on this machine, until Ctrl-C.

    Prints the address to open. Nothing leaves the machine, and nobody else can reach it unless --host says so.
    """
    import os

    from tenth.core.config import read_toml, with_overrides
    from tenth.core.console import print_result

    require_server()
    from tenth.server.security.users import add_user as add
    from tenth.server.settings import ServerSettings
    from tenth.server.start import serve

    if add_user is not None:
        if users is None:
            raise typer.BadParameter("it needs --users FILE, which the user is added to", param_hint="--add-user")
        print_result(add(users, add_user))
        return 0

    # The file, then what is said besides.
    given: dict[str, Any] = {} if settings is None else read_toml(settings, "the settings are one TOML file (docs/serve.md)")
    options = {"host": host, "port": port, "data": data, "users": users, "workers": workers}
    given |= {name: value for name, value in options.items() if value is not None}
    if token := os.environ.get("TENTH_TOKEN"):  # not an option: others on the machine can read a command's words
        given["token"] = token
    serve(with_overrides(ServerSettings(), given, "the settings"), print_result)
    return 0


def require_server() -> None:
    """Raises InputError unless what a server needs is installed."""
    from importlib import import_module

    from tenth.core.errors import InputError

    try:
        import_module("tenth.server.start")
    except ModuleNotFoundError as problem:
        found = f"{problem.name} is not installed"
        raise InputError(found, "the server needs it", "Run `pip install 'tenth[server]'`") from problem
