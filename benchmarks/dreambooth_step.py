"""One DreamBooth step on low-rank matrices with prior preservation, at the size of Stable Diffusion 1.5, random weights.

ours: a photo and a class image whose latents and texts are cached. recipe: the steps that diffusers documents for its
`train_dreambooth_lora.py`, at its defaults: the autoencoder reads both pictures and the text encoder both prompts in each step,
frozen weights in bfloat16. UNet, matrices, batch and optimizer are the same.
Prints one JSON object as its last line. ratio: seconds of `recipe` over ours. megabytes: the largest resident memory of a
process that makes its networks and takes two steps. `--tiny` is for a test of this file.
"""

import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from sd15 import CROSS, ROUNDS, SIDE, TEXT, TOKENS, UNET, VAE, filled
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from tenth.core.rng import StepRNG
from tenth.methods.dreambooth.data import DreamBoothData, DreamBoothSettings
from tenth.methods.dreambooth.lora import LoraSettings, trainable
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.frozen_diffusion import FrozenDiffusion
from tenth.training.schedule import TrainingConfig

NAMES = ("ours", "recipe")


def cached() -> DreamBoothData:
    """A UNet of the size, and random values in place of what the store holds."""
    unet = filled(lambda: UNet2DConditionModel(**UNET)).to(memory_format=torch.channels_last)
    pipeline = SimpleNamespace(unet=unet, scheduler=DDIMScheduler(), vae_scale_factor=8)
    frozen, side = FrozenDiffusion(pipeline), SIDE // 8
    unet.requires_grad_(False).train()
    pipeline.vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.18215))
    settings = DreamBoothSettings(
        TrainingConfig(total_images=1, batch_size=1), LoraSettings(rank=4, alpha=4), prompts=("a photo of a {person}",)
    )
    texts, moments = PromptEmbeddings(torch.randn(2, TOKENS, CROSS)), torch.randn(1, 2, 8, side, side)
    return DreamBoothData(settings, frozen, moments, moments, ("a photo of a wn person", "a photo of a person"), texts)


def largest_memory() -> int:
    """Megabytes. Of Linux alone: what `resource` says of a process is never less than its parent's at the start."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def measure(alone: str = "") -> tuple[dict[str, float], int]:
    """Seconds of each side's step, and megabytes. alone: the only side of which two steps are taken."""
    lesson, vae, text = cached(), None, None
    unet, frozen = lesson.frozen.network, lesson.frozen
    if alone != "ours":
        vae = filled(lambda: AutoencoderKL(**VAE)).to(memory_format=torch.channels_last).bfloat16()
        text = filled(lambda: CLIPTextModel(CLIPTextConfig(**TEXT))).bfloat16()
    pixels, tokens = torch.rand(2, 3, SIDE, SIDE) * 2 - 1, torch.arange(TOKENS)[None].repeat(2, 1)

    if alone == "recipe":
        unet.bfloat16()  # it keeps no other copy
    with trainable(frozen.pipeline, lesson.settings.lora) as learners, frozen.cast_frozen_weights(torch.bfloat16):
        matrices = [value for value in learners.modules["unet"].parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(matrices)

        def step(loss: torch.Tensor) -> None:
            loss.backward()
            nn.utils.clip_grad_norm_(matrices, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        def ours() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                loss = lesson.loss(torch.tensor([0]), StepRNG(0, 0, 1))
            step(loss)

        def recipe() -> None:
            with torch.no_grad():
                latents = vae.encode(pixels.bfloat16()).latent_dist.sample().float() * 0.18215
                said = text(tokens).last_hidden_state.float()
            noise, steps = torch.randn_like(latents), torch.randint(1000, (2,))
            noisy = frozen.scheduler.add_noise(latents, noise, steps)
            with torch.autocast("cpu", torch.bfloat16):
                predicted = unet(noisy, steps, said).sample
            (own, other), (noise, prior) = predicted.float().chunk(2), noise.chunk(2)
            step(nn.functional.mse_loss(own, noise) + nn.functional.mse_loss(other, prior))

        runs = {"ours": ours, "recipe": recipe}
        if alone:
            runs[alone]()
            runs[alone]()
            return {}, largest_memory()
        seconds: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(ROUNDS + 1):  # the first round warms up
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}, largest_memory()


def main() -> None:
    # A fork each, while nothing is made here yet: its largest memory is its own.
    megabytes = {}
    for name in NAMES:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            megabytes[name] = process.submit(measure, name).result()[1]
    medians, _ = measure()
    result = {"name": "dreambooth_step", "ratio": round(medians["recipe"] / medians["ours"], 3)}
    result |= {"seconds": {name: round(value, 3) for name, value in medians.items()}, "megabytes": megabytes, "rounds": ROUNDS}
    result |= {
        "batch": "a photo and a class image",
        "pixels": SIDE,
        "against": "encoders run in every step",
        "precision": "bf16",
    }
    print(json.dumps(result | {"cores": os.cpu_count(), "torch": torch.__version__}))


main()
