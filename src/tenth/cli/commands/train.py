"""`tenth train`: a recipe -> weights in DIR/final, whose path goes to stdout."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext

from tenth.cli.parameters import Recipe, ResumeTraining, TrainingFolder
from tenth.core.console import print_result


def train(recipe: Recipe, output: TrainingFolder, resume: ResumeTraining = False) -> int:
    """Train a model or an adapter on many people, by a recipe.

    Writes checkpoints into DIR and, last, DIR/final. Ctrl-C saves first.
    """
    from tenth.core.config import from_table, read_toml
    from tenth.experiments.output_folders import TRAINING_RECIPE, ensure_writable_training

    # Under torchrun one process claims the folder and speaks for all; it looks before seconds go into imports.
    table = read_toml(recipe)
    if os.environ.get("RANK", "0") == "0":
        ensure_writable_training(output, resume=resume)
    from tenth.core.files.claims import exclusive_folder
    from tenth.core.files.writing import write_bytes
    from tenth.training.distributed import distributed_state
    from tenth.training.registry import stage

    # What the recipe says is checked before anything is written.
    chosen = stage(table, str(recipe))
    config = from_table(chosen.recipe, table, str(recipe))
    is_main = distributed_state().is_main_process
    if is_main and resume:
        ensure_writable_training(output, resume=True, table=table)

    # The recipe's copy is what a later --resume is compared with.
    with exclusive_folder(output) if is_main else nullcontext():
        if is_main and not resume:
            ensure_writable_training(output, resume=False)
            write_bytes(output / TRAINING_RECIPE, recipe.read_bytes())
        distributed_state().wait_for_everyone()
        try:
            chosen.train(config, output)
        except KeyboardInterrupt:
            command = shlex.join(["tenth", "train", str(recipe), "-o", str(output), "--resume"])
            raise KeyboardInterrupt(f"Go on with `{command}`") from None
    if is_main:
        print_result(output / "final")
    return 0
