"""Which methods and models there are. Their tables import torch, which the web process does not: a child process reads them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tenth.core.errors import InputError, unknown_name
from tenth.core.files.reading import parse_json

# `python -c`, so that this module itself needs nothing heavy.
PRINT_TABLES = """
import json, os
getattr(os, "nice", int)(5)  # whoever is served meanwhile comes first
from tenth.methods.registry import COMBINATIONS, DEFAULT_METHOD, METHODS
from tenth.models.registry import DEFAULT_MODEL, MODELS
describe = lambda entries: {name: entry.description for name, entry in entries.items()}
tables = {"methods": describe(METHODS) | describe(COMBINATIONS), "models": describe(MODELS)}
print(json.dumps(tables | {"default_method": DEFAULT_METHOD, "default_model": DEFAULT_MODEL}))
"""


@dataclass(frozen=True)
class Tables:
    """Descriptions of methods and models by name, and the two defaults."""

    methods: Mapping[str, str]
    models: Mapping[str, str]
    default_method: str
    default_model: str


class Catalog:
    """The tables, read when they are needed first, or ahead of that. Several threads may ask at once."""

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    @property
    def tables(self) -> Tables:
        """Raises OSError or ValueError if the child fails, which no input makes it do."""
        with self._lock:
            if self._tables is None:
                self._child = subprocess.Popen([sys.executable, "-c", PRINT_TABLES], stdout=subprocess.PIPE, text=True)
                with self._child:
                    printed, _ = self._child.communicate()
                self._tables = Tables(**parse_json(printed))
            return self._tables

    def read_ahead(self) -> None:
        """Begin to read now, so that whoever asks first waits less."""

        def read() -> None:
            with suppress(OSError, ValueError):  # who asks is told
                _ = self.tables

        threading.Thread(target=read, daemon=True).start()

    def close(self) -> None:
        """End a child that still reads."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()

    def check(self, *, method: str, model: str) -> None:
        """Raises InputError for an unknown name. A path, which the library takes too, is none: no client reads our files."""
        tables = self.tables
        if method and method not in tables.methods:
            raise _unknown("method", method, tables.methods)
        if model not in tables.models:
            raise _unknown("model", model, tables.models)


def _unknown(kind: str, name: str, known: Mapping[str, str]) -> InputError:
    return unknown_name(kind, name, [*known], f"GET /v1/{kind}s says what each is")
