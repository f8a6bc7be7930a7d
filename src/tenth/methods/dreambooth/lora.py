"""What of a pipeline learns one person: low-rank matrices beside its layers, or all weights; and what was learnt.

Source of low-rank matrices: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.errors import RecipeError
from tenth.models.adapters.lora_names import PARTS, canonical_name
from tenth.models.adapters.weight_deltas import DIFF, LORA_B

ADAPTER_NAME = "person"  # of peft's adapter, while it learns
# Ends of the names of a UNet's layers.
ATTENTION_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
ALL_LAYERS = (*ATTENTION_LAYERS, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank matrices. Their product counts alpha / rank times."""

    rank: int = 16
    alpha: int = 16
    target_modules: tuple[str, ...] = ATTENTION_LAYERS  # ends of the names of the UNet's linear and convolution layers
    text_target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")  # of the text encoder's, if it learns
    seed: int = 0  # of the first matrices

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise RecipeError(f"rank {self.rank} and alpha {self.alpha}", "both are to be more than 0", "Correct the settings")


@dataclass(frozen=True, eq=False)
class TrainableParameters:
    """The parts of a pipeline that learn, by name; their parameters that want gradients are what learns.

    base_weights: the pipeline's own weights, by "part.path", as they were; none where low-rank matrices learn beside them.
    """

    modules: Mapping[str, nn.Module]
    base_weights: Mapping[str, Tensor]
    lora: LoraSettings | None

    def extract_deltas(self, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was learnt, by the names of weight_deltas.py, on the CPU. ema: by "part.path", as `fit` gives it.

        Low-rank matrices carry their factor alpha / rank, so that they count once.
        """
        if self.lora is None:
            return {
                canonical_name(name) + DIFF: (value - self.base_weights[name].to(value)).cpu().contiguous()
                for name, value in ema.items()
            }
        factor, weights = self.lora.alpha / self.lora.rank, {}
        for name, value in ema.items():
            published_name = canonical_name(name.replace(f".{ADAPTER_NAME}.", "."))
            weights[published_name] = (value * factor if published_name.endswith(LORA_B) else value).cpu().contiguous()
        return weights


@contextmanager
def trainable(pipeline: Any, lora: LoraSettings | None, *, text_encoder: bool = False) -> Iterator[TrainableParameters]:
    """A frozen pipeline of which something learns. lora: None where all weights learn.

    The pipeline is as before to the last bit when the block ends, by whatever way.
    """
    names = [name for name in PARTS if name == "unet" or text_encoder]
    modules: dict[str, nn.Module] = {
        name: getattr(pipeline, name) for name in names if getattr(pipeline, name, None) is not None
    }
    parameters = {f"{name}.{path}": value for name, module in modules.items() for path, value in module.named_parameters()}
    base_weights = {} if lora else {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, module in modules.items():
            module.train()
            if lora is not None:
                _inject_lora(module, lora, lora.target_modules if name == "unet" else lora.text_target_modules)
        for parameter in parameters.values() if lora is None else ():
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(True)
        yield TrainableParameters(modules, base_weights, lora)
    finally:
        for module in modules.values():
            _unload_lora(module)
            module.eval().requires_grad_(False)
        for name, original in base_weights.items():
            parameters[name].data = original.to(parameters[name].device)


def _inject_lora(module: nn.Module, lora: LoraSettings, layers: tuple[str, ...]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(layers))
    with torch.random.fork_rng():
        torch.manual_seed(lora.seed)
        try:
            inject_adapter_in_model(config, module, ADAPTER_NAME)
        except ValueError as problem:  # no layer has such a name
            found = f"no layer of {type(module).__name__} ends in {' or '.join(layers)}"
            raise RecipeError(found, "ends of names of its layers are needed", "Correct the settings") from problem


def _unload_lora(module: nn.Module) -> None:
    """Every layer that peft has wrapped, itself again."""
    wrapped = [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "base_layer")]
    for name, layer in wrapped:
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, layer.base_layer)
    if hasattr(module, "peft_config"):
        del module.peft_config
