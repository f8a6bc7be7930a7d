"""docs/serve.md and what lies below deploy/ say what the server does: their commands run, their settings are its own."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT, blocks_of, shell_lines
from parsed_commands import parse
from running_server import running_server
from tenth.core.config import from_table, to_table
from tenth.server.settings import ServerSettings

LINES = shell_lines(blocks_of("docs/serve.md"))
# Of the settings, whose values are no defaults.
EXAMPLES = {"host", "hosts", "retention_days", "run_dirs", "webhook_hosts", "webhook_secret"}


@pytest.mark.slow
def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for line in LINES if not line.startswith("pip install ")]
    assert len(lines) == 4
    for number, line in enumerate(lines):
        variables = dict(word.split("=", 1) for word in shlex.split(line) if re.match(r"[A-Z_]+=", word))
        words = shlex.split(line)[len(variables) + 2 :]
        assert parse(["serve", *words])[0] == "tenth serve"
        if "--add-user" in words:
            command = [sys.executable, "-m", "tenth.cli", "serve", *words]
            token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            assert len(token) >= 43
            continue
        with running_server(tmp_path / str(number), *words, **variables) as server:
            client, thumbnail = server.client, f"/v1/photos/{'0' * 64}/thumbnail"
            assert client.get("/health", headers={"Host": "localhost"}).status_code == 200
            headers = {"Host": "localhost"}
            expected = 404 if not variables and "--users" not in words else 401
            assert client.get(thumbnail, headers=headers).status_code == expected
            secret = variables.get("TENTH_TOKEN") or (token if "--users" in words else "")
            headers["Authorization"] = f"Bearer {secret or 'any'}"
            assert client.get(thumbnail, headers=headers).status_code == 404
            assert server.said.endswith(f"/login?token={secret}" if variables else "/")


def test_its_settings_are_the_server_s() -> None:
    (block,) = (block for block in blocks_of("docs/serve.md") if block.language == "toml")
    given: dict[str, Any] = tomllib.loads(block.text)
    settings, defaults = to_table(from_table(ServerSettings, given)), to_table(ServerSettings())
    for name, value in given.items():
        table = isinstance(value, dict)
        for key in value if table else [name]:
            said, default = (settings[name][key], defaults[name][key]) if table else (settings[name], defaults[name])
            assert said == default or key in EXAMPLES, key
    for name, number in re.findall(r"(\w+) = (\d+)", " ".join(re.findall(r"#(.*)", block.text))):
        assert int(number) in (defaults["uploads"].get(name), defaults["rates"].get(name)), name


def test_the_service_starts_what_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "deploy/tenth.service", encoding="utf-8")
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/tenth")
    assert parse(words)[1]["data"] == Path("/var/lib") / unit["Service"]["StateDirectory"]
    for key in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp"):
        assert unit["Service"][key] == "yes"
    assert (unit["Service"]["IPAddressDeny"], unit["Service"]["IPAddressAllow"]) == ("any", "localhost")


def test_the_container_runs_as_nobody_and_has_what_it_copies() -> None:
    text = re.sub(r"\\\n", " ", (ROOT / "deploy/Containerfile").read_text(encoding="utf-8"))
    steps = [tuple(line.split(" ", 1)) for line in text.splitlines() if line and not line.startswith("#")]
    assert [name for name, _ in steps][-1] == "ENTRYPOINT"
    program, *words = json.loads(steps[-1][1])
    assert program.endswith("/bin/tenth")
    assert parse(words)[1]["host"] == "0.0.0.0"
    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    assert [value for name, value in steps[last:] if name == "USER"] == ["10001"]
    assert all(value.startswith("debian:") and "-slim" in value for name, value in steps if name == "FROM")
    copied = [word for name, value in steps[:last] if name == "COPY" for word in value.split()[:-1]]
    assert len(copied) >= 5
    assert all((ROOT / name).exists() for name in copied)
