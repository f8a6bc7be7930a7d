"""Packages of the extras, where importing them takes more than an import."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports to its makers when it is imported: nothing leaves the user's machine.

    Raises ImportError if it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # then an import fails, and OpenVINO does without
    return import_module("openvino")


@cache
def openvino_core() -> Any:
    """OpenVINO's Core: one in a process, to its end. Raises ImportError if OpenVINO is not installed.

    Its plugin for CPUs gives signals a stack, and unmaps it when the Core goes. Of two that go in the order in which they came,
    the second puts the first one's stack back: the next Ctrl-C ends the process there and then, instead of after the step.
    """
    return import_openvino().Core()
