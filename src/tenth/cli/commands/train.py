"""`tenth train`: a recipe -> weights in DIR/final, whose path goes to stdout."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack

from tenth.cli.parameters import RayAddress, Recipe, ResumeTraining, TrainingFolder, Workers
from tenth.core.console import print_result
from tenth.core.errors import RecipeError


def train(
    recipe: Recipe, output: TrainingFolder, resume: ResumeTraining = False, workers: Workers = 0, ray: RayAddress = ""
) -> int:
    """Train a model or an adapter on many people, by a recipe.

    Writes checkpoints into DIR and, last, DIR/final. Ctrl-C saves first. With --ray, Ray Train starts N processes; on
    one machine, torchrun does.
    """
    from tenth.core.config import from_table, read_toml
    from tenth.experiments.output_folders import TRAINING_RECIPE, ensure_writable_training

    # Under torchrun one process claims the folder and speaks for all; it looks before seconds go into imports.
    table = read_toml(recipe)
    if os.environ.get("RANK", "0") == "0":
        ensure_writable_training(output, resume=resume)
    if workers and not ray:
        found, needed = "--workers without --ray", "of one machine, torchrun starts the processes"
        raise RecipeError(found, needed, f"Use `torchrun --nproc_per_node {workers} --no-python tenth train ...`, or add --ray")
    if ray:
        from tenth.training.ray_train import check_ray

        check_ray(workers)
    from tenth.core.files.claims import exclusive_folder
    from tenth.core.files.writing import write_bytes
    from tenth.training.distributed import distributed_state, in_main_process
    from tenth.training.registry import stage

    # What the recipe says is checked before anything is written.
    chosen = stage(table, str(recipe))
    config = from_table(chosen.recipe, table, str(recipe))
    with ExitStack() as stack:

        def claim() -> None:
            """The folder; the recipe's copy in it is what a later --resume is compared with."""
            if resume:
                ensure_writable_training(output, resume=True, table=table)
            stack.enter_context(exclusive_folder(output))
            if not resume:
                ensure_writable_training(output, resume=False)
                write_bytes(output / TRAINING_RECIPE, recipe.read_bytes())

        in_main_process(claim)
        try:
            if not ray:
                chosen.train(config, output)
        except KeyboardInterrupt:
            command = shlex.join(["tenth", "train", str(recipe), "-o", str(output), "--resume"])
            raise KeyboardInterrupt(f"Go on with `{command}`") from None
    if ray:  # outside the lock, which the first of its processes takes
        from tenth.training.ray_train import train_on_ray

        train_on_ray(recipe, output, ray, workers)
    if distributed_state().is_main_process:
        print_result(output / "final")
    return 0
