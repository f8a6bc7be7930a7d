"""Warm generation with the pocket model, batch of four, at its defaults, against diffusers' pipeline with 25 steps of DDIM.

    python benchmarks/generate_pocket.py [--rounds=5] [--tiny]

25 steps of DDIM in float32 are what the model had before its quicker sampler, and what a user of diffusers would take. Each way
runs once in every round, in turn; figures are medians. Prints one JSON object as its last line. ratio: diffusers' seconds over
ours with OpenVINO (the extra `fast`); without_extra: over ours on torch; loop_share: what of the quickest way's time is spent
outside the networks, measured with networks that do nothing.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import tenth
from tenth.core.types import DefaultSampling, Identity
from tenth.models.compiled import is_available
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import LoadOptions
from tenth.models.pocket.paths import MODEL_DIR

BATCH, STEPS, PROMPT = 4, 25, "a portrait photo of a person"
TINY = "--tiny" in sys.argv
ROUNDS = next((int(word.partition("=")[2]) for word in sys.argv if word.startswith("--rounds=")), 1 if TINY else 5)


def ours(model: LatentDiffusion) -> Callable[[], None]:
    row = torch.zeros(1, model.encoder.embedding_dim)
    identity = Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, row)
    requests = [tenth.Request(identity, PROMPT, seed) for seed in range(BATCH)]
    sampling = tenth.SamplingConfig(steps=1 if TINY else None)
    return lambda: list(tenth.generate(model, requests, sampling, BATCH)) and None


class WithoutNetworks(LatentDiffusion):
    """Networks that do nothing, in no time."""

    def denoiser(self, precision: str = "fp32") -> Callable[..., torch.Tensor]:
        del precision
        return lambda latents, *_: latents

    def decode(self, latents: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
        del precision
        return torch.zeros(len(latents), 3, 128, 128)


def theirs() -> Callable[[], None]:
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_DIR, dtype=torch.float32, low_cpu_mem_usage=False)
    pipeline.scheduler = DDIMScheduler.from_pretrained(MODEL_DIR / "scheduler")
    pipeline.load_ip_adapter(MODEL_DIR, subfolder="ip-adapter", weight_name="ip-adapter.safetensors", image_encoder_folder=None)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> None:
        pipeline(
            [PROMPT] * BATCH, num_inference_steps=1 if TINY else STEPS, guidance_scale=2.0,
            guidance_rescale=DefaultSampling(STEPS, 2.0).guidance_rescale,
            generator=[torch.Generator().manual_seed(seed) for seed in range(BATCH)],
            ip_adapter_image_embeds=[torch.zeros(2 * BATCH, 1, 128)],
        )  # fmt: skip

    return draw


def main() -> None:
    backends = ["torch", *(["openvino"] if is_available() and not TINY else [])]
    models = {backend: tenth.load_model(options=LoadOptions(backend=backend)) for backend in backends}
    bare = tenth.load_model(options=LoadOptions(backend="torch"))
    bare.__class__ = WithoutNetworks
    ways = {"diffusers": theirs(), "loop": ours(bare), **{backend: ours(model) for backend, model in models.items()}}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for way, draw in ways.items():
            start = time.perf_counter()
            draw()
            seconds[way].append((time.perf_counter() - start) / BATCH)
    median = {way: statistics.median(times[1:]) for way, times in seconds.items()}
    result = {"name": "generate_pocket", "ratio": round(median["diffusers"] / median[backends[-1]], 3)}
    result |= {"without_extra": round(median["diffusers"] / median["torch"], 3), "backend": backends[-1]}
    result |= {"loop_share": round(median["loop"] / median[backends[-1]], 4)}
    result |= {"seconds_per_image": {way: round(value, 4) for way, value in median.items()}, "batch": BATCH}
    result |= {"steps": models["torch"].default_sampling.steps, "cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps(result))


main()
