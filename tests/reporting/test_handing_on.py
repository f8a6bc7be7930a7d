"""What a page says before it is handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tenth.reporting.html.page import page


def test_a_page_with_crops_of_real_photos_says_so_first(record: dict[str, Any], run_folder: Path) -> None:
    text = page(record, run_folder)
    assert text.index("In this file are crops of real photos of 2 people.") < text.index("<h1>")
    for path in (run_folder / "references").rglob("*.png"):
        path.unlink()
    assert "crops of real photos" not in page(record, run_folder)
