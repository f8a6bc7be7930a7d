"""Toy models in folders of each layout: the pocket's, and those of Stable Diffusion 1.5 and SDXL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tenth.models.adapters.ip_adapter import adapter_name, init_ip_adapter, install_ip_adapter, ip_adapter_state_dict
from tenth.models.aggregators.checkpoint import AggregatorCheckpoint, save_aggregator
from tenth.models.aggregators.self_attention import SelfAttentionAggregator
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.paths import ADAPTER_PATH, MODEL_DIR
from tenth.training.pocket.export import export_model
from tenth.training.pocket.modules import PocketModules

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "sample_size": 8,
}
TOY_SIZES: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [16, 32], "cross_attention_dim": 32, "attention_head_dim": [2, 2]},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "projection_dim": 32},
    "vae": {"widths": [16, 16], "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]},
}


def write_toy_configs(folder: Path) -> Path:
    """The pocket model's folder without weights, its networks a hundredth as large."""
    shutil.copytree(MODEL_DIR, folder, ignore=shutil.ignore_patterns("*model.safetensors", "ip-adapter*"), dirs_exist_ok=True)
    for part, sizes in TOY_SIZES.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | sizes), encoding="utf-8")
    return folder


def write_toy(folder: Path, configs: Path | None = None) -> Path:
    """The toy model in a folder, where it lies in `model`. configs: a folder whose networks it has; None: tiny ones."""
    configs = configs or write_toy_configs(folder / "configs")
    torch.manual_seed(0)
    parts = PocketModules.create(configs)
    install_ip_adapter(parts.unet, init_ip_adapter(parts.unet, FaceEncoder.embedding_dim))
    weights = {f"unet.{name}": value for name, value in parts.unet.state_dict().items()}
    weights |= {f"text_encoder.{name}": value for name, value in parts.text_encoder.state_dict().items()}
    autoencoder = PocketAutoencoder.from_config(PocketAutoencoder.load_config(configs / "vae"))
    save_file(autoencoder.state_dict(), folder / "autoencoder.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenth.training.pocket.export.MODEL_DIR", configs)
        export_model(folder / "model", weights, folder / "autoencoder.safetensors", FaceEncoder(torch.zeros(128), 0.1))
    add_trained(folder / "model", parts.unet)
    return folder / "model"


def add_trained(model: Path, unet: Any) -> None:
    """Trained methods whose weights are far from where training begins: one with an adapter of its own, one without."""
    own = model / "ip-adapter-attention" / "ip-adapter.safetensors"
    own.parent.mkdir()
    install_ip_adapter(unet, init_ip_adapter(unet, FaceEncoder.embedding_dim))
    save_file(ip_adapter_state_dict(unet), own)
    adapters = {"ip-adapter-attention": own, "ip-adapter-set": model / ADAPTER_PATH}
    for aggregator, (name, adapter) in zip((SelfAttentionAggregator(128), SetAggregator(128)), adapters.items(), strict=True):
        with torch.no_grad():
            for parameter in aggregator.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        trained = AggregatorCheckpoint(aggregator, FaceEncoder(torch.zeros(128), 0.1).name, adapter_name(adapter))
        save_aggregator(trained, model / name / "aggregator.safetensors")


def text_encoder(kind: Any, tokenizer: CLIPTokenizer) -> Any:
    length, ends = tokenizer.model_max_length, {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    return kind(CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=16, max_position_embeddings=length, **SMALL, **ends))


def write_stable(family: str, folder: Path) -> Path:
    """A model folder with everything that training and drawing need."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(MODEL_DIR / "tokenizer")
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=4)  # fmt: skip # noqa: E501
    parts = {"vae": vae, "text_encoder": text_encoder(CLIPTextModel, tokenizer), "tokenizer": tokenizer}
    if family == "sd15":
        unet = UNet2DConditionModel(cross_attention_dim=16, **BLOCKS)
        pipeline: Any = StableDiffusionPipeline(
            **parts,
            unet=unet,
            scheduler=DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    else:
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + 16,
        }
        unet = UNet2DConditionModel(cross_attention_dim=32, transformer_layers_per_block=(1, 2), **BLOCKS, **added)
        second = text_encoder(CLIPTextModelWithProjection, tokenizer)
        pipeline = StableDiffusionXLPipeline(
            **parts, unet=unet, scheduler=EulerDiscreteScheduler(), text_encoder_2=second, tokenizer_2=tokenizer
        )
    pipeline.save_pretrained(folder)
    vision = CLIPVisionConfig(projection_dim=24, patch_size=8, image_size=224, **SMALL)
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    install_ip_adapter(unet, init_ip_adapter(unet, 24))
    (folder / "ip-adapter").mkdir()
    save_file(ip_adapter_state_dict(unet), folder / "ip-adapter/ip-adapter.safetensors")
    return folder


def with_published_tokenizers(folder: Path) -> Path:
    """The folder with its tokenizers in the files of the published models, which transformers no longer writes."""
    for tokenizer in folder.glob("tokenizer*"):
        (tokenizer / "tokenizer.json").unlink()
        for name in ("merges.txt", "vocab.json"):
            shutil.copyfile(MODEL_DIR / "tokenizer" / name, tokenizer / name)
    return folder
