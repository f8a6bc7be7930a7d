"""DreamBooth: fine-tuning on one person, named by a rare token, and on class images (Ruiz et al. 2022, arXiv:2208.12242)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.cache_contents import DREAMBOOTH, PHOTOS_FILE, mark_used
from tenth.core.config import read_toml, to_table, with_overrides
from tenth.core.errors import IdentityError, RecipeError
from tenth.core.files.reading import UnreadableError
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import PRIVATE_FILE_MODE, make_private_folder, write_json, write_tensors
from tenth.core.types import DiffusionModel, Identity, Method, MethodResult, Person, Photo
from tenth.core.wording import did_you_mean
from tenth.methods.dreambooth import data as dreambooth_data
from tenth.methods.dreambooth.checkpoint_selection import CheckpointImages
from tenth.methods.dreambooth.data import DreamBoothData, DreamBoothSettings
from tenth.methods.dreambooth.defaults import LORA_SUFFIX, check_settings, default_settings
from tenth.methods.dreambooth.lora import trainable
from tenth.methods.dreambooth.rare_token import check_noun, rare_token_of
from tenth.methods.dreambooth.training_photos import TrainingPhotos, adapter_on, sorted_unique, split_photos, with_identities
from tenth.models.adapters.weight_deltas import weight_deltas
from tenth.training.distributed import distributed_state
from tenth.training.flow_matching.frozen_model import frozen_model
from tenth.training.loop import fit
from tenth.training.monitoring import CheckpointMetrics
from tenth.training.schedule import TrainingConfig, autocast_dtype
from tenth.training.state import ema_weights

BEST_FILE, TRAINED_FILE = "best.safetensors", "trained.safetensors"  # in a run's directory: during training, and after it
# Images seen -> whether the weights that are on the model are the best so far, and metrics to log.
SelectCheckpoint = Callable[[int], tuple[bool, CheckpointMetrics]]


@dataclass(frozen=True)
class DreamBooth:
    """A method: fine-tune on the person's photos; the identity holds the changes of the weights.

    settings: None: the model's defaults. selector_factory: builds the checkpoint selector of a run; None: the last checkpoint
    is taken. overrides: keys of a recipe, which take precedence over the settings. adapter: the method of a pair that reads the
    photos; of a UNet it is on while the weights are trained, if the settings have `with_adapter`.
    """

    name: str
    settings: DreamBoothSettings | None = None
    selector_factory: Callable[..., SelectCheckpoint | None] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    adapter: Method | None = None

    tunes_model, keeps_photos = True, False

    def is_available(self, model: DiffusionModel) -> bool:  # noqa: ARG002 - it needs a text encoder, which every model has
        return True

    def beside(self, adapter: Method) -> DreamBooth:
        """The same method as the first of a pair."""
        return replace(self, adapter=adapter)

    def trains_with_adapter(self, model: DiffusionModel) -> bool:
        """Whether the weights depend on the adapter beside it: those of the method alone are then others."""
        return self.settings_for(model).with_adapter

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Fine-tune on the photos, or go on where an earlier call with the same inputs stopped; trained weights are cached.

        Raises DataError if the person has no photo, ModelError if the model has no free rare token or does not know the noun.
        """
        # What cannot work is refused before anything is computed.
        person.require_equal_weights(self.name, "fine-tuning sees every photo equally often")
        photos = sorted_unique(person.require_photos())
        settings, cache = self.settings_for(model), ArrayCache(default_cache_dir())
        check_settings(settings, model, has_adapter=self.adapter is not None)
        if model.family is None:
            check_noun(model.pipeline.tokenizer, settings.class_noun)
        rare_token = rare_token_of(model)
        split = split_photos(photos, settings.num_held_out)
        if settings.with_adapter and self.adapter is not None:
            split = with_identities(split, person, self.adapter, model)
        directory = self.run_directory(photos, settings, model, split.fingerprints)

        try:
            with on_device(model, distributed_state().device):
                noun = settings.class_noun or dreambooth_data.guess_noun(photos, model, cache)
                weights = load_trained_weights(directory / TRAINED_FILE)
                mark_used(directory / TRAINED_FILE)
                if weights is None:
                    write_json(make_private_folder(directory) / PHOTOS_FILE, [photo.digest for photo in photos])
                    named = replace(settings, class_noun=noun)
                    weights = self._train(split, rare_token, named, model, cache, directory)
                    write_tensors(directory / TRAINED_FILE, weights, mode=PRIVATE_FILE_MODE)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None
        (directory / BEST_FILE).unlink(missing_ok=True)
        for checkpoint in directory.glob("step-*"):  # which only an unfinished run needs
            shutil.rmtree(checkpoint)

        trigger_phrase, digests = f"{rare_token} {noun}", tuple(photo.digest for photo in person.photos)
        identity = Identity(self.name, model.name, "", "", weights=weights, trigger_phrase=trigger_phrase, photos=digests)
        return MethodResult(identity, warnings=self._warnings(identity, directory, noun_is_guessed=not settings.class_noun))

    def _train(
        self,
        split: TrainingPhotos,
        rare_token: str,
        settings: DreamBoothSettings,
        model: DiffusionModel,
        cache: ArrayCache,
        directory: Path,
    ) -> dict[str, Tensor]:
        """The weights that training on the photos changes. settings: with a noun."""
        with frozen_model(model, settings.time_sampling) as frozen:
            # Class images are drawn without an adapter, which is put on after it.
            data = dreambooth_data.prepare_data(split.training, rare_token, settings, model, frozen, cache)
            side, scale = settings.resolution or frozen.resolution, settings.sampling.ip_adapter_scale
            with adapter_on(model, split, scale) as image_embeddings:
                selector = None
                if split.held_out and self.selector_factory is not None:
                    crops = [[dreambooth_data.training_crop(photo, side) for photo in part] for part in split.parts]
                    embeddings = None if split.together is None else split.together.embeddings
                    drawing = CheckpointImages(data.prompts[: len(settings.prompts)], settings.sampling, embeddings)
                    selector = self.selector_factory(model, *crops, drawing, directory)
                data = replace(data, image_embeddings=image_embeddings)
                return train(data, model.pipeline, len(split.training), selector, directory)

    def settings_for(self, model: DiffusionModel) -> DreamBoothSettings:
        """The settings for a model: what is trained, and how."""
        with_adapter = self.adapter is not None and bool(self.overrides.get("with_adapter", True))
        default = self.settings or default_settings(self.name, model, with_adapter=with_adapter)
        return with_overrides(default, self.overrides)

    def run_directory(
        self, photos: Sequence[Photo], settings: DreamBoothSettings, model: DiffusionModel, adapted: Sequence[str]
    ) -> Path:
        """The folder of a run, in the cache: checkpoints while it lasts, and its history. adapted: the split's fingerprints."""
        digests = sorted({each.digest for each in photos})
        inputs = [to_table(settings), self.selector_factory is not None, model.name, digests, list(adapted)]
        key = json.dumps(inputs, sort_keys=True, default=str)
        return default_cache_dir() / DREAMBOOTH / hashlib.sha256(key.encode()).hexdigest()[:16]

    def _warnings(self, identity: Identity, directory: Path, *, noun_is_guessed: bool) -> tuple[str, ...]:
        """How a prompt names the person, and where the history of the training is."""
        guess = ""
        if noun_is_guessed:
            guess = f" ({identity.trigger_phrase.rpartition(' ')[2]} is the model's guess; `class_noun` of a recipe sets it)"
        warnings = [f'in a prompt the person is "{identity.trigger_phrase}", which is put in by itself{guess}']
        if len(identity.photos) == 1:
            warnings.insert(0, f"{self.name} was trained on one photo: expect copies of it")
        if directory.is_dir():
            warnings.append(f"the history of the training is in {directory}")
        return tuple(warnings)


@contextmanager
def on_device(model: DiffusionModel, device: torch.device) -> Iterator[None]:
    """A model on a device until the block ends, then back where it was. One that is there stays as it is laid out."""
    before = model.device
    if device.type == before.type and device.index in (None, before.index):
        yield
        return
    model.pipeline.to(device)
    try:
        yield
    finally:
        model.pipeline.to(before)


def read_method(path: Path, methods: Mapping[str, DreamBooth]) -> DreamBooth:
    """The method in a recipe: its key `method` names one of `methods`; the other keys change that method's settings.

    Raises RecipeError if it names none of them, at an unknown key, or for LoRA settings where all weights are trained.
    """
    table = read_toml(path)
    name = table.pop("method", None)
    if not isinstance(name, str) or name not in methods:
        action = did_you_mean(str(name), list(methods)) + "Correct the key `method`"
        raise RecipeError(f"{path} has method {name!r}", f"one of {', '.join(methods)} is needed", action)
    if "lora" in table and not name.endswith(LORA_SUFFIX):
        raise RecipeError(f"{path} has [lora]", f"{name} changes all weights", "Remove it, or choose dreambooth-lora")
    placeholder = DreamBoothSettings(TrainingConfig(total_images=1))
    with_overrides(placeholder, table, str(path))  # a wrong key is refused before a model is loaded
    return replace(methods[name], overrides=table)


def load_trained_weights(path: Path) -> dict[str, Tensor] | None:
    """The weights of an earlier run of the same; None where there is none or its file is damaged."""
    try:
        _, weights = read_tensors(path)
        weight_deltas(weights)
    except (OSError, UnreadableError, IdentityError):
        return None
    return weights


def train(
    data: DreamBoothData, pipeline: Any, num_photos: int, selector: SelectCheckpoint | None, directory: Path
) -> dict[str, Tensor]:
    """Train on `num_photos` photos. Gives the averaged weights of the best checkpoint, or of the last without a selector."""
    settings, frozen, best_file = data.settings, data.frozen, directory / BEST_FILE
    precision = autocast_dtype(settings.schedule.precision, frozen.device)
    with trainable(pipeline, settings.lora, text_encoder=settings.train_text_encoder) as parameters:

        def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> CheckpointMetrics | None:
            if selector is None:
                return None
            weights = parameters.weakened(ema, settings.strength)
            with ema_weights(parameters.modules, weights), frozen.autocast(precision), frozen.text_encoders_loaded():
                is_best, metrics = selector(images_seen)
            if is_best:
                write_tensors(best_file, parameters.extract_deltas(weights), mode=PRIVATE_FILE_MODE)
            return metrics

        with (
            frozen.text_encoders_freed(),
            frozen.cast_frozen_weights(precision),
            frozen.gradient_checkpointing(settings.gradient_checkpointing),
        ):
            ema = fit(parameters.modules, data.loss, num_photos, settings.schedule, directory, on_checkpoint)
        return load_trained_weights(best_file) or parameters.extract_deltas(parameters.weakened(ema, settings.strength))
