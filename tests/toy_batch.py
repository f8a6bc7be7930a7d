"""A stub that draws the rows of a batch in no time: tiny PNGs that follow from the row's id.

`python toy_batch.py batch PLAN -o OUT ...` is the real command with it.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import toy_object_store  # workers that import this file know its file system
from tenth.core.errors import DataError
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.shards import DrawnRow

__all__ = ["BAD", "StubDrawer", "make_stub", "tiny_png", "toy_object_store", "write_plan"]
BAD = "nobody"  # in the name of a person of whom there is no photo


def tiny_png(row_id: str, side: int = 8) -> bytes:
    """A PNG whose pixels follow from an id."""
    pixels = random.Random(row_id).randbytes(3 * side * side)
    lines = b"".join(b"\0" + pixels[start : start + 3 * side] for start in range(0, len(pixels), 3 * side))
    chunks = {b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(lines, 1), b"IEND": b""}
    made = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


class StubDrawer:
    """Draws each row by its id; those of BAD people are bad rows. $TOY_BATCH_SECONDS: how long each takes."""

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        for row in rows:
            time.sleep(float(os.environ.get("TOY_BATCH_SECONDS", "0")))
            if BAD in row.person:
                yield DrawnRow(row, error=DataError(f"{row.person} does not exist", "photos are needed", "Add some"))
            else:
                yield DrawnRow(row, tiny_png(row.id), "png", {"settings": {"seed": row.seed}})


def write_plan(path: Path, people: int, each: int, bad: int = 0) -> Path:
    """JSON lines of so many people with so many pictures each, in no order; `bad` of the people are not there."""
    rows: list[dict[str, Any]] = []
    for person in range(people):
        name = f"people/{BAD if person < bad else 'person'}{person:05d}"
        rows += [{"person": name, "prompt": f"a photo of a person {index}", "seed": index} for index in range(each)]
    random.Random(0).shuffle(rows)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def main() -> int:
    """The command line, whose batches are drawn by the stub."""
    import toy_batch  # by its own name, as another process finds it
    from tenth.cli.main import main as command_line
    from tenth.experiments.batch import run

    run.make_model_drawer = toy_batch.make_stub
    return command_line(sys.argv[1:])


def make_stub(*_: Any) -> StubDrawer:
    """Stands in the place of `run.make_model_drawer`."""
    return StubDrawer()


if __name__ == "__main__":
    sys.exit(main())
