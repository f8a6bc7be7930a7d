"""The pocket model's tokenizer: CLIP's kind, with every word of the captions one token and all other words spelt out."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tenth.core.files.writing import write_text
from tenth.data.captions.templates import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
CHARACTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json and merges.txt, the same bytes each time.

    The files that ship know the same words, by other numbers: they were written when ties between merges fell by chance,
    and stay, since the weights were trained on their numbers.
    """
    merges = bpe_merges([word for hyphenated in vocabulary() for word in hyphenated.replace("-", " - ").split()])
    tokens = [*CHARACTERS, *(character + "</w>" for character in CHARACTERS), *("".join(pair) for pair in merges)]
    numbers = {token: number for number, token in enumerate([*dict.fromkeys(tokens), START, END])}
    write_text(folder / "vocab.json", json.dumps(numbers, indent=0) + "\n")
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{one} {other}\n" for one, other in merges))


def bpe_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, the most frequent pair first, until each word is one token. Ties go by the alphabet.

    Source: Sennrich et al. 2016, arXiv:1508.07909, algorithm 1.
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for pieces in split for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_merge_pair(pieces, best) for pieces in split]
    return merges


def _merge_pair(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
