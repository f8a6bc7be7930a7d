"""The small copies of images in the page."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from PIL import Image

from tenth.core.marks.png import write_png
from tenth.core.marks.verify import MarkState, verify
from tenth.reporting.html.gallery import embedded


def test_an_image_in_the_page_still_says_that_a_model_made_it(tmp_path: Path) -> None:
    for photo in (False, True):
        write_png(tmp_path / "a.png", Image.new("RGB", (200, 100)), photo=photo)
        source, width, height = embedded(tmp_path / "a.png")
        (tmp_path / "a.webp").write_bytes(b64decode(source.partition(",")[2]))
        assert (width, height) == (160, 80)
        assert verify(tmp_path / "a.webp").state == (MarkState.FOREIGN if photo else MarkState.STRIPPED)
