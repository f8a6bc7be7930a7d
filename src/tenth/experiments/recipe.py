"""What an experiment asks: its recipe, and the conditions under which every method makes its identities."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tenth.core.config import to_table
from tenth.core.errors import RecipeError
from tenth.core.run_record import folders, names_of, without_places
from tenth.core.types import Photo
from tenth.core.wording import counted
from tenth.data.face_crops import People
from tenth.methods.registry import QUICK, method
from tenth.models.registry import DEFAULT_MODEL
from tenth.sampling.config import Sampling

NEUTRAL = "R"  # the track of one neutral portrait prompt
SPLITS = ("validation", "test")  # nobody in them has ever been trained on


@dataclass(frozen=True)
class Condition:
    """What each method is given of each person: so many photos, the last `wrong` of them a stranger's."""

    photos: int
    wrong: int = 0

    @property
    def folder(self) -> str:
        """Its name in paths."""
        return f"{self.photos}-wrong-{self.wrong}" if self.wrong else str(self.photos)

    @property
    def label(self) -> str:
        """Its name in tables."""
        count = counted(self.photos, "photo")
        return f"{count}, {self.wrong} wrong" if self.wrong else count

    def given(self, own: Sequence[Photo], strangers: Sequence[Photo]) -> tuple[Photo, ...]:
        """The first of a person's references, then the first of the stranger's."""
        return (*own[: self.photos - self.wrong], *strangers[: self.wrong])


@dataclass(frozen=True)
class Track:
    """What all methods are asked for. Image i of a person has the i-th prompt, in turn, and the i-th seed."""

    prompts: tuple[str, ...]
    images: int
    methods: tuple[str, ...] = ()  # empty: all of the recipe's


@dataclass(frozen=True)
class ExperimentRecipe:
    """recipes/identity-*.toml, curve-*.toml. Counts are per person."""

    data: People
    split: str  # validation: to choose with; test: to report, once
    model: str = DEFAULT_MODEL  # a name, or a folder in the pocket model's layout
    methods: tuple[str, ...] = QUICK  # those that learn each person take minutes for each: to be named
    against: tuple[str, ...] = ()  # methods that differences are taken to; empty: the first method
    prompt: str = "a portrait photo of a person"  # neutral: what is measured is who, not what; this is the track R
    images: int = 4  # by each method; the interval is over people, so more people help more than more images
    tracks: Mapping[str, Track] = field(default_factory=dict)  # more to ask for, by name, with all photos and none wrong
    seed: int = 0  # of the first image; the next have the next ones; the same for all methods and people
    references: int = 9  # photos kept for the methods, whatever is given of them
    counts: tuple[int, ...] = ()  # photos given to a method: the first 1, 3, ... references; empty: all of them
    wrong: tuple[int, ...] = (0,)  # how many of the largest count are a stranger's; none is always measured too
    held_out: int = 10  # photos kept for judging, at most
    least_people: int = 2  # with fewer usable people there is no result: one alone has no strangers
    most_people: int | None = None  # only the first so many: for trying a recipe out
    judge: Path | None = None  # TOML file of a recogniser that no method has seen; without it nothing is a result
    dlib: bool = (
        True  # whether dlib's recogniser judges too, where the model reads it; without it judging takes a third of the time
    )
    clip: Path | None = None  # folder of a CLIP model that scores images by their prompts, besides the pocket model's own signs
    photos_as: str = "crop"  # what a recogniser sees of real photos: "crop", as the model draws, or the whole "photo"
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        for name in self.methods:
            method(name)
        check("methods", list(self.methods), len(self.methods) > 0 and _once(self.methods), "one or more, each once")
        known = f"of the recipe's methods, each once: {', '.join(self.methods)}"
        check("against", list(self.against), set(self.against) <= set(self.methods) and _once(self.against), known)
        for name, track in self.tracks.items():
            check(
                "tracks", name, bool(re.fullmatch("[A-Z][A-Za-z0-9]*", name)) and name != NEUTRAL, "capital letters but R alone"
            )
            check(f"{name}, prompts", list(track.prompts), len(track.prompts) >= 1, "one or more")
            check(f"{name}, images", track.images, track.images >= 1, "1 or more")
            check(f"{name}, methods", list(track.methods), set(track.methods) <= set(self.methods), known)
        check("split", self.split, self.split in SPLITS, f"one of {', '.join(SPLITS)}")
        check("photos_as", self.photos_as, self.photos_as in ("crop", "photo"), "crop or photo")
        for name in ("images", "references", "held_out", "least_people"):
            check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        rising = _once(self.counts) and list(self.counts) == sorted(self.counts)
        right = rising and all(1 <= count <= self.references for count in self.counts)
        check("counts", list(self.counts), right, f"numbers from 1 to references, {self.references}, each above the last")
        right = _once(self.wrong) and all(0 <= number < self.largest.photos for number in self.wrong)
        check("wrong", list(self.wrong), right, f"numbers from 0 to {self.largest.photos - 1}, each once: one own photo stays")

    @property
    def asked(self) -> Mapping[str, Track]:
        """Every track by name, the neutral one first."""
        return {NEUTRAL: Track((self.prompt,), self.images), **self.tracks}

    def methods_of(self, track: str) -> tuple[str, ...]:
        """Methods that take part in a track, in the recipe's order."""
        some = self.asked[track].methods
        return tuple(name for name in self.methods if not some or name in some)

    def conditions_of(self, track: str) -> tuple[Condition, ...]:
        """All for the neutral track, the one with all photos for the others."""
        return self.conditions if track == NEUTRAL else (self.largest,)

    @cached_property
    def places(self) -> Mapping[str, str]:
        """What each absolute path is called in all that is written."""
        return names_of(json.loads(json.dumps(to_table(self), default=str)))

    @cached_property
    def shown(self) -> Mapping[str, str]:
        """What each method is called there: its name, of one that is a path the last part."""
        return {name: without_places(name, self.places) for name in self.methods}

    @cached_property
    def folder_of(self) -> Mapping[str, str]:
        """Each method's folder in the experiment's."""
        return dict(zip(self.methods, folders(list(self.shown.values())).values(), strict=True))

    @property
    def baselines(self) -> tuple[str, ...]:
        """`against`, or the first method."""
        return self.against or self.methods[:1]

    @property
    def right(self) -> tuple[Condition, ...]:
        """The conditions without a wrong photo, fewest photos first."""
        return tuple(Condition(count) for count in self.counts or (self.references,))

    @property
    def largest(self) -> Condition:
        """The most photos, all of them the person's."""
        return self.right[-1]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All: those without a wrong photo, then the largest count with each number of wrong ones."""
        return (*self.right, *(Condition(self.largest.photos, number) for number in sorted(self.wrong) if number))

    @property
    def strangers(self) -> int:
        """How many photos of another person are needed at most."""
        return max(condition.wrong for condition in self.conditions)


def check(key: str, value: object, right: bool, needed: str) -> None:
    """Raises RecipeError if a value is not right."""
    if not right:
        raise RecipeError(f"{key} is {value!r}", f"needed: {needed}", "Correct the recipe")


def _once(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)
