"""For each picture in a folder, the training photos nearest to it: has the model copied anybody?

    python benchmarks/nearest_faces.py PEOPLE.jsonl PHOTOS FOLDER SHEET.png [--draw 1000]

--draw: draws so many pictures into the folder first, where copies are likeliest: each with the caption of a training photo,
half of nobody, half with that photo's own embedding. Two distances: dlib's descriptor (0.6 is the usual limit for one
person), and the root of the mean squared difference of pixels, of 255, at 32 x 32. Beside the pictures', the same of real
photos: validation people's, whom the model has not seen, and other training photos of the same people, where a person has
several. SHEET has a row for each of the twelve pictures nearest to a photo: itself, its three nearest by descriptor, its
three nearest by pixels. Prints two histograms and, as its last line, one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.console import track
from tenth.core.files.png_metadata import save_sample
from tenth.core.types import Identity
from tenth.data.faces.crops import FaceCrops, PhotoDataset, load_face_crops, to_minus_one_one
from tenth.data.faces.detection import CROP_SIZE
from tenth.data.photo import open_photo
from tenth.models.encoders.dlib_resnet import crops_to_chips, load_dlib_net
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.pocket.dataset import compute_descriptors

NEAREST, SMALL, ROWS, BINS = 3, 32, 12, 12
STEPS = {"descriptor": 0.075, "pixels": 7.5}  # width of a histogram's bins
Near = dict[str, np.ndarray]  # (pictures, NEAREST) distances, by kind


def small(crops: torch.Tensor) -> np.ndarray:
    """uint8 (N, 3, 128, 128) -> (N, 3072)."""
    return torch.nn.functional.interpolate(crops.float(), size=SMALL, mode="area").flatten(1).numpy()


@torch.no_grad()
def descriptors(crops: torch.Tensor) -> np.ndarray:
    """uint8 (N, 3, 128, 128), framed as faces -> (N, 128)."""
    net = load_dlib_net()
    return np.concatenate([net(crops_to_chips(to_minus_one_one(batch))).numpy() for batch in crops.split(32)])


def looks(crops: torch.Tensor) -> Near:
    return {"descriptor": descriptors(crops), "pixels": small(crops) / np.sqrt(3 * SMALL**2)}


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> distances (N, M)."""
    return np.sqrt(np.maximum(0, np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T))


def draw(folder: Path, count: int, model_name: str, sampling: SamplingConfig, faces: FaceCrops, known: np.ndarray) -> None:
    model = load_model(model_name)
    chosen = np.random.default_rng(0).choice(len(faces.entries), count, replace=False)
    embeddings = model.encoder.standardize(torch.from_numpy(known).float())

    def somebody(index: int) -> Identity:
        return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings[index][None])

    requests = [
        Request(somebody(index) if place % 2 else None, faces.entries[index].caption, place)
        for place, index in enumerate(chosen)
    ]
    requests.sort(key=lambda request: request.identity is None)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = generate(model, requests, sampling, batch=8)
    for request, sample in track(zip(requests, drawn, strict=True), "pictures", "picture"):
        save_sample(sample, folder / f"{request.seed:04}.png")


def histogram(kind: str, sides: dict[str, np.ndarray]) -> list[str]:
    """A line a bin: the share of each side's pictures whose nearest photo is so far."""
    lines = [f"nearest training photo by {kind}: " + ", ".join(f"{name} {len(near)}" for name, near in sides.items())]
    for place in range(BINS):
        low, high = place * STEPS[kind], (place + 1) * STEPS[kind]
        shares = [float(((near >= low) & (near < high)).mean()) for near in sides.values()]
        lines.append(
            f"{low:6.3g} - {high:6.3g}  " + "  ".join(f"{share:6.1%} {'#' * round(40 * share):<24}" for share in shares)
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("people", "photos", "folder", "sheet"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, default=None, help="the model's default without it")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    people, store = PhotoDataset(args.people, args.photos), ArrayCache(default_cache_dir())
    faces = load_face_crops(people, "train", store)
    known = {"descriptor": compute_descriptors(faces, store).numpy(), "pixels": small(faces.crops) / np.sqrt(3 * SMALL**2)}
    if args.draw:
        sampling = SamplingConfig(steps=args.steps, precision=args.precision)
        draw(args.folder, args.draw, args.model, sampling, faces, known["descriptor"])

    paths = sorted(args.folder.rglob("*.png"))
    pictures = torch.from_numpy(np.stack([open_photo(path).pixels for path in paths])).permute(0, 3, 1, 2)
    found = looks(pictures)
    unseen = looks(load_face_crops(people, "validation", store).crops)
    owners = np.array([row.person for row in faces.entries])
    several = np.flatnonzero(owners[1:] == owners[:-1])[::5]  # every fifth photo that another of the same person follows
    sides: dict[str, dict[str, np.ndarray]] = {}
    distances = {}
    for kind in STEPS:
        distances[kind] = apart(found[kind], known[kind])
        own = apart(known[kind][several], known[kind])
        own[np.arange(len(several)), several] = np.inf
        sides[kind] = {
            "pictures": distances[kind].min(1),
            "unseen people": apart(unseen[kind], known[kind]).min(1),
            "training people": own.min(1),
        }
        print("\n".join(histogram(kind, sides[kind])))

    order = np.argsort(np.minimum(*(sides[kind]["pictures"] / np.median(sides[kind]["pictures"]) for kind in STEPS)))[:ROWS]
    sheet = Image.new("RGB", (CROP_SIZE * (1 + 2 * NEAREST), CROP_SIZE * len(order)))
    for row, place in enumerate(order):
        nearest = [index for kind in STEPS for index in distances[kind][place].argsort()[:NEAREST]]
        for column, picture in enumerate([pictures[place], *faces.crops[nearest]]):
            sheet.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), (column * CROP_SIZE, row * CROP_SIZE))
    sheet.save(args.sheet)
    summary = {
        kind: {name: [round(float(value), 3) for value in np.quantile(near, [0, 0.01, 0.5])] for name, near in of.items()}
        for kind, of in sides.items()
    }
    print(
        json.dumps(
            {"name": "nearest_faces", "pictures": len(paths), "photos": len(faces.entries), "least, 1 %, median": summary}
        )
    )


main()
