"""The trigger phrase in a prompt: how it names the person of a fine-tuned model."""

from __future__ import annotations

import re

from tenth.models.prompt_weights import plain_text

NEUTRAL_NOUN = "person"
PERSON_NOUNS = (NEUTRAL_NOUN, "man", "woman", "boy", "girl", "child", "lady", "gentleman", "guy")


def insert_trigger_phrase(prompt: str, trigger_phrase: str) -> str:
    """The prompt with a trigger phrase, "rare_token class_noun", at the first noun that may mean the person.

    "a photo of a smiling man" -> "a photo of a smiling rare man"; the neutral "person" becomes the class noun. Without such a
    noun the phrase goes in front of everything. A prompt that has the rare token already stays as it is, and so does any prompt
    if there is no trigger phrase.
    """
    rare_token, _, class_noun = trigger_phrase.partition(" ")
    if not trigger_phrase or rare_token in plain_text(prompt).lower().split():
        return prompt
    match = re.search(rf"\b(?:{'|'.join(dict.fromkeys([re.escape(class_noun), *PERSON_NOUNS]))})\b", prompt, re.IGNORECASE)
    if not match:
        return f"{trigger_phrase}, {prompt}"
    noun = class_noun if match.group().lower() == NEUTRAL_NOUN else match.group()
    return f"{prompt[: match.start()]}{rare_token} {noun}{prompt[match.end() :]}"
