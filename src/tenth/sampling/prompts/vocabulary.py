"""What of a prompt the model does not read: words outside its vocabulary, tokens beyond its limit."""

from __future__ import annotations

import re
from typing import Any

from tenth.core.types import DiffusionModel
from tenth.models.prompt_encoder import SMALL_VOCABULARY
from tenth.models.prompt_weights import plain_text

WORD_PATTERN = re.compile(r"[^\W\d_]+")


def prompt_warnings(model: DiffusionModel, prompt: str) -> list[str]:
    """A sentence about words outside the model's vocabulary, and one about tokens beyond its limit; none where all is read.

    Models with a large vocabulary encode long prompts in chunks (prompt_encoder.py).
    """
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
        messages.append(f"the prompt has {num_tokens} tokens and the model reads {limit}: its end is not read")
    return messages
