"""`tenth batch`: a plan of any number of images of any number of people -> shards, on this machine or a Ray cluster."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import typer

from tenth.cli import parameters
from tenth.core.console import print_message, print_result, progress_bar
from tenth.core.wording import MAX_ITEMS, format_duration, pluralize

if TYPE_CHECKING:
    from tenth.experiments.batch.run import BatchProgress, BatchResult


def batch(
    plan: parameters.PlanFile,
    output: parameters.BatchPlace,
    workers: parameters.Workers = 0,
    ray: parameters.RayAddress = "",
    threads: parameters.WorkerThreads = 1,
    gpus: parameters.WorkerGpus = 0,
    device: parameters.Device = None,
    backend: parameters.Backend = None,
    format: parameters.ImageFormat = "png",  # noqa: A002 - the option's name
    features: parameters.KeepFeatures = False,
    recognizer: parameters.RecognizerFile = None,
    inception: parameters.InceptionFile = None,
    rows_per_shard: parameters.RowsPerShard = 1_000,
    json: parameters.Json = False,
) -> int:
    """Generate the images of a plan: any number of people, prompts and seeds.

    Writes shards/00000.tar and so on, each in the layout of webdataset with a JSON for each image, and batch.json. Stopped or
    killed, the same command goes on, with the same bytes in the end, whatever the number of workers; a damaged shard is found
    and drawn again. A row that cannot be drawn, such as one without photos, costs itself alone: it is listed in batch.json, and
    the command exits with 1.
    """
    if (recognizer or inception) and not features:
        raise typer.BadParameter("it is for --features", param_hint="--recognizer" if recognizer else "--inception")
    if gpus and not ray:
        raise typer.BadParameter("Ray shares accelerators out; without it all workers see all of them", param_hint="--gpus")
    from tenth.core.workers.attempts import Workers
    from tenth.experiments.batch.run import BatchSettings, run_batch

    # Everything that the files depend on, then the images.
    given = {
        "device": device or "",
        "backend": backend or "",
        "recognizer": str(recognizer or ""),
        "inception": inception or "",
    }
    settings = BatchSettings(image_format=format, features=features, rows_per_shard=rows_per_shard, **given)
    with progress_bar("drawing", unit="row") as progress:

        def report(now: BatchProgress) -> None:
            print_message(*filter(None, [now.message]))
            progress(now.rows, now.total, f"{pluralize(now.bad, 'bad row')}" if now.bad else "")

        result = run_batch(plan, output, settings, Workers(workers, ray, threads, gpus), on_progress=report)
    _print_result(output, result, json)
    return 1 if result.num_bad else 0


def _print_result(output: str, result: BatchResult, json: bool) -> None:
    """What there is, and the first bad rows on stderr."""
    plan = result.plan
    if plan.duplicates:
        print_message(f"{pluralize(plan.duplicates, 'row')} stood there a second time and counted once")
    errors = (row["error"] for row in result.bad)
    texts = dict.fromkeys(f"bad row: {each['found']}; {each['needed']}. {each['action']}." for each in errors)
    print_message(*islice(texts, MAX_ITEMS), *(["more of them are in batch.json"] if len(texts) > MAX_ITEMS else []))
    if plan.bad_rows:
        print_message(f"{pluralize(plan.bad_rows, 'row')} of the plan cannot be drawn: correct them in a plan with another -o")
    if undrawn := result.num_bad - plan.bad_rows:
        print_message(f"{pluralize(undrawn, 'row')} without an image: batch.json has them; the same command tries these again")
    if json:
        counts = {"images": result.pictures, "shards": plan.shards, "bad_rows": result.num_bad, "duplicates": plan.duplicates}
        print_result({"output": output, **counts, "redrawn_shards": result.redrawn, "seconds": round(result.seconds, 3)})
    else:
        took = f"{format_duration(result.seconds)} of all workers"
        print_result(f"{pluralize(result.pictures, 'image')} in {pluralize(plan.shards, 'shard')}, {took}: {output}")
