"""The line after the first images of an installation: what a large model would bring. Said once, if none is here."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tenth.core.console import print_message

if TYPE_CHECKING:
    from tenth.core.types import DiffusionModel

SUGGESTED_MODEL = "sdxl"
SAID_FILE = "large-models-suggested"  # in the cache: that the line was said


def suggest_large_model(model: DiffusionModel) -> None:
    """Say once what a large model would bring, after images of the pocket model; nothing, where it cannot be noted."""
    from tenth.core.cache import default_cache_dir
    from tenth.core.errors import TenthError
    from tenth.core.files.writing import write_text
    from tenth.models.hub.lockfile import models_dir, read_lock
    from tenth.models.registry import DEFAULT_MODEL

    said = default_cache_dir() / SAID_FILE
    with suppress(OSError, TenthError):
        if model.name.partition("@")[0] == DEFAULT_MODEL and not said.exists() and not read_lock(models_dir()):
            write_text(said, "")  # first: where it cannot be written, the line would come each time
            print_message(suggestion())


def suggestion() -> str:
    """The line, without how long a download takes: nothing was measured here."""
    from tenth.models.hub.published import IP_ADAPTER_LICENCE, PUBLISHED
    from tenth.models.memory.recommendation import HALF_PRECISION_BYTES

    row, half = PUBLISHED[SUGGESTED_MODEL], HALF_PRECISION_BYTES[SUGGESTED_MODEL] / 1e9
    return (
        f"pocket draws faces at 128 x 128. `tenth models download {SUGGESTED_MODEL}` brings {row.description}:"
        f" {half:.0f} GB, or twice that in full precision; licences {row.licence} and {', '.join(IP_ADAPTER_LICENCE.values())}."
        " `tenth doctor` says which model suits this machine"
    )
