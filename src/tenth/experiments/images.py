"""Every image of an experiment: where it lies, and drawing what is not there yet, each picture once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import cycle, groupby
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tenth.core.config import to_table
from tenth.core.errors import DataError
from tenth.core.files.reading import open_regular
from tenth.core.types import Identity, Pixels, Sample
from tenth.experiments.costs import append_cost, measure_cost
from tenth.experiments.identities import COSTS_FILE, identity_paths
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe, PromptSet
from tenth.methods.identity_file import load_identity
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import DEFAULT_BATCH_SIZE
from tenth.sampling.generate import Request, generate
from tenth.sampling.png_metadata import MAX_PNG_BYTES, read_if_complete, save_sample


@dataclass(frozen=True)
class ImageJob:
    """One image: under which condition and by which method (both None: nobody's), its identity's file, where it lies."""

    condition: Condition | None
    method: str | None
    identity: Path | None
    prompt: str
    seed: int
    path: Path


JobKey = tuple[str, Condition | None, str | None, str]  # track, condition, method, person's number
ImageJobs = Mapping[JobKey, Sequence[ImageJob]]  # an image for each seed


def unconditional_key(prompt_set: str) -> JobKey:
    """The key of a track's images of nobody in particular."""
    return prompt_set, None, None, ""


@dataclass(frozen=True, eq=False)
class GenerationJob:
    """One image to draw, and where it goes: files and the methods to name in them, which came to the same embeddings."""

    job: ImageJob  # the first of those that come to the same
    files: list[tuple[Path, str]] = field(default_factory=list)


def list_image_jobs(recipe: ExperimentRecipe, person_ids: Sequence[str], output: Path) -> ImageJobs:
    """Every image; nobody's come first in each track, are drawn once and count for each person and condition."""
    jobs: dict[JobKey, list[ImageJob]] = {}
    for prompt_set_name, prompt_set in recipe.all_prompt_sets.items():
        folder = output / ("images" if prompt_set_name == PORTRAIT_PROMPT_SET else f"images-{prompt_set_name}")
        jobs[unconditional_key(prompt_set_name)] = _cycle_jobs(recipe.seed, prompt_set, folder / "none", (None, None), [None])
        for condition in recipe.conditions_of(prompt_set_name):
            for name in recipe.methods_of(prompt_set_name):
                for person_id in person_ids:
                    paths = identity_paths(recipe, condition, name, person_id, output)
                    image_folder, source = (
                        folder / condition.folder / recipe.method_folders[name] / person_id,
                        (condition, name),
                    )
                    jobs[prompt_set_name, condition, name, person_id] = _cycle_jobs(
                        recipe.seed, prompt_set, image_folder, source, paths
                    )
    return jobs


def _cycle_jobs(
    seed: int,
    prompt_set: PromptSet,
    folder: Path,
    source: tuple[Condition | None, str | None],
    identities: Sequence[Path | None],
) -> list[ImageJob]:
    """A track's images of one person by one method: seeds one after the other, prompts and identities in turn."""
    turns = zip(range(seed, seed + prompt_set.images), cycle(prompt_set.prompts), cycle(identities), strict=False)
    return [
        ImageJob(*source, identity, prompt, image_seed, folder / f"{image_seed}.png") for image_seed, prompt, identity in turns
    ]


def generate_missing(recipe: ExperimentRecipe, model: LatentDiffusion, jobs: Iterable[ImageJob], output: Path) -> None:
    """Draw what is not there yet, and note what it cost.

    A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255.
    """
    batches = list(generation_batches(jobs))
    read_identity = lru_cache(DEFAULT_BATCH_SIZE)(
        load_identity
    )  # of several images one object, so that its weights are put on the model once a batch
    with tqdm(total=sum(map(len, batches)), desc="images", file=sys.stderr, delay=2) as bar:
        for batch in batches:
            missing = [
                [not is_generated(path, method_name, job.job, recipe, model) for path, method_name in job.files]
                for job in batch
            ]
            if any(map(any, missing)):
                batch_jobs = [drawing.job for drawing in batch]
                requests = [
                    Request(read_identity(each.identity) if each.identity else None, each.prompt, each.seed)
                    for each in batch_jobs
                ]
                with measure_cost() as cost:
                    samples = list(generate(model, requests, recipe.sampling))
                append_cost(
                    output / COSTS_FILE,
                    cost,
                    drawn=recipe.display_names.get(batch_jobs[0].method or "", "none"),
                    count=len(batch),
                )
                for drawing, missing_files, sample in zip(batch, missing, samples, strict=True):
                    save_missing(drawing, missing_files, sample)
            bar.update(len(batch))


def save_missing(job: GenerationJob, missing: Iterable[bool], sample: Sample) -> None:
    """Write those of a drawing's files that are not there."""
    for (path, method_name), is_missing in zip(job.files, missing, strict=True):
        if is_missing:
            save_sample(replace(sample, method=method_name), path)


def generation_batches(jobs: Iterable[ImageJob]) -> Iterator[list[GenerationJob]]:
    """What to draw together: at most BATCH of one condition and method. They depend on the recipe alone, not on what exists.

    Where methods or conditions come to the same embeddings, the image is drawn once, with the first of them.
    """
    known: dict[object, GenerationJob] = {}
    fingerprint_of = cache(lambda path: fingerprint_file(path) if path else (None, "none"))
    batches: list[list[GenerationJob]] = []
    for _, run in groupby(jobs, key=lambda picture: (picture.condition, picture.method)):
        new_jobs: list[GenerationJob] = []
        for job in run:
            fingerprint, method = fingerprint_of(job.identity)
            key = job.prompt, job.seed, fingerprint
            if key not in known:
                known[key] = GenerationJob(job)
                new_jobs.append(known[key])
            known[key].files.append((job.path, method))
        batches += [new_jobs[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(new_jobs), DEFAULT_BATCH_SIZE)]
    yield from batches  # only now does each drawing know all of its files


def fingerprint_file(path: Path) -> tuple[str, str]:
    """`identity_fingerprint` of an identity's file, and its method. Nothing stays in memory: some hold a model's weights."""
    identity = load_identity(path)
    return identity_fingerprint(identity), identity.method


def identity_fingerprint(identity: Identity) -> str:
    """sha256 of all of an identity that its images depend on: who and how it was made is not part of it."""
    tensors = {"": identity.embeddings, **identity.weights}
    digest = hashlib.sha256(repr((identity.model, identity.encoder, identity.adapter, identity.trigger_phrase)).encode())
    for name, tensor in sorted(tensors.items()):
        if tensor is not None:
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def is_generated(path: Path, method: str, job: ImageJob, recipe: ExperimentRecipe, model: LatentDiffusion) -> bool:
    """Whether the PNG is there, whole, and made with these settings."""
    expected = {"prompt": job.prompt, "seed": job.seed, "method": method, "model": model.name}
    actual = read_if_complete(path)
    return actual is not None and actual | expected | to_table(recipe.sampling) == actual


def load_images(jobs: Iterable[ImageJob]) -> list[Pixels]:
    """(H, W, 3) each, from the disk."""
    return [load_image(picture.path) for picture in jobs]


def load_image(path: Path) -> Pixels:
    """(H, W, 3) of a PNG of ours. Raises DataError if it is none, or not whole."""
    try:
        with open_regular(path, MAX_PNG_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        needed = "a whole picture of this experiment is needed"
        raise DataError(f"{path} is no whole PNG ({problem})", needed, "Remove it and run the same again") from problem
