"""What an experiment asks: its recipe, and the conditions under which every method makes its identities."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from tenth.core.config import Count, FilePath, SomeItems, WholeNumber, config_dataclass, require, to_table
from tenth.core.run_record import method_folder_names, replace_paths, short_path_names
from tenth.core.types import Photo
from tenth.data.faces.crops import PhotoDataset
from tenth.experiments.frontier.grid import FrontierConfig
from tenth.methods.registry import ADAPTER_METHODS, method
from tenth.models.registry import DEFAULT_MODEL
from tenth.sampling.config import SamplingConfig

DLIB = Path("dlib")  # among `recognizers`: the package's own, for which there is no file
PORTRAIT_PROMPT_SET = "portrait"  # the prompt set of `prompt` alone


@dataclass(frozen=True)
class Condition:
    """The photos that each method is given of each person, the last `num_impostors` of them an impostor's."""

    num_photos: int
    num_impostors: int = 0

    @property
    def folder(self) -> str:
        """Its name in paths."""
        return f"{self.num_photos}-impostor-{self.num_impostors}" if self.num_impostors else str(self.num_photos)

    def select_photos(self, photos: Sequence[Photo], impostors: Sequence[Photo]) -> tuple[Photo, ...]:
        """The first of a person's references, then the first of the impostor's."""
        return (*photos[: self.num_photos - self.num_impostors], *impostors[: self.num_impostors])


@config_dataclass
class PromptSet:
    """What all methods are asked for. Image i of a person has the i-th prompt, in turn, and the i-th seed."""

    prompts: SomeItems[str]
    images: Count
    methods: tuple[str, ...] = ()  # empty: all of the recipe's


@config_dataclass
class ExperimentRecipe:
    """recipes/identity-*.toml, curve-*.toml. Counts are per person."""

    data: PhotoDataset
    split: Literal["validation", "test"]  # validation: to choose with; test: to report, once. Nobody in them is trained on
    model: str = DEFAULT_MODEL  # a name, or a folder in the pocket model's layout
    methods: SomeItems[str] = ADAPTER_METHODS  # those that learn each person take minutes for each: to be named
    baselines: tuple[str, ...] = ()  # methods that differences are taken to; empty: the first method
    prompt: str = "a portrait photo of a person"  # of the prompt set `portrait`, neutral: who is measured, not what
    images: Count = 4  # by each method; the interval is over people, so more people help more than more images
    prompt_sets: Mapping[str, PromptSet] = field(default_factory=dict)  # more, by name, with all photos and no impostor
    seed: WholeNumber = 0  # of the first image; the next have the next ones; the same for all methods and people
    references: Count = 9  # photos kept for the methods, whatever is given of them
    photo_counts: tuple[Count, ...] = ()  # photos given to a method: the first 1, 3, ... references; empty: all of them
    num_impostors: tuple[WholeNumber, ...] = (0,)  # how many of the largest count are another's; none is measured too
    held_out: Count = 10  # photos kept for evaluation, at most
    min_people: Count = 2  # fewer usable people are an error: one alone has no impostors
    max_people: WholeNumber | None = None  # only the first so many: for trying a recipe out
    # TOML files of recognizers that condition no method; the tables are by the first. `dlib`: the package's own, which the
    # pocket model reads: three times as long, and alone no result.
    recognizers: SomeItems[FilePath] = (DLIB,)
    clip_model: FilePath | None = None  # folder of a CLIP model that scores images by their prompts, beside face attributes
    real_photo_framing: Literal["crop", "photo"] = "crop"  # what is seen of real photos: crops as the model's, or all
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    frontier: FrontierConfig | None = None  # the prompt against the person, over settings: one image more for each of them

    def __post_init__(self) -> None:
        # Methods are known, and those that others name are among them.
        for name in self.methods:
            method(name)
        require(_all_unique(self.methods), "methods", self.methods, "each once")
        expected = f"of the recipe's methods, each once: {', '.join(self.methods)}"
        require(self._are_methods(self.baselines), "baselines", self.baselines, expected)
        for name, prompt_set in self.prompt_sets.items():
            valid = bool(re.fullmatch("[a-z][a-z0-9-]*", name)) and name != PORTRAIT_PROMPT_SET
            require(valid, "prompt_sets", name, f"small letters, digits and hyphens, and not {PORTRAIT_PROMPT_SET}")
            require(self._are_methods(prompt_set.methods), f"prompt_sets.{name}.methods", prompt_set.methods, expected)
        require(_all_unique(self.recognizers), "recognizers", tuple(map(str, self.recognizers)), "each once")
        if self.frontier is not None:
            expected = f"one of prompt_sets: {', '.join(self.prompt_sets) or 'the recipe has none'}"
            require(self.frontier.prompt_set in self.prompt_sets, "frontier.prompt_set", self.frontier.prompt_set, expected)
            for setting in self.frontier.settings:
                setting.applied(self.sampling)
        # Conditions differ, and each has enough photos.
        counts, impostors, num_photos = self.photo_counts, self.num_impostors, self.main_condition.num_photos
        rising = _all_unique(counts) and list(counts) == sorted(counts)
        expected = f"numbers from 1 to references, {self.references}, each above the last"
        require(rising and max(counts, default=0) <= self.references, "photo_counts", counts, expected)
        expected = f"numbers from 0 to {num_photos - 1}, each once: one own photo stays"
        require(_all_unique(impostors) and max(impostors, default=0) < num_photos, "num_impostors", impostors, expected)

    def _are_methods(self, names: Sequence[str]) -> bool:
        return set(names) <= set(self.methods) and _all_unique(names)

    @property
    def all_prompt_sets(self) -> Mapping[str, PromptSet]:
        """Every prompt set by name, the neutral one first."""
        return {PORTRAIT_PROMPT_SET: PromptSet((self.prompt,), self.images), **self.prompt_sets}

    def methods_of(self, prompt_set: str) -> tuple[str, ...]:
        """Methods that take part in a prompt set, in the recipe's order."""
        subset = self.all_prompt_sets[prompt_set].methods
        return tuple(name for name in self.methods if not subset or name in subset)

    def conditions_of(self, prompt_set: str) -> tuple[Condition, ...]:
        """All for the portraits, the one with all photos for the others."""
        return self.conditions if prompt_set == PORTRAIT_PROMPT_SET else (self.main_condition,)

    @cached_property
    def path_names(self) -> Mapping[str, str]:
        """What each absolute path is called in all that is written."""
        return short_path_names(json.loads(json.dumps(to_table(self), default=str)))

    @cached_property
    def display_names(self) -> Mapping[str, str]:
        """What each method is called there: its name, of one that is a path the last part."""
        return {name: replace_paths(name, self.path_names) for name in self.methods}

    @cached_property
    def method_folders(self) -> Mapping[str, str]:
        """Each method's folder in the experiment's."""
        return dict(zip(self.methods, method_folder_names(list(self.display_names.values())).values(), strict=True))

    @property
    def baseline_methods(self) -> tuple[str, ...]:
        """`baselines`, or the first method."""
        return self.baselines or self.methods[:1]

    @property
    def clean_conditions(self) -> tuple[Condition, ...]:
        """The conditions without an impostor photo, fewest photos first."""
        return tuple(Condition(count) for count in self.photo_counts or (self.references,))

    @property
    def main_condition(self) -> Condition:
        """The most photos, all of them the person's."""
        return self.clean_conditions[-1]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All: those without an impostor photo, then the largest count with each number of impostor photos."""
        return (
            *self.clean_conditions,
            *(Condition(self.main_condition.num_photos, number) for number in sorted(self.num_impostors) if number),
        )

    @property
    def needed_people(self) -> int:
        """`min_people`, and no more than `max_people` allows."""
        return min(self.min_people, self.max_people or self.min_people)

    @property
    def max_impostors(self) -> int:
        """How many photos of another person are needed at most."""
        return max(condition.num_impostors for condition in self.conditions)


def _all_unique(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)
