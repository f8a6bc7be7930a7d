"""The pocket model's tokenizer: CLIP's kind, with every word of the captions one token and all other words spelt out."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from tenth.data.captions import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
CHARACTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
ENOUGH = 10_000  # more tokens than merging every word to the end can give


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json and merges.txt, the same bytes each time. Merges go on until every word is whole."""
    words = [word for hyphenated in vocabulary() for word in hyphenated.replace("-", " - ").split()]
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.train_from_iterator(
        words, BpeTrainer(vocab_size=ENOUGH, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    )
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = [*CHARACTERS, *(character + "</w>" for character in CHARACTERS), *("".join(pair) for pair in merges)]
    vocabulary_of = {token: number for number, token in enumerate([*dict.fromkeys(tokens), START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of, indent=0) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{one} {other}\n" for one, other in merges))
