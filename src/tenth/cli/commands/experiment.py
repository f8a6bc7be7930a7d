"""The commands that measure: `tenth experiment`, `report` and `evaluate`."""

from __future__ import annotations

from pathlib import Path

import typer

from tenth.cli import parameters
from tenth.core.console import print_message, print_result

DLIB_NOTE = "faces are read by dlib, as the pocket model reads them, which favours its methods; --recognizer brings another"


def experiment(
    recipe: parameters.Recipe,
    output: parameters.RunFolder = None,
    resume: parameters.ResumeRun = False,
    inception: parameters.InceptionFile = None,
) -> int:
    """Compare methods on many people: images, scores, tables, a page.

    Started again, it goes on where it stopped; with the Inception file, what needs it is filled in. The tables go to stdout.
    """
    from tenth.evaluation.extractors.inception_weights import load_inception
    from tenth.experiments.runner import read_experiment, run_experiment

    parsed = read_experiment(recipe)
    network = load_inception(inception) if inception else None
    print_result(run_experiment(parsed, output or Path("runs") / recipe.stem, network, resume=resume))
    return 0


def report(record: parameters.Run, output: parameters.ReportFile = None, summary: parameters.Summary = False) -> int:
    """Write an experiment's tables, images and how to repeat it as one HTML file.

    The file needs no network and no other file. Images that lie beside the record are put into it.
    """
    from tenth.core.run_record import read_record
    from tenth.reporting.html.page import write_page
    from tenth.reporting.markdown import summary as summary_table
    from tenth.reporting.plots import PLOT_SUFFIXES, write_curve
    from tenth.reporting.results_reader import read_results

    if summary and output:
        raise typer.BadParameter("it prints and writes no file; leave --output out", param_hint="--summary")
    if summary:
        print_result(summary_table(read_record(record, command="experiment")).rstrip())
    elif output and output.suffix.lower() in PLOT_SUFFIXES:
        write_curve(read_results(read_record(record, command="experiment")), output, new=True)
        print_result(output)
    else:
        print_result(write_page(record, output))
    return 0


def evaluate(
    generated: parameters.Generated,
    held_out: parameters.HeldOut,
    references: parameters.References = None,
    inception: parameters.InceptionFile = None,
    recognizer: parameters.RecognizerFile = None,
    json: parameters.Json = False,
) -> int:
    """Measure a folder of images against a folder of real photos.

    Either all folders hold images, of one person, or all hold a folder for each person. A metric that cannot be measured
    says why. Features are kept: the same images are not read by a network again.
    """
    from tenth.core.cache import ArrayCache, default_cache_dir
    from tenth.evaluation.extractors.face_recognizer import load_recognizer
    from tenth.evaluation.extractors.inception_weights import load_inception
    from tenth.evaluation.folders import dlib_recognizer, evaluate_folders, evaluation_to_json, evaluation_to_table

    # Files that the user may have to mend come first.
    network = load_inception(inception) if inception else None
    embedder = load_recognizer(recognizer) if recognizer else dlib_recognizer()
    store = ArrayCache(default_cache_dir())
    evaluation = evaluate_folders(
        generated=generated, held_out=held_out, references=references, recognizer=embedder, inception=network, store=store
    )

    # What to know of the folders goes to stderr, the figures to stdout.
    more = ("" if recognizer else DLIB_NOTE, evaluation.disclaimer)
    print_message(*evaluation.notes, *filter(None, more))
    print_result(evaluation_to_json(evaluation) if json else evaluation_to_table(evaluation))
    return 0
