"""Toys of the families that read T5 beside CLIP: FLUX.1 and SD3.5, with tiny random weights."""

from __future__ import annotations

import string
from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tenth.models.pocket.paths import MODEL_DIR

SIDE, WIDTH = 64, 32  # pixels of a toy's default image; numbers of T5
LETTERS = string.ascii_letters + string.digits + string.punctuation


def t5_tokenizer() -> T5Tokenizer:
    """Of T5's kind, whose words are single letters."""
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    return T5Tokenizer(
        vocab=[*specials, ("\u2581", -2.0), *((letter, -3.0) for letter in LETTERS)], extra_ids=0, model_max_length=512
    )


def t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes)).eval()


def clip_text(kind: Any, tokenizer: CLIPTokenizer) -> Any:
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    length = tokenizer.model_max_length
    return kind(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=length, **sizes, **ends)).eval()


def autoencoder() -> AutoencoderKL:
    """Eight pixels to a latent, four channels, a scale and a shift."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 2, "latent_channels": 4, "sample_size": SIDE}
    return AutoencoderKL(
        **blocks, **sizes, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False
    )


def flux1(*, guidance_embeds: bool = True, text_dim: int = WIDTH) -> FluxPipeline:
    """FLUX.1, dev with a layer for the guidance scale, or schnell. text_dim: of T5, and so of an adapter's tokens."""
    clip_tokenizer, tokenizer = CLIPTokenizer.from_pretrained(MODEL_DIR / "tokenizer"), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_dim,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if guidance_embeds else 1.0, use_dynamic_shifting=guidance_embeds)
    text_encoders = clip_text(CLIPTextModel, clip_tokenizer), clip_tokenizer, t5(tokenizer), tokenizer
    return FluxPipeline(scheduler, autoencoder(), *text_encoders, transformer)


def sd3() -> StableDiffusion3Pipeline:
    """SD3.5: the first block has two attentions, as in SD3.5 Medium."""
    clip_tokenizer, tokenizer = CLIPTokenizer.from_pretrained(MODEL_DIR / "tokenizer"), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    encoders = [clip_text(CLIPTextModelWithProjection, clip_tokenizer) for _ in range(2)]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pairs = encoders[0], clip_tokenizer, encoders[1], clip_tokenizer, t5(tokenizer), tokenizer
    return StableDiffusion3Pipeline(transformer, scheduler, autoencoder(), *pairs)
