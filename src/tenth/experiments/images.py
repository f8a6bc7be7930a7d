"""Every image of an experiment: where it lies, and drawing what is not there yet, each picture once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, groupby
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tenth.core.config import to_table
from tenth.core.errors import DataError
from tenth.core.files.reading import open_regular
from tenth.core.files.writing import write_png
from tenth.core.types import Pixels, Sample
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
    batches = generation_batches(jobs)
    with tqdm(total=sum(map(len, batches)), desc="images", file=sys.stderr, delay=2) as bar:
        for batch in batches:
            missing = [
                [not is_generated(path, method_name, job.job, recipe, model) for path, method_name in job.files]
                for job in batch
            ]
            if any(map(any, missing)):
                batch_jobs = [drawing.job for drawing in batch]
                identities = {path: load_identity(path) for path in {each.identity for each in batch_jobs} if path is not None}
                requests = [
                    Request(identities[each.identity] if each.identity else None, each.prompt, each.seed) for each in batch_jobs
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


def generation_batches(jobs: Iterable[ImageJob]) -> list[list[GenerationJob]]:
    """What to generate together: at most DEFAULT_BATCH_SIZE of one condition and method, whatever files exist.

    Where methods or conditions give the same identity, the image is generated once, with the first of them.
    """
    jobs = list(jobs)
    fingerprints: dict[Path | None, tuple[str | None, str]] = {None: (None, "none")}
    fingerprints |= {path: fingerprint_file(path) for path in {job.identity for job in jobs} if path is not None}
    known: dict[object, GenerationJob] = {}
    batches: list[list[GenerationJob]] = []
    for _, run in groupby(jobs, key=lambda picture: (picture.condition, picture.method)):
        new_jobs: list[GenerationJob] = []
        for job in run:
            fingerprint, method = fingerprints[job.identity]
            key = job.prompt, job.seed, fingerprint
            if key not in known:
                known[key] = GenerationJob(job)
                new_jobs.append(known[key])
            known[key].files.append((job.path, method))
        batches += [new_jobs[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(new_jobs), DEFAULT_BATCH_SIZE)]
    return batches


def fingerprint_file(path: Path) -> tuple[str, str]:
    """Fingerprint and method of an identity's file. Nothing stays in memory: some hold a model's weights."""
    identity = load_identity(path)
    return identity.fingerprint, identity.method


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


@dataclass(frozen=True)
class RealImages:
    """Crops of the real photos, as pictures beside the generated ones: for the page, for controls, for sets of images."""

    output: Path

    def save(self, person_id: str, references: Sequence[Pixels], held_out: Sequence[Pixels]) -> None:
        """Write those of one person, and the mean of the references."""
        average = np.rint(np.mean(references, axis=0)).astype(np.uint8)
        for subfolder, images in (("references", references), ("held-out", held_out), ("averages", [average])):
            for index, pixels in enumerate(images):
                write_png(self.output / subfolder / person_id / f"{index:02}.png", Image.fromarray(pixels))

    def references(self, person_id: str) -> list[Path]:
        """In the order in which they are given to methods."""
        return sorted((self.output / "references" / person_id).glob("*.png"))

    def held_out(self, person_id: str) -> list[Path]:
        """Those that no method is given."""
        return sorted((self.output / "held-out" / person_id).glob("*.png"))

    def average(self, person_id: str) -> Path:
        """The pixels' mean over the references."""
        return self.output / "averages" / person_id / "00.png"
