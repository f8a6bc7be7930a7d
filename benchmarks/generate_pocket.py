"""Warm generation with the pocket model, batch of four, 25 steps, against diffusers' own pipeline on the same folder.

Prints one JSON object as its last line. ratio: diffusers' seconds over ours.
"""

import json
import os
import statistics
import time

import torch
from diffusers import StableDiffusionPipeline

import tenth
from tenth.core.types import Identity
from tenth.models.pocket.paths import MODEL_DIR

BATCH, ROUNDS, PROMPT = 4, 5, "a portrait photo of a person"


def main() -> None:
    model, sampling = tenth.load_model(), tenth.SamplingConfig()
    identity = Identity(
        "ip-adapter", model.name, model.encoder.name, model.adapter_name, torch.zeros(1, model.encoder.embedding_dim)
    )
    requests = [tenth.Request(identity, PROMPT, seed) for seed in range(BATCH)]

    pipeline = StableDiffusionPipeline.from_pretrained(MODEL_DIR, dtype=torch.float32, low_cpu_mem_usage=False)
    pipeline.load_ip_adapter(MODEL_DIR, subfolder="ip-adapter", weight_name="ip-adapter.safetensors", image_encoder_folder=None)
    pipeline.set_progress_bar_config(disable=True)
    embeddings = torch.zeros(2 * BATCH, 1, model.encoder.embedding_dim)

    def ours() -> None:
        list(tenth.generate(model, requests, sampling, BATCH))

    def theirs() -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(BATCH)]
        pipeline(
            [PROMPT] * BATCH, num_inference_steps=sampling.steps, guidance_scale=sampling.guidance_scale, generator=generators,
            guidance_rescale=sampling.guidance_rescale, ip_adapter_image_embeds=[embeddings],
        )  # fmt: skip

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, draw in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            draw()
            seconds[name].append((time.perf_counter() - start) / BATCH)
    mine, other = (statistics.median(seconds[name][1:]) for name in ("ours", "theirs"))
    result = {"name": "generate_pocket", "ratio": round(other / mine, 3), "seconds_per_image": round(mine, 3)}
    result |= {"against": "diffusers.StableDiffusionPipeline", "batch": BATCH, "steps": sampling.steps}
    print(json.dumps(result | {"cores": os.cpu_count(), "torch": torch.__version__}))


main()
