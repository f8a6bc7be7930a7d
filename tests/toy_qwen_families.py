"""Toys of the families that read prompts by a Qwen: Qwen-Image-Edit, Z-Image, and Omni, its pipeline with photos.

The configurations are the published ones, but for widths, layers and vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    ZImageOmniPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3Model,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)

from tenth.core.types import Pixels

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", *VISION_TOKENS)
# As Qwen3's own has it for one message, with `enable_thinking=False`.
QWEN3_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MARKS = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
SIDE = 64  # pixels: of a toy's default image
TOY_AREA = 128 * 128  # pixels of a photo for the autoencoder of a toy Qwen-Image-Edit, where its own is given a megapixel
NO_ENDS = {"bos_token_id": None, "eos_token_id": None}
SMALL = {"hidden_size": 16, "intermediate_size": 32, "initializer_range": 0.3}  # whose outputs depend on each token
TEXT = SMALL | {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
VISION = SMALL | {"depth": 2, "num_heads": 2, "out_hidden_size": 16, "fullatt_block_indexes": [1]}


def qwen_tokenizer(max_length: int = 4096) -> Qwen2Tokenizer:
    """Qwen's tokenizer whose words are single bytes."""
    parts = ("Ġ", "z", "w", "x")
    merges = [("".join(parts[:end]), parts[end]) for end in range(1, len(parts))]  # " zwx" is one token: a rare word
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges), *QWEN_TOKENS]
    tokenizer = Qwen2Tokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        model_max_length=max_length,
        split_special_tokens=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_TOKENS[1:])})
    tokenizer.chat_template = QWEN3_TEMPLATE
    return tokenizer


def qwen_image_edit(*, zero_cond_t: bool = False) -> QwenImageEditPlusPipeline:
    """With the published sizes of patches. zero_cond_t: whether photos are read as at the last step, as of 2511."""
    tokenizer = qwen_tokenizer()
    tokens = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in MARKS.items()}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    text = TEXT | {"vocab_size": len(tokenizer), "rope_parameters": rope, "max_position_embeddings": 4096} | NO_ENDS
    text_encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=VISION, **tokens))
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1] * 4,
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=zero_cond_t,
    )
    with torch.no_grad():  # so that an image shows what it is conditioned on
        for parameter in vae.parameters():
            parameter.mul_(1.1 if parameter.ndim > 1 else 1)
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        max_image_seq_len=8192,
        max_shift=0.9,
        shift_terminal=0.02,
        use_dynamic_shifting=True,
    )
    processor = Qwen2VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor())
    return QwenImageEditPlusPipeline(scheduler, vae, text_encoder, tokenizer, processor, transformer)


def z_image(*, shift: float = 6.0) -> ZImagePipeline:
    """shift: of its scheduler, by which Turbo and the model that it was distilled from differ."""
    return ZImagePipeline(**_z_image_parts(shift, siglip_feat_dim=None))


def z_image_omni() -> ZImageOmniPipeline:
    """With the encoder that reads photos."""
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    siglip = Siglip2VisionModel(Siglip2VisionConfig(**size, num_patches=16))
    parts = _z_image_parts(6.0, siglip_feat_dim=16)
    return ZImageOmniPipeline(**parts, siglip=siglip, siglip_processor=Siglip2ImageProcessor(max_num_patches=16))


def _z_image_parts(shift: float, siglip_feat_dim: int | None) -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    transformer = ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        siglip_feat_dim=siglip_feat_dim,
        axes_dims=[4, 6, 6],
    )
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name.endswith("pad_token"):  # of zeros
                parameter.normal_()
    text_encoder = Qwen3Model(Qwen3Config(**TEXT, **NO_ENDS, head_dim=8, vocab_size=len(tokenizer)))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    return {
        "scheduler": scheduler,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "transformer": transformer,
    }


def random_photos(*sides: tuple[int, int], seed: int = 7) -> list[Pixels]:
    """A photo of each height and width."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]


def stacked_contexts(*contexts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a batch, from that of each image."""
    return {name: torch.stack([each[name] for each in contexts]) for name in contexts[0]}
