"""A row's prompts -> those of one image: put into a style, and with their wildcards chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenth.sampling.prompts.rows import PromptRow
from tenth.sampling.prompts.styles import Style
from tenth.sampling.prompts.wildcards import Wildcards, resolve_wildcards


@dataclass(frozen=True)
class CompletedPrompt:
    """The prompts of one image. metadata: for its PNG, what they were made of; empty where nothing was done to them."""

    prompt: str
    negative_prompt: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class PromptCompletion:
    """What is done to prompts. style: of rows that do not say, one of styles by name; "" for none."""

    style: str = ""
    styles: Mapping[str, Style] = field(default_factory=dict)
    wildcards: Wildcards = field(default_factory=Wildcards)

    def __call__(self, row: PromptRow, seed: int, negative_prompt: str) -> CompletedPrompt:
        """The prompts of an image with this seed. negative_prompt: of a row that has none. Raises as `resolve_wildcards`."""
        negative = negative_prompt if row.negative_prompt is None else row.negative_prompt
        style = self.style if row.style is None else row.style
        templates = self.styles[style].applied(row.prompt, negative) if style else (row.prompt, negative)
        made = [resolve_wildcards(template, seed, self.wildcards) for template in templates]  # prompt and negative prompt
        metadata = {"style": style} if style else {}
        for name, said, result in zip(("prompt", "negative_prompt"), (row.prompt, negative), made, strict=True):
            metadata |= {f"{name}_template": said} if said != result else {}
        return CompletedPrompt(made[0], made[1], metadata)
