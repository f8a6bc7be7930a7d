"""DreamBooth: the model itself learns one person, under a rare word, and class images keep it from forgetting everybody else.

Source: Ruiz et al. 2022, arXiv:2208.12242; on low-rank matrices: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tenth.core.cache import Store, default_store
from tenth.core.config import read_toml, to_table, with_changes
from tenth.core.errors import DataError, IdentityError, ModelError, RecipeError
from tenth.core.file_reading import UnreadableError
from tenth.core.file_writing import PRIVATE, private_folder, write_tensors
from tenth.core.tensor_reading import read_tensors
from tenth.core.types import Diffusion, Identity, Person, Photo
from tenth.core.wording import did_you_mean
from tenth.methods.dreambooth.data import (
    FEW_WORDS,
    FEW_WORDS_CLASS,
    DreamBoothSettings,
    Lesson,
    framed,
    guessed_noun,
    read_lesson,
)
from tenth.methods.dreambooth.lora import ALL, ATTENTION, Lora, learning
from tenth.models.adapters.weight_deltas import changes
from tenth.models.prompt_encoder import SMALL_VOCABULARY
from tenth.training.distributed import processes
from tenth.training.frozen_diffusion import Frozen
from tenth.training.loop import fit
from tenth.training.monitoring import Seen
from tenth.training.schedule import PRECISIONS, Schedule
from tenth.training.state import averaged

CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,4}")
LOW_RANK = "lora"  # the end of a method's name that learns low-rank matrices
LEAST = 4  # photos that stay to learn from, where some are held out
BEST, LEARNT = "best.safetensors", "learnt.safetensors"  # in a run's directory: while it lasts, and when it is done

# Images seen -> whether the weights that are on the model are the best so far, and what to show of them.
Choose = Callable[[int], tuple[bool, Seen]]


@dataclass(frozen=True)
class DreamBooth:
    """A method: fine-tune on the person's photos; the identity holds what changed.

    settings: None: the model's defaults. choose: opens what judges each checkpoint of a run; None: the last one is taken.
    changes: a recipe's keys, which stand above the settings.
    """

    name: str
    settings: DreamBoothSettings | None = None
    choose: Callable[..., Choose | None] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, person: Person, model: Diffusion) -> Identity:
        """Interrupted, it goes on where it stopped when it is called again for the same photos, model and settings.

        What was learnt is kept in the store, so that the next call is done at once.

        Raises DataError if the person has no photo, ModelError if the model has no free rare word or does not know the noun.
        """
        if not person.photos:
            raise DataError(f"{person.name} has no usable photo", "at least one is needed", "Add photos")
        settings = self.settings_for(model)
        check_noun(model.pipeline.tokenizer, settings.noun)
        rare_word(model.pipeline)  # a model without one is refused before anything is computed
        photos = ordered(person.photos)
        aside = settings.held_out if len(photos) - settings.held_out >= LEAST else 0
        given, held_out, store = photos[aside:], photos[:aside], Store(default_store())
        directory = self.directory(photos, settings, model)
        known = tuple(photo.digest for photo in person.photos)

        frozen, before = Frozen(model.pipeline), model.pipeline.device
        model.pipeline.to(processes().device)
        try:
            word = self.word(person, model)
            weights = learnt_before(directory / LEARNT)
            if weights is not None:
                remove_unfinished(directory)
                return Identity(self.name, model.name, "", "", weights=weights, word=word, photos=known)
            rare, _, noun = word.partition(" ")
            lesson = read_lesson(given, rare, replace(settings, noun=noun), model, frozen, store)
            frames = [[framed(photo, frozen.pixels) for photo in side] for side in (given, held_out)]
            prompts = lesson.said[: len(settings.prompts)]
            choose = self.choose and aside and self.choose(model, *frames, prompts, settings.sampling, directory)
            weights = learn(lesson, model.pipeline, len(given), choose or None, private_folder(directory))
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None
        finally:
            model.pipeline.to(before)
            model.pipeline.unet.eval()
        write_tensors(directory / LEARNT, weights, mode=PRIVATE)
        remove_unfinished(directory)
        return Identity(self.name, model.name, "", "", weights=weights, word=word, photos=known)

    def word(self, person: Person, model: Diffusion) -> str:
        """What names the person in a prompt: the rare word and the noun, which is the model's guess where it is not set."""
        noun = self.settings_for(model).noun or guessed_noun(ordered(person.photos), model, Store(default_store()))
        return f"{rare_word(model.pipeline)} {noun}"

    def settings_for(self, model: Diffusion) -> DreamBoothSettings:
        """What is learnt of a model, and how."""
        return with_changes(self.settings or defaults(self.name, model), self.changes)

    def directory(self, photos: Sequence[Photo], settings: DreamBoothSettings, model: Diffusion) -> Path:
        """Where a run keeps its checkpoints while it lasts, and how it went: in the store."""
        digests = sorted({photo.digest for photo in photos})
        key = json.dumps([to_table(settings), self.choose is not None, model.name, digests], sort_keys=True, default=str)
        return default_store() / "dreambooth" / hashlib.sha256(key.encode()).hexdigest()[:16]

    def weights(self, person: Person, model: Diffusion) -> Tensor | None:  # noqa: ARG002 - of no person or model
        """None: what a photo counts cannot be said."""
        return None

    def notes(self, person: Person, model: Diffusion) -> list[str]:
        """What a user should know about how the person is called."""
        settings = self.settings_for(model)
        word = self.word(person, model)
        guess = "" if settings.noun else f" ({word.rpartition(' ')[2]} is the model's guess; `noun` of a recipe sets it)"
        called = f'in a prompt the person is "{word}", which is put in by itself{guess}'
        few = [f"{self.name} learnt from one photo: expect copies of it"] if len(person.photos) == 1 else []
        went = self.directory(person.photos, settings, model)
        return [*few, called, *([f"how the learning went is in {went}"] if went.is_dir() else [])]


def read_method(path: Path, known: Mapping[str, DreamBooth]) -> DreamBooth:
    """The method in a recipe: its key `method` names one of the known; the other keys change that one's settings.

    Raises RecipeError if it names none of them, at an unknown key, or for matrices where all weights learn.
    """
    table = read_toml(path)
    name = table.pop("method", None)
    if not isinstance(name, str) or name not in known:
        action = did_you_mean(str(name), list(known)) + "Correct the key `method`"
        raise RecipeError(f"{path} has method {name!r}", f"one of {', '.join(known)} is needed", action)
    if "lora" in table and not name.endswith(LOW_RANK):
        raise RecipeError(f"{path} has [lora]", f"{name} changes all weights", "Remove it, or choose dreambooth-lora")
    some = DreamBoothSettings(Schedule(images=1))
    with_changes(some, table, str(path))  # a wrong key is said before a model is loaded
    return replace(known[name], changes=table)


def ordered(photos: Sequence[Photo]) -> list[Photo]:
    """Each photo once, in an order of its own: neither that of the files nor copies change what is learnt."""
    return sorted({photo.digest: photo for photo in photos}.values(), key=lambda photo: photo.digest)


def learnt_before(path: Path) -> dict[str, Tensor] | None:
    """What an earlier run of the same learnt, None where there is none or its file is damaged."""
    try:
        _, weights = read_tensors(path)
        changes(weights)
    except (OSError, UnreadableError, IdentityError):
        return None
    return weights


def remove_unfinished(directory: Path) -> None:
    """What a run needs only while it lasts: large, and of no use when it is done."""
    (directory / BEST).unlink(missing_ok=True)
    for checkpoint in directory.glob("step-*"):
        shutil.rmtree(checkpoint)


def learn(lesson: Lesson, pipeline: Any, photos: int, choose: Choose | None, directory: Path) -> dict[str, Tensor]:
    """Train on a lesson of so many photos. The averaged weights of the best checkpoint, or of the last where none is chosen."""
    settings, frozen, best = lesson.settings, lesson.frozen, directory / BEST
    precision = PRECISIONS[settings.schedule.precision]
    with learning(pipeline, settings.lora, text_encoder=settings.text_encoder) as learners:

        def watch(seen: int, average: Mapping[str, Tensor]) -> Seen | None:
            if choose is None:
                return None
            with averaged(learners.modules, average), frozen.autocast(precision):
                chosen, shown = choose(seen)
            if chosen:
                write_tensors(best, learners.learnt(average), mode=PRIVATE)
            return shown

        with frozen.narrowed(precision), frozen.checkpointed(settings.gradient_checkpointing):
            average = fit(learners.modules, lesson.loss, photos, settings.schedule, directory, watch)
        return learnt_before(best) or learners.learnt(average)


def rare_word(pipeline: Any) -> str:
    """A word that means nothing to the model: one token, two to four consonants, and of these the least trained.

    That is the one whose embedding is the shortest: weight decay shrinks what no caption uses. Looked up, not assumed, as in
    Ruiz et al. 2022, section 3.2. Raises ModelError if there is none.
    """
    tokenizer = pipeline.tokenizer
    words = {token.removesuffix("</w>"): number for token, number in tokenizer.get_vocab().items() if token.endswith("</w>")}
    lengths = pipeline.text_encoder.get_input_embeddings().weight.detach().norm(dim=1).tolist()
    for word in sorted(filter(CONSONANTS.fullmatch, words), key=lambda word: (lengths[words[word]], word)):
        if tokenizer(word, add_special_tokens=False).input_ids == [words[word]]:
            return str(word)
    raise ModelError(
        f"none of the {len(words)} whole words of this model's tokenizer is two to four consonants",
        "a rare word that means nothing is needed to call the person by",
        "Choose another model, or a method that needs no word",
    )


def check_noun(tokenizer: Any, noun: str) -> None:
    """Raises RecipeError if a model of few words does not know the noun: its class images would be of anything."""
    known = tokenizer.get_vocab()
    if noun and len(known) < SMALL_VOCABULARY and f"{noun}</w>" not in known:
        raise RecipeError(f"noun is {noun!r}, which this model has never seen", "needed: a word of its captions", "Try person")


def defaults(name: str, model: Diffusion) -> DreamBoothSettings:
    """Settings that work without tuning, for small models of faces and for those of Stable Diffusion's size."""
    small = len(model.pipeline.tokenizer.get_vocab()) < SMALL_VOCABULARY
    low_rank = Lora(layers=ALL if small else ATTENTION) if name.endswith(LOW_RANK) else None
    if small:
        rate = 2e-3 if low_rank else 3e-4
        schedule = Schedule(images=960, batch=8, warmup=80, half_life=240, save_every=240, learning_rate=rate)
        return DreamBoothSettings(
            schedule, low_rank, text_encoder=True, prompts=FEW_WORDS, class_prompts=FEW_WORDS_CLASS, class_images=34
        )
    rate = 1e-4 if low_rank else 2e-6
    schedule = Schedule(images=1_600, batch=2, warmup=40, half_life=200, save_every=200, learning_rate=rate)
    return DreamBoothSettings(schedule, low_rank, class_images=200, gradient_checkpointing=True)
