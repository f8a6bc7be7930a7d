"""DreamBooth: the model itself learns one person, under a rare word, and class images keep it from forgetting everybody else.

Source: Ruiz et al. 2022, arXiv:2208.12242; on low-rank matrices: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.adapt.album import square
from tenth.data.captions import OPENINGS
from tenth.data.faces import crop_face
from tenth.diffusion import Sampling
from tenth.draws import Draws
from tenth.encode.store import Array, Store, default_store
from tenth.errors import DataError, ModelError, RecipeError
from tenth.frozen import Frozen, Texts
from tenth.lora import Lora, learning
from tenth.pocket.faces import progress, to_unit
from tenth.training import PRECISIONS, Schedule, fit, processes
from tenth.types import Diffusion, Identity, Person, Photo, Pixels

SMALL_VOCABULARY = 1_000  # tokens; a model with fewer knows only the words of its captions
CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,4}")
PROMPTS = tuple(dict.fromkeys(OPENINGS))  # "a photo of", ...: one is drawn for each image
BATCH = 4  # class images drawn at a time


@dataclass(frozen=True)
class DreamBoothSettings:
    """What is learnt, and how. An image of the schedule is a photo of the person; each comes with an image of the class."""

    schedule: Schedule
    lora: Lora | None = field(default_factory=Lora)  # None: all weights of the UNet
    text_encoder: bool = False  # whether the text encoder learns too, in the same way
    noun: str = "person"  # the class: person, man, woman, ...
    class_images: int = 64  # drawn once by the frozen model for each noun, and kept in the store
    prior: float = 1.0  # weight of the class images' loss; 0: no class images
    sampling: Sampling = field(default_factory=Sampling)  # of the class images
    gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for key, right, needed in (
            ("noun", bool(re.fullmatch(r"[a-z]+", self.noun)), "one word in small letters"),
            ("class_images", self.class_images >= 1, "1 or more"),
            ("prior", self.prior >= 0, "0 or more"),
        ):
            if not right:
                raise RecipeError(f"{key} is {getattr(self, key)!r}", f"needed: {needed}", "Correct the settings")


@dataclass(frozen=True)
class DreamBooth:
    """A method: fine-tune on the person's photos; the identity holds what changed. settings: None: the model's defaults."""

    name: str
    settings: DreamBoothSettings | None = None

    def __call__(self, person: Person, model: Diffusion) -> Identity:
        """Interrupted, it goes on where it stopped when it is called again for the same photos, model and settings.

        Raises DataError if the person has no photo, ModelError if the model has no free rare word or does not know the noun.
        """
        if not person.photos:
            raise DataError(f"{person.name} has no usable photo", "at least one is needed", "Add photos")
        settings = self.settings or defaults(self.name, model)
        rare = rare_word(model.pipeline)
        check_noun(model.pipeline.tokenizer, settings.noun)
        photos, store = {photo.digest: photo for photo in person.photos}, Store(default_store())
        photos = dict(sorted(photos.items()))  # neither order nor copies change what is learnt
        key = json.dumps([asdict(settings), model.name, list(photos)], sort_keys=True, default=str)
        directory = store.directory / "dreambooth" / hashlib.sha256(key.encode()).hexdigest()[:16]

        frozen, before = Frozen(model.pipeline), model.pipeline.device
        model.pipeline.to(processes().device)
        lesson = read_lesson(list(photos.values()), rare, settings, model, frozen, store)
        try:
            with learning(model.pipeline, settings.lora, text_encoder=settings.text_encoder) as learners:
                with frozen.narrowed(PRECISIONS[settings.schedule.precision]), checkpointed(frozen, settings):
                    average = fit(learners.modules, lesson.loss, len(photos), settings.schedule, directory)
                weights = learners.learnt(average)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None
        finally:
            model.pipeline.to(before)
        shutil.rmtree(directory, ignore_errors=True)
        word, given = f"{rare} {settings.noun}", tuple(photo.digest for photo in person.photos)
        return Identity(self.name, model.name, "", "", weights=weights, word=word, photos=given)

    def weights(self, person: Person, model: Diffusion) -> Tensor | None:  # noqa: ARG002 - of no person or model
        """None: what a photo counts cannot be said."""
        return None

    def notes(self, person: Person, model: Diffusion) -> list[str]:
        """What a user should know about how the person is called."""
        settings = self.settings or defaults(self.name, model)
        called = f'in a prompt the person is "{rare_word(model.pipeline)} {settings.noun}", which is put in by itself'
        few = [f"{self.name} learnt from one photo: expect copies of it"] if len(person.photos) == 1 else []
        return [*few, called]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a step reads, all computed once. own: (K, 2, C', h, w), moments of the photos as they are and mirrored.

    others: (M, 2, C', h, w), of the class images. said: prompts with the rare word, then those without; texts: both encoded,
    None where the text encoder learns.
    """

    settings: DreamBoothSettings
    frozen: Frozen
    own: Tensor
    others: Tensor
    said: tuple[str, ...]
    texts: Texts | None

    def loss(self, photos: Tensor, draws: Draws) -> Tensor:
        """Of a step, a scalar: the mean error on the person's photos (B,), and `prior` times that on as many class images.

        Each image is weighted by the min-SNR weight of its own noise.
        """
        kinds, count = len(self.said) // 2, len(photos)
        mirrored, prompts = draws.integers(2), draws.integers(kinds)
        moments = self.own[photos, mirrored]
        if self.settings.prior:
            another = draws.integers(len(self.others))
            moments = torch.cat([moments, self.others[another, draws.integers(2)]])
            prompts = torch.cat([prompts, kinds + draws.integers(kinds)])
        pair, device = Twice(draws, len(moments) // count), self.frozen.unet.device
        latents = self.frozen.latents(moments, pair).to(device)
        errors = self.frozen.errors(latents, self.read(prompts), None, pair, self.settings.gamma)  # (B,) or (2B,)
        loss: Tensor = errors[:count].mean()
        return loss + self.settings.prior * errors[count:].mean() if self.settings.prior else loss

    def read(self, prompts: Tensor) -> Texts:
        """These prompts (B,), encoded."""
        device = self.frozen.unet.device
        if self.texts is not None:
            return self.texts[prompts].to(device)
        distinct, rows = prompts.unique(return_inverse=True)
        encoded = self.frozen.encode_prompts([self.said[index] for index in distinct.tolist()], learning=True)
        return encoded[rows.to(device)]


class Twice(Draws):
    """The draws of a step for its photos, and then again for as many class images. times: 1 or 2."""

    def __init__(self, draws: Draws, times: int) -> None:  # no numbers of its own
        self.draws, self.times = draws, times

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (times x b, *shape)."""
        return torch.cat([self.draws.normal(*shape) for _ in range(self.times)])

    def integers(self, high: int, *shape: int) -> Tensor:
        """In [0, high), (times x b, *shape)."""
        return torch.cat([self.draws.integers(high, *shape) for _ in range(self.times)])


@contextmanager
def checkpointed(frozen: Frozen, settings: DreamBoothSettings) -> Iterator[None]:
    """With gradient checkpointing, where the settings want it."""
    if settings.gradient_checkpointing:
        frozen.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        frozen.unet.disable_gradient_checkpointing()


def read_lesson(
    photos: Sequence[Photo], rare: str, settings: DreamBoothSettings, model: Diffusion, frozen: Frozen, store: Store
) -> Lesson:
    """Photos, class images and prompts through the frozen encoders."""
    noun = settings.noun
    said = (
        *(f"{opening} {article(rare)} {rare} {noun}" for opening in PROMPTS),
        *(f"{opening} {article(noun)} {noun}" for opening in PROMPTS),
    )
    frames = np.stack([framed(photo, frozen.pixels) for photo in photos])
    own = both_ways(frames, frozen)
    others = class_moments(settings, model, frozen, store) if settings.prior else own[:0]
    return Lesson(settings, frozen, own, others, said, None if settings.text_encoder else frozen.encode_prompts(said))


def class_moments(settings: DreamBoothSettings, model: Diffusion, frozen: Frozen, store: Store) -> Tensor:
    """Moments of images of the class (M, 2, C', h, w), drawn by the frozen model, once for each model and noun."""
    prompts = [
        f"{PROMPTS[number % len(PROMPTS)]} {article(settings.noun)} {settings.noun}" for number in range(settings.class_images)
    ]
    keys = [hashlib.sha256(f"{prompt} {seed}".encode()).hexdigest() for seed, prompt in enumerate(prompts)]

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(BATCH), desc="images of the class"):
            seeds = batch.tolist()
            drawn = model.sample([prompts[seed] for seed in seeds], seeds, settings.sampling)
            yield from both_ways(np.stack(drawn), frozen).numpy()

    sampling = hashlib.sha256(repr(settings.sampling).encode()).hexdigest()[:8]
    return torch.from_numpy(store.remember_all(f"class-{model.name}-{frozen.digest('vae')}-{sampling}", keys, compute))


def both_ways(frames: Array, frozen: Frozen) -> Tensor:
    """Moments of pictures (N, S, S, 3), as they are and mirrored: (N, 2, C', h, w), float32 on the CPU."""
    pixels = to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))
    parts = [torch.stack([frozen.encode_pixels(part), frozen.encode_pixels(part.flip(-1))], 1) for part in pixels.split(BATCH)]
    return torch.cat(parts).float().cpu()


def framed(photo: Photo, side: int) -> Pixels:
    """What of a photo is learnt, (side, side, 3): head and shoulders where its face is known, else the middle square."""
    return square(photo, side) if photo.face is None else crop_face(photo.pixels, photo.face, side=side)


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
    if len(known) < SMALL_VOCABULARY and f"{noun}</w>" not in known:
        raise RecipeError(f"noun is {noun!r}, which this model has never seen", "needed: a word of its captions", "Try person")


def article(word: str) -> str:
    """a or an."""
    return "an" if word[0] in "aeiou" else "a"


def defaults(name: str, model: Diffusion) -> DreamBoothSettings:
    """Settings that work without tuning, for small models of faces and for those of Stable Diffusion's size."""
    low_rank = Lora() if name.endswith("lora") else None
    if len(model.pipeline.tokenizer.get_vocab()) < SMALL_VOCABULARY:
        rate = 1e-3 if low_rank else 1e-4
        return DreamBoothSettings(
            Schedule(images=2_000, batch=8, warmup=80, half_life=400, save_every=400, learning_rate=rate), low_rank
        )
    rate = 1e-4 if low_rank else 2e-6
    schedule = Schedule(images=1_600, batch=2, warmup=40, half_life=200, save_every=200, learning_rate=rate)
    return DreamBoothSettings(schedule, low_rank, class_images=200, gradient_checkpointing=True)
