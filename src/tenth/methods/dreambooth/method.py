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

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import read_toml, to_table, with_overrides
from tenth.core.errors import DataError, IdentityError, ModelError, RecipeError
from tenth.core.files.reading import UnreadableError
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import PRIVATE_FILE_MODE, make_private_folder, write_tensors
from tenth.core.types import DiffusionModel, Identity, Person, Photo
from tenth.core.wording import did_you_mean
from tenth.methods.dreambooth.data import (
    SMALL_VOCAB_CLASS_PROMPTS,
    SMALL_VOCAB_PROMPTS,
    DreamBoothData,
    DreamBoothSettings,
    guess_noun,
    prepare_data,
    training_crop,
)
from tenth.methods.dreambooth.lora import ALL_LAYERS, ATTENTION_LAYERS, LoraSettings, trainable
from tenth.models.adapters.weight_deltas import weight_deltas
from tenth.models.prompt_encoder import SMALL_VOCABULARY
from tenth.training.distributed import distributed_state
from tenth.training.frozen_diffusion import FrozenDiffusion
from tenth.training.loop import fit
from tenth.training.monitoring import CheckpointMetrics
from tenth.training.schedule import PRECISIONS, TrainingConfig
from tenth.training.state import ema_weights

CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,4}")
LORA_SUFFIX = "lora"  # the end of a method's name that learns low-rank matrices
MIN_TRAIN_PHOTOS = 4  # photos that stay to learn from, where some are held out
BEST_FILE, TRAINED_FILE = "best.safetensors", "learnt.safetensors"  # in a run's directory: while it lasts, and when it is done

# Images seen -> whether the weights that are on the model are the best so far, and what to show of them.
SelectCheckpoint = Callable[[int], tuple[bool, CheckpointMetrics]]


@dataclass(frozen=True)
class DreamBooth:
    """A method: fine-tune on the person's photos; the identity holds what changed.

    settings: None: the model's defaults. selector_factory: opens the selector of a run's checkpoints; None: the last is taken.
    overrides: a recipe's keys, which stand above the settings.
    """

    name: str
    settings: DreamBoothSettings | None = None
    selector_factory: Callable[..., SelectCheckpoint | None] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, person: Person, model: DiffusionModel) -> Identity:
        """Interrupted, it goes on where it stopped when it is called again for the same photos, model and settings.

        What was learnt is kept in the store, so that the next call is done at once.

        Raises DataError if the person has no photo, ModelError if the model has no free rare word or does not know the noun.
        """
        if not person.photos:
            raise DataError(f"{person.name} has no usable photo", "at least one is needed", "Add photos")
        settings = self.settings_for(model)
        check_noun(model.pipeline.tokenizer, settings.class_noun)
        find_rare_token(model.pipeline)  # a model without one is refused before anything is computed
        photos = sorted_unique(person.photos)
        num_held_out = settings.num_held_out if len(photos) - settings.num_held_out >= MIN_TRAIN_PHOTOS else 0
        training_photos, held_out, cache = photos[num_held_out:], photos[:num_held_out], ArrayCache(default_cache_dir())
        directory = self.run_directory(photos, settings, model)
        digests = tuple(photo.digest for photo in person.photos)

        frozen, previous_device = FrozenDiffusion(model.pipeline), model.pipeline.device
        model.pipeline.to(distributed_state().device)
        try:
            trigger_phrase = self.trigger_phrase(person, model)
            weights = load_trained_weights(directory / TRAINED_FILE)
            if weights is not None:
                remove_checkpoints(directory)
                return Identity(self.name, model.name, "", "", weights=weights, trigger_phrase=trigger_phrase, photos=digests)
            rare_token, _, noun = trigger_phrase.partition(" ")
            data = prepare_data(training_photos, rare_token, replace(settings, class_noun=noun), model, frozen, cache)
            crops = [[training_crop(photo, frozen.resolution) for photo in split] for split in (training_photos, held_out)]
            prompts = data.prompts[: len(settings.prompts)]
            selector = (
                self.selector_factory
                and num_held_out
                and self.selector_factory(model, *crops, prompts, settings.sampling, directory)
            )
            weights = train(data, model.pipeline, len(training_photos), selector or None, make_private_folder(directory))
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None
        finally:
            model.pipeline.to(previous_device)
            model.pipeline.unet.eval()
        write_tensors(directory / TRAINED_FILE, weights, mode=PRIVATE_FILE_MODE)
        remove_checkpoints(directory)
        return Identity(self.name, model.name, "", "", weights=weights, trigger_phrase=trigger_phrase, photos=digests)

    def trigger_phrase(self, person: Person, model: DiffusionModel) -> str:
        """What names the person in a prompt: the rare word and the noun, which is the model's guess where it is not set."""
        noun = self.settings_for(model).class_noun or guess_noun(
            sorted_unique(person.photos), model, ArrayCache(default_cache_dir())
        )
        return f"{find_rare_token(model.pipeline)} {noun}"

    def settings_for(self, model: DiffusionModel) -> DreamBoothSettings:
        """What is learnt of a model, and how."""
        return with_overrides(self.settings or default_settings(self.name, model), self.overrides)

    def run_directory(self, photos: Sequence[Photo], settings: DreamBoothSettings, model: DiffusionModel) -> Path:
        """Where a run keeps its checkpoints while it lasts, and how it went: in the store."""
        digests = sorted({photo.digest for photo in photos})
        key = json.dumps(
            [to_table(settings), self.selector_factory is not None, model.name, digests], sort_keys=True, default=str
        )
        return default_cache_dir() / "dreambooth" / hashlib.sha256(key.encode()).hexdigest()[:16]

    def photo_weights(self, person: Person, model: DiffusionModel) -> Tensor | None:  # noqa: ARG002 - of no person or model
        """None: what a photo counts cannot be said."""
        return None

    def warnings(self, person: Person, model: DiffusionModel) -> list[str]:
        """What a user should know about how the person is called."""
        settings = self.settings_for(model)
        trigger_phrase = self.trigger_phrase(person, model)
        guess = (
            ""
            if settings.class_noun
            else f" ({trigger_phrase.rpartition(' ')[2]} is the model's guess; `class_noun` of a recipe sets it)"
        )
        call_hint = f'in a prompt the person is "{trigger_phrase}", which is put in by itself{guess}'
        one_photo_hint = [f"{self.name} learnt from one photo: expect copies of it"] if len(person.photos) == 1 else []
        run_directory = self.run_directory(person.photos, settings, model)
        return [
            *one_photo_hint,
            call_hint,
            *([f"how the learning went is in {run_directory}"] if run_directory.is_dir() else []),
        ]


def read_method(path: Path, methods: Mapping[str, DreamBooth]) -> DreamBooth:
    """The method in a recipe: its key `method` names one of the known; the other keys change that one's settings.

    Raises RecipeError if it names none of them, at an unknown key, or for matrices where all weights learn.
    """
    table = read_toml(path)
    name = table.pop("method", None)
    if not isinstance(name, str) or name not in methods:
        action = did_you_mean(str(name), list(methods)) + "Correct the key `method`"
        raise RecipeError(f"{path} has method {name!r}", f"one of {', '.join(methods)} is needed", action)
    if "lora" in table and not name.endswith(LORA_SUFFIX):
        raise RecipeError(f"{path} has [lora]", f"{name} changes all weights", "Remove it, or choose dreambooth-lora")
    placeholder = DreamBoothSettings(TrainingConfig(total_images=1))
    with_overrides(placeholder, table, str(path))  # a wrong key is said before a model is loaded
    return replace(methods[name], overrides=table)


def sorted_unique(photos: Sequence[Photo]) -> list[Photo]:
    """Each photo once, in an order of its own: neither that of the files nor copies change what is learnt."""
    return sorted({photo.digest: photo for photo in photos}.values(), key=lambda photo: photo.digest)


def load_trained_weights(path: Path) -> dict[str, Tensor] | None:
    """What an earlier run of the same learnt, None where there is none or its file is damaged."""
    try:
        _, weights = read_tensors(path)
        weight_deltas(weights)
    except (OSError, UnreadableError, IdentityError):
        return None
    return weights


def remove_checkpoints(directory: Path) -> None:
    """What a run needs only while it lasts: large, and of no use when it is done."""
    (directory / BEST_FILE).unlink(missing_ok=True)
    for checkpoint in directory.glob("step-*"):
        shutil.rmtree(checkpoint)


def train(
    data: DreamBoothData, pipeline: Any, num_photos: int, selector: SelectCheckpoint | None, directory: Path
) -> dict[str, Tensor]:
    """Train on a lesson of so many photos. The averaged weights of the best checkpoint, or of the last where none is chosen."""
    settings, frozen, best_file = data.settings, data.frozen, directory / BEST_FILE
    precision = PRECISIONS[settings.schedule.precision]
    with trainable(pipeline, settings.lora, text_encoder=settings.train_text_encoder) as parameters:

        def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> CheckpointMetrics | None:
            if selector is None:
                return None
            with ema_weights(parameters.modules, ema), frozen.autocast(precision):
                is_best, metrics = selector(images_seen)
            if is_best:
                write_tensors(best_file, parameters.extract_deltas(ema), mode=PRIVATE_FILE_MODE)
            return metrics

        with frozen.cast_frozen_weights(precision), frozen.gradient_checkpointing(settings.gradient_checkpointing):
            ema = fit(parameters.modules, data.loss, num_photos, settings.schedule, directory, on_checkpoint)
        return load_trained_weights(best_file) or parameters.extract_deltas(ema)


def find_rare_token(pipeline: Any) -> str:
    """A word that means nothing to the model: one token, two to four consonants, and of these the least trained.

    That is the one whose embedding is the shortest: weight decay shrinks what no caption uses. Looked up, not assumed, as in
    Ruiz et al. 2022, section 3.2. Raises ModelError if there is none.
    """
    tokenizer = pipeline.tokenizer
    token_ids = {
        token.removesuffix("</w>"): number for token, number in tokenizer.get_vocab().items() if token.endswith("</w>")
    }
    norms = pipeline.text_encoder.get_input_embeddings().weight.detach().norm(dim=1).tolist()
    for word in sorted(filter(CONSONANTS.fullmatch, token_ids), key=lambda word: (norms[token_ids[word]], word)):
        if tokenizer(word, add_special_tokens=False).input_ids == [token_ids[word]]:
            return str(word)
    raise ModelError(
        f"none of the {len(token_ids)} whole words of this model's tokenizer is two to four consonants",
        "a rare word that means nothing is needed to call the person by",
        "Choose another model, or a method that needs no word",
    )


def check_noun(tokenizer: Any, noun: str) -> None:
    """Raises RecipeError if a model of few words does not know the noun: its class images would be of anything."""
    vocabulary = tokenizer.get_vocab()
    if noun and len(vocabulary) < SMALL_VOCABULARY and f"{noun}</w>" not in vocabulary:
        raise RecipeError(
            f"class_noun is {noun!r}, which this model has never seen", "needed: a word of its captions", "Try person"
        )


def default_settings(name: str, model: DiffusionModel) -> DreamBoothSettings:
    """Settings that work without tuning, for small models of faces and for those of Stable Diffusion's size."""
    small_vocabulary = len(model.pipeline.tokenizer.get_vocab()) < SMALL_VOCABULARY
    lora = (
        LoraSettings(target_modules=ALL_LAYERS if small_vocabulary else ATTENTION_LAYERS)
        if name.endswith(LORA_SUFFIX)
        else None
    )
    if small_vocabulary:
        learning_rate = 2e-3 if lora else 3e-4
        schedule = TrainingConfig(
            total_images=960,
            batch_size=8,
            warmup_images=80,
            ema_halflife_images=240,
            checkpoint_every_images=240,
            learning_rate=learning_rate,
        )
        return DreamBoothSettings(
            schedule,
            lora,
            train_text_encoder=True,
            prompts=SMALL_VOCAB_PROMPTS,
            class_prompts=SMALL_VOCAB_CLASS_PROMPTS,
            num_class_images=34,
        )
    learning_rate = 1e-4 if lora else 2e-6
    schedule = TrainingConfig(
        total_images=1_600,
        batch_size=2,
        warmup_images=40,
        ema_halflife_images=200,
        checkpoint_every_images=200,
        learning_rate=learning_rate,
    )
    return DreamBoothSettings(schedule, lora, num_class_images=200, gradient_checkpointing=True)
