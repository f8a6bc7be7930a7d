"""The commands over many people: train, experiment, evaluate, report, data."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.console import print_message, print_result
from tenth.core.wording import printable

if TYPE_CHECKING:
    from tenth.data.manifest import ManifestSummary


def train(args: Namespace) -> int:
    """A recipe -> weights in DIR/final, whose path goes to stdout."""
    from tenth.core.config import from_table, read_toml
    from tenth.experiments.output_folders import TRAINING_RECIPE, ensure_writable_training

    table = read_toml(args.recipe)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process claims the folder and speaks for all
        ensure_writable_training(args.output, resume=args.resume)  # before seconds go into imports
    from tenth.core.files.claims import exclusive_folder
    from tenth.core.files.writing import write_bytes
    from tenth.training.distributed import distributed_state
    from tenth.training.registry import stage

    chosen = stage(table, str(args.recipe))
    recipe = from_table(chosen.recipe, table, str(args.recipe))
    is_main = distributed_state().is_main_process
    if is_main and args.resume:
        ensure_writable_training(args.output, resume=True, table=table)
    with exclusive_folder(args.output) if is_main else nullcontext():
        if is_main and not args.resume:
            ensure_writable_training(args.output, resume=False)
            write_bytes(args.output / TRAINING_RECIPE, args.recipe.read_bytes())
        distributed_state().wait_for_everyone()
        try:
            chosen.train(recipe, args.output)
        except KeyboardInterrupt:
            command = shlex.join(["tenth", "train", str(args.recipe), "-o", str(args.output), "--resume"])
            raise KeyboardInterrupt(f"Go on with `{command}`") from None
    if is_main:
        print_result(args.output / "final")
    return 0


DLIB_NOTE = "faces are read by dlib, as the pocket model reads them, which favours its methods; --judge brings another"


def experiment(args: Namespace) -> int:
    """A recipe -> images, scores, tables and a page in DIR. The tables go to stdout."""
    from tenth.evaluation.extractors.inception_weights import load_inception
    from tenth.experiments.runner import read_experiment, run_experiment

    recipe = read_experiment(args.recipe)
    inception = load_inception(args.inception) if args.inception else None
    print_result(run_experiment(recipe, args.output or Path("runs") / args.recipe.stem, inception, resume=args.resume))
    return 0


def evaluate(args: Namespace) -> int:
    """Two folders of images -> metrics. What was not measured says why; what to know of the folders goes to stderr."""
    from tenth.core.cache import ArrayCache, default_cache_dir
    from tenth.evaluation.extractors.face_recognizer import load_recognizer
    from tenth.evaluation.extractors.inception_weights import load_inception
    from tenth.evaluation.folders import dlib_recognizer, evaluate_folders, evaluation_to_json, evaluation_to_table

    inception = load_inception(args.inception) if args.inception else None
    recognizer, store = load_recognizer(args.judge) if args.judge else dlib_recognizer(), ArrayCache(default_cache_dir())
    evaluation = evaluate_folders(
        generated=args.generated, held_out=args.reference, recognizer=recognizer, inception=inception, store=store
    )
    print_message(
        *evaluation.notes, *[DLIB_NOTE] * (args.judge is None), *[evaluation.disclaimer] * bool(evaluation.disclaimer)
    )
    print_result(evaluation_to_json(evaluation) if args.json else evaluation_to_table(evaluation))
    return 0


def report(args: Namespace) -> int:
    """The record of an experiment -> one HTML file or its curve, whose path goes to stdout, or one table there."""
    from tenth.core.run_record import read_record
    from tenth.reporting.html.page import write_page
    from tenth.reporting.markdown import summary
    from tenth.reporting.plots import PICTURES, write_curve
    from tenth.reporting.results_reader import read_results

    if args.summary and args.output:
        args.usage_error("--summary prints and writes no file; leave -o out")
    if args.summary:
        print_result(summary(read_record(args.record, command="experiment")).rstrip())
    elif args.output and args.output.suffix.lower() in PICTURES:
        write_curve(read_results(read_record(args.record, command="experiment")), args.output, new=True)
        print_result(args.output)
    else:
        print_result(write_page(args.record, args.output))
    return 0


def lfw(args: Namespace) -> int:
    """LFW -> DIR/people.jsonl. Counts and what was dropped go to stdout, what to know to stderr."""
    from tenth.data.lfw import prepare_lfw

    return _print_summary(prepare_lfw(args.source, args.output, args.attributes, fold=args.fold))


def people(args: Namespace) -> int:
    """A folder for each person -> DIR/people.jsonl. Counts and what was dropped go to stdout, what to know to stderr."""
    from tenth.data.image_folder import prepare_folder

    return _print_summary(prepare_folder(args.source, args.output))


def _print_summary(summary: ManifestSummary) -> int:
    print_message(*summary.notes)
    print_result("\n".join(map(printable, str(summary).split("\n"))))
    return 0
