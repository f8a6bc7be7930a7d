"""A toy of AuraFlow, the family that docs/extend.md adds."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import LlamaTokenizer, UMT5Config, UMT5EncoderModel

from toy_families import SIDE


def write_aura_flow(folder: Path) -> None:
    """A toy AuraFlow in diffusers' layout, with random weights."""
    torch.manual_seed(0)
    words = ["<unk>", "<s>", "</s>", "<pad>", "\u2581", *map(chr, range(33, 127))]
    tokenizer = LlamaTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], pad_token="<pad>", model_max_length=256
    )
    text = UMT5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = AuraFlowTransformer2DModel(
        sample_size=32,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pos_embed_max_size=256,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIDE,
    )
    pipeline = AuraFlowPipeline(
        tokenizer, UMT5EncoderModel(text), vae, transformer, FlowMatchEulerDiscreteScheduler(shift=1.73)
    )
    pipeline.save_pretrained(folder)
