"""Benchmarks run and print what is promised; how fast they are is no test's business."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fresh import Fresh
from tenth.evaluation.metrics.recognition.groups import GENDER_METRICS
from tenth.evaluation.metrics.recognition.identification import RANK_METRICS
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def last_line(fresh: Fresh, name: str, *options: str, executable: Path | None = None) -> dict[str, Any]:
    done = fresh.loaded.script(BENCHMARKS / f"{name}.py", "--tiny", *options, at=BENCHMARKS.parent, executable=executable)
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return result


def run(fresh: Fresh, name: str, *options: str, executable: Path | None = None) -> dict[str, Any]:
    result = last_line(fresh, name, *options, executable=executable)
    assert [key for key in result if "ratio" in key] == ["ratio"]
    assert result["name"] == name
    return result


def test_the_training_step_prints_its_ratio_last(fresh: Fresh) -> None:
    result = run(fresh, "training_step")
    assert set(result["seconds"]) == {"ours", "recomputed", "bare"}
    assert result["over_bare"] > 0


def test_a_training_set_in_files_prints_its_ratio_last(fresh: Fresh) -> None:
    result = run(fresh, "training_set")
    assert result["shards"] == 20
    assert result["megabytes"]["files"][0] < 10 < 100 < result["megabytes"]["memory"][0]


def test_the_dreambooth_step_prints_its_ratio_last(fresh: Fresh) -> None:
    result = run(fresh, "dreambooth_step")
    assert set(result["seconds"]) == set(result["megabytes"]) == {"ours", "recipe"}
    assert min(result["megabytes"].values()) > 100


def test_generation_draws_diffusers_images_and_prints_its_ratio_last(fresh: Fresh) -> None:
    result = run(fresh, "generation", "--images=2")
    assert set(result["seconds"]) == {"ours", "diffusers"}
    assert result["largest_difference"] <= 1
    assert result["images"] == 2


def test_photos_in_threads_have_the_embeddings_of_one_thread(fresh: Fresh) -> None:
    result = run(fresh, "photos")
    assert set(result["seconds"]) == {"ours", "one_thread"}
    assert set(result["parts"]) == {"load_detector", "decode", "search", "search_again", "describe"}
    assert result["photos"] == 9
    assert result["same"]


def test_copies_among_many_photos_are_all_found_and_the_ratio_is_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "near_duplicates")
    assert result["recall"] == 1
    assert result["pairs"] > 0
    assert set(result["seconds"]) == set(result["copies"]) == {"300", "3000"}


def test_a_server_under_load_answers_and_stays_small(fresh: Fresh) -> None:
    result = last_line(fresh, "server_load")
    assert set(result["slow"]["statuses"]) == {"408", "429"}
    assert result["large"]["statuses"]["200"] >= 1
    assert sum(result["large"]["statuses"].values()) == 6
    assert sum(result["jobs"]["statuses"].values()) == 100
    for load in ("slow", "large", "jobs"):
        assert "0" not in result[load]["statuses"]  # each was answered
        assert result[load]["health"]["asked"] > 10
        assert result[load]["memory_mb"] < 1500
        assert result[load]["disk_mb"] < 50


def test_the_coverage_of_intervals_is_printed_last(fresh: Fresh) -> None:
    result = last_line(fresh, "interval_coverage")
    assert (len(result["means"]), len(result["groups"])) == (26, 6)
    assert {case["metric"] for case in result["metrics"]} >= {
        "impostor-similarity",
        "rank-1-rate",
        "true-accept-rate-1e-3",
        "gender-gap",
    }
    assert all(0 <= case["coverage"] <= 1 for kind in ("means", "groups", "metrics") for case in result[kind])


def test_the_coverage_of_areas_under_frontiers_is_printed_last(fresh: Fresh) -> None:
    result = last_line(fresh, "frontier_coverage")
    assert [case["settings"] for case in result["cases"]] == [
        name for name in ("traded", "close", "equal", "single") for _ in range(3)
    ]
    names = ("coverage", "percentile", "difference", "null", "exchanged", "flattered", "flattered_p", "plugged_in")
    assert all(0 <= case[name] <= 1 for case in result["cases"] for name in names)
    alone = last_line(fresh, "frontier_coverage", "--differences")
    assert [case["difference"] for case in alone["cases"]] == [case["difference"] for case in result["cases"]]
    assert not [case for case in alone["cases"] if "coverage" in case]


def test_metrics_are_torch_fidelitys_and_its_ratio_is_printed_last(fresh: Fresh) -> None:
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    result = run(fresh, "metrics")
    ours, theirs = result["values"]["tenth"], result["values"]["torch-fidelity"]
    assert result["values"]["tenth, warm"] == ours
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)  # theirs takes roots of rounding errors: see test_fid.py
    assert ours["inception-score"] == pytest.approx(theirs["inception-score"], rel=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kid"], abs=1e-5)  # theirs in single precision


@pytest.mark.parametrize(
    "script", sorted((*BENCHMARKS.glob("*.py"), *BENCHMARKS.parent.glob("examples/*.py"))), ids=lambda path: path.name
)
def test_what_a_script_imports_is_there(script: Path) -> None:
    """Also of those that are too long to be run here."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tenth")]
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_pocket_model_s_speed_is_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "generate_pocket")
    assert set(result["seconds_per_image"]) == {"diffusers", "loop", "torch"}
    assert 0 < result["loop_share"] < 1


def test_a_busy_machine_s_times_are_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "busy_machine")
    assert result["tenth's"]["times"] > 0


def test_what_keeping_the_best_gives_is_printed_last(fresh: Fresh) -> None:
    result = last_line(fresh, "keep_best")
    assert (result["people"], result["candidates"], result["keep"]) == (2, 3, 1)
    for selector in ("identity", "sharpness", "identity+sharpness", "all"):
        value, low, high = result[selector]["identity_difference"]
        assert low <= value <= high
        assert value == pytest.approx(result[selector]["identity"] - result[selector]["first_identity"], abs=2e-4)


def test_what_images_of_the_pocket_model_look_like_is_printed_last(fresh: Fresh, tmp_path: Path) -> None:
    to = f"--sheet={tmp_path / 'sheet.png'}", f"--images-to={tmp_path / 'images'}"
    result = last_line(fresh, "pocket_images", "--images=2", *to)
    assert (result["people"], result["images"], result["colour_cast"]["training_crops"]) == (2, 4, 9)
    assert result["sharpness"] == pytest.approx(
        result["laplacian_variance"]["images"] / result["laplacian_variance"]["held_out"], rel=1e-3
    )
    assert all(0 <= result["colour_cast"][side] <= 1 for side in ("images", "held_out", "training"))
    assert set(result["faces"]) == {"recognizer", "dlib"}
    assert result["identity"]["everybody"]["people"] == 2
    assert result["diversity"]["images"]["pixels"] > 0
    assert result["seconds_per_image"] > 0
    with Image.open(tmp_path / "sheet-1.png") as sheet:
        assert sheet.size == (4 * 192, 2 * 192)  # two photos and two images of each of two people
    assert sorted(path.name for path in tmp_path.glob("images/*/*.png")) == ["00.png", "00.png", "01.png", "01.png"]


def test_a_servers_streams_leave_no_memory_and_their_ratio_is_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "server_streams")
    assert (result["streams"], result["told"]) == (20, [10, 10])
    assert result["connections"] == 1  # the socket that listens


def test_marks_are_sound_and_their_cost_is_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "marks")
    assert result["marked"] == result["same_pixels"] == result["same_bytes"] == result["pictures"] == 10
    assert 3000 < result["bytes_of_the_marks"] < 4000


def test_the_pages_of_a_gallery_are_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "gallery")
    assert result["pictures"] == {"small": 20, "large": 2000}
    assert set(result["seconds"]["large"]) == {"just opened", "newest", "person", "middle", "count"}


def test_an_evaluation_in_shards_has_the_figures_of_one_process(fresh: Fresh, tmp_path: Path) -> None:
    result = run(fresh, "evaluation_reduce", executable=fresh.loaded.interpreter(tmp_path / "python"))
    of_more_people = [*RANK_METRICS[2:], *FALSE_ACCEPT_RATES, *GENDER_METRICS]  # there are too few of them, and no people list
    assert (result["metrics"], result["missing"], result["same_again"]) == (24, of_more_people, True)
    assert result["largest_difference"] < 1e-9
    assert set(result["megabytes"]) == {"shards, 60", "shards, 120", "again", "one process, 120"}


def test_what_a_batch_costs_is_printed_last(fresh: Fresh) -> None:
    result = run(fresh, "batch_throughput")
    assert set(result["pictures_per_second"]) == {"loop", "processes", "ray", "threads"}
    assert set(result["megabytes"]) == set(result["milliseconds_per_row"]) == {"100", "300", "1000"}
    assert result["slope"] > 0


def test_what_a_batch_costs_is_measured(fresh: Fresh) -> None:
    result = last_line(fresh, "batch_costs")
    assert result["torch"]["gigabytes_per_worker"] > 0.3
    assert 20 < result["torch"]["kilobytes_per_picture"] < 60


def test_which_photos_are_chosen_for_a_context_is_printed_last(fresh: Fresh) -> None:
    result = last_line(fresh, "context_photos")
    assert set(result["2 of 4, 0 strangers"]) == {"random", "first", "sharpest", "consensus", "choose_photos"}
    for name in ("first", "choose_photos"):
        row, usual = (result["2 of 4, 1 strangers"][each] for each in (name, "random"))
        value, low, high = row["near less random"]
        assert low <= value <= high
        assert value == pytest.approx(row["near"] - usual["near"], abs=2e-4)
        assert 0 <= row["stranger"] <= 1


def test_features_by_openvino_are_those_of_the_exact_networks(fresh: Fresh) -> None:
    result = run(fresh, "features")
    assert set(result["milliseconds"]["now"]) == {"decoding", "inception", "dlib"}
    assert result["fid"][0] == pytest.approx(result["fid"][1], rel=0.02)
    assert result["cosine"] > 0.9999
