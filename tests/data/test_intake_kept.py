"""What is kept of people between runs, and a destination that is somebody's folder. Toy people: drawn pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.data.image_folder import prepare_folder
from tenth.data.intake.journal import JOURNAL_FILE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three people with three photos each."""
    for number in range(9):
        path = tmp_path / f"people/{number // 3}/{number % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiles = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(tiles).resize((40, 40), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "people"


def test_a_turned_bit_in_what_is_known_of_a_photo_is_noticed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(source, out)
    expected, journal = (out / "people.jsonl").read_bytes(), out / JOURNAL_FILE
    content, digest = journal.read_bytes(), bytes.fromhex(json.loads(expected.splitlines()[0])["digest"])
    assert digest in content
    journal.write_bytes(content.replace(digest, bytes([digest[0] ^ 1]) + digest[1:]))
    prepare_folder(source, out)
    assert (out / "people.jsonl").read_bytes() == expected


def test_a_person_is_not_left_out_for_what_is_written_there(source: Path) -> None:
    before = sorted((source / "1").iterdir())
    with pytest.raises(DataError, match=r"is in .* and holds 0\.png, as a person's folder does"):
        prepare_folder(source, source / "1")
    assert sorted((source / "1").iterdir()) == before
