"""What tests share: no network, example photos of a person who does not exist, and a toy model of the pocket's layout."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
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

from fresh import Fresh, fresh_processes
from tenth.models.adapters.ip_adapter import adapter_name, init_ip_adapter, install_ip_adapter, ip_adapter_state_dict
from tenth.models.aggregators.checkpoint import AggregatorCheckpoint, save_aggregator
from tenth.models.aggregators.self_attention import SelfAttentionAggregator
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import ADAPTER_PATH, EXAMPLE_PHOTOS_DIR, MODEL_DIR
from tenth.training.pocket.export import export_model
from tenth.training.pocket.modules import PocketModules
from toy_hub import Hub, publish, run_hub

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
FAMILIES = ("sd15", "sdxl")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to this machine is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test wanted to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def face_photos() -> list[Path]:
    """Nine example photos, 128 x 128, all of one person who does not exist."""
    return sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the pocket's layout, tiny, with random weights."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def pocket_sized_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `toy_folder`, with networks of the pocket model's own size, which training begins with."""
    return write_toy(tmp_path_factory.mktemp("pocket-sized"), MODEL_DIR)


@pytest.fixture
def toy_configs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stages of training make networks of the toy's sizes."""
    configs = write_toy_configs(tmp_path_factory.mktemp("configs"))
    for stage in ("autoencoder", "diffusion", "export", "packed_dataset"):
        monkeypatch.setattr(f"tenth.training.pocket.{stage}.MODEL_DIR", configs)
    return configs


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


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Processes that have loaded nothing of tenth."""
    store = str(tmp_path_factory.mktemp("store"))
    with fresh_processes(
        tmp_path_factory.mktemp("said"), TENTH_CACHE_DIR=store, TENTH_MODELS=store, HF_HUB_OFFLINE="1"
    ) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Any:
    """The toy folder, loaded: a LatentDiffusion that draws noise in a few steps."""
    return load_pocket(toy_folder, name="toy")


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


@pytest.fixture(scope="session", params=FAMILIES)
def stable_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the layout of Stable Diffusion 1.5 and of SDXL, tiny, with random weights."""
    return write_stable(request.param, tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `stable_folder`, of Stable Diffusion 1.5 alone."""
    return with_published_tokenizers(write_stable("sd15", tmp_path_factory.mktemp("sd15-alone") / "model"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `stable_folder`, of SDXL alone."""
    return with_published_tokenizers(write_stable("sdxl", tmp_path_factory.mktemp("sdxl-alone") / "model"))


@pytest.fixture(params=[*FAMILIES, "toy"])
def any_folder(request: pytest.FixtureRequest) -> Path:
    """A model folder of each layout: Stable Diffusion 1.5's, SDXL's and the pocket's."""
    return Path(request.getfixturevalue(f"{request.param}_folder"))


def with_published_tokenizers(folder: Path) -> Path:
    """The folder with its tokenizers in the files of the published models, which transformers no longer writes."""
    for tokenizer in folder.glob("tokenizer*"):
        (tokenizer / "tokenizer.json").unlink()
        for name in ("merges.txt", "vocab.json"):
            shutil.copyfile(MODEL_DIR / "tokenizer" / name, tokenizer / name)
    return folder


@pytest.fixture
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloaded models go: nothing is there yet, nor in the cache of huggingface_hub."""
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def hub(models_here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, which is the one that is asked."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with run_hub(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def sd15(hub: Hub, sd15_folder: Path) -> Hub:
    """The hub with a toy of Stable Diffusion 1.5."""
    publish(hub, "sd15", sd15_folder)
    return hub
