"""Toy models that read long prompts: tokenizers of CLIP's kind with 77 positions and more words than captions have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from tenth.models.registry import load_model
from toy_models import text_encoder, write_stable

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAD = "!"  # of the second tokenizer, as SDXL's is


def write_tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """Every pair of letters is a token."""
    ends = [f"{letter}</w>" for letter in LETTERS]
    pairs = [(first, last) for first in LETTERS for last in (*LETTERS, *ends)]
    words = [*LETTERS, *ends, PAD, f"{PAD}</w>", *("".join(pair) for pair in pairs), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in pairs) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=pad)


def load_large_vocabulary(family: str, folder: Path) -> Any:
    """A toy of a family, "sd15" or "sdxl", with 77 positions."""
    loaded = load_model(str(write_stable(family, folder / "model")))
    pipeline = loaded.pipeline
    torch.manual_seed(1)
    for name, pad in (("", "<|endoftext|>"), ("_2", PAD)):
        if hasattr(pipeline, f"tokenizer{name}"):
            tokenizer = write_tokenizer(folder / f"tokenizer{name}", pad)
            kind = type(getattr(pipeline, f"text_encoder{name}"))
            pipeline.register_modules(
                **{f"tokenizer{name}": tokenizer, f"text_encoder{name}": text_encoder(kind, tokenizer).eval()}
            )
    return loaded
