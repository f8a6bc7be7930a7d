"""docs/scale.md and its examples below deploy/: they can be read, their commands parse, the arithmetic is right."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from documents import ROOT
from parsed_commands import parse

TEXT = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").glob("ray-*"))
PEOPLE, PICTURES, CORES, PRICE, SHARD = 1_000_000, 10_000_000, 64, 0.05, 1_000


def command_of(text: str) -> list[str]:
    """The words of the one command of tenth's in a script, with something for its variables."""
    (line,) = re.findall(r"\btenth (batch .*)", re.sub(r"\\\n\s*", " ", text))
    return shlex.split(re.sub(r"\$\w+", "name", line))


def table(heading: str) -> dict[str, tuple[float, ...]]:
    """The rows of a table of numbers, by their first column."""
    lines = TEXT.partition(f"| {heading} |")[2].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {name: tuple(float(number.replace(",", "")) for number in numbers) for name, *numbers in cells}


def test_the_examples_are_those_that_are_named() -> None:
    assert sorted(re.findall(r"`(deploy/ray-[\w.-]+)`", TEXT)) == EXAMPLES
    assert len(EXAMPLES) == 3


def test_kubernetes() -> None:
    (job,) = yaml.safe_load_all((ROOT / "deploy/ray-kubernetes.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    name, options = parse(shlex.split(job["spec"]["entrypoint"])[1:])
    assert (name, options["ray"], options["output"]) == ("tenth batch", "auto", "/data/out")
    cluster = job["spec"]["rayClusterSpec"]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    # Every node has the volume, one key, and no word for Ray's makers.
    groups: list[dict[str, Any]] = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]} == {"data"}
    cores = int(groups[1]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert options["workers"] == cores * groups[1]["maxReplicas"]


def test_skypilot() -> None:
    task = yaml.safe_load((ROOT / "deploy/ray-skypilot.yaml").read_text(encoding="utf-8"))
    assert {"name", "num_nodes", "resources", "setup", "run", "envs", "file_mounts"} <= task.keys()
    name, options = parse(command_of(task["run"]))
    assert (name, options["ray"]) == ("tenth batch", "auto")
    assert task["envs"]["RAY_USAGE_STATS_ENABLED"] == "0"
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_slurm() -> None:
    path = ROOT / "deploy/ray-slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text(encoding="utf-8")
    name, options = parse(command_of(text))
    assert (name, options["ray"]) == ("tenth batch", "auto")
    assert "#SBATCH --requeue" in text
    assert "ray symmetric-run" in text


def test_the_container_is_made_with_the_extras_that_the_examples_name() -> None:
    container = (ROOT / "deploy/Containerfile").read_text(encoding="utf-8")
    extras = re.search(r"--build-arg EXTRAS=([\w,]+)", (ROOT / EXAMPLES[0]).read_text(encoding="utf-8"))
    assert extras is not None
    assert "ARG EXTRAS=" in container
    assert f"EXTRAS={extras[1]}" in container
    assert Path(ROOT / "docs/scale.md").name in container


@pytest.mark.parametrize("column", [0, 1])
def test_the_arithmetic_follows_from_what_was_measured(column: int) -> None:
    measured = {name: numbers[column] for name, numbers in table("measured").items()}
    said = {name: numbers[column] for name, numbers in table("arithmetic").items()}
    pictures = PICTURES * measured["seconds a picture"] / 3600
    identities = PEOPLE * measured["seconds an identity"] / 3600
    assert said == {
        "core hours for pictures": round(pictures),
        "core hours for identities": round(identities),
        f"hours on {CORES} cores": round((pictures + identities) / CORES, 1),
        "GB of shards": PICTURES * measured["kB a picture, in its shard"] / 1e6,
        f"price at {PRICE} a core hour": round((pictures + identities) * PRICE),
        "core minutes that a lost worker costs at most": round(SHARD * measured["seconds a picture"] / 60, 1),
    }
