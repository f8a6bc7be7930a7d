"""The data set of an adapter's training: what every frozen encoder computes of the photos, in memory or in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.rng import StepRNG
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.schedule import shuffled_window

BLOCK_PHOTOS = 1024  # photos of a block of the order: a window is 16 of them


@dataclass(frozen=True, eq=False)
class EncodedPhotos:
    """N photos of P people; a person's photos are consecutive.

    latent_moments: (N, 2, C', h, w), of each photo and its mirror image. embeddings, degraded_embeddings: (N, D).
    caption_indices: (N, V), rows of `prompt_embeddings`, whose first row is the empty prompt; fewer captions than V repeat.
    num_photos, num_captions: (P,), each person's photos, and the most captions that one of them has.
    """

    latent_moments: Tensor
    embeddings: Tensor
    degraded_embeddings: Tensor
    caption_indices: Tensor
    prompt_embeddings: PromptEmbeddings
    num_photos: Tensor
    num_captions: Tensor


class AdapterDataset:
    """P people and their photos, in parts: one that is in memory, or files that are mapped while they are needed.

    first_photo, num_photos: (P,), each person's span of photos; no more than these 16 bytes a person are in memory.
    max_photos, max_captions: the most that a person and a photo of theirs has.

    read_part: the number of a part -> its photos. spans: of each part `num_photos` and `num_captions`. Of all people, those
    with `min_photos` photos count. Raises DataError if nobody has.
    """

    def __init__(
        self, read_part: Callable[[int], EncodedPhotos], spans: Sequence[tuple[Tensor, Tensor]], min_photos: int = 1
    ) -> None:
        check_counts(torch.cat([torch.zeros(0), *(span[0] for span in spans)]), min_photos)
        num_photos, num_captions = (torch.cat([span[axis] for span in spans]).long() for axis in (0, 1))
        kept = num_photos >= min_photos
        self.read_part, self.part_ends = read_part, torch.stack([span[0].sum() for span in spans]).cumsum(0)
        self.first_photo, self.num_photos = (num_photos.cumsum(0) - num_photos)[kept], num_photos[kept]
        self.max_captions, self.max_photos = int(num_captions[kept].max()), int(self.num_photos.max())

    @classmethod
    def in_memory(cls, photos: EncodedPhotos) -> AdapterDataset:
        """The data set of one part."""
        return cls(lambda _: photos, [(photos.num_photos, photos.num_captions)])

    @property
    def num_people(self) -> int:
        return len(self.first_photo)

    @cached_property
    def block_sizes(self) -> Tensor:
        """People in each block of about BLOCK_PHOTOS photos, for `shuffled_indices`. It depends on `num_photos` alone."""
        blocks = (self.num_photos.cumsum(0) - self.num_photos) // BLOCK_PHOTOS
        sizes: Tensor = torch.unique_consecutive(blocks, return_counts=True)[1]
        return sizes

    def window(self, rng: StepRNG) -> Tensor:
        """The people, ascending, among whom those of a step were shuffled: everybody, if there are few."""
        return shuffled_window(self.block_sizes, rng.seed, rng.step * rng.batch_size, rng.batch_size)

    def photos_of(self, people: Tensor) -> Tensor:
        """All photos of people (B,), one after another."""
        counts = self.num_photos[people]
        shifts = self.first_photo[people] - (counts.cumsum(0) - counts)
        return torch.arange(int(counts.sum())) + shifts.repeat_interleave(counts)

    def latents(self, photos: Tensor, mirrored: Tensor) -> Tensor:
        """Moments of the latents of photos (B,), mirrored where `mirrored` (B,) is 1: (B, C', h, w)."""
        return self._gather(photos, lambda part, rows, where: part.latent_moments[rows, mirrored[where]])

    def embeddings(self, photos: Tensor, degraded: Tensor | None = None) -> Tensor:
        """Embeddings of photos of any shape, of the degraded ones where `degraded` says so: (..., D)."""
        embeddings = self._gather(photos.flatten(), lambda part, rows, _: part.embeddings[rows])
        if degraded is not None and degraded.any():
            selected = degraded.flatten()
            poor = self._gather(photos.flatten()[selected], lambda part, rows, _: part.degraded_embeddings[rows])
            embeddings[selected] = poor
        return embeddings.view(*photos.shape, -1)

    def prompts(self, photos: Tensor, variants: Tensor, empty: Tensor) -> PromptEmbeddings:
        """A caption of each photo (B,), that of number `variants` (B,); the empty prompt where `empty` (B,)."""

        def read(name: str) -> Tensor:
            def rows_of(part: EncodedPhotos, rows: Tensor, where: Tensor) -> Tensor:
                captions = part.caption_indices[rows, variants[where]].long().masked_fill(empty[where], 0)
                values: Tensor = getattr(part.prompt_embeddings, name)[captions]
                return values

            return self._gather(photos, rows_of)

        has_pooled = self.read_part(0).prompt_embeddings.pooled is not None
        return PromptEmbeddings(read("hidden"), read("pooled") if has_pooled else None)

    def _gather(self, photos: Tensor, read: Callable[[EncodedPhotos, Tensor, Tensor], Tensor]) -> Tensor:
        """Values of photos (B,). read: a part, rows of it (b,) and their positions in `photos` (b,) -> values (b, ...)."""
        numbers = torch.searchsorted(self.part_ends, photos.contiguous(), right=True)
        found: Tensor | None = None
        for number in numbers.unique().tolist():
            (positions,) = torch.where(numbers == number)
            part = self.read_part(number)
            values = read(part, photos[positions] - (self.part_ends[number] - len(part.embeddings)), positions)
            if found is None:
                found = values.new_empty(len(photos), *values.shape[1:])
            found[positions] = values
        assert found is not None
        return found


def person_spans(people: Sequence[str]) -> tuple[Tensor, Tensor]:
    """First photo and number of photos of each person, (P,) each. Raises DataError unless people (N,) are consecutive."""
    runs = [(person, len(list(photos))) for person, photos in groupby(people)]
    names, counts = [person for person, _ in runs], torch.tensor([count for _, count in runs], dtype=torch.long)
    if len(set(names)) < len(names):
        ((person, _),) = Counter(names).most_common(1)
        raise DataError(f"the rows of {person} are not together", "a person's photos stand one after the other", "Sort them")
    return counts.cumsum(0) - counts, counts


def check_counts(num_photos: Tensor, min_photos: int) -> None:
    """Raises DataError if nobody of people (P,) has `min_photos` photos."""
    most = int(num_photos.max()) if len(num_photos) else 0
    if most < min_photos:
        found = f"of {len(num_photos)} train people with a usable photo none has more than {most}"
        action = "Add photos of each person, or lower the number of references"
        raise DataError(found, f"at least {min_photos} photos of a person are needed", action)


def check_finite(photos: EncodedPhotos, files: Sequence[str]) -> None:
    """Raises DataError, which names the first of the files (N,), if a value computed of photos or captions is not finite."""
    for name in ("latent_moments", "embeddings", "degraded_embeddings"):
        not_finite = (~torch.isfinite(getattr(photos, name)).flatten(1).all(1)).nonzero()
        if len(not_finite):
            found = f"{files[int(not_finite[0])]} has {name} that are not finite"
            raise DataError(found, "finite numbers are needed", "Check that photo, and empty the cache if the photo is sound")
    if not torch.isfinite(photos.prompt_embeddings.hidden).all():
        raise DataError("a caption's embedding is not finite", "finite numbers are needed", "Check the text encoder's weights")
