"""A prompt before it is read: the person's word put in, and what a model does not read of it, to be said, not to be hidden."""

from __future__ import annotations

import re
from typing import Any

from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.prompt_encoder import SMALL_VOCABULARY

NEUTRAL = "person"
NOUNS = (NEUTRAL, "man", "woman", "boy", "girl", "child", "lady", "gentleman", "guy")
WORD = re.compile(r"[^\W\d_]+")


def naming(prompt: str, word: str) -> str:
    """The prompt with a person's word, "rare noun" as of an Identity, before the first noun that may mean the person.

    "a photo of a smiling man" -> "a photo of a smiling rare man"; "person", which says nothing of anybody, becomes the noun.
    Without such a noun the word is put in front of everything. A prompt that has it already stays as it is, and so does one
    of somebody without a word.
    """
    rare, _, noun = word.partition(" ")
    if not word or rare in prompt.lower().split():
        return prompt
    found = re.search(rf"\b(?:{'|'.join(dict.fromkeys([re.escape(noun), *NOUNS]))})\b", prompt, re.IGNORECASE)
    if not found:
        return f"{word}, {prompt}"
    said = noun if found.group().lower() == NEUTRAL else found.group()
    return f"{prompt[: found.start()]}{rare} {said}{prompt[found.end() :]}"


def prompt_notes(model: LatentDiffusion, prompt: str) -> list[str]:
    """A sentence about words that the model has never seen, one about an end that it does not read; none where all is read.

    Models of many words read a long prompt to its end (texts.py).
    """
    pipeline: Any = model.pipeline  # diffusers' types do not know a pipeline's parts
    tokenizer = pipeline.tokenizer
    notes = []
    known = tokenizer.get_vocab()
    unknown = [word for word in dict.fromkeys(WORD.findall(prompt.lower())) if f"{word}</w>" not in known]
    if unknown and len(known) < SMALL_VOCABULARY:
        notes.append(f"the model has never seen these words, and draws as if they were not there: {', '.join(unknown)}")
    count = len(tokenizer(prompt, verbose=False).input_ids)  # with the tokens that begin and end each prompt
    if count > tokenizer.model_max_length and not model.texts.long:
        notes.append(f"the prompt has {count} tokens and the model reads {tokenizer.model_max_length}: its end is not read")
    return notes
