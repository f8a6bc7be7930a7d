"""Stable Diffusion 1.5 and SDXL in their published sizes and layout, float16, with random weights; with `--tiny` small ones."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from sd15 import SIDE, TEXT, TINY, UNET, VAE, VISION, WIDTH
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tenth.models.adapters.networks.unet import cross_attention_layers
from tenth.models.pocket.paths import MODEL_DIR

WORDS = {"max_position_embeddings": 77, "eos_token_id": 385, "bos_token_id": 384}  # of the tokenizer in the package
DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
ADDED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4 if TINY else 256}
TWO = 64 if TINY else 2048  # the width of both text encoders together
POOLED = 32 if TINY else 1280
SDXL = ADDED | {
    "cross_attention_dim": TWO,
    "block_out_channels": (64, 64, 64) if TINY else (320, 640, 1280),
    "down_block_types": DOWN,
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 1) if TINY else (1, 2, 10),
    "attention_head_dim": 8 if TINY else (5, 10, 20),
    "use_linear_projection": True,
    "projection_class_embeddings_input_dim": POOLED + 6 * ADDED["addition_time_embed_dim"],
}
SECOND = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
if not TINY:
    SECOND = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
TOKENS = 4  # of the adapter


def networks(family: str, pixels: int, device: str = "meta") -> dict[str, nn.Module]:
    """The parts with weights by their folder; on the device meta they take no memory."""
    sdxl, side = family == "sdxl", pixels // 8
    with torch.device(device):
        parts = {
            "unet": UNet2DConditionModel(**(SDXL if sdxl else UNET) | {"sample_size": side}),
            "vae": AutoencoderKL(**VAE, sample_size=pixels, **{"scaling_factor": 0.13025} if sdxl else {}),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT, **WORDS)),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        }
        if sdxl:
            second = CLIPTextConfig(**SECOND, **WORDS, projection_dim=POOLED)
            parts["text_encoder_2"] = CLIPTextModelWithProjection(second)
    return parts


def write_large(family: str, folder: Path, pixels: int = SIDE) -> Path:
    """A model folder as it is published: float16 safetensors, image encoder ViT-H/14, adapter. pixels: what it draws."""
    parts = networks(family, pixels)
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"}
    for name, network in parts.items():
        kind = type(network).__module__.partition(".")[0]
        if name != "image_encoder":
            index[name] = [kind, type(network).__name__]
        (network.save_config if kind == "diffusers" else network.config.save_pretrained)(folder / name)
        file = "diffusion_pytorch_model" if kind == "diffusers" else "model"
        write_weights(
            {key: tuple(value.shape) for key, value in network.state_dict().items()}, folder / name / f"{file}.safetensors"
        )
    for name in ("tokenizer", "tokenizer_2")[: 2 if family == "sdxl" else 1]:
        shutil.copytree(MODEL_DIR / "tokenizer", folder / name)
        settings = folder / name / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 77}))
        index[name] = ["transformers", "CLIPTokenizer"]
    scheduler = EulerDiscreteScheduler() if family == "sdxl" else DDIMScheduler()
    scheduler.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    empty = ("feature_extractor", "image_encoder", *(() if family == "sdxl" else ("safety_checker",)))
    (folder / "model_index.json").write_text(json.dumps(index | {name: [None, None] for name in empty}))
    (folder / "ip-adapter").mkdir()
    write_weights(adapter_shapes(parts["unet"]), folder / "ip-adapter" / "ip-adapter.safetensors")
    return folder


def adapter_shapes(unet: Any) -> dict[str, tuple[int, ...]]:
    cross = int(unet.config.cross_attention_dim)
    shapes: dict[str, tuple[int, ...]] = {
        "image_proj.proj.weight": (TOKENS * cross, WIDTH),
        "image_proj.proj.bias": (TOKENS * cross,),
    }
    shapes |= {"image_proj.norm.weight": (cross,), "image_proj.norm.bias": (cross,)}
    for number, _, attention in cross_attention_layers(unet):
        shapes |= {f"ip_adapter.{number}.to_{part}_ip.weight": tuple(attention.to_k.weight.shape) for part in "kv"}
    return shapes


def write_weights(shapes: dict[str, tuple[int, ...]], path: Path, dtype: str = "F16") -> None:
    """A safetensors file written tensor by tensor: matrices from one block of random numbers, norms 1, biases 0."""
    stored = {"F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    shapes = {name: shape for name, shape in shapes.items() if "position_ids" not in name}
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (end, end + 2 * math.prod(shape))}
        end = header[name]["data_offsets"][1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = torch.empty(1 << 22).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            count = math.prod(shape)
            if len(shape) < 2:
                plain = torch.full((count,), float("norm" in name and name.endswith("weight")))
                file.write(plain.to(stored).view(torch.int16).numpy().tobytes())
                continue
            part = (
                (block[:count] * (3 / math.prod(shape[1:])) ** 0.5).to(stored).view(torch.int16).numpy()
            )  # variance 1 / inputs
            for start in range(0, count, part.size):
                part[: count - start].tofile(file)
