"""Prompts before they are encoded: insert the trigger phrase, and warn of what the model does not read."""

from __future__ import annotations

import re
from typing import Any

from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.prompt_encoder import SMALL_VOCABULARY

NEUTRAL_NOUN = "person"
PERSON_NOUNS = (NEUTRAL_NOUN, "man", "woman", "boy", "girl", "child", "lady", "gentleman", "guy")
WORD_PATTERN = re.compile(r"[^\W\d_]+")


def insert_trigger_phrase(prompt: str, trigger_phrase: str) -> str:
    """The prompt with a trigger phrase, "rare_token class_noun", at the first noun that may mean the person.

    "a photo of a smiling man" -> "a photo of a smiling rare man"; the neutral "person" becomes the class noun. Without such a
    noun the phrase goes in front of everything. A prompt that has the rare token already stays as it is, and so does any prompt
    if there is no trigger phrase.
    """
    rare_token, _, class_noun = trigger_phrase.partition(" ")
    if not trigger_phrase or rare_token in prompt.lower().split():
        return prompt
    match = re.search(rf"\b(?:{'|'.join(dict.fromkeys([re.escape(class_noun), *PERSON_NOUNS]))})\b", prompt, re.IGNORECASE)
    if not match:
        return f"{trigger_phrase}, {prompt}"
    noun = class_noun if match.group().lower() == NEUTRAL_NOUN else match.group()
    return f"{prompt[: match.start()]}{rare_token} {noun}{prompt[match.end() :]}"


def prompt_warnings(model: LatentDiffusion, prompt: str) -> list[str]:
    """A sentence about words outside the model's vocabulary, and one about tokens beyond its limit; none where all is read.

    Models with a large vocabulary encode long prompts in chunks (prompt_encoder.py).
    """
    pipeline: Any = model.pipeline  # diffusers' types do not know a pipeline's parts
    tokenizer = pipeline.tokenizer
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
