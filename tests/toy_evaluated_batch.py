"""A batch of tiny pictures, the photos that it is measured against, and the same pictures in folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError
from tenth.core.types import Score
from tenth.core.workers.attempts import Workers
from tenth.evaluation.extractors.loading import RECOGNIZER
from tenth.evaluation.folders import FolderEvaluation, RealFolders, evaluate_folders
from tenth.experiments.batch.evaluation import evaluate_batch
from tenth.experiments.batch.plan import plan_batch
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.shard_statistics import person_tag
from tenth.experiments.batch.shards import DrawnRow, iterate_samples, read_shard_rows, write_shard
from tenth.experiments.batch.store import open_store
from toy_extractors import load_toys

PEOPLE, EACH, SHARD = 5, 7, 8  # so that people lie in several shards
BAD = "a bad prompt"


def draw(rows: Sequence[BatchRow]) -> Iterator[DrawnRow]:
    """Pixels by the row's id; a black picture has no face, a bad row no picture."""
    for row in rows:
        if row.prompt == BAD:
            yield DrawnRow(row, error=DataError("a bad prompt", "a good one is needed", "Write one"))
            continue
        pixels = np.random.default_rng(row.seed).integers(1, 256, (8, 8, 3), dtype=np.uint8)
        content = BytesIO()
        Image.fromarray(pixels * (row.prompt != "black")).save(content, "PNG")
        yield DrawnRow(row, content.getvalue())


def batch(place: Path, people: int = PEOPLE, *, black: Sequence[int] = (3, 30), bad: Sequence[int] = ()) -> Path:
    """A finished batch: `people` people, EACH pictures of each, the numbered ones black or bad."""
    place.mkdir()
    lines = []
    for index in range(people * EACH):
        prompt = "black" if index in black else BAD if index in bad else "a photo"
        lines.append(json.dumps({"person": f"people/p{index // EACH}", "prompt": prompt, "seed": index}))
    plan = place / "plan.jsonl"
    plan.write_text("\n".join(lines))
    store = open_store(str(place / "out"))
    for index in range(plan_batch(plan, store, {"rows_per_shard": SHARD}).shards):
        write_shard(store, index, draw(read_shard_rows(store, index)))
    return place / "out"


def photos(place: Path, seed: int, people: int = PEOPLE, each: int = 3, *, flat: bool = False) -> Path:
    random = np.random.default_rng(seed)
    for person in range(people):
        folder = place if flat else place / f"p{person}"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(each):
            pixels = random.integers(1, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{person}-{index}.png")
    return place


def as_folders(out: Path, place: Path, *, flat: bool = False) -> Path:
    """The pictures of a batch, in their order."""
    store = open_store(str(out))
    for index in range(len(list((out / "rows").glob("[0-9]*")))):
        for number, (row, picture, _) in enumerate(iterate_samples(store, index)):
            folder = place if flat else place / person_tag(row.person)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:03}-{number:03}.png").write_bytes(picture)
    return place


def evaluated(out: Path, workers: int = 0, load: Any = load_toys, **sides: Path | None) -> FolderEvaluation:
    cache = ArrayCache(out.parent / "cache")
    photos = RealFolders(**cast(Any, sides))
    return evaluate_batch(str(out), photos=photos, load=load, cache=cache, workers=Workers(workers))


def in_one_process(folder: Path, cache: Path, *, network: bool = True, **sides: Path) -> dict[str, Score]:
    networks = load_toys(network=network)
    recognizer = networks.pop(RECOGNIZER)
    found = evaluate_folders(
        generated=folder,
        real=RealFolders(**cast(Any, sides)),
        recognizer=recognizer,
        networks=networks,
        store=ArrayCache(cache),
    )
    return dict(found.scores)


def assert_equal(found: dict[str, Score], expected: dict[str, Score]) -> None:
    assert list(found) == list(expected)
    for name, score in expected.items():
        assert (found[name].n, found[name].unavailable) == (score.n, score.unavailable), name
        for key in ("value", "low", "high"):
            value = asdict(score)[key]
            close = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)
            assert asdict(found[name])[key] == close, (name, key, found[name], score)


def extracting(seen: Path) -> Any:
    """Extractors that count in a file what they are shown."""
    return partial(load_toys, seen)


def count(seen: Path) -> int:
    return seen.stat().st_size if seen.exists() else 0


def kept(out: Path, kind: str) -> list[Path]:
    return sorted(
        path
        for folder in ("shards", "evaluation")
        for path in (out / folder).iterdir()
        if kind in path.name and path.suffix == ".safetensors"
    )
