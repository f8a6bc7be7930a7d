"""What is said of a record: nothing that the corrected p-value does not carry, and all that it does."""

from __future__ import annotations

from typing import Any

import pytest

from tenth.reporting.claims import LEVEL, NO_COMPLETE, UNCORRECTED, Verdict, finding, notes, p_text, pair, ranking, verdict
from tenth.reporting.results_reader import Difference, Results, read_results

BASELINE = "ip-adapter"


def with_differences(record: dict[str, Any], p_holm: dict[tuple[str, str], float | None]) -> Results:
    """The record with these corrected p-values for pairs of methods; all others are told apart."""
    for difference in record["results"]["differences"]:
        pair = (difference["method"], difference["baseline"])
        difference["p_holm"] = p_holm.get(pair, p_holm.get(pair[::-1], 0.0004))
    return read_results(record)


def difference(value: float, p_holm: float | None) -> Difference:
    return Difference("portrait", 9, "a", "b", "identity-similarity", value, p_holm=p_holm)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (difference(0.1, 0.0499), Verdict.HIGHER),
        (difference(-0.1, 0.0499), Verdict.LOWER),
        (difference(0.1, LEVEL), Verdict.LEVEL),
        (difference(0.9, 0.076), Verdict.LEVEL),
        (difference(0.0, 0.001), Verdict.LEVEL),
        (difference(0.1, None), Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_a_verdict_is_by_the_corrected_p_value_alone(found: Difference | None, said: Verdict) -> None:
    assert verdict(found) is said


def test_a_pair_is_read_in_both_directions(record: dict[str, Any]) -> None:
    results = with_differences(record, {})
    assert pair(results, "portrait", "dreambooth", BASELINE) == (
        "`dreambooth` has a higher ID similarity than `ip-adapter`: +0.070 [0.070, 0.070], corrected p < 0.001"
    )
    assert pair(results, "portrait", BASELINE, "dreambooth").startswith(
        "`ip-adapter` has a lower ID similarity than `dreambooth`"
    )


def test_a_large_difference_is_no_claim_without_a_small_p_value(record: dict[str, Any]) -> None:
    results = with_differences(record, {("dreambooth", BASELINE): 0.076})
    said = pair(results, "portrait", "dreambooth", BASELINE)
    assert said.startswith("`dreambooth` does not differ significantly from `ip-adapter` in ID similarity: +0.070")
    assert said.endswith("corrected p 0.076")
    assert pair(results, "portrait", "dreambooth", "real photos") == "`dreambooth` was not compared with `real photos`"


def test_the_first_is_told_apart_from_no_other(record: dict[str, Any]) -> None:
    others = [name for name in record["settings"]["methods"] if name != "dreambooth"]
    results = with_differences(record, {("dreambooth", name): 0.5 for name in others})
    first, second = finding(results, "portrait")
    assert first.endswith("(real photos have 0.600 and images without an identity 0.031): no other method differs"
                          " significantly from it (at a level of 0.05 after Holm's correction).")  # fmt: skip
    assert "`dreambooth` does not" in second or "`dreambooth` do not" in second


def test_more_than_three_of_a_kind_are_all_others(record: dict[str, Any]) -> None:
    names = record["settings"]["methods"] = [*record["settings"]["methods"], "a", "b"]
    for kind in ("scores", "differences"):
        for each in [row for row in record["results"][kind] if row["method"] == "ip-adapter-max"]:
            record["results"][kind] += [each | {"method": name} for name in ("a", "b")]
    record["results"]["differences"] += [
        {**each, "baseline": name}
        for each in list(record["results"]["differences"])
        if each["baseline"] == "ip-adapter-max"
        for name in ("a", "b")
    ]
    first = finding(with_differences(record, {("dreambooth", "a"): 0.2}), "portrait")[0]
    assert len(names) == 7
    assert (
        first.split(": ")[1]
        == "`a` does not differ significantly from it; all others are lower (at a level of 0.05 after Holm's correction)."
    )


def test_every_baseline_has_a_sentence_but_the_first_method(record: dict[str, Any]) -> None:
    record["settings"]["baselines"] = ["dreambooth", "ip-adapter", "ip-adapter-max"]
    said = finding(read_results(record), "portrait")
    assert [sentence.split("`")[1] for sentence in said] == ["dreambooth", "ip-adapter", "ip-adapter-max"]
    assert said[2].endswith("`, 0.110: all other methods have a higher one.")


def test_one_p_value_that_is_not_corrected_ends_all_claims(record: dict[str, Any]) -> None:
    results = with_differences(record, {("ip-adapter-avg", "ip-adapter-max"): None})
    assert finding(results, "portrait") == [UNCORRECTED]


def test_what_was_not_compared_is_called_so(record: dict[str, Any]) -> None:
    record["results"]["differences"] = []
    first, second = finding(read_results(record), "portrait")
    assert first.endswith(": all other methods were not compared with it.")
    assert second == "Against the ID similarity of `ip-adapter`, 0.130: all other methods were not compared with it."


def test_one_method_alone_is_compared_with_nobody(record: dict[str, Any]) -> None:
    record["results"]["scores"] = [each for each in record["results"]["scores"] if each["method"] in (BASELINE, "real photos")]
    record["results"]["differences"] = []
    results = read_results(record)
    assert finding(results, "portrait") == [
        "`ip-adapter` has the mean ID similarity 0.130 [0.110, 0.150] (real photos have 0.600)."
    ]
    assert finding(results, "no such prompt set") == ranking(results, "no such prompt set") == []
    assert notes(results, "no such prompt set") == []


@pytest.mark.parametrize(
    ("p_value", "text"), [(0.0004, "p < 0.001"), (0.012, "p 0.012"), (0.04999, "p 0.04999"), (0.05, "p 0.050"), (1, "p 1.000")]
)
def test_a_p_value_is_shown_on_its_side_of_the_level(p_value: float, text: str) -> None:
    assert p_text(p_value) == text


def test_a_method_that_lacks_people_is_not_called_the_best(record: dict[str, Any]) -> None:
    everybody = ("000", "001", "002")
    people = dict.fromkeys(record["settings"]["methods"], everybody) | {"dreambooth": everybody[:2]}
    record["results"]["row_people"] = people
    for each in record["results"]["differences"]:
        each["n"] = 2 if "dreambooth" in (each["method"], each["baseline"]) else 3
    results = read_results(record)
    assert ranking(results, "portrait")[0] == "ip-adapter-avg"
    assert ranking(results, "portrait")[-1] == "dreambooth"
    (first, second), (last,) = finding(results, "portrait"), notes(results, "portrait")
    assert first.startswith("`ip-adapter-avg` has the highest mean ID similarity, 0.150")
    assert "dreambooth" not in first + second
    assert last == (
        "`dreambooth` is of 2 of 3 people, so its mean is not compared with others' means; `dreambooth` has a higher ID"
        " similarity than `ip-adapter-avg`, on the 2 people of both: +0.050 [0.050, 0.050], corrected p < 0.001."
    )
    people |= {name: (each, "009") for name, each in zip(people, everybody * 2, strict=False)}
    record["results"]["row_people"] = people
    assert finding(read_results(record), "portrait")[0] == NO_COMPLETE


def test_a_name_cannot_end_its_code(record: dict[str, Any]) -> None:
    for kind in ("scores", "differences"):
        for each in record["results"][kind]:
            each |= {key: "a`b\n**c**" for key in ("method", "baseline") if each.get(key) == "dreambooth"}
    said = " ".join(finding(read_results(record), "portrait"))
    assert said.count("`") % 2 == 0
    assert "`a'b **c**`" in said
