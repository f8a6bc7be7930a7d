"""One leave-one-out training step with nine references at the sizes of Stable Diffusion 1.5 and ViT-H/14, random weights.

ours: latents, embeddings and text from the store. recomputed: the autoencoder, the image processor and encoder on all nine
references and the text encoder run in the step, frozen weights in bfloat16, as the published training scripts run them; reading
files and tokenising are left out. bare: forward and backward of UNet and adapter.
Prints one JSON object as its last line. ratio: seconds of `recomputed` over ours; over_bare: ours over `bare`.
`--tiny` is for a test of this file.
"""

import json
import os
import statistics
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from sd15 import CROSS, ROUNDS, SIDE, TEXT, TINY, TOKENS, UNET, VAE, VISION, WIDTH, filled
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tenth.core.rng import StepRNG
from tenth.models.adapters.ip_adapter import init_ip_adapter
from tenth.models.aggregators.self_attention import SelfAttentionAggregator, SelfAttentionConfig
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.frozen_diffusion import FrozenDiffusion, frozen_diffusion

REFERENCES = 9


def main() -> None:
    unet = filled(lambda: UNet2DConditionModel(**UNET))
    vae = filled(lambda: AutoencoderKL(**VAE))
    vision = filled(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)))
    text = filled(lambda: CLIPTextModel(CLIPTextConfig(**TEXT)))
    unet.to(memory_format=torch.channels_last)  # as `load_pipeline` gives it
    for module in (vae, vision, text):
        module.to(memory_format=torch.channels_last).bfloat16()
    pipeline = SimpleNamespace(unet=unet, vae=vae, scheduler=DDIMScheduler(), text_encoder=text, vae_scale_factor=8)
    with frozen_diffusion(pipeline, init_ip_adapter(unet, WIDTH)) as frozen:
        measure(frozen, vae, vision, text)


def measure(frozen: FrozenDiffusion, vae: Any, vision: Any, text: Any) -> None:
    unet = frozen.unet
    aggregator = SelfAttentionAggregator(WIDTH, SelfAttentionConfig(heads=4 if TINY else 16))
    adapter = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([*adapter, *aggregator.parameters()])

    processor, generator = CLIPImageProcessorPil(), np.random.default_rng(0)
    photos = [generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(REFERENCES)]
    pixels = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    tokens = torch.arange(TOKENS)[None]
    moments, embeddings = torch.randn(1, 8, SIDE // 8, SIDE // 8), torch.randn(1, REFERENCES, WIDTH)
    hidden, noisy, steps = torch.randn(1, TOKENS, CROSS), torch.randn(1, 4, SIDE // 8, SIDE // 8), torch.tensor([500])

    def step(moments: Tensor, embeddings: Tensor, hidden: Tensor) -> None:
        draws = StepRNG(0, 0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            latents, prompts = frozen.sample_latents(moments, draws), PromptEmbeddings(hidden)
            loss = frozen.per_sample_loss(latents, prompts, aggregator(embeddings), draws).mean()
        loss.backward()
        nn.utils.clip_grad_norm_([*adapter, *aggregator.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def ours() -> None:
        step(moments, embeddings, hidden)

    def recomputed() -> None:
        with torch.no_grad():
            made = vae.encode(pixels.bfloat16()).latent_dist.parameters.float()
            shown = processor(photos, return_tensors="pt", input_data_format="channels_last").pixel_values
            seen = vision(shown.bfloat16()).image_embeds.float()[None]
            said = text(tokens).last_hidden_state.float()
        step(made, seen, said)

    def bare() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            drawn = unet(noisy, steps, hidden, added_cond_kwargs={"image_embeds": [embeddings]}).sample
        drawn.float().square().mean().backward()
        unet.zero_grad()

    seconds: dict[str, list[float]] = {"ours": [], "recomputed": [], "bare": []}
    with frozen.cast_frozen_weights(torch.bfloat16):
        for _ in range(ROUNDS + 1):  # the first round warms up
            for name, run in (("ours", ours), ("recomputed", recomputed), ("bare", bare)):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    result = {"name": "training_step", "ratio": round(medians["recomputed"] / medians["ours"], 3)}
    result |= {"over_bare": round(medians["ours"] / medians["bare"], 3)}
    result |= {"seconds": {name: round(value, 3) for name, value in medians.items()}, "rounds": ROUNDS, "batch": 1}
    result |= {"references": REFERENCES, "pixels": SIDE, "against": "encoders run in every step", "precision": "bf16"}
    print(json.dumps(result | {"cores": os.cpu_count(), "torch": torch.__version__}))


main()
