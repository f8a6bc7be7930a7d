"""Which methods and models there are. Their tables import torch, which the web process does not: a child process reads them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from tenth.core.errors import InputError, unknown_name
from tenth.core.files.reading import parse_json

# `python -c`, so that this module itself needs nothing heavy.
PRINT_TABLES = """
import json
from tenth.methods.registry import COMBINATIONS, DEFAULT_METHOD, METHODS
from tenth.models.registry import DEFAULT_MODEL, MODELS
describe = lambda entries: {name: entry.description for name, entry in entries.items()}
tables = {"methods": describe(METHODS) | describe(COMBINATIONS), "models": describe(MODELS)}
print(json.dumps(tables | {"default_method": DEFAULT_METHOD, "default_model": DEFAULT_MODEL}))
"""
MAX_SECONDS = 120.0  # of the child, which imports torch


@dataclass(frozen=True)
class Tables:
    """Descriptions of methods and models by name, and the two defaults."""

    methods: Mapping[str, str]
    models: Mapping[str, str]
    default_method: str
    default_model: str


class Catalog:
    """The tables, read when they are needed first. Several threads may ask at once."""

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables
        self._lock = threading.Lock()

    @property
    def tables(self) -> Tables:
        with self._lock:
            if self._tables is None:
                done = subprocess.run(
                    [sys.executable, "-c", PRINT_TABLES], capture_output=True, text=True, timeout=MAX_SECONDS, check=True
                )
                self._tables = Tables(**parse_json(done.stdout))
            return self._tables

    def check(self, *, method: str, model: str) -> None:
        """Raises InputError for an unknown name. A path, which the library takes too, is none: no client reads our files."""
        tables = self.tables
        if method and method not in tables.methods:
            raise _unknown("method", method, tables.methods)
        if model not in tables.models:
            raise _unknown("model", model, tables.models)


def _unknown(kind: str, name: str, known: Mapping[str, str]) -> InputError:
    return unknown_name(kind, name, [*known], f"GET /v1/{kind}s says what each is")
