"""Prompts -> text embeddings: long ones in chunks, and none computed twice in a run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMALL_VOCABULARY = 1_000  # tokens; a model with fewer knows only the words of its captions, each of them one token
MAX_CACHED_BATCHES = 8  # batches of prompts whose embeddings are kept; of SDXL some megabytes each
ENCODER_ATTRIBUTES = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """Encoded prompts. hidden: (U, T, C). pooled: (U, P) where the model wants it (SDXL)."""

    hidden: Tensor
    pooled: Tensor | None = None

    def __getitem__(self, indices: Tensor | slice) -> PromptEmbeddings:
        return PromptEmbeddings(self.hidden[indices], None if self.pooled is None else self.pooled[indices])

    def to(self, device: torch.device) -> PromptEmbeddings:
        """The same on another device."""
        return PromptEmbeddings(self.hidden.to(device), None if self.pooled is None else self.pooled.to(device))


Encoded = tuple[PromptEmbeddings, PromptEmbeddings | None]  # of prompts, and of the negative beside each of them


class PromptEncoder:
    """The text embeddings of one pipeline's prompts.

    A prompt that fits into the text encoder's positions is encoded by the pipeline's own `encode_prompt`. A longer one is split
    into chunks of as many tokens as fit between the first and the last one (75 of CLIP's 77), whose hidden states are
    concatenated. A prompt with fewer chunks than another in its batch, or than the negative, is padded with empty ones. The
    pooled embedding (SDXL) is that of the first chunk. For a model with a small vocabulary, longer prompts are truncated.

    Text encoders may change in training mode and inside `isolated`; otherwise embeddings are cached.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._cache: OrderedDict[tuple[Any, ...], Encoded] = OrderedDict()

    def __call__(self, prompts: Sequence[str], negative: str, *, guided: bool, device: torch.device | None = None) -> Encoded:
        """Embeddings of B prompts; with those of the negative, of equal shapes, if guided.

        device: where they are computed, if the text encoders are not there (offloaded to the CPU's memory).
        """
        encoders = [encoder for _, encoder in self._encoders()]
        device, dtype = device or encoders[0].device, encoders[0].dtype
        if any(encoder.training for encoder in encoders):
            return self._encode(prompts, negative, guided, device)  # weights that change: not to be kept
        cast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        key = (*prompts, negative, guided, device, dtype, cast)
        if key not in self._cache:
            self._cache[key] = self._encode(prompts, negative, guided, device)
        self._cache.move_to_end(key)
        while len(self._cache) > MAX_CACHED_BATCHES:
            self._cache.popitem(last=False)
        return self._cache[key]

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

    @property
    def supports_long_prompts(self) -> bool:
        """Whether prompts of more tokens than the text encoder has positions are read to their end."""
        return len(self.pipeline.tokenizer.get_vocab()) >= SMALL_VOCABULARY

    def num_chunks(self, *prompts: str) -> int:
        """In how many runs of tokens the longest of the prompts is read; 1 for what fits."""
        if not self.supports_long_prompts:
            return 1
        return max(len(_chunk_tokens(tokenizer, prompt)) for tokenizer, _ in self._encoders() for prompt in prompts)

    def _encoders(self) -> list[tuple[Any, Any]]:
        pairs = [
            (getattr(self.pipeline, first, None), getattr(self.pipeline, second, None)) for first, second in ENCODER_ATTRIBUTES
        ]
        return [(tokenizer, encoder) for tokenizer, encoder in pairs if encoder is not None]

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str], negative: str, guided: bool, device: torch.device) -> Encoded:
        all_prompts = [*prompts, negative] if guided else prompts
        if (num_chunks := self.num_chunks(*all_prompts)) > 1:
            return _split_negative(self._encode_chunks(all_prompts, num_chunks, device), len(prompts))
        hidden, negative_hidden, *pooled = self.pipeline.encode_prompt(
            prompt=list(prompts),
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=[negative] * len(prompts),
        )
        prompt_pooled, negative_pooled = pooled or (None, None)
        encoded = PromptEmbeddings(hidden, prompt_pooled)
        return encoded, PromptEmbeddings(negative_hidden, negative_pooled) if guided else None

    def _encode_chunks(self, prompts: Sequence[str], num_chunks: int, device: torch.device) -> PromptEmbeddings:
        """Hidden states (B, chunks x T, C) and, of SDXL, pooled (B, P)."""
        pairs, hidden, pooled = self._encoders(), [], None
        for tokenizer, encoder in pairs:
            tokens = torch.tensor(
                [row for prompt in prompts for row in _padded_chunks(tokenizer, prompt, num_chunks)]
            )  # (B x runs, T)
            output = encoder(tokens.to(device), output_hidden_states=True)
            # Of two encoders the last layer but one is read, and the second's pooled output, as SDXL's pipeline does.
            states = output[0] if len(pairs) == 1 else output.hidden_states[-2]
            hidden.append(states.reshape(len(prompts), -1, states.shape[-1]))
            pooled = None if len(pairs) == 1 else output[0].reshape(len(prompts), num_chunks, -1)[:, 0]
        return PromptEmbeddings(torch.cat(hidden, -1).to(pairs[-1][1].dtype), pooled)


def _split_negative(encoded: PromptEmbeddings, count: int) -> Encoded:
    """Prompts and, where there is one row more than `count`, the negative beside each of them."""
    prompts, negative = encoded[:count], encoded[count:]
    if not len(negative.hidden):
        return prompts, None
    pooled = None if negative.pooled is None else negative.pooled.expand(count, -1)
    return prompts, PromptEmbeddings(negative.hidden.expand(count, -1, -1), pooled)


def _chunk_tokens(tokenizer: Any, prompt: str) -> list[list[int]]:
    """The prompt's tokens in runs that leave room for a first and a last one; one, empty, of an empty prompt."""
    tokens: list[int] = tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
    size = tokenizer.model_max_length - 2
    return [tokens[start : start + size] for start in range(0, max(len(tokens), 1), size)]


def _padded_chunks(tokenizer: Any, prompt: str, num_chunks: int) -> list[list[int]]:
    """As many rows of tokens as asked, each as long as the text encoder has positions."""
    first, last, length = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.model_max_length
    chunks = _chunk_tokens(tokenizer, prompt)
    framed = [[first, *run, last] for run in [*chunks, *[[]] * (num_chunks - len(chunks))]]
    return [row + [tokenizer.pad_token_id] * (length - len(row)) for row in framed]
