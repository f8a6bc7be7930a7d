"""Prompts -> text embeddings: long ones in chunks, weighted ones word by word, and none computed twice in a run."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenth.models.pipelines import quiet
from tenth.models.prompt_weights import Fragment, plain_text, split_weights

SMALL_VOCABULARY = 1_000  # tokens; a model with fewer knows only the words of its captions, each of them one token
MIN_WEIGHT = 1e-5  # of a fragment: for less, the prompt without it takes over
MAX_CACHED_BATCHES = 8  # batches of prompts whose embeddings are kept; of SDXL some megabytes each
ENCODER_ATTRIBUTES = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """Encoded prompts. hidden: (U, T, C). pooled: (U, P) where the model wants it (SDXL).

    mask: (U, T) bool, True for what is read, where prompts of a transformer have different lengths; None: all is.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def __getitem__(self, indices: Tensor | slice) -> PromptEmbeddings:
        pooled, mask = (None if each is None else each[indices] for each in (self.pooled, self.mask))
        return PromptEmbeddings(self.hidden[indices], pooled, mask)

    def to(self, device: torch.device) -> PromptEmbeddings:
        """The same on another device."""
        pooled, mask = (None if each is None else each.to(device) for each in (self.pooled, self.mask))
        return PromptEmbeddings(self.hidden.to(device), pooled, mask)


Encoded = tuple[PromptEmbeddings, PromptEmbeddings | None]  # of prompts, and of the negative beside each of them


class PromptEncoder:
    """The text embeddings of one pipeline's prompts.

    A prompt that fits into the text encoder's positions is encoded by the pipeline's own `encode_prompt`. A longer one is split
    into chunks of as many tokens as fit between the first and the last one (75 of CLIP's 77), whose hidden states are
    concatenated. A prompt with fewer chunks than another in its batch, or than the negative, is padded with empty ones. The
    pooled embedding (SDXL) is that of the first chunk. For a model with a small vocabulary, longer prompts are truncated.

    In a prompt with weights (prompt_weights.py) a token's hidden state is moved from that of the empty prompt by its weight;
    where the weight of a fragment is below 1, all are blended with those of the prompt with the fragment masked, which for a
    weight of 0 replace them. The pooled embedding is that of the words without weights. Source: compel, doc/syntax.md, whose
    embeddings these are to 1e-4 (tests/models/test_prompt_weights.py).

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
        texts = [split_weights(prompt) for prompt in prompts]
        return max(len(_chunk_tokens(tokenizer, text)) for tokenizer, _ in self._encoders() for text in texts)

    def _encoders(self) -> list[tuple[Any, Any]]:
        pairs = [
            (getattr(self.pipeline, first, None), getattr(self.pipeline, second, None)) for first, second in ENCODER_ATTRIBUTES
        ]
        return [(tokenizer, encoder) for tokenizer, encoder in pairs if encoder is not None]

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str], negative: str, guided: bool, device: torch.device) -> Encoded:
        all_prompts = [*prompts, negative] if guided else list(prompts)
        if (num_chunks := self.num_chunks(*all_prompts)) > 1:
            encoded, negatives = _split_negative(self._encode_chunks(all_prompts, num_chunks, device), len(prompts))
        else:
            with quiet():  # what is cut off is said once, shorter: vocabulary.py
                hidden, negative_hidden, *pooled = self.pipeline.encode_prompt(
                    prompt=list(map(plain_text, prompts)),
                    device=device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=guided,
                    negative_prompt=[plain_text(negative)] * len(prompts),
                )
            prompt_pooled, negative_pooled = pooled or (None, None)
            encoded = PromptEmbeddings(hidden, prompt_pooled)
            negatives = PromptEmbeddings(negative_hidden, negative_pooled) if guided else None

        # Of the prompts that have weights, other hidden states.
        weighted = {
            text: self._weighted_hidden(text, num_chunks, device) for text in dict.fromkeys(all_prompts) if _has_weights(text)
        }
        if weighted:
            rows = [weighted.get(text, hidden) for text, hidden in zip(prompts, encoded.hidden, strict=True)]
            encoded = PromptEmbeddings(torch.stack(rows), encoded.pooled)
        if negatives is not None and negative in weighted:
            negatives = PromptEmbeddings(weighted[negative].expand_as(negatives.hidden), negatives.pooled)
        return encoded, negatives

    def _encode_chunks(self, prompts: Sequence[str], num_chunks: int, device: torch.device) -> PromptEmbeddings:
        """Hidden states (B, chunks x T, C) and, of SDXL, pooled (B, P)."""
        texts, hidden, pooled = [split_weights(prompt) for prompt in prompts], [], None
        for number, (tokenizer, _) in enumerate(self._encoders()):
            rows = [row for text in texts for row in _padded_chunks(tokenizer, text, num_chunks)[0]]
            states, output = self._hidden_states(number, torch.tensor(rows, device=device))  # (B x chunks, T, C)
            hidden.append(states.reshape(len(prompts), -1, states.shape[-1]))
            pooled = None if len(self._encoders()) == 1 else output.reshape(len(prompts), num_chunks, -1)[:, 0]
        return PromptEmbeddings(torch.cat(hidden, -1).to(self._encoders()[-1][1].dtype), pooled)

    def _hidden_states(self, number: int, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states (R, T, C) that the model is conditioned on, of one text encoder, and its first output. tokens: (R, T).

        mask: (R, T), 0 where a token is hidden from the others. Of two encoders the last layer but one is read, and the
        second's pooled output, as SDXL's pipeline does.
        """
        encoders = self._encoders()
        output = encoders[number][1](tokens, attention_mask=mask, output_hidden_states=True)
        return output[0] if len(encoders) == 1 else output.hidden_states[-2], output[0]

    def _weighted_hidden(self, prompt: str, num_chunks: int, device: torch.device) -> Tensor:
        """Hidden states (chunks x T, C) of one prompt with weights."""
        fragments, hidden = split_weights(prompt), []
        for number, (tokenizer, _) in enumerate(self._encoders()):
            tokens, places = (torch.tensor(rows, device=device) for rows in _padded_chunks(tokenizer, fragments, num_chunks))
            weight_of_fragment = torch.tensor([*(each.weight for each in fragments), 1.0], device=device)  # the last of none
            weights = weight_of_fragment[places].flatten()[:, None]  # (chunks x T, 1)
            empty = torch.tensor(_padded_chunks(tokenizer, [Fragment("")], 1)[0], device=device)
            start = self._hidden_states(number, empty)[0].repeat(num_chunks, 1, 1).flatten(0, 1)  # (chunks x T, C)

            # The prompt as it is, and, for each fragment of a low weight, with it masked.
            lowered = [index for index, each in enumerate(fragments) if each.weight < 1 and bool((places == index).any())]
            masks = torch.cat([torch.ones_like(tokens), *((places != index).long() for index in lowered)])  # (R x chunks, T)
            states, _ = self._hidden_states(number, tokens.repeat(len(lowered) + 1, 1), masks)
            states = states.reshape(len(lowered) + 1, -1, states.shape[-1])  # (R, chunks x T, C)
            weighted = torch.where(weights == 1, states, start + (states - start) * weights.to(states.dtype))

            # Blended: of a weight of 0.5 both count alike.
            shares = [1.0, *(_share_without(fragments[index].weight) for index in lowered)]
            blend = torch.tensor(shares, dtype=states.dtype, device=device) / sum(shares)
            hidden.append((weighted * blend[:, None, None]).sum(0))
        return torch.cat(hidden, -1).to(self._encoders()[-1][1].dtype)


def _split_negative(encoded: PromptEmbeddings, count: int) -> Encoded:
    """Prompts and, where there is one row more than `count`, the negative beside each of them."""
    prompts, negative = encoded[:count], encoded[count:]
    if not len(negative.hidden):
        return prompts, None
    pooled = None if negative.pooled is None else negative.pooled.expand(count, -1)
    return prompts, PromptEmbeddings(negative.hidden.expand(count, -1, -1), pooled)


def _has_weights(prompt: str) -> bool:
    return any(fragment.weight != 1 for fragment in split_weights(prompt))


def _share_without(weight: float) -> float:
    """How much the prompt without a fragment counts in the blend, beside the prompt with it, which counts 1."""
    return math.tan((1 - max(weight, MIN_WEIGHT)) * math.pi / 2)


def _chunk_tokens(tokenizer: Any, text: Sequence[Fragment]) -> list[list[tuple[int, int]]]:
    """The text's tokens in runs that leave room for a first and a last one, each with its fragment; one, empty, of no text."""
    read = [tokenizer(each.text, add_special_tokens=False, truncation=False, verbose=False).input_ids for each in text]
    tokens = [(token, index) for index, ids in enumerate(read) for token in ids]
    size = tokenizer.model_max_length - 2
    return [tokens[start : start + size] for start in range(0, max(len(tokens), 1), size)]


def _padded_chunks(tokenizer: Any, text: Sequence[Fragment], num_chunks: int) -> tuple[list[list[int]], list[list[int]]]:
    """As many rows of tokens as asked, each as long as the text encoder has positions, and of each token its fragment.

    First, last and padding tokens are of none, -1.
    """
    first, last, padding = ((token, -1) for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id))
    chunks = _chunk_tokens(tokenizer, text)[:num_chunks]
    framed = [[first, *run, last] for run in [*chunks, *[[]] * (num_chunks - len(chunks))]]
    rows = [row + [padding] * (tokenizer.model_max_length - len(row)) for row in framed]
    return [[token for token, _ in row] for row in rows], [[place for _, place in row] for row in rows]
