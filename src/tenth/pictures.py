"""Every image of an experiment: where it and its identity lie, and drawing what is not there yet, each picture once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import cycle, groupby
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.conditions import Condition, ExperimentRecipe
from tenth.diffusion import LatentDiffusion
from tenth.errors import DataError
from tenth.generate import BATCH, Request, generate, read_sample, save_sample
from tenth.identity import load_identity
from tenth.meter import metered, note_cost
from tenth.pocket.faces import progress
from tenth.record import folders
from tenth.types import Identity, Pixels, Sample

COSTS = "costs.jsonl"  # in an experiment's folder: a line for each person learnt and each batch drawn
ONE_PHOTO = {"ip-adapter": 3}  # methods that read one photo: over how many references their images are spread, in turn


@dataclass(frozen=True)
class Picture:
    """One image: under which condition and by which method (both None: nobody's), its identity's file, where it lies."""

    condition: Condition | None
    method: str | None
    identity: Path | None
    seed: int
    path: Path


Key = tuple[Condition | None, str | None, str]  # condition, method, person's number
Pictures = Mapping[Key, Sequence[Picture]]  # an image for each seed
NOBODYS: Key = (None, None, "")


@dataclass(frozen=True, eq=False)
class Drawing:
    """One image to draw, and where it goes: files and the methods to name in them, which came to the same embeddings."""

    request: Request
    method: str  # as the recipe calls it
    files: list[tuple[Path, str]] = field(default_factory=list)


def identity_paths(recipe: ExperimentRecipe, condition: Condition, name: str, number: str, output: Path) -> list[Path]:
    """Where the identities of one person are; image i uses the i-th, in turn. More than one for methods of one photo."""
    folder = output / "identities" / condition.folder / folders(recipe.methods)[name]
    # Its own photos alone: what a wrong photo does to a method that reads one is known, and it would hide the other methods'.
    count = min(ONE_PHOTO.get(name, 1), condition.photos - condition.wrong)
    return [folder / f"{number}-{index}.safetensors" for index in range(count)]


def list_pictures(recipe: ExperimentRecipe, numbers: Sequence[str], output: Path) -> Pictures:
    """Every image; nobody's come first, are drawn once and count for each person and condition."""
    seeds, to, names = range(recipe.seed, recipe.seed + recipe.images), output / "images", folders(recipe.methods)
    pictures: dict[Key, list[Picture]] = {
        NOBODYS: [Picture(None, None, None, seed, to / "none" / f"{seed}.png") for seed in seeds]
    }
    for condition in recipe.conditions:
        for name in recipe.methods:
            for number in numbers:
                paths = cycle(identity_paths(recipe, condition, name, number, output))
                at = to / condition.folder / names[name] / number
                pictures[condition, name, number] = [
                    Picture(condition, name, next(paths), seed, at / f"{seed}.png") for seed in seeds
                ]
    return pictures


def draw(recipe: ExperimentRecipe, model: LatentDiffusion, pictures: Iterable[Picture], output: Path) -> None:
    """Draw what is not there yet, and note what it cost.

    A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255.
    """
    batches = list(batches_of(recipe, pictures))
    with progress(total=sum(map(len, batches)), desc="images") as bar:
        for batch in batches:
            gaps = [[not is_drawn(path, said, drawing, recipe, model) for path, said in drawing.files] for drawing in batch]
            if any(map(any, gaps)):
                with metered() as cost:
                    samples = generate(model, [drawing.request for drawing in batch], recipe.sampling)
                    for drawing, lacking, sample in zip(batch, gaps, samples, strict=True):
                        save_lacking(drawing, lacking, sample)
                note_cost(output / COSTS, cost, drawn=batch[0].method, count=len(batch))
            bar.update(len(batch))


def save_lacking(drawing: Drawing, lacking: Iterable[bool], sample: Sample) -> None:
    """Write those of a drawing's files that are not there."""
    for (path, said), lacks in zip(drawing.files, lacking, strict=True):
        if lacks:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_sample(replace(sample, method=said), path)


def batches_of(recipe: ExperimentRecipe, pictures: Iterable[Picture]) -> Iterator[list[Drawing]]:
    """What to draw together: at most BATCH of one condition and method. They depend on the recipe alone, not on what exists.

    Where methods or conditions come to the same embeddings, the image is drawn once, with the first of them.
    """
    known: dict[object, Drawing] = {}
    read = cache(load_identity)  # of several images one object, so that its weights are put on the model once a batch
    batches: list[list[Drawing]] = []
    for _, run in groupby(pictures, key=lambda picture: (picture.condition, picture.method)):
        fresh: list[Drawing] = []
        for picture in run:
            identity = read(picture.identity) if picture.identity else None
            look = picture.seed, looks(identity)
            if look not in known:
                known[look] = Drawing(Request(identity, recipe.prompt, picture.seed), picture.method or "none")
                fresh.append(known[look])
            known[look].files.append((picture.path, identity.method if identity else "none"))
        batches += [fresh[start : start + BATCH] for start in range(0, len(fresh), BATCH)]
    yield from batches  # only now does each drawing know all of its files


def looks(identity: Identity | None) -> object:
    """All of an identity that its images depend on, to compare: who and how it was made is not part of it."""
    if identity is None:
        return None
    tensors = {"": identity.embeddings, **identity.weights}
    bits = [(name, str(t.dtype), tuple(t.shape), t.numpy().tobytes()) for name, t in sorted(tensors.items()) if t is not None]
    return identity.model, identity.encoder, identity.adapter, identity.word, tuple(bits)


def is_drawn(path: Path, method: str, drawing: Drawing, recipe: ExperimentRecipe, model: LatentDiffusion) -> bool:
    """Whether the PNG is there, whole, and made with these settings."""
    wanted = {"prompt": recipe.prompt, "seed": drawing.request.seed, "method": method, "model": model.name}
    try:
        said = read_sample(path)
    except (OSError, ValueError, DataError):
        return False
    return said | wanted | asdict(recipe.sampling) == said


def pixels_of(pictures: Iterable[Picture]) -> list[Pixels]:
    """(H, W, 3) each, from the disk."""
    return [np.asarray(Image.open(picture.path, formats=["PNG"]).convert("RGB")) for picture in pictures]
