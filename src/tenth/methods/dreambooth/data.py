"""What one person is learnt from: photos, images of the class and prompts, all encoded once, and the loss of a step.

Source: Ruiz et al. 2022, arXiv:2208.12242.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import Array, Store
from tenth.core.config import shown
from tenth.core.console import progress
from tenth.core.errors import RecipeError
from tenth.core.rng import Draws
from tenth.core.types import Diffusion, Photo, Pixels
from tenth.data.captions.templates import OPENINGS
from tenth.data.face_crops import square, to_unit
from tenth.data.faces import crop_face
from tenth.methods.dreambooth.class_noun import likely_noun
from tenth.methods.dreambooth.lora import Lora
from tenth.sampling.config import Sampling
from tenth.sampling.sampler import sample
from tenth.training.frozen_diffusion import Frozen, Texts
from tenth.training.schedule import Schedule

PERSON = "{person}"  # in a prompt: the noun, with the rare word before it or without
PROMPTS = tuple(f"{opening} a {PERSON}" for opening in dict.fromkeys(OPENINGS))
# For models of few words, whose text encoder carries a new word less far: a few words more with the photos, so that the person
# is known beside them, and many with the class images, so that these keep what they mean (docs/log.md has what was tried).
FEW_WORDS = (
    *PROMPTS,
    f"a photo of a smiling {PERSON}",
    f"a portrait photo of a young {PERSON}",
    f"a picture of a {PERSON}, outdoors",
)
FEW_WORDS_CLASS = (
    *(*PROMPTS, f"a photo of a smiling {PERSON}", f"a portrait of a smiling {PERSON}", f"a photo of a serious {PERSON}"),
    *(f"a portrait photo of a young {PERSON}", f"a photo of an old {PERSON}", f"a photo of a {PERSON} with glasses"),
    *(
        f"a portrait of a {PERSON} wearing a hat",
        f"a photo of a {PERSON} with an open mouth",
        f"a picture of a {PERSON}, outdoors",
    ),
    *(f"a black and white photo of a {PERSON}", f"a portrait photo of a {PERSON} wearing a tie"),
    f"a photo of a young smiling {PERSON}",
)
BATCH = 4  # class images drawn at a time


@dataclass(frozen=True)
class DreamBoothSettings:
    """What is learnt, and how. An image of the schedule is a photo of the person; each comes with an image of the class."""

    schedule: Schedule
    lora: Lora | None = field(default_factory=Lora)  # None: all weights of the UNet
    text_encoder: bool = False  # whether the text encoder learns too, in the same way
    noun: str = ""  # the class: person, man, woman, ...; empty: what the model itself would say (noun.py)
    prompts: tuple[str, ...] = PROMPTS  # of the photos, one drawn for each; {person}: whom they name
    class_prompts: tuple[str, ...] = ()  # of the class images, in turn; none: those of the photos
    class_images: int = 64  # drawn once by the frozen model for each noun, and kept in the store
    prior: float = 1.0  # weight of the class images' loss; 0: no class images
    sampling: Sampling = field(default_factory=Sampling)  # of the class images
    held_out: int = 1  # photos not learnt from, by which the best checkpoint is chosen, where at least four others stay
    gamma: float = 5.0  # of min-SNR weighting; 0 turns it off
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for key, right, needed in (
            ("noun", bool(re.fullmatch(r"[a-z]*", self.noun)), "one word in small letters"),
            ("prompts", len(self.prompts) >= 1 and _name(self.prompts), f"prompts with one {PERSON}"),
            ("class_prompts", _name(self.class_prompts), f"prompts with one {PERSON}"),
            ("class_images", self.class_images >= 1, "1 or more"),
            ("prior", self.prior >= 0, "0 or more"),
            ("held_out", self.held_out >= 0, "0 or more"),
        ):
            if not right:
                raise RecipeError(f"{key} is {getattr(self, key)!r}", f"needed: {needed}", "Correct the settings")

    @property
    def said_of_others(self) -> tuple[str, ...]:
        """The prompts of class images."""
        return self.class_prompts or self.prompts


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
        kinds, count = len(self.settings.prompts), len(photos)
        mirrored, prompts = draws.integers(2), draws.integers(kinds)
        moments = self.own[photos, mirrored]
        if self.settings.prior:
            another = draws.integers(len(self.others))
            moments = torch.cat([moments, self.others[another, draws.integers(2)]])
            prompts = torch.cat([prompts, kinds + another % (len(self.said) - kinds)])  # the one that it is of
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


def read_lesson(
    photos: Sequence[Photo], rare: str, settings: DreamBoothSettings, model: Diffusion, frozen: Frozen, store: Store
) -> Lesson:
    """Photos, class images and prompts through the frozen encoders."""
    noun = settings.noun
    said = (
        *(named(text, f"{rare} {noun}") for text in settings.prompts),
        *(named(text, noun) for text in settings.said_of_others),
    )
    frames = np.stack([framed(photo, frozen.pixels) for photo in photos])
    own = both_ways(frames, frozen)
    others = class_moments(settings, model, frozen, store) if settings.prior else own[:0]
    return Lesson(settings, frozen, own, others, said, None if settings.text_encoder else frozen.encode_prompts(said))


def guessed_noun(photos: Sequence[Photo], model: Diffusion, store: Store) -> str:
    """The noun by which the frozen model itself would call whom these photos show, asked once."""

    def guess(_: list[int]) -> Iterator[Array]:
        frozen = Frozen(model.pipeline)
        frames = np.stack([framed(photo, frozen.pixels) for photo in photos])
        yield np.array(likely_noun(both_ways(frames, frozen)[:, 0], frozen))

    key = hashlib.sha256("".join(photo.digest for photo in photos).encode()).hexdigest()
    (noun,) = store.remember(f"noun-{model.name}", [key], guess)
    return str(noun)


def class_moments(settings: DreamBoothSettings, model: Diffusion, frozen: Frozen, store: Store) -> Tensor:
    """Moments of images of the class (M, 2, C', h, w), drawn by the frozen model, once for each model and noun."""
    kinds = settings.said_of_others
    prompts = [named(kinds[number % len(kinds)], settings.noun) for number in range(settings.class_images)]
    keys = [hashlib.sha256(f"{prompt} {seed}".encode()).hexdigest() for seed, prompt in enumerate(prompts)]

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(BATCH), desc="images of the class"):
            seeds = batch.tolist()
            drawn = sample(model, [prompts[seed] for seed in seeds], seeds, settings.sampling)
            yield from both_ways(np.stack(drawn), frozen).numpy()

    sampling = hashlib.sha256(shown(settings.sampling).encode()).hexdigest()[:8]
    return torch.from_numpy(store.remember_all(f"class-{model.name}-{frozen.digest('vae')}-{sampling}", keys, compute))


def both_ways(frames: Array, frozen: Frozen) -> Tensor:
    """Moments of pictures (N, S, S, 3), as they are and mirrored: (N, 2, C', h, w), float32 on the CPU."""
    pixels = to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))
    parts = [torch.stack([frozen.encode_pixels(part), frozen.encode_pixels(part.flip(-1))], 1) for part in pixels.split(BATCH)]
    return torch.cat(parts).float().cpu()


def framed(photo: Photo, side: int) -> Pixels:
    """What of a photo is learnt, (side, side, 3): head and shoulders where its face is known, else the middle square."""
    return square(photo, side) if photo.face is None else crop_face(photo.pixels, photo.face, side=side)


def _name(prompts: Sequence[str]) -> bool:
    return all(text.count(PERSON) == 1 for text in prompts)


def named(prompt: str, person: str) -> str:
    """The prompt with the person's words in it, and the right article before them."""
    article = "an" if person[0] in "aeiou" else "a"
    return prompt.replace(f"a {PERSON}", f"{article} {PERSON}").replace(PERSON, person)
