"""Packages of the extras, where importing them takes more than an import."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports to its makers when it is imported: nothing leaves the user's machine.

    Raises ImportError if it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # then an import fails, and OpenVINO does without
    return import_module("openvino")
