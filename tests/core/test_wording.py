"""How counts, times, names and reasons are said; and that names which are nearly right are told the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tenth.core.config import from_table
from tenth.core.errors import InputError
from tenth.core.wording import abbreviate, did_you_mean, format_duration, pluralize, shorten
from tenth.methods.registry import COMBINATIONS, METHODS, method
from tenth.models.hub.published import parse_model_name
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.system import available_memory
from tenth.models.pocket.loader import load_pocket
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.training.registry import stage


def test_one_is_said_as_one() -> None:
    assert [pluralize(count, "photo") for count in (0, 1, 2, 1234)] == ["0 photos", "1 photo", "2 photos", "1,234 photos"]
    assert [pluralize(count, "person") for count in (1, 2)] == ["1 person", "2 people"]
    assert [pluralize(count, "file lies", "files lie") for count in (1, 3)] == ["1 file lies", "3 files lie"]


def test_times() -> None:
    said = {
        0.4: "0 s",
        38: "38 s",
        57.1: "57 s",
        59.7: "1 minute",
        60: "1 minute",
        89: "1 minute",
        1107: "18 minutes",
        3599: "1.0 hours",
    }
    assert {seconds: format_duration(seconds) for seconds in said} == said


def test_at_most_three_reasons() -> None:
    assert abbreviate(["a", "b", "c"]) == "a, b, c"
    assert abbreviate(str(number) for number in range(1004)) == "0, 1, 2, and 1,001 more"
    assert abbreviate("abcd", " | ") == "a | b | c | and 1 more"
    assert shorten("x" * 200) == "x" * 100 + "..."


def test_the_nearest_name() -> None:
    known = ["ip-adapter", "dreambooth", "SDXL"]
    assert did_you_mean("dreambath", known) == "Did you mean dreambooth? "
    assert did_you_mean("sdxl", known) == "Did you mean SDXL? "
    assert did_you_mean("", known) == did_you_mean("zebra", known) == ""


@pytest.mark.parametrize(
    ("ask", "meant"),
    [
        (lambda: method("ip-adaptor-consensus"), "ip-adapter-consensus"),
        (lambda: method("dreamboth"), "dreambooth"),
        (lambda: method("dreambooth+ip-adapter-consensu"), "ip-adapter-consensus"),
        (lambda: load_model("poket"), "pocket"),
        (lambda: parse_model_name("sd15+ip-adapter-plus_sd14"), "ip-adapter-plus_sd15"),
        (lambda: SamplingConfig(scheduler="eular"), "euler"),
        (lambda: from_table(SamplingConfig, {"guidence_scale": 3.0}), "guidance_scale"),
        (lambda: stage({"stage": "adaptor"}), "adapter"),
        (lambda: load_model("pocket", options=LoadOptions(device="cdua")), "cuda"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_the_right_one(ask: Callable[[], object], meant: str) -> None:
    with pytest.raises(InputError) as told:
        ask()
    assert f"Did you mean {meant}? " in str(told.value)


def test_an_unknown_device_or_profile_names_no_command_that_is_none() -> None:
    from tenth.models.memory.planner import candidate_profiles, choose_device
    from tenth.models.memory.profiles import CPU_PROFILES

    for ask in (
        lambda: choose_device("tpu", available_memory(), small=True),
        lambda: candidate_profiles(CPU_PROFILES, LoadOptions(profile="highest")),
    ):
        with pytest.raises(InputError) as told:
            ask()
        assert "`tenth devices`" not in str(told.value)
        assert "`tenth memory profiles`" not in str(told.value)


def test_a_pair_of_methods_is_listed_and_no_experiment_learns_it_unasked() -> None:
    assert set(COMBINATIONS) == {"dreambooth+ip-adapter-consensus"}
    assert not set(COMBINATIONS) & set(METHODS)
    assert COMBINATIONS["dreambooth+ip-adapter-consensus"].value == method("dreambooth+ip-adapter-consensus")


def test_a_folder_that_lacks_everything_names_three_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no [^,]*, [^,]*, [^,]*, and 2 more;"):
        load_pocket(tmp_path)
