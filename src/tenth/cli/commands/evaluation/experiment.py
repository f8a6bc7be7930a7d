"""`tenth experiment`, and `tenth report` of what it found."""

from __future__ import annotations

from pathlib import Path

import typer

from tenth.cli import parameters
from tenth.core.console import print_result


def experiment(
    recipe: parameters.Recipe,
    output: parameters.RunFolder = None,
    resume: parameters.ResumeRun = False,
    inception: parameters.InceptionFile = None,
    people: parameters.RecipePeople = None,
    photos: parameters.RecipePhotos = None,
    recognizer: parameters.RecipeRecognizers = [],  # noqa: B006 - typer's default of an option that may be repeated
    max_people: parameters.MaxPeople = None,
    dinov2: parameters.Dinov2Folder = None,
    face_quality: parameters.FaceQualityFile = None,
    feature_backend: parameters.FeatureBackend = None,
    workers: parameters.LocalWorkers = 0,
) -> int:
    """Compare methods on many people: images, scores, tables, a page.

    Started again, it goes on where it stopped; with a network that it had not,
    what needs it is filled in. The tables go to stdout.
    """
    from tenth.data.lfw import people_folder
    from tenth.evaluation.extractors.loading import NetworkSources, load_networks
    from tenth.experiments.runner import read_experiment, run_experiment

    data = {"people": people, "photos": photos and people_folder(photos)}
    options = {"data": {key: path for key, path in data.items() if path}, "recognizers": recognizer, "max_people": max_people}
    parsed = read_experiment(recipe, {key: value for key, value in options.items() if value})
    networks = load_networks(NetworkSources(inception or "", dinov2 or "", face_quality or "", feature_backend or ""))
    print_result(run_experiment(parsed, output or Path("runs") / recipe.stem, networks, resume=resume, workers=workers))
    return 0


def report(
    record: parameters.Run,
    output: parameters.ReportFile = None,
    summary: parameters.Summary = False,
    plot: parameters.ReportPlot = "curve",
) -> int:
    """Write an experiment's tables, images and how to repeat it as one HTML file.

    The file needs no network and no other file. Images that lie beside the record are put into it.
    """
    from tenth.core.run_record import read_record
    from tenth.reporting.frontier.plot import write_frontier
    from tenth.reporting.html.page import write_page
    from tenth.reporting.markdown import summary as summary_table
    from tenth.reporting.plots import PLOT_SUFFIXES, write_curve
    from tenth.reporting.results_reader import KINDS, read_results

    if summary and output:
        raise typer.BadParameter("it prints and writes no file; leave --output out", param_hint="--summary")
    is_plot = output is not None and output.suffix.lower() in PLOT_SUFFIXES
    if plot != "curve" and not is_plot:
        raise typer.BadParameter("it needs a file for the plot: -o NAME.png or NAME.svg", param_hint="--plot")
    if summary:
        print_result(summary_table(read_record(record, command=KINDS)).rstrip())
    elif output and is_plot:
        found = read_record(record, command=KINDS)
        if plot == "frontier":
            write_frontier(found, output, new=True)
        else:
            write_curve(read_results(found), output, new=True)
        print_result(output)
    else:
        print_result(write_page(record, output))
    return 0
