"""The pocket model's autoencoder: PSNR and SSIM on people never trained on, and its time against diffusers' AutoencoderTiny.

Usage: python benchmarks/pocket_autoencoder.py PEOPLE.JSONL PHOTOS [SPLIT]. Prints one JSON object as its last line.
ratio: AutoencoderTiny's seconds (width 64, the same latents, random weights) over ours, encoding and decoding 32 faces.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

import tenth
from tenth.encode.store import Store, default_store
from tenth.pocket.faces import People, load_faces, to_unit
from tenth.pocket.train_autoencoder import psnr

ROUNDS = 5


@torch.no_grad()
def ssim(ours: torch.nn.Module, crops: torch.Tensor) -> torch.Tensor:
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
        y = ((ours.decode(ours.encode(to_unit(batch)).latents).sample.clamp(-1, 1) + 1) * 127.5).round()
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


split = sys.argv[3] if len(sys.argv) > 3 else "validation"
faces = load_faces(People(Path(sys.argv[1]), Path(sys.argv[2])), split, Store(default_store()))
ours = tenth.load_model().pipeline.vae
values = psnr(ours, faces.crops)
theirs = AutoencoderTiny(
    latent_channels=8, num_encoder_blocks=(0, 1, 2, 4), num_decoder_blocks=(5, 3, 1, 0), encoder_block_out_channels=(64,) * 4
)
pixels = to_unit(faces.crops[:32])
mine = seconds(lambda x: ours.decode(ours.encode(x).latents), pixels)
other = seconds(lambda x: theirs.decode(theirs.encode(x).latents), pixels)
result = {"name": "pocket_autoencoder", "ratio": round(other / mine, 2), "psnr_db": round(float(values.mean()), 2)}
result |= {"ssim": round(float(ssim(ours, faces.crops).mean()), 4)}
result |= {"psnr_worst_db": round(float(values.min()), 2), "split": split, "faces": len(values), "cores": os.cpu_count()}
print(json.dumps(result))
