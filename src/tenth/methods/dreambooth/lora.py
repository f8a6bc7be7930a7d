"""What of a pipeline is fine-tuned, LoRA matrices (Hu et al. 2021, arXiv:2106.09685) or all weights, and what changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.config import Count, WholeNumber, config_dataclass
from tenth.core.errors import ModelError, RecipeError
from tenth.models.adapters.ip_adapter import ImageConditioning
from tenth.models.adapters.lora_names import DENOISERS, PARTS, canonical_name
from tenth.models.adapters.low_rank_branch import LowRankBranch, device_of, has_packed_weights, installed_branches
from tenth.models.adapters.weight_deltas import DIFF, LORA_B
from tenth.training.frozen_network import restored_modes
from tenth.training.state import named_parameters

ADAPTER_NAME = "person"  # of peft's adapter, during training
# Suffixes of the names of a UNet's layers.
ATTENTION_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
ALL_LAYERS = (*ATTENTION_LAYERS, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj")


@config_dataclass
class LoraSettings:
    """Low-rank matrices, whose product is scaled by alpha / rank."""

    rank: Count = 16
    alpha: Count = 16
    target_modules: tuple[str, ...] = ATTENTION_LAYERS  # suffixes of the names of the network's linear and convolution layers
    text_target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")  # of the text encoder's, if it is trained
    seed: WholeNumber = 0  # of the initial matrices


@dataclass(frozen=True, eq=False)
class TrainableParameters:
    """Trained parts of a pipeline by name. base_weights: the weights before, by "part.path"; none where LoRA is trained."""

    modules: Mapping[str, nn.Module]
    base_weights: Mapping[str, Tensor]
    lora: LoraSettings | None

    def weakened(self, ema: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
        """The weights that lie `strength` of the way from those before to these, 0 to 1. ema: by "part.path"."""
        if strength == 1.0:
            return dict(ema)
        weights = {}
        for name, value in ema.items():
            if self.lora is None:
                weights[name] = torch.lerp(self.base_weights[name].to(value), value, strength)
            else:
                weights[name] = value * strength if _published_name(name).endswith(LORA_B) else value
        return weights

    def extract_deltas(self, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What training changed, by the names of weight_deltas.py, on the CPU. ema: by "part.path", as `fit` gives it.

        The factor alpha / rank is multiplied into the second matrix, so that the product is added once.
        """
        weights = {}
        for name, value in ema.items():
            published_name, change = _published_name(name), value
            if self.lora is None:
                published_name, change = published_name + DIFF, value - self.base_weights[name].to(value)
            elif published_name.endswith(LORA_B):
                change = value * (self.lora.alpha / self.lora.rank)
            weights[published_name] = change.cpu().contiguous()
        return weights


def _published_name(name: str) -> str:
    """Of a parameter's "part.path", as weight_deltas.py has it, without the ending of a difference."""
    return canonical_name(name.replace(f".{ADAPTER_NAME}.", "."))


@contextmanager
def trainable(pipeline: Any, lora: LoraSettings | None, *, text_encoder: bool = False) -> Iterator[TrainableParameters]:
    """A frozen pipeline with trainable parameters. lora: None: all weights are trained. text_encoder: whether it is, too.

    An IP-Adapter that is in the UNet stays frozen.

    It ends, in whatever way, as it was, to the last bit. Raises RecipeError if no layer has one of the names in `lora`,
    ModelError if all weights are to be trained and are not float32.
    """
    modules: dict[str, nn.Module] = {}
    for name in PARTS:
        if (name in DENOISERS or text_encoder) and getattr(pipeline, name, None) is not None:
            modules[name] = getattr(pipeline, name)
    with restored_modes(modules.values()), ExitStack() as stack:
        for module in modules.values():
            module.train()
        adapter = _adapter_layers(pipeline)
        for layer in adapter:
            layer.requires_grad_(False)
        if lora is None:
            for module in modules.values():
                _require_whole_weights(module)
            yield TrainableParameters(modules, stack.enter_context(_trainable_copies(modules, adapter)), None)
            return
        for name, module in modules.items():
            layers = lora.target_modules if name in DENOISERS else lora.text_target_modules
            stack.enter_context(_injected_lora(module, lora, layers, adapter))
        yield TrainableParameters(modules, {}, lora)


def _adapter_layers(pipeline: Any) -> set[nn.Module]:
    """The layers of the IP-Adapter that is in the UNet."""
    unet = getattr(pipeline, "unet", None)
    return set() if unet is None else {layer for each in ImageConditioning.of(unet).modules for layer in each.modules()}


def _require_whole_weights(module: nn.Module) -> None:
    """Raises ModelError unless all weights are float32, in which small changes add up."""
    whole = all(parameter.dtype == torch.float32 for parameter in module.parameters())
    if not whole or any(map(has_packed_weights, module.modules())):
        needed = "training all weights needs them in float32"
        action = "Choose dreambooth-lora, which trains beside any, or TENTH_MEMORY_PROFILE=float32"
        raise ModelError(f"{type(module).__name__} is kept in fewer bits", needed, action)


@contextmanager
def _trainable_copies(modules: Mapping[str, nn.Module], frozen: Collection[nn.Module]) -> Iterator[dict[str, Tensor]]:
    """All parameters trainable, on copies of the weights. Gives the weights themselves, which are put back at the end.

    frozen: layers that are not trained.
    """
    kept = {parameter for layer in frozen for parameter in layer.parameters()}
    parameters = {name: parameter for name, parameter in named_parameters(modules).items() if parameter not in kept}
    base_weights = {name: parameter.data for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(True)
    try:
        yield base_weights
    finally:
        for name, original in base_weights.items():
            parameters[name].data = original.to(parameters[name].device)


@contextmanager
def _injected_lora(
    module: nn.Module, lora: LoraSettings, suffixes: tuple[str, ...], frozen: Collection[nn.Module]
) -> Iterator[None]:
    """The module with LoRA matrices in the layers whose names end so, and without them when the block ends.

    By PEFT in layers whose weights can be changed, and beside those whose weights are in 8 or 4 bits (QLoRA: Dettmers et al.
    2023, arXiv:2305.14314). frozen: layers that get none.
    """
    ends = tuple(f".{suffix}" for suffix in suffixes)
    layers = {name: layer for name, layer in module.named_modules() if f".{name}".endswith(ends) and layer not in frozen}
    packed = {name: layer for name, layer in layers.items() if has_packed_weights(layer)}
    plain = [name for name, layer in layers.items() if name not in packed and isinstance(layer, nn.Linear | nn.Conv2d)]
    if not packed and not plain:
        found = f"no layer of {type(module).__name__} ends in {' or '.join(suffixes)}"
        raise RecipeError(found, "ends of names of its layers are needed", "Correct the settings")
    with torch.random.fork_rng(), ExitStack() as stack:
        torch.manual_seed(lora.seed)
        branches = {name: _new_branch(layer, lora) for name, layer in packed.items()}
        stack.enter_context(installed_branches(module, branches))
        if plain:
            stack.enter_context(_injected_by_peft(module, lora, plain))
        yield


@contextmanager
def _injected_by_peft(module: nn.Module, lora: LoraSettings, names: list[str]) -> Iterator[None]:
    from peft import LoraConfig, LoraModel

    injected = LoraModel(module, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names), ADAPTER_NAME)
    for parameter in module.parameters():
        if parameter.requires_grad:  # also where the layer is in 16 bits
            parameter.data = parameter.data.float()
    try:
        yield
    finally:
        injected.unload()


def _new_branch(layer: Any, lora: LoraSettings) -> LowRankBranch:
    """Matrices that begin as PEFT's do: one at random, the other zero."""
    down = nn.Linear(layer.in_features, lora.rank, bias=False).weight.detach()
    up, device = torch.zeros(layer.out_features, lora.rank), device_of(layer)
    branch = LowRankBranch(layer, down.to(device), up.to(device), lora.alpha / lora.rank)
    for matrix in (branch.lora_A, branch.lora_B):
        matrix.requires_grad_(True)
    return branch
