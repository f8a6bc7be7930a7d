"""The images of a frontier: those of its prompt set once more with each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from tenth.experiments.frontier.grid import FrontierConfig, FrontierSetting
from tenth.experiments.images import ImageJob, ImageJobs, generate_missing
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.workers import ExperimentWorkers
from tenth.methods.registry import method

FOLDER = "frontier"  # in an experiment's: the images, and their costs, which are not those of the recipe's own sampling
PersonJobs = Mapping[str, Sequence[ImageJob]]  # by person
FrontierJobs = Mapping[tuple[str, FrontierSetting | None], PersonJobs]  # by method and setting


def list_frontier_jobs(recipe: ExperimentRecipe, frontier: FrontierConfig, jobs: ImageJobs, output: Path) -> FrontierJobs:
    """Every image, by method and setting. Where a setting is the recipe's own, the prompt set's images are it.

    Methods to which the settings do nothing have those alone, under None.
    """
    condition = recipe.main_condition
    found: dict[tuple[str, FrontierSetting | None], PersonJobs] = {}
    for name in recipe.methods_of(frontier.prompt_set):
        own = {
            who: images
            for (where, at, by, who), images in jobs.items()
            if (where, at, by) == (frontier.prompt_set, condition, name)
        }
        for setting in frontier.settings if reads_settings(name) else (None,):
            if setting is None or setting.applied(recipe.sampling) == recipe.sampling:
                found[name, setting] = own
                continue
            folder = output / FOLDER / setting.folder / recipe.method_folders[name]
            found[name, setting] = {
                who: [replace(job, path=folder / who / job.path.name) for job in images] for who, images in own.items()
            }
    return found


def generate_frontier(recipe: ExperimentRecipe, workers: ExperimentWorkers, jobs: FrontierJobs, output: Path) -> None:
    """Generate the images that are missing, setting by setting; those of the prompt set are there."""
    for setting in dict.fromkeys(setting for _, setting in jobs if setting is not None):
        at_setting = replace(recipe, sampling=setting.applied(recipe.sampling))
        if at_setting.sampling != recipe.sampling:
            people = [people for (_, at), people in jobs.items() if at == setting]
            images = chain.from_iterable(chain.from_iterable(each.values()) for each in people)
            generate_missing(at_setting, workers, images, output / FOLDER)


def reads_settings(name: str) -> bool:
    """Whether a method's images depend on text guidance or adapter scale: all do but those of photos in context."""
    return not method(name).keeps_photos
