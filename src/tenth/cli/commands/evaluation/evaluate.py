"""`tenth evaluate`: a folder of images, or a batch, against a folder of real photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli import parameters
from tenth.core.console import print_message, print_result
from tenth.core.workers.attempts import Workers

if TYPE_CHECKING:
    from tenth.evaluation.extractors.loading import NetworkSources
    from tenth.evaluation.folders import FolderEvaluation, RealFolders

DLIB_NOTE = "faces are read by dlib, as the pocket model reads them, which favours its methods; --recognizer brings another"


def evaluate(
    generated: parameters.Generated,
    held_out: parameters.HeldOut,
    references: parameters.References = None,
    inception: parameters.InceptionFile = None,
    dinov2: parameters.Dinov2Folder = None,
    face_quality: parameters.FaceQualityFile = None,
    feature_backend: parameters.FeatureBackend = None,
    recognizer: parameters.RecognizerFile = None,
    people: parameters.PeopleList = None,
    workers: parameters.Workers = 0,
    ray: parameters.RayAddress = "",
    threads: parameters.WorkerThreads = 1,
    json: parameters.Json = False,
) -> int:
    """Measure a folder of images, or a batch, against a folder of real photos.

    Either all folders hold images, of one person, or all hold a folder for each person. A metric that cannot be measured
    says why. Features are kept: the same images are not read by a network again. A batch is measured shard by shard, by
    --workers or the nodes of --ray, to the figures that its images have in a folder.
    """
    from tenth.evaluation.extractors.loading import NetworkSources
    from tenth.evaluation.folders import RealFolders, evaluation_to_json, evaluation_to_table
    from tenth.experiments.batch.plan import is_batch
    from tenth.experiments.batch.store import open_store

    photos, sources = (
        RealFolders(held_out, references, people),
        NetworkSources(inception or "", dinov2 or "", face_quality or "", feature_backend or ""),
    )
    if is_batch(open_store(generated)):
        evaluation = _evaluate_batch(generated, photos, recognizer, sources, Workers(workers, ray, threads))
    elif workers or ray:
        hint = "--workers" if workers else "--ray"
        raise typer.BadParameter(f"it is for a batch, and {generated} is none: it has no plan.json", param_hint=hint)
    else:
        evaluation = _evaluate_folder(Path(generated), photos, recognizer, sources)

    # What to know of the folders goes to stderr, the figures to stdout.
    more = ("" if recognizer else DLIB_NOTE, evaluation.disclaimer)
    print_message(*evaluation.notes, *filter(None, more))
    print_result(evaluation_to_json(evaluation) if json else evaluation_to_table(evaluation))
    return 0


def _evaluate_folder(
    generated: Path, photos: RealFolders, recognizer: Path | None, sources: NetworkSources
) -> FolderEvaluation:
    from tenth.core.cache import ArrayCache, default_cache_dir
    from tenth.evaluation.extractors.loading import RECOGNIZER
    from tenth.evaluation.folders import evaluate_folders
    from tenth.experiments.batch.features import load_extractors

    # Files that the user may have to mend come first.
    networks = load_extractors(str(recognizer or ""), sources)
    return evaluate_folders(
        generated=generated,
        real=photos,
        recognizer=networks.pop(RECOGNIZER),
        networks=networks,
        store=ArrayCache(default_cache_dir()),
    )


def _evaluate_batch(
    address: str, photos: RealFolders, recognizer: Path | None, sources: NetworkSources, workers: Workers
) -> FolderEvaluation:
    from tenth.core.cache import ArrayCache, default_cache_dir
    from tenth.experiments.batch.evaluation import evaluate_batch
    from tenth.experiments.batch.features import load_extractors

    # Workers of a cluster are in another folder.
    description = str(recognizer.absolute()) if recognizer else ""
    return evaluate_batch(
        address,
        photos=photos,
        load=partial(load_extractors, description, sources.absolute),
        cache=ArrayCache(default_cache_dir()),
        workers=workers,
    )
