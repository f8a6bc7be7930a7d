"""What `tenth train` does once its arguments are read. Heavy imports come after what can be refused without them."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from contextlib import nullcontext

from tenth.terminal import show


def train(args: Namespace) -> int:
    """A recipe -> weights in DIR/final, whose path goes to stdout."""
    from tenth.config import from_table, read_toml
    from tenth.refusals import TRAINING_RECIPE, claim_training

    table = read_toml(args.recipe)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process claims the folder and speaks for all
        claim_training(args.output, resume=args.resume)  # before seconds go into imports
    from tenth.catalog import stage
    from tenth.claims import claimed_folder
    from tenth.file_writing import write_bytes
    from tenth.training import processes

    chosen = stage(table, str(args.recipe))
    recipe = from_table(chosen.recipe, table, str(args.recipe))
    main = processes().is_main_process
    if main and args.resume:
        claim_training(args.output, resume=True, table=table)
    with claimed_folder(args.output) if main else nullcontext():
        if main and not args.resume:
            claim_training(args.output, resume=False)
            write_bytes(args.output / TRAINING_RECIPE, args.recipe.read_bytes())
        processes().wait_for_everyone()
        try:
            chosen.train(recipe, args.output)
        except KeyboardInterrupt:
            command = shlex.join(["tenth", "train", str(args.recipe), "-o", str(args.output), "--resume"])
            raise KeyboardInterrupt(f"Go on with `{command}`") from None
    if main:
        show(args.output / "final")
    return 0
