"""The tables as Markdown: every cell, and nothing that leaves its cell."""

from __future__ import annotations

from typing import Any

import pytest

from tenth.errors import DataError
from tenth.report.markdown import markdown


def test_every_track_has_its_tables(record: dict[str, Any]) -> None:
    text = markdown(record)
    for track in "RP":
        assert f"## Track {track}, 9 photos\n" in text
    assert "| `ip-adapter` | 0.130 [0.110, 0.150] |" in text
    assert "| *real photos* |" in text
    assert "| needs the Inception file |" in text
    assert text.endswith("Judged by judge@0123456789abcdef.\n")


def test_rows_have_as_many_cells_as_their_heads(record: dict[str, Any]) -> None:
    record["results"]["scores"][0]["method"] = record["settings"]["methods"][0] = "a|b\n`c`"
    blocks = [block.splitlines() for block in markdown(record).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for lines in blocks:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_a_name_is_no_element(record: dict[str, Any]) -> None:
    assert "<script>" not in markdown(record)


def test_some_metrics_alone(record: dict[str, Any]) -> None:
    text = markdown(record, metrics=("identity", "copy-index"))
    assert "| identity ↑ | copy index ↓ |" in text
    assert "stranger" not in text
    assert "The pictures as a set" not in text


def test_figures_without_meaning_are_called_so_first(record: dict[str, Any]) -> None:
    record["results"]["meaningless"] = "By random weights."
    assert markdown(record).startswith("> By random weights.\n")


def test_another_record_is_refused() -> None:
    with pytest.raises(DataError, match="of kind 'generate'"):
        markdown({"kind": "generate", "settings": {}})
