"""The tables as Markdown: every cell, and nothing that leaves its cell."""

from __future__ import annotations

from typing import Any

import pytest

from tenth.core.errors import DataError
from tenth.reporting.markdown import markdown, summary
from tenth.reporting.results_reader import CONTROLS


def test_every_track_has_its_tables(record: dict[str, Any]) -> None:
    text = markdown(record)
    for prompt_set in ("portrait", "attributes"):
        assert f"## Prompt set {prompt_set}, 9 photos\n" in text
    assert "| `ip-adapter` | 0.130 [0.110, 0.150] |" in text
    assert "| *real photos* |" in text
    assert "\n\nFID, FID∞, KID, Inception Score: needs the Inception file.\n" in text
    assert text.endswith("Recognizer: recognizer@0123456789abcdef. Measured on: pocket.\n")
    for prompt_set in text.split("## Prompt set")[1:]:
        assert prompt_set.split("\n\n")[1].startswith("`dreambooth` has the highest mean ID similarity, 0.200 [0.180, 0.220] ")


def test_rows_have_as_many_cells_as_their_heads(record: dict[str, Any]) -> None:
    record["results"]["scores"][0]["method"] = record["settings"]["methods"][0] = "a|b\n`c`"
    blocks = [block.splitlines() for block in markdown(record).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 8
    for lines in blocks:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_a_name_is_no_element(record: dict[str, Any]) -> None:
    assert "<script>" not in markdown(record)


def test_a_summary_has_a_line_for_each_row_the_likest_method_first(record: dict[str, Any]) -> None:
    lines = summary(record).splitlines()
    assert lines[0] == (
        "|  | ID similarity ↑ | impostor similarity ↓ | Δ vs `ip-adapter` | copy-paste index ↓ | diversity ↑"
        " | face Fréchet distance ↓ | seconds per person | seconds per image |"
    )
    names = [line.split(" | ")[0].strip("| `*") for line in lines[2:-4]]
    assert names == [
        "dreambooth",
        "ip-adapter-avg",
        "&lt;script>alert('a')&lt;/script>",
        "ip-adapter",
        "ip-adapter-max",
        *CONTROLS,
    ]
    assert lines[2].startswith("| `dreambooth` | 0.200 [0.180, 0.220] |")
    assert "| 0.070 [0.070, 0.070] |" in lines[2]
    assert lines[2].endswith("| 140 | 0.9 |")
    assert lines[-1].startswith(
        "`dreambooth` has the highest mean ID similarity, 0.200 [0.180, 0.220] (real photos have 0.600 "
    )
    assert lines[-3].startswith("3 test people, 9 photos; 4 images of each in prompt set portrait; ")
    assert lines[-3].endswith(
        "recognizer: recognizer. Brackets: 95 % intervals over people."
        " All methods, people and images took 0.6 hours by the medians above."
    )


def test_a_summary_has_no_column_of_costs_without_any_and_no_split_of_everybody(record: dict[str, Any]) -> None:
    record["results"]["costs"] = []
    record["settings"]["split"] = "all"
    lines = summary(record).splitlines()
    assert lines[0].endswith(" | face Fréchet distance ↓ |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert lines[-3].startswith("3 people, 9 photos; ")


def test_a_summary_has_words_where_a_track_has_them(record: dict[str, Any]) -> None:
    asked = {"prompt_set": "attributes", "num_photos": 9, "method": "dreambooth", "metric": "attribute-accuracy", "value": 0.75}
    record["results"]["scores"].append(asked)
    heads, _, first, *_ = summary(record).splitlines()
    assert (
        dict(zip(heads.split(" | "), first.split(" | "), strict=True))["attribute accuracy ↑ (prompt set attributes)"]
        == "0.750"
    )


def test_a_method_that_a_prompt_set_leaves_out_has_no_row(record: dict[str, Any]) -> None:
    scores = record["results"]["scores"]
    record["results"]["scores"] = [
        each for each in scores if (each["prompt_set"], each["method"]) != ("attributes", "dreambooth")
    ]
    first, second = markdown(record).split("## Prompt set attributes")
    assert "| `dreambooth` |" in first
    assert "dreambooth" not in second


def test_a_cell_without_a_value_is_a_dash_and_the_reason_a_line(record: dict[str, Any]) -> None:
    for score in record["results"]["scores"]:
        if score["method"] == "real photos" and score["metric"] == "identity-diversity":
            score |= {"value": None, "low": None, "high": None, "unavailable": "one image each"}
    for text in (summary(record), markdown(record)):
        assert text.count("diversity of real photos: one image each.") == (1 if text == summary(record) else 2)
        assert "| one image each" not in text


def test_rows_say_what_they_were_measured_on_where_it_differs(record: dict[str, Any]) -> None:
    systems = [{"method": "ip-adapter", "model": "a|b", "width": 64, "height": 32}]
    record["results"]["systems"] = [*systems, {"method": "dreambooth", "model": "FLUX@12", "width": 1024, "height": 1024}]
    text = markdown(record)
    assert "Measured on" not in text
    assert "| `ip-adapter` (a\\|b, 64 x 32 pixels) |" in text
    assert "| `dreambooth` (FLUX, 1024 x 1024 pixels) |" in text
    assert "| *real photos* |" in text


def test_figures_without_meaning_are_called_so_first(record: dict[str, Any]) -> None:
    record["results"]["disclaimer"] = "By random weights."
    assert markdown(record).startswith("> By random weights.\n")


def test_another_record_is_refused() -> None:
    with pytest.raises(DataError, match="of kind 'generate'"):
        markdown({"kind": "generate", "settings": {}})
