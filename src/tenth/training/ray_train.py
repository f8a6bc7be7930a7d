"""Training by processes on the nodes of a Ray cluster, which Ray Train starts and joins as torchrun does on one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tenth.core.config import from_table, read_toml, require
from tenth.core.errors import InputError
from tenth.core.workers.ray_cluster import OURS
from tenth.core.workers.ray_driver import run_with_ray
from tenth.training.registry import stage

NEEDED_PACKAGES = ("ray", "pandas", "pyarrow", "requests")  # without which Ray Train is not imported


def check_ray(num_processes: int) -> None:
    """Raises RecipeError without processes, InputError if Ray Train is not installed: before anything is written."""
    require(num_processes >= 1, "--workers", num_processes, "with --ray at least 1")
    if missing := [name for name in NEEDED_PACKAGES if find_spec(name) is None]:
        found = f"Ray Train cannot be used without {', '.join(missing)}"
        raise InputError(found, "it joins the processes of several machines", "Run `pip install 'tenth[cluster]'`")


def train_on_ray(recipe: Path, directory: Path, address: str, num_processes: int) -> None:
    """Train by a recipe as `tenth train` does, in `num_processes` processes, each with a GPU where the cluster has some.

    directory, and what the recipe names, are the same folders on all nodes. A run that lost a process is resumed by the same
    command. Raises InputError if Ray Train is not installed, if no cluster answers, and what a process raises.
    """
    check_ray(num_processes)
    run_with_ray(address, partial(_fit, recipe, directory, num_processes))


def _fit(recipe: Path, directory: Path, num_processes: int) -> None:
    """Train, in a process that is connected to a cluster. Raises as `train_on_ray`."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    # Processes of a cluster begin elsewhere: they go to this folder, and look for models where this process does.
    ours = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    settings = {
        "recipe": str(recipe.absolute()),
        "directory": str(directory.absolute()),
        "folder": str(Path.cwd()),
        "ours": ours,
    }
    try:
        trainer = TorchTrainer(
            train_one_process,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=num_processes, use_gpu="GPU" in ray.cluster_resources()),
            run_config=RunConfig(storage_path=str(directory.absolute()), name="ray"),
        )
        trainer.fit()
    except TrainingFailedError as problem:
        failures = getattr(problem, "worker_failures", {}).values()
        if own := next((each for each in failures if isinstance(each, InputError)), None):
            raise own from problem
        action = "Look above for what Ray says, and go on with --resume"
        raise InputError(f"a process of the training failed ({problem})", "all of them are needed", action) from problem
    finally:
        ray.shutdown()


def train_one_process(settings: Mapping[str, Any]) -> None:
    """What each process runs; Ray Train has joined them, and says by environment variables which one it is."""
    os.environ.update(settings["ours"])
    os.chdir(settings["folder"])
    table = read_toml(Path(settings["recipe"]))
    chosen = stage(table, settings["recipe"])
    chosen.train(from_table(chosen.recipe, table, settings["recipe"]), Path(settings["directory"]))
