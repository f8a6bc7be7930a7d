"""The generated images of an experiment: where each is, and generating what is missing, each image once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, cycle, groupby, product
from pathlib import Path

from tqdm import tqdm

from tenth.core.config import to_table
from tenth.core.files.png_metadata import read_if_complete, save_sample
from tenth.core.marks.signer import current_signer
from tenth.core.types import DiffusionModel
from tenth.experiments.costs import CostLog, measure_cost
from tenth.experiments.identities import COSTS_FILE, identity_paths
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe, PromptSet
from tenth.experiments.workers import ExperimentWorkers
from tenth.methods.identity_file import load_identity
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.sampling.generate import Request, generate


@dataclass(frozen=True)
class ImageJob:
    """One image: its condition and method (None: without a person), the file of its identity, prompt, seed and path."""

    condition: Condition | None
    method: str | None
    identity: Path | None
    prompt: str
    seed: int
    path: Path


JobKey = tuple[str, Condition | None, str | None, str]  # prompt set, condition, method, person_id
ImageJobs = Mapping[JobKey, Sequence[ImageJob]]  # one per seed


def unconditional_key(prompt_set: str) -> JobKey:
    """The key of a prompt set's images without a person."""
    return prompt_set, None, None, ""


@dataclass(frozen=True)
class GenerationJob:
    """One image to generate. files: its paths, each with the method that it names; these methods gave equal identities."""

    job: ImageJob  # the first of them
    files: tuple[tuple[Path, str], ...]


def list_image_jobs(recipe: ExperimentRecipe, person_ids: Sequence[str], output: Path) -> ImageJobs:
    """Every image of every prompt set. Images without a person come first, and count for each person and condition."""
    jobs: dict[JobKey, list[ImageJob]] = {}
    for set_name, prompt_set in recipe.all_prompt_sets.items():
        folder = output / ("images" if set_name == PORTRAIT_PROMPT_SET else f"images-{set_name}")
        jobs[unconditional_key(set_name)] = _cycle_jobs(recipe.seed, prompt_set, folder / "none", (None, None), [None])
        for condition, name in product(recipe.conditions_of(set_name), recipe.methods_of(set_name)):
            for person_id in person_ids:
                paths = identity_paths(recipe, condition, name, person_id, output)
                images = folder / condition.folder / recipe.method_folders[name] / person_id
                key = set_name, condition, name, person_id
                jobs[key] = _cycle_jobs(recipe.seed, prompt_set, images, (condition, name), paths)
    return jobs


def _cycle_jobs(
    seed: int,
    prompt_set: PromptSet,
    folder: Path,
    source: tuple[Condition | None, str | None],
    identities: Sequence[Path | None],
) -> list[ImageJob]:
    """A prompt set's images of one person by one method: consecutive seeds, with prompts and identities in turn."""
    seeds = range(seed, seed + prompt_set.images)
    turns = zip(seeds, cycle(prompt_set.prompts), cycle(identities), strict=False)
    return [ImageJob(*source, identity, prompt, number, folder / f"{number}.png") for number, prompt, identity in turns]


@dataclass(frozen=True, eq=False)
class ImageTask:
    """What a worker does of an experiment (workers.py): a batch of images. missing: which files, for each image."""

    recipe: ExperimentRecipe
    batch: Sequence[GenerationJob]
    missing: Sequence[Sequence[bool]]
    output: Path

    @property
    def costs(self) -> Path:
        return self.output / COSTS_FILE

    def __call__(self, model: DiffusionModel, costs: CostLog) -> int:
        """Generate the batch, write the files that are missing, record the cost. Returns the number of images."""
        # Images of one identity share the object, so that its weights are applied once.
        jobs = [job.job for job in self.batch]
        identities = {path: load_identity(path) for path in dict.fromkeys(job.identity for job in jobs) if path is not None}
        requests = [Request(identities[job.identity] if job.identity else None, job.prompt, job.seed) for job in jobs]
        with measure_cost() as cost:
            samples = list(generate(model, requests, self.recipe.sampling))

        # The cost first, so that it is known of every image on disk.
        name = self.recipe.display_names.get(jobs[0].method or "", "none")
        costs.append(cost, task="images", method=name, count=len(self.batch))
        for job, missing_files, sample in zip(self.batch, self.missing, samples, strict=True):
            for path, method in compress(job.files, missing_files):
                save_sample(replace(sample, method=method), path)
        return len(self.batch)


def generate_missing(recipe: ExperimentRecipe, workers: ExperimentWorkers, jobs: Iterable[ImageJob], output: Path) -> None:
    """Generate the images that are missing, and record the cost.

    A batch with a missing image is generated as a whole: a pixel may differ by 1/255 in another batch.
    """
    batches = generation_batches(jobs)
    current_signer()  # what cannot be signed is not drawn
    with tqdm(total=sum(map(len, batches)), desc="images", file=sys.stderr, delay=2) as bar:

        def missing_batches() -> Iterator[ImageTask]:
            for batch in batches:
                missing = [
                    [not is_generated(path, method, job.job, recipe, workers.model) for path, method in job.files]
                    for job in batch
                ]
                if any(map(any, missing)):
                    yield ImageTask(recipe, batch, missing, output)
                else:
                    bar.update(len(batch))

        for count in workers.results(missing_batches()):
            bar.update(count)


def generation_batches(jobs: Iterable[ImageJob]) -> list[list[GenerationJob]]:
    """What to generate together: at most DEFAULT_BATCH_SIZE images of one condition and method, whatever files exist.

    Where methods or conditions gave equal identities, the image is generated once, with the first of them.
    """
    # Which files are the same image: equal identity, prompt and seed.
    jobs = list(jobs)
    identities = {path: fingerprint_file(path) for path in dict.fromkeys(job.identity for job in jobs)}
    keys = [(identities[job.identity][0], job.prompt, job.seed) for job in jobs]
    files: dict[tuple[str, str, int], list[tuple[Path, str]]] = {}
    for job, key in zip(jobs, keys, strict=True):
        files.setdefault(key, []).append((job.path, identities[job.identity][1]))

    # Batches of each run of one condition and method, every image where it comes first.
    batches: list[list[GenerationJob]] = []
    for _, run in groupby(zip(jobs, keys, strict=True), key=lambda pair: (pair[0].condition, pair[0].method)):
        new = [GenerationJob(job, tuple(files.pop(key))) for job, key in run if key in files]
        batches += [new[start : start + DEFAULT_BATCH_SIZE] for start in range(0, len(new), DEFAULT_BATCH_SIZE)]
    return batches


def fingerprint_file(path: Path | None) -> tuple[str, str]:
    """Fingerprint and method of an identity's file. Nothing stays in memory: some hold a model's weights."""
    if path is None:
        return "", "none"
    identity = load_identity(path)
    return identity.fingerprint, identity.method


def is_generated(path: Path, method: str, job: ImageJob, recipe: ExperimentRecipe, model: DiffusionModel) -> bool:
    """Whether the PNG exists, is complete, and was generated with these settings."""
    expected = {"prompt": job.prompt, "seed": job.seed, "method": method, "model": model.name}
    actual = read_if_complete(path)
    return actual is not None and actual | expected | to_table(recipe.sampling.for_model(model)) == actual
