"""The tables as CSV and as text: what a spreadsheet makes of them, and what a reader."""

from __future__ import annotations

import csv

from tenth.reporting.csv_tables import differences_csv, scores_csv
from tenth.reporting.results_reader import IDENTITY, Difference, Result, Results, System
from tenth.reporting.tables import reason_lines, unavailable


def test_no_text_of_a_record_is_a_formula_of_a_spreadsheet() -> None:
    texts = ['=HYPERLINK("http://a.example")', "+1", "-1", "@SUM(A1)", "\t=1", "a = b"]
    results = Results(
        scores=tuple(Result("portrait", 3, text, IDENTITY, value=-0.5, n=2) for text in texts),
        systems=tuple(System(text, text) for text in texts),
        differences=tuple(Difference("portrait", 3, text, text, IDENTITY, -0.25) for text in texts),
    )
    inert = [f"'{text}" for text in texts[:-1]] + texts[-1:]
    scores, differences = (list(csv.DictReader(text(results).splitlines())) for text in (scores_csv, differences_csv))
    assert [(line["row"], line["model"]) for line in scores] == list(zip(inert, inert, strict=True))
    assert [(line["row"], line["baseline"]) for line in differences] == list(zip(inert, inert, strict=True))

    # Numbers stay numbers.
    assert {line[IDENTITY] for line in scores} == {"-0.5"}
    assert {line["difference"] for line in differences} == {"-0.25"}


def test_a_reason_that_is_a_whole_sentence_has_one_full_stop() -> None:
    cells = {name: Result("portrait", 3, "a", name, unavailable=f"{name} lacks. Add it.") for name in (IDENTITY, "fid")}
    lines = reason_lines([unavailable({name: {"a": cell} for name, cell in cells.items()})])
    assert [line.rpartition(": ")[2] for line in lines] == [f"{name} lacks. Add it." for name in cells]
