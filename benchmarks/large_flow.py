"""FLUX.2 klein 4B in its published sizes and layout, bfloat16, with random weights; with `--tiny` a small one.

Source of the sizes: the configurations of black-forest-labs/FLUX.2-klein-4B. `--layers=D,S,T`: so many double and single layers
of the transformer and layers of the text encoder (published: 5,20,36; 27 of the text encoder are read). `--narrow-text`: a
tenth of the text encoder's weights between its hidden states, for a machine with little time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from large_models import write_weights
from sd15 import TINY, VAE
from tokenizers import pre_tokenizers
from torch import nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

LAYERS = next((word.partition("=")[2] for word in sys.argv if word.startswith("--layers=")), "1,1,27" if TINY else "5,20,36")
HIDDEN = 32 if TINY else 2560
TEXT = {"hidden_size": HIDDEN, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (4, 4, 4, 4)}
if not TINY:
    TEXT |= {
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    TRANSFORMER = {"num_attention_heads": 24, "attention_head_dim": 128}
if "--narrow-text" in sys.argv and not TINY:
    TEXT |= {"intermediate_size": 1024, "num_attention_heads": 4, "num_key_value_heads": 1}
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")  # of the text encoder's messages


def networks(pixels: int, device: str = "meta") -> dict[str, nn.Module]:
    """The parts with weights by their folder; on the device meta they take no memory."""
    double, single, text = map(int, LAYERS.split(","))
    with torch.device(device):
        config = Qwen3Config(
            **{"vocab_size": 512} | TEXT, num_hidden_layers=text, max_position_embeddings=40960, tie_word_embeddings=True
        )
        return {
            "transformer": Flux2Transformer2DModel(
                **TRANSFORMER,
                num_layers=double,
                num_single_layers=single,
                joint_attention_dim=3 * HIDDEN,
                guidance_embeds=False,
            ),
            "vae": AutoencoderKLFlux2(**VAE, sample_size=pixels),
            "text_encoder": Qwen3ForCausalLM(config),
        }


def write_large_flow(folder: Path, pixels: int) -> Path:
    """A model folder as it is published. pixels: side of the default image."""
    index: dict[str, Any] = {"_class_name": "Flux2KleinPipeline", "is_distilled": True}
    for name, network in networks(pixels).items():
        kind = type(network).__module__.partition(".")[0]
        index[name] = [kind, type(network).__name__]
        if kind == "transformers":
            network.config.architectures = [type(network).__name__]
        (network.save_config if kind == "diffusers" else network.config.save_pretrained)(folder / name)
        file = "diffusion_pytorch_model" if kind == "diffusers" else "model"
        unwritten = ("lm_head.weight", "bn.num_batches_tracked")  # the embedding's own, and a count
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if key not in unwritten}
        write_weights(shapes, folder / name / f"{file}.safetensors", "BF16")

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *MARKS]
    tokenizer = Qwen2Tokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=4096)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS[1:])})
    tokenizer.save_pretrained(folder / "tokenizer")
    index["tokenizer"] = ["transformers", "Qwen2TokenizerFast"]
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
