"""A prompt before it is read: the person's word put in, and what a model does not read of it, to be said, not to be hidden."""

from __future__ import annotations

import re
from typing import Any

from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.prompt_encoder import SMALL_VOCABULARY

NEUTRAL_NOUN = "person"
PERSON_NOUNS = (NEUTRAL_NOUN, "man", "woman", "boy", "girl", "child", "lady", "gentleman", "guy")
WORD_PATTERN = re.compile(r"[^\W\d_]+")


def insert_trigger_phrase(prompt: str, trigger_phrase: str) -> str:
    """The prompt with a person's word, "rare noun" as of an Identity, before the first noun that may mean the person.

    "a photo of a smiling man" -> "a photo of a smiling rare man"; "person", which says nothing of anybody, becomes the noun.
    Without such a noun the word is put in front of everything. A prompt that has it already stays as it is, and so does one
    of somebody without a word.
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
    """A sentence about words that the model has never seen, one about an end that it does not read; none where all is read.

    Models of many words read a long prompt to its end (texts.py).
    """
    pipeline: Any = model.pipeline  # diffusers' types do not know a pipeline's parts
    tokenizer = pipeline.tokenizer
    messages = []
    vocabulary = tokenizer.get_vocab()
    unknown = [word for word in dict.fromkeys(WORD_PATTERN.findall(prompt.lower())) if f"{word}</w>" not in vocabulary]
    if unknown and len(vocabulary) < SMALL_VOCABULARY:
        messages.append(f"the model has never seen these words, and draws as if they were not there: {', '.join(unknown)}")
    num_tokens = len(tokenizer(prompt, verbose=False).input_ids)  # with the tokens that begin and end each prompt
    if num_tokens > tokenizer.model_max_length and not model.prompt_encoder.supports_long_prompts:
        messages.append(
            f"the prompt has {num_tokens} tokens and the model reads {tokenizer.model_max_length}: its end is not read"
        )
    return messages
