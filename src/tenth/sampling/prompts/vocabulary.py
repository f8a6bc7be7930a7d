"""What of a prompt the model does not read: words outside its vocabulary, tokens beyond its limit."""

from __future__ import annotations

import re
from typing import Any

from tenth.core.types import DiffusionModel
from tenth.models.prompt_encoder import SMALL_VOCABULARY
from tenth.models.prompt_weights import plain_text
from tenth.sampling.bounds import FULL_INTERVAL
from tenth.sampling.config import SamplingConfig
from tenth.sampling.guidance import Guidance

UNREAD_END = "the prompt has {} tokens and the model reads {}: its end is not read"
WORD_PATTERN = re.compile(r"[^\W\d_]+")


def prompt_warnings(model: DiffusionModel, prompt: str) -> list[str]:
    """A sentence about words outside the model's vocabulary, and one about tokens beyond its limit; none where all is read.

    Models with a large vocabulary encode long prompts in chunks (prompt_encoder.py).
    """
    if model.family is not None:
        num_tokens, limit = model.family.count_tokens(model.pipeline, plain_text(prompt)), model.family.max_prompt_tokens
        return [UNREAD_END.format(num_tokens, limit)] if num_tokens > limit else []
    pipeline: Any = model.pipeline  # diffusers' types do not know a pipeline's parts
    tokenizer, prompt = pipeline.tokenizer, plain_text(prompt)
    messages = []
    vocabulary = tokenizer.get_vocab()
    unknown = [word for word in dict.fromkeys(WORD_PATTERN.findall(prompt.lower())) if f"{word}</w>" not in vocabulary]
    if unknown and len(vocabulary) < SMALL_VOCABULARY:
        messages.append(f"the model has never seen these words, and generates as if they were not there: {', '.join(unknown)}")
    num_tokens = len(tokenizer(prompt, verbose=False).input_ids)  # with start and end token
    limit = tokenizer.model_max_length
    if num_tokens > limit and not model.prompt_encoder.supports_long_prompts:
        messages.append(UNREAD_END.format(num_tokens, limit))
    return messages


def guidance_notes(model: DiffusionModel, sampling: SamplingConfig) -> list[str]:
    """Sentences about what nothing reads: a negative prompt and settings of guidance that is off, or in a distilled model."""
    guidance = Guidance(sampling.guidance_scale or model.default_sampling.guidance_scale, sampling.text_guidance_scale)
    if guidance.enabled and not model.is_guidance_distilled:
        return []
    off = "is off; a guidance scale above 1 or text guidance turns it on"
    why = "is in this model's weights" if model.is_guidance_distilled else off
    notes = []
    if sampling.guidance_interval != FULL_INTERVAL:
        notes.append(f"the guidance interval does nothing: guidance {why}")
    if sampling.negative_prompt:
        notes.append(f"the negative prompt is not read: guidance, which leads away from it, {why}")
    if sampling.text_guidance_scale:
        notes.append(f"text guidance does nothing: guidance {why}")
    return notes
