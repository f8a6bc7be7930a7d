"""The word that names a person to a model: one that means nothing to it yet."""

from __future__ import annotations

import re
from typing import Any

from tenth.core.errors import ModelError, RecipeError
from tenth.models.prompt_encoder import SMALL_VOCABULARY

CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,4}")
WORD_ENDS = ("</w>",)  # marks, in a vocabulary, of a token that is a whole word: after it, in CLIP's
WORD_STARTS = ("\u0120", "\u2581")  # and before it, in the vocabularies of byte-level BPE and of SentencePiece


def find_rare_token(pipeline: Any) -> str:
    """A token without meaning to the model: two to four consonants, and of these the one with the shortest embedding.

    Weight decay shrinks those that no caption uses. Source: Ruiz et al. 2022, section 3.2. Raises ModelError if there is none.
    """
    # Whole words that are one token, by the length of their embeddings.
    tokenizer = pipeline.tokenizer
    token_ids: dict[str, int] = {}
    for token, number in tokenizer.get_vocab().items():
        if token.endswith(WORD_ENDS) or token.startswith(WORD_STARTS):
            token_ids[token.removesuffix(WORD_ENDS[0]).lstrip("".join(WORD_STARTS))] = number
    norms = pipeline.text_encoder.get_input_embeddings().weight.detach().float().norm(dim=1).tolist()
    for word in sorted(filter(CONSONANTS.fullmatch, token_ids), key=lambda word: (norms[token_ids[word]], word)):
        if tokenizer(f" {word}", add_special_tokens=False).input_ids == [token_ids[word]]:
            return str(word)
    found = f"none of the {len(token_ids)} whole words of this model's tokenizer is two to four consonants"
    needed = "a rare word that means nothing is needed to call the person by"
    raise ModelError(found, needed, "Choose another model, or a method that needs no word")


def rare_token_of(model: Any) -> str:
    """The rare token of a model. Where a memory profile has freed the text encoder, it is loaded for this, and freed."""
    if model.family is None:
        return find_rare_token(model.pipeline)
    with model.text_encoders.freed_after():
        model.text_encoders.ensure()
        return find_rare_token(model.pipeline)


def check_noun(tokenizer: Any, noun: str) -> None:
    """Raises RecipeError if a model with a small vocabulary does not know the noun: its class images would be of anything."""
    vocabulary = tokenizer.get_vocab()
    if noun and len(vocabulary) < SMALL_VOCABULARY and f"{noun}</w>" not in vocabulary:
        found = f"class_noun is {noun!r}, which this model has never seen"
        raise RecipeError(found, "needed: a word of its captions", "Try person")
