"""Pictures -> rows of every extractor: a picture is decoded once, a row computed once and kept by the picture's content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from tenth.core.cache import Array, Store, picture_key
from tenth.core.types import Pixels

Rows = npt.NDArray[np.float64]


class Extractor(Protocol):
    """N pictures (H, W, 3) -> (N, width) float64; NaN rows where there is nothing to read.

    name: "name@digest", where the digest stands for all that shapes a row (weights, preprocessing): the key of what is kept.
    """

    name: str
    width: int

    def __call__(self, pictures: Sequence[Pixels], /) -> Rows: ...


def extract(pictures: Iterable[Pixels], extractors: Sequence[Extractor], store: Store, batch: int = 32) -> dict[str, Rows]:
    """The rows (N, width) of N pictures, by extractor's name, in order. N may be 0.

    Memory holds two times `batch` pictures, the rows and nothing that grows besides. An extractor sees only pictures whose rows
    are not in the store, and equal ones once.
    """
    rows = {extractor.name: bytearray() for extractor in extractors}  # grows in place: a list of arrays would be copied to join
    for some in _batches(pictures, batch):
        keys = [picture_key(picture) for picture in some]
        named = dict(zip(keys, some, strict=True))
        for extractor in extractors:
            found = _remembered(named, extractor, store)
            rows[extractor.name] += np.stack([found[key] for key in keys]).astype(np.float64).tobytes()
    return {
        extractor.name: np.frombuffer(rows[extractor.name], np.float64).reshape(-1, extractor.width) for extractor in extractors
    }


def _batches(pictures: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    rest = iter(pictures)
    while some := list(islice(rest, size)):
        yield some


def _remembered(named: dict[str, Pixels], extractor: Extractor, store: Store) -> dict[str, Array]:
    keys = list(named)

    def compute(missing: list[int]) -> Iterator[Array]:
        return map(_compact, extractor([named[keys[place]] for place in missing]))

    space = quote(extractor.name, safe="@")  # a recogniser's name is the user's own text; here it is a folder
    return dict(zip(keys, store.remember(space, keys, compute), strict=True))


def _compact(row: Rows) -> Array:
    """The row in single precision where nothing is lost by it: networks compute in that, and files are half as large."""
    single = row.astype(np.float32)
    return single if np.array_equal(single, row, equal_nan=True) else row
