"""Where tenth keeps what is the user's: people, and what the server makes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def data_dir() -> Path:
    """`$TENTH_DATA_DIR`, else `tenth` under the user's data directory; under that for temporary files if there is no home."""
    if value := os.environ.get("TENTH_DATA_DIR"):
        return Path(value)
    if value := os.environ.get("XDG_DATA_HOME"):
        return Path(value) / "tenth"
    try:
        return Path.home() / ".local/share/tenth"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "tenth-data"
