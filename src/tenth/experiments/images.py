"""Every image of an experiment: where it lies, and drawing what is not there yet, each picture once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import cycle, groupby
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.core.config import completed, to_table
from tenth.core.console import progress
from tenth.core.errors import DataError
from tenth.core.file_reading import open_regular
from tenth.core.file_writing import write_png
from tenth.core.types import Identity, Pixels, Sample
from tenth.experiments.costs import metered, note_cost
from tenth.experiments.identities import COSTS, identity_paths
from tenth.experiments.recipe import NEUTRAL, Condition, ExperimentRecipe, Track
from tenth.methods.identity_file import load_identity
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import BATCH
from tenth.sampling.config import Sampling
from tenth.sampling.generate import Request, generate
from tenth.sampling.png_metadata import PICTURE_BYTES, read_whole, save_sample


@dataclass(frozen=True)
class Picture:
    """One image: under which condition and by which method (both None: nobody's), its identity's file, where it lies."""

    condition: Condition | None
    method: str | None
    identity: Path | None
    prompt: str
    seed: int
    path: Path


Key = tuple[str, Condition | None, str | None, str]  # track, condition, method, person's number
Pictures = Mapping[Key, Sequence[Picture]]  # an image for each seed


def nobodys(track: str) -> Key:
    """The key of a track's images of nobody in particular."""
    return track, None, None, ""


@dataclass(frozen=True, eq=False)
class Drawing:
    """One image to draw, and where it goes: files and the methods to name in them, which came to the same embeddings."""

    picture: Picture  # the first of those that come to the same
    files: list[tuple[Path, str]] = field(default_factory=list)


def list_pictures(recipe: ExperimentRecipe, numbers: Sequence[str], output: Path) -> Pictures:
    """Every image; nobody's come first in each track, are drawn once and count for each person and condition."""
    pictures: dict[Key, list[Picture]] = {}
    for track, asked in recipe.asked.items():
        to = output / ("images" if track == NEUTRAL else f"images-{track}")
        pictures[nobodys(track)] = _in_turn(recipe.seed, asked, to / "none", (None, None), [None])
        for condition in recipe.conditions_of(track):
            for name in recipe.methods_of(track):
                for number in numbers:
                    paths = identity_paths(recipe, condition, name, number, output)
                    at, by = to / condition.folder / recipe.folder_of[name] / number, (condition, name)
                    pictures[track, condition, name, number] = _in_turn(recipe.seed, asked, at, by, paths)
    return pictures


def _in_turn(
    seed: int, asked: Track, at: Path, by: tuple[Condition | None, str | None], identities: Sequence[Path | None]
) -> list[Picture]:
    """A track's images of one person by one method: seeds one after the other, prompts and identities in turn."""
    turns = zip(range(seed, seed + asked.images), cycle(asked.prompts), cycle(identities), strict=False)
    return [Picture(*by, identity, prompt, number, at / f"{number}.png") for number, prompt, identity in turns]


def draw(recipe: ExperimentRecipe, model: LatentDiffusion, pictures: Iterable[Picture], output: Path) -> None:
    """Draw what is not there yet, and note what it cost.

    A batch with a gap is drawn whole: a pixel may depend on its batch by 1/255.
    """
    batches = list(batches_of(pictures))
    read = lru_cache(BATCH)(
        load_identity
    )  # of several images one object, so that its weights are put on the model once a batch
    with progress(total=sum(map(len, batches)), desc="images") as bar:
        for batch in batches:
            gaps = [
                [not is_drawn(path, said, drawing.picture, recipe, model) for path, said in drawing.files] for drawing in batch
            ]
            if any(map(any, gaps)):
                wanted = [drawing.picture for drawing in batch]
                requests = [Request(read(each.identity) if each.identity else None, each.prompt, each.seed) for each in wanted]
                with metered() as cost:
                    samples = list(generate(model, requests, recipe.sampling))
                note_cost(output / COSTS, cost, drawn=recipe.shown.get(wanted[0].method or "", "none"), count=len(batch))
                for drawing, lacking, sample in zip(batch, gaps, samples, strict=True):
                    save_lacking(drawing, lacking, sample)
            bar.update(len(batch))


def save_lacking(drawing: Drawing, lacking: Iterable[bool], sample: Sample) -> None:
    """Write those of a drawing's files that are not there."""
    for (path, said), lacks in zip(drawing.files, lacking, strict=True):
        if lacks:
            save_sample(replace(sample, method=said), path)


def batches_of(pictures: Iterable[Picture]) -> Iterator[list[Drawing]]:
    """What to draw together: at most BATCH of one condition and method. They depend on the recipe alone, not on what exists.

    Where methods or conditions come to the same embeddings, the image is drawn once, with the first of them.
    """
    known: dict[object, Drawing] = {}
    look_of = cache(lambda path: looks_at(path) if path else (None, "none"))
    batches: list[list[Drawing]] = []
    for _, run in groupby(pictures, key=lambda picture: (picture.condition, picture.method)):
        fresh: list[Drawing] = []
        for picture in run:
            looks, method = look_of(picture.identity)
            key = picture.prompt, picture.seed, looks
            if key not in known:
                known[key] = Drawing(picture)
                fresh.append(known[key])
            known[key].files.append((picture.path, method))
        batches += [fresh[start : start + BATCH] for start in range(0, len(fresh), BATCH)]
    yield from batches  # only now does each drawing know all of its files


def looks_at(path: Path) -> tuple[str, str]:
    """`looks` of an identity's file, and its method. Nothing of it stays in memory: some hold a model's weights."""
    identity = load_identity(path)
    return looks(identity), identity.method


def looks(identity: Identity) -> str:
    """sha256 of all of an identity that its images depend on: who and how it was made is not part of it."""
    tensors = {"": identity.embeddings, **identity.weights}
    digest = hashlib.sha256(repr((identity.model, identity.encoder, identity.adapter, identity.word)).encode())
    for name, tensor in sorted(tensors.items()):
        if tensor is not None:
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def is_drawn(path: Path, method: str, picture: Picture, recipe: ExperimentRecipe, model: LatentDiffusion) -> bool:
    """Whether the PNG is there, whole, and made with these settings; what its version did not know had its default."""
    wanted = {"prompt": picture.prompt, "seed": picture.seed, "method": method, "model": model.name}
    found = read_whole(path)
    if found is None:
        return False
    said = completed(Sampling, found)
    return said | wanted | completed(Sampling, to_table(recipe.sampling)) == said


def pixels_of(pictures: Iterable[Picture]) -> list[Pixels]:
    """(H, W, 3) each, from the disk."""
    return [read_pixels(picture.path) for picture in pictures]


def read_pixels(path: Path) -> Pixels:
    """(H, W, 3) of a PNG of ours. Raises DataError if it is none, or not whole."""
    try:
        with open_regular(path, PICTURE_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        needed = "a whole picture of this experiment is needed"
        raise DataError(f"{path} is no whole PNG ({problem})", needed, "Remove it and run the same again") from problem


@dataclass(frozen=True)
class Real:
    """Crops of the real photos, as pictures beside the generated ones: for the page, for controls, for sets of images."""

    output: Path

    def save(self, number: str, references: Sequence[Pixels], held_out: Sequence[Pixels]) -> None:
        """Write those of one person, and the mean of the references."""
        average = np.rint(np.mean(references, axis=0)).astype(np.uint8)
        for kind, pictures in (("references", references), ("held-out", held_out), ("averages", [average])):
            for place, pixels in enumerate(pictures):
                write_png(self.output / kind / number / f"{place:02}.png", Image.fromarray(pixels))

    def references(self, number: str) -> list[Path]:
        """In the order in which they are given to methods."""
        return sorted((self.output / "references" / number).glob("*.png"))

    def held_out(self, number: str) -> list[Path]:
        """Those that no method is given."""
        return sorted((self.output / "held-out" / number).glob("*.png"))

    def average(self, number: str) -> Path:
        """The pixels' mean over the references."""
        return self.output / "averages" / number / "00.png"
