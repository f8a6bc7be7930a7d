"""Several recognizers in one record: their similarities and ranks side by side, and how far they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenth.reporting.html.page import page
from tenth.reporting.markdown import markdown
from tenth.reporting.recognizer_tables import agreement_lines, recognizers_table
from tenth.reporting.results_reader import read_results

Record = dict[str, Any]


def correlation(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.125, "high": value + 0.125, "n": 53}


def with_agreement(record: Record) -> Record:
    names = [each["name"] for each in record["results"]["recognizers"]]
    pair = {"recognizer": names[0], "other": names[1], "num_methods": 5}
    found = pair | {"between_methods": correlation(0.5), "per_person": correlation(0.25)}
    at = {"prompt_set": "portrait", "num_photos": 9, "num_impostors": 0}
    record["results"]["agreement"] = [at | found, at | {"num_photos": 5} | found | {"per_person": correlation(-0.75)}]
    return record


def test_every_recognizer_has_a_column_and_every_method_its_rank_in_it(record: Record) -> None:
    third = {"name": "recognizer@fedcba9876543210", "licence": "", "threshold": None, "selection_only": False}
    record["results"]["recognizers"].append(third)
    results = read_results(record)
    table = recognizers_table(results, "portrait")
    assert table is not None
    # Without digests but where two would be called alike; what selects comes last.
    assert table.heads == ["recognizer@0123456789abcdef", "recognizer@fedcba9876543210", "dlib-resnet"]
    methods, controls = ({name: list(cells) for name, cells in body} for body in table.bodies)
    assert list(methods) == list(results.methods)
    assert list(controls) == list(results.controls)
    ranks = {name: [cell.notes for cell in cells] for name, cells in methods.items()}
    values = {name: cell.value for name in methods if (cell := results.measured("portrait", name))}
    best = sorted(methods, key=lambda name: -values[name])
    assert [ranks[name] for name in best] == [[(f"rank {place + 1}",), (), (f"rank {place + 1}",)] for place in range(5)]
    assert all(not cell.notes for cells in controls.values() for cell in cells)
    assert [cell.text for cell in controls["real photos"]] == ["0.600", "-", "0.600"]


def test_agreement_stands_below_the_table_at_the_main_condition_alone(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.reporting.html.page.can_plot", lambda: False)  # plots take seconds
    results = read_results(with_agreement(record))
    line = (
        "recognizer and dlib-resnet: rank correlation of the 5 methods 0.50 [0.38, 0.62]; "
        "for one person, averaged over 53, 0.25 [0.12, 0.38]."
    )
    assert agreement_lines(results, "portrait") == [line]
    assert agreement_lines(results, "attributes") == []
    assert line in markdown(record)
    shown = page(record, Path("nowhere"))
    assert line in shown
    assert shown.count("ID similarity by each recognizer") == 4  # the caption and the label of each prompt set's table


def test_one_recognizer_alone_needs_neither(record: Record) -> None:
    del record["results"]["recognizers"][1]
    results = read_results(record)
    assert recognizers_table(results, "portrait") is None
    assert agreement_lines(results, "portrait") == []
    assert "by each recognizer" not in markdown(record)
