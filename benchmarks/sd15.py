"""Networks of the sizes of Stable Diffusion 1.5 and ViT-H/14 with random weights; with `--tiny` small ones, for tests."""

import os
import sys

import torch
from torch import nn

TINY = "--tiny" in sys.argv
ROUNDS = 1 if TINY else int(os.environ.get("ROUNDS", "3"))  # measured, after one that warms up
WIDTH, SIDE, TOKENS = (32, 128, 77) if TINY else (1024, 512, 77)
CROSS = 32 if TINY else 768
UNET = {"sample_size": SIDE // 8, "cross_attention_dim": CROSS}
VAE = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
VISION = {"projection_dim": WIDTH, "patch_size": 14, "image_size": 224}
if TINY:
    UNET |= {"block_out_channels": (64, 64, 64, 64)}
    VAE |= {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
    VISION |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
else:
    VAE |= {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    VISION |= {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


torch.manual_seed(0)


def filled(build) -> nn.Module:
    """A module with small random weights, made without the slow initialisation of large layers."""
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.normal_(std=0.02)
        else:
            tensor.data.copy_(torch.arange(tensor.numel()).view(tensor.shape))  # positions
    return module.requires_grad_(False)
