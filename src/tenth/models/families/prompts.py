"""Prompts -> the text embeddings of a transformer, each computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tenth.core.files.tensors import tensors_digest
from tenth.models.denoiser import concat_prompts
from tenth.models.families.family import TransformerFamily
from tenth.models.memory.placement import TextEncoders
from tenth.models.pipelines import quiet
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.models.prompt_weights import plain_text

MAX_CACHED_PROMPTS = 16  # of FLUX.2 klein 4B 8 MB each in 16 bits
NO_PHOTOS = tensors_digest({})


class FlowPromptEncoder:
    """The text embeddings of a transformer's prompts, each by itself: they do not depend on the batch.

    A prompt is one chunk, and is cut off after the family's `max_prompt_tokens`. Text encoders may change inside `isolated`.
    """

    supports_long_prompts = False

    def __init__(self, family: TransformerFamily, pipeline: Any, text_encoders: TextEncoders) -> None:
        self.family, self.pipeline, self.text_encoders = family, pipeline, text_encoders
        self._cache: OrderedDict[tuple[object, ...], PromptEmbeddings] = OrderedDict()

    def __call__(self, prompts: Sequence[str], context: Mapping[str, Tensor], device: torch.device) -> PromptEmbeddings:
        """Embeddings of B prompts on a device. context: (B, ...) tensors of photos in context, {} without."""
        encoded = []
        for index, prompt in enumerate(prompts):
            seen = (
                {name: tensor[index : index + 1] for name, tensor in context.items()} if self.family.prompts_see_photos else {}
            )
            encoded.append(self._one(plain_text(prompt), seen, device))
        return concat_prompts(encoded)

    @property
    def num_cached(self) -> int:
        """How many prompts' embeddings are in memory."""
        return len(self._cache)

    def forget_photos(self) -> None:
        """Keep no embeddings of prompts that were read beside photos."""
        for key in [key for key in self._cache if key[1] != NO_PHOTOS]:
            del self._cache[key]

    def num_chunks(self, *prompts: str) -> int:  # noqa: ARG002 - of any
        """One: no prompt is read in parts."""
        return 1

    @contextmanager
    def isolated(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """A block in which an identity's weights are on the model: if any is a text encoder's, nothing goes in or out of it."""
        outer_cache = self._cache
        if any(name.startswith("text_encoder") for name in weights):
            self._cache = OrderedDict()
        try:
            yield
        finally:
            self._cache = outer_cache

    @torch.no_grad()
    def _one(self, prompt: str, context: Mapping[str, Tensor], device: torch.device) -> PromptEmbeddings:
        cast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        key = (prompt, tensors_digest(context), device, cast)
        if key not in self._cache:
            self.text_encoders.ensure()
            with quiet():  # what is cut off is said once, shorter: sampling/prompts/vocabulary.py
                self._cache[key] = self.family.encode_prompts(self.pipeline, [prompt], context).to(device)
        self._cache.move_to_end(key)
        while len(self._cache) > MAX_CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return self._cache[key]
