"""The pocket model's autoencoder on people never trained on: PSNR, SSIM and detail, and its time against AutoencoderTiny.

    python benchmarks/pocket_autoencoder.py PEOPLE.jsonl PHOTOS [SPLIT] [--autoencoder FILE] [--tell 2000]

detail: the variance of the reconstructions' Laplacian within the face over the photos' own (the median): 1 is as sharp.
pattern: whether the squares that the decoder puts together are to be seen; 1.05 of photos.
told_apart: how often a small classifier tells a photo from a reconstruction, having learnt from so many training faces.
ratio: the seconds of diffusers' AutoencoderTiny (width 64, the same latents, random weights) over ours, encoding and decoding
32 faces. Prints one JSON object as its last line.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.data.faces.crops import PhotoDataset, load_face_crops, to_minus_one_one
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.training.pocket.autoencoder import load_autoencoder, psnr, reconstruct
from tenth.training.pocket.decoder import PACKAGED_AUTOENCODER, detail_ratio, grid_artifact_ratio

ROUNDS = 5


@torch.no_grad()
def ssim(ours: PocketAutoencoder, crops: torch.Tensor) -> torch.Tensor:
    """Structural similarity (N,) of uint8 crops (N, 3, H, W) through the autoencoder, of all three channels.

    A Gaussian window of 11 pixels and sigma 1.5, within the picture. Source: Wang et al. 2004, IEEE TIP 13(4), eq. 13.
    """
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def local(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x.flatten(0, 1)[:, None], window[None, None])

    values = []
    for batch in crops.split(32):
        x = batch.float()
        y = reconstruct(ours, batch)
        mean, other = local(x), local(y)
        spread, others, both = local(x * x) - mean**2, local(y * y) - other**2, local(x * y) - mean * other
        one, two = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        found = (2 * mean * other + one) * (2 * both + two) / ((mean**2 + other**2 + one) * (spread + others + two))
        values.append(found.mean((1, 2, 3)).view(len(batch), 3).mean(1))
    return torch.cat(values)


@torch.no_grad()
def seconds(encode_and_decode: Callable[[torch.Tensor], object], pixels: torch.Tensor) -> float:
    times = []
    for _ in range(ROUNDS + 1):  # the first warms up
        start = time.perf_counter()
        encode_and_decode(pixels)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def told_apart(ours: PocketAutoencoder, taught: torch.Tensor, asked: torch.Tensor) -> float:
    """How often a small classifier says rightly, of crops that it has not learnt from, whether they are photos or drawn.

    Half is chance. It sees 64 x 64 pixels of the face, and learns from each crop of `taught` and its reconstruction once.
    """
    torch.manual_seed(0)
    layers = [nn.Conv2d(*sizes, 4, stride=2, padding=1) for sizes in ((3, 32), (32, 64), (64, 64))]
    judge = nn.Sequential(*(part for layer in layers for part in (layer, nn.SiLU())), nn.Conv2d(64, 1, 1))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3)

    def scores(crops: torch.Tensor) -> torch.Tensor:
        """Photos' and reconstructions' (2, B)."""
        pair = torch.cat([to_minus_one_one(crops), to_minus_one_one(reconstruct(ours, crops))])[..., 32:96, 32:96]
        return judge(pair).mean((1, 2, 3)).view(2, -1)

    wanted = torch.tensor([[1.0], [0.0]])
    for batch in taught[torch.randperm(len(taught))].split(16):
        said = scores(batch)
        loss = F.binary_cross_entropy_with_logits(said, wanted.expand_as(said))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        rights = [(scores(batch) > 0) == (wanted > 0.5) for batch in asked.split(32)]
    return float(torch.cat(rights, 1).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("split", nargs="?", default="validation")
    parser.add_argument("--autoencoder", type=Path, default=PACKAGED_AUTOENCODER)
    parser.add_argument("--tell", type=int, default=0, metavar="N")
    args = parser.parse_args()
    people, store = PhotoDataset(args.people, args.photos), ArrayCache(default_cache_dir())
    faces = load_face_crops(people, args.split, store)
    ours = load_autoencoder(args.autoencoder)
    ours.requires_grad_(False)
    values = psnr(ours, faces.crops)
    theirs = AutoencoderTiny(
        latent_channels=8,
        num_encoder_blocks=(0, 1, 2, 4),
        num_decoder_blocks=(5, 3, 1, 0),
        encoder_block_out_channels=(64,) * 4,
    )
    pixels = to_minus_one_one(faces.crops[:32])
    mine = seconds(lambda x: ours.decode(ours.encode(x).latents), pixels)
    other = seconds(lambda x: theirs.decode(theirs.encode(x).latents), pixels)
    result = {"name": "pocket_autoencoder", "ratio": round(other / mine, 2), "psnr_db": round(float(values.mean()), 2)}
    result |= {"ssim": round(float(ssim(ours, faces.crops).mean()), 4), "detail": round(detail_ratio(ours, faces.crops), 3)}
    result["pattern"] = round(grid_artifact_ratio(ours, faces.crops), 2)
    if args.tell:
        taught = load_face_crops(people, "train", store).crops
        result["told_apart"] = round(told_apart(ours, taught[:: max(1, len(taught) // args.tell)], faces.crops), 3)
    result |= {"psnr_worst_db": round(float(values.min()), 2), "split": args.split, "faces": len(values)}
    print(json.dumps(result | {"cores": os.cpu_count()}))


main()
