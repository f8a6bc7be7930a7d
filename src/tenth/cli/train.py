"""The commands over many people: train, experiment, evaluate, report, data."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.console import one_line, say, show

if TYPE_CHECKING:
    from tenth.data.manifest import Summary


def train(args: Namespace) -> int:
    """A recipe -> weights in DIR/final, whose path goes to stdout."""
    from tenth.core.config import from_table, read_toml
    from tenth.experiments.output_folders import TRAINING_RECIPE, claim_training

    table = read_toml(args.recipe)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process claims the folder and speaks for all
        claim_training(args.output, resume=args.resume)  # before seconds go into imports
    from tenth.core.claims import claimed_folder
    from tenth.core.file_writing import write_bytes
    from tenth.training.distributed import processes
    from tenth.training.registry import stage

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


DLIB_JUDGES = "faces are read by dlib, as the pocket model reads them, which favours its methods; --judge brings another"


def experiment(args: Namespace) -> int:
    """A recipe -> images, scores, tables and a page in DIR. The tables go to stdout."""
    from tenth.evaluation.extractors.inception_weights import open_inception
    from tenth.experiments.runner import read_experiment, run_experiment

    recipe = read_experiment(args.recipe)
    inception = open_inception(args.inception) if args.inception else None
    show(run_experiment(recipe, args.output or Path("runs") / args.recipe.stem, inception, resume=args.resume))
    return 0


def evaluate(args: Namespace) -> int:
    """Two folders of images -> metrics. What was not measured says why; what to know of the folders goes to stderr."""
    from tenth.core.cache import Store, default_store
    from tenth.evaluation.extractors.face_recognizer import open_recogniser
    from tenth.evaluation.extractors.inception_weights import open_inception
    from tenth.evaluation.folders import dlib_recogniser, evaluate_folders, evaluation_to_json, evaluation_to_table

    inception = open_inception(args.inception) if args.inception else None
    face, store = open_recogniser(args.judge) if args.judge else dlib_recogniser(), Store(default_store())
    found = evaluate_folders(generated=args.generated, held_out=args.reference, face=face, inception=inception, store=store)
    say(*found.notes, *[DLIB_JUDGES] * (args.judge is None), *[found.meaningless] * bool(found.meaningless))
    show(evaluation_to_json(found) if args.json else evaluation_to_table(found))
    return 0


def report(args: Namespace) -> int:
    """The record of an experiment -> one HTML file, whose path goes to stdout, or one table there."""
    from tenth.core.run_record import read_record
    from tenth.reporting.html.page import write_page
    from tenth.reporting.markdown import summary

    if args.summary and args.output:
        args.usage_error("--summary prints and writes no file; leave -o out")
    if args.summary:
        show(summary(read_record(args.record, kind="experiment")).rstrip())
    else:
        show(write_page(args.record, args.output))
    return 0


def lfw(args: Namespace) -> int:
    """LFW -> DIR/people.jsonl. Counts and what was dropped go to stdout, what to know to stderr."""
    from tenth.data.lfw import write_people

    return _summarise(write_people(args.source, args.output, args.attributes, fold=args.fold))


def people(args: Namespace) -> int:
    """A folder for each person -> DIR/people.jsonl. Counts and what was dropped go to stdout, what to know to stderr."""
    from tenth.data.image_folder import write_people

    return _summarise(write_people(args.source, args.output))


def _summarise(summary: Summary) -> int:
    say(*summary.notes)
    show("\n".join(map(one_line, str(summary).split("\n"))))
    return 0
