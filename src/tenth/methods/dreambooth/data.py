"""DreamBooth's training data, all encoded once, and the loss of a step. Source: Ruiz et al. 2022, arXiv:2208.12242."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import Array, ArrayCache, photo_key
from tenth.core.config import Count, NonNegative, PositiveFraction, SomeItems, WholeNumber, config_dataclass, needs, to_table
from tenth.core.console import track
from tenth.core.rng import StepRNG
from tenth.core.types import DiffusionModel, Photo, Pixels
from tenth.data.captions.templates import OPENINGS
from tenth.data.faces.crops import center_crop, to_minus_one_one
from tenth.data.faces.detection import crop_face
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import SamplingBatch, sample
from tenth.training.flow_matching.frozen_model import FrozenModel, frozen_model
from tenth.training.flow_matching.time_sampling import TimeSampling
from tenth.training.schedule import TrainingConfig

PLACEHOLDER = "{person}"  # in a prompt: stands for the class noun, with the rare token before it or without
PROMPTS = tuple(f"{opening} a {PLACEHOLDER}" for opening in dict.fromkeys(OPENINGS))
# For models with a small vocabulary, whose text encoder generalizes a new token less: prompts with attributes for the photos,
# so that the person is known together with them, and many for the class images, so that they keep their meaning (docs/log.md
# has what was tried).
# fmt: off
SMALL_VOCAB_PROMPTS = (
    *PROMPTS,
    "a photo of a smiling {person}",  "a portrait photo of a young {person}",  "a picture of a {person}, outdoors",
)
SMALL_VOCAB_CLASS_PROMPTS = (
    *PROMPTS,
    "a photo of a smiling {person}",                "a portrait of a smiling {person}",
    "a photo of a serious {person}",                "a portrait photo of a young {person}",
    "a photo of an old {person}",                   "a photo of a {person} with glasses",
    "a portrait of a {person} wearing a hat",       "a photo of a {person} with an open mouth",
    "a picture of a {person}, outdoors",            "a black and white photo of a {person}",
    "a portrait photo of a {person} wearing a tie", "a photo of a young smiling {person}",
)
# fmt: on
BATCH_SIZE = 4  # class images that are generated, and images that are encoded or classified, at a time
NOUNS = ("man", "woman")
NUM_NOUN_TRIALS = 8  # noises and timesteps for each photo, the same for each noun
MIN_NOUN_AGREEMENT = 0.75  # fraction of the photos that have to agree
ClassNoun = Annotated[str, needs("one word in small letters", lambda text: bool(re.fullmatch("[a-z]*", text)))]
Template = Annotated[str, needs(f"a prompt with one {PLACEHOLDER}", lambda text: text.count(PLACEHOLDER) == 1)]


@config_dataclass
class DreamBoothSettings:
    """What is trained, and how. An image of the schedule is a photo of the person, a class image beside it if these count."""

    schedule: TrainingConfig
    lora: LoraSettings | None = field(default_factory=LoraSettings)  # None: all weights of the network
    train_text_encoder: bool = False  # whether the text encoder is trained too, in the same way
    class_noun: ClassNoun = ""  # of the class: person, man, woman, ...; empty: guessed by the model (classify_noun)
    prompts: SomeItems[Template] = PROMPTS  # of the photos, one at random for each step; {person}: whom they name
    class_prompts: tuple[Template, ...] = ()  # of the class images, in turn; none: those of the photos
    num_class_images: Count = 64  # generated once by the frozen model for each noun, and cached
    prior_loss_weight: NonNegative = 1.0  # weight of the class images' loss; 0: no class images
    sampling: SamplingConfig = field(default_factory=SamplingConfig)  # of the class images
    num_held_out: WholeNumber = 1  # photos to choose the best checkpoint by, where at least four others stay to train on
    min_snr_gamma: NonNegative = 5.0  # of min-SNR weighting; 0 turns it off
    time_sampling: TimeSampling | None = None  # of a transformer trained by flow matching
    strength: PositiveFraction = 1.0  # of what training changed, how much is kept: less obeys prompts more
    with_adapter: bool = False  # whether the adapter of a pair is on while a UNet is trained (training_photos.py)
    resolution: WholeNumber = 0  # side in pixels of photos and class images, for a transformer; 0: the model's own
    gradient_checkpointing: bool = False

    @property
    def effective_class_prompts(self) -> tuple[str, ...]:
        """The prompts of class images."""
        return self.class_prompts or self.prompts


@dataclass(frozen=True, eq=False)
class DreamBoothData:
    """The inputs of a step, computed once. instance_moments: (K, 2, C', h, w), of the photos as they are and mirrored.

    class_moments: (M, 2, C', h, w), of the class images. prompts: those with the rare token, then those without;
    prompt_embeddings: both encoded, None where the text encoder is trained. image_embeddings: (K + 1, M, D) or
    (K + 1, M, T, D), what the adapter that is on reads beside each photo and, the last, beside class images: nobody's. None
    where none is on.
    """

    settings: DreamBoothSettings
    frozen: FrozenModel
    instance_moments: Tensor
    class_moments: Tensor
    prompts: tuple[str, ...]
    prompt_embeddings: PromptEmbeddings | None
    image_embeddings: Tensor | None = None

    def loss(self, photos: Tensor, rng: StepRNG) -> Tensor:
        """One step's loss, a scalar: the mean error on photos (B,) plus `prior_loss_weight` times that on class images."""
        num_prompts, count, repeats = len(self.settings.prompts), len(photos), 1
        mirrored, prompt_indices = rng.integers(2), rng.integers(num_prompts)
        moments, image_indices = self.instance_moments[photos, mirrored], photos
        if self.settings.prior_loss_weight:
            # As many class images, each with the prompt that it was generated from.
            class_indices, repeats = rng.integers(len(self.class_moments)), 2
            moments = torch.cat([moments, self.class_moments[class_indices, rng.integers(2)]])
            class_prompts = num_prompts + class_indices % (len(self.prompts) - num_prompts)
            prompt_indices = torch.cat([prompt_indices, class_prompts])  # (2B,)
            image_indices = torch.cat([photos, torch.full_like(photos, len(self.instance_moments))])  # (2B,)

        # One pass over both, with noise for each.
        repeated_rng = rng.repeated(repeats)
        latents = self.frozen.sample_latents(moments, repeated_rng).to(self.frozen.device)
        embeddings, gamma = self.embed_prompts(prompt_indices), self.settings.min_snr_gamma
        images = (
            None if self.image_embeddings is None else self.image_embeddings[image_indices.to(self.image_embeddings.device)]
        )
        losses = self.frozen.per_sample_loss(latents, embeddings, images, repeated_rng, gamma)  # (B,) or (2B,)
        loss: Tensor = losses[:count].mean()
        if self.settings.prior_loss_weight:
            loss = loss + self.settings.prior_loss_weight * losses[count:].mean()
        return loss

    def embed_prompts(self, prompt_indices: Tensor) -> PromptEmbeddings:
        """These prompts (B,), encoded."""
        device = self.frozen.device
        if self.prompt_embeddings is not None:
            return self.prompt_embeddings[prompt_indices].to(device)
        unique_indices, rows = prompt_indices.unique(return_inverse=True)
        encoded = self.frozen.encode_prompts([self.prompts[index] for index in unique_indices.tolist()], with_gradients=True)
        return encoded[rows.to(device)]


def prepare_data(
    photos: Sequence[Photo],
    rare_token: str,
    settings: DreamBoothSettings,
    model: DiffusionModel,
    frozen: FrozenModel,
    cache: ArrayCache,
) -> DreamBoothData:
    """Photos, class images and prompts through the frozen encoders."""
    noun = settings.class_noun
    prompts = (
        *(fill_prompt(text, f"{rare_token} {noun}") for text in settings.prompts),
        *(fill_prompt(text, noun) for text in settings.effective_class_prompts),
    )
    side = settings.resolution or frozen.resolution
    frames = np.stack([training_crop(photo, side) for photo in photos])
    instance_moments = encode_with_flip(frames, frozen)
    class_moments = instance_moments[:0]
    if settings.prior_loss_weight:
        class_moments = compute_class_moments(settings, model, frozen, cache)
    embeddings = None if settings.train_text_encoder else frozen.encode_prompts(prompts)
    return DreamBoothData(settings, frozen, instance_moments, class_moments, prompts, embeddings)


def guess_noun(photos: Sequence[Photo], model: DiffusionModel, cache: ArrayCache) -> str:
    """The class noun that the frozen model gives to the person in these photos, computed once."""

    def guess(_: list[int]) -> Iterator[Array]:
        with frozen_model(model) as frozen:
            frames = np.stack([training_crop(photo, frozen.resolution) for photo in photos])
            yield np.array(classify_noun(encode_with_flip(frames, frozen)[:, 0], frozen))

    key = photo_key(photos[0].digest, hashlib.sha256("".join(photo.digest for photo in photos).encode()).hexdigest())
    (noun,) = cache.get_or_compute(f"noun-{model.name}", [key], guess)
    return str(noun)


@torch.no_grad()
def classify_noun(moments: Tensor, frozen: FrozenModel) -> str:
    """The noun under which the model predicts the noise best, or person where photos do not agree. moments: (K, 2C, h, w).

    Source: Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv:2303.16203.
    """
    prompt_embeddings = frozen.encode_prompts([f"a photo of a {noun}" for noun in NOUNS])
    parts = [slice(start, start + BATCH_SIZE) for start in range(0, len(moments), BATCH_SIZE)]

    def denoising_errors(part: slice, noun_index: int) -> Tensor:
        total = torch.zeros(len(moments[part]))
        for trial in range(NUM_NOUN_TRIALS):
            rng = StepRNG(0, trial, len(moments), part)
            latents = frozen.sample_latents(moments[part], rng).to(frozen.device)
            prompt = prompt_embeddings[torch.full((len(latents),), noun_index)].to(frozen.device)
            total += frozen.per_sample_loss(latents, prompt, None, rng).cpu()
        return total  # (b,)

    # Each photo votes for the noun with the smaller error.
    errors = [torch.cat([denoising_errors(part, noun) for part in parts]) for noun in range(len(NOUNS))]
    counts = torch.stack(errors).argmin(0).bincount(minlength=len(NOUNS))
    return NOUNS[int(counts.argmax())] if counts.max() >= MIN_NOUN_AGREEMENT * len(moments) else "person"


def compute_class_moments(
    settings: DreamBoothSettings, model: DiffusionModel, frozen: FrozenModel, cache: ArrayCache
) -> Tensor:
    """Moments of class images (M, 2, C', h, w), generated by the frozen model, once for each model and noun."""
    templates, asked = settings.effective_class_prompts, settings.sampling.for_model(model)
    filled = [fill_prompt(template, settings.class_noun) for template in templates]
    prompts = [filled[number % len(filled)] for number in range(settings.num_class_images)]
    size = Size(settings.resolution, settings.resolution) if settings.resolution else None
    keys = [hashlib.sha256(f"{prompt} {seed}".encode()).hexdigest() for seed, prompt in enumerate(prompts)]

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in track(torch.tensor(missing).split(BATCH_SIZE), "images of the class", "batch"):
            seeds = batch.tolist()
            images = sample(SamplingBatch(model, asked, [prompts[seed] for seed in seeds], seeds, size=size))
            yield from encode_with_flip(np.stack(images), frozen).numpy()

    sampling = hashlib.sha256(json.dumps(to_table(asked), sort_keys=True).encode()).hexdigest()[:8]
    namespace = f"class-{model.name}-{frozen.digest('vae')}-{sampling}{f'-{size}' if size else ''}"
    return torch.from_numpy(cache.get_or_compute_stacked(namespace, keys, compute))


def encode_with_flip(frames: Array, frozen: FrozenModel) -> Tensor:
    """Moments of images (N, S, S, 3) as they are and mirrored: (N, 2, C', h, w), float32 on the CPU."""
    pixels = to_minus_one_one(torch.from_numpy(frames).permute(0, 3, 1, 2))
    return torch.cat([frozen.encode_with_flip(batch) for batch in pixels.split(BATCH_SIZE)])


def training_crop(photo: Photo, size: int) -> Pixels:
    """The part of a photo that is trained on, (size, size, 3): head and shoulders where its face is known, else the middle."""
    return center_crop(photo, size) if photo.face is None else crop_face(photo.pixels, photo.face, size=size)


def fill_prompt(prompt: str, person: str) -> str:
    """The prompt with `person` in place of the placeholder, and the right article before it."""
    article = "an" if person[0] in "aeiou" else "a"
    return prompt.replace(f"a {PLACEHOLDER}", f"{article} {PLACEHOLDER}").replace(PLACEHOLDER, person)
