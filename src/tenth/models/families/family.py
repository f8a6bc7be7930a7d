"""What a family of transformers trained by flow matching is: its parts, sizes and defaults, and the functions that differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import DefaultSampling, Pixels
from tenth.models.denoiser import Conditioning
from tenth.models.families.photos import MAX_PHOTO_PIXELS
from tenth.models.memory.flow_footprint import TOKEN_WIDTHS
from tenth.models.prompt_encoder import PromptEmbeddings

LatentShape = tuple[int, int, int]  # (C, h, w), without a batch
MAX_PHOTO_LATENTS = 2 * MAX_PHOTO_PIXELS // 8**2  # places of a photo in context: twice those of the largest
Shape = tuple[int, ...]


@dataclass(frozen=True)
class FlowTraining:
    """How a family is trained. A timestep is shift t / (1 + (shift - 1) t), where t is the sigmoid of a normal number.

    logit_mean, logit_std: of that number. shift: None where it depends on the size, as in sampling. guidance: the scale that a
    transformer with a layer for it is given; None without such a layer. lora_targets: the last parts of the names of the
    transformer's linear layers that get low-rank matrices.
    """

    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float | None = None
    guidance: float | None = None
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


def encode_no_photos(pipeline: Any, photos: Sequence[Pixels]) -> dict[str, Tensor]:  # noqa: ARG001
    """`encode_photos` of a family that takes none in context: it is never asked."""
    return {}


def refuse_context(pipeline: Any, context: Mapping[str, Tensor]) -> None:  # noqa: ARG001
    """`check_context` of a family that takes no photos. Raises ValueError."""
    raise ValueError(f"named {', '.join(sorted(context))}")


@dataclass(frozen=True, eq=False)
class TransformerFamily:
    """A family. `pipeline` is diffusers' in every function, of which only the parts that are named are read.

    pipeline_class: as model_index.json names it. components: the class names that an index may name, by the part; the first
    letter of a part says the library: text encoders, tokenizers and processors are of transformers.
    resolution: side of the square, in pixels, of the default image. size_multiple: sides of images are multiples of it.
    max_context_photos: 0: takes no photos in context. context_side: of the largest square, in pixels, that is cut out of one.
    max_prompt_tokens: what is beyond is not read.
    default_sampling: (pipeline) -> steps and guidance. is_guidance_distilled: (pipeline) -> whether guidance is in the weights.
    latent_shape: (pipeline, height, width) -> (C, h, w), in which diffusers' pipeline draws its noise.
    encode_prompts: (pipeline, prompts, context) -> embeddings of U prompts. context: (U, ...) tensors, read where
    `prompts_see_photos`. count_tokens: (pipeline, prompt) -> of a prompt, without the words around it.
    encode_photos: (pipeline, photos (H, W, 3)) -> an identity's context by the family's own names. check_context: (pipeline,
    context) raises ValueError, "of shape ..." or "named ...", for what `predict` cannot read.
    predict: (transformer, latents (B, C, h, w), timesteps () or (B,), conditioning) -> (B, C, h, w), the velocity as the
    scheduler's step takes it.
    encode: (pipeline, pixels (B, 3, H, W)) -> latents (B, C, h, w) in the transformer's scale. decode: the inverse.
    set_timesteps: (scheduler, steps, latent_shape, device) sets a scheduler, with its shift.
    empty_conditioning: (pipeline) -> zeros (1, ...) of the shapes that its text encoders give, on their device; raises
    ValueError if they cannot give such.
    correct_guidance: (guided, conditional, share) -> the guided velocity (B, C, h, w), by a share of 0 to 1 corrected to be as
    the conditional one; None: its contrast is (sampling/guidance.py). made_parts: (pipeline) -> each part that is not read.
    float32_latents: whether latents stay float32 between steps, whatever the transformer's weights are in.
    token_widths: numbers in memory for each token of the transformer, in its widths (benchmarks/activations.py).
    """

    name: str
    pipeline_class: str
    components: Mapping[str, tuple[str, ...]]
    resolution: int
    size_multiple: int
    max_context_photos: int
    max_prompt_tokens: int
    default_sampling: Callable[[Any], DefaultSampling]
    is_guidance_distilled: Callable[[Any], bool]
    latent_shape: Callable[[Any, int, int], LatentShape]
    encode_prompts: Callable[[Any, Sequence[str], Mapping[str, Tensor]], PromptEmbeddings]
    count_tokens: Callable[[Any, str], int]
    predict: Callable[[Any, Tensor, Tensor, Conditioning], Tensor]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    set_timesteps: Callable[[Any, int, LatentShape, torch.device], None]
    empty_conditioning: Callable[[Any], Conditioning]
    encode_photos: Callable[[Any, Sequence[Pixels]], dict[str, Tensor]] = encode_no_photos
    check_context: Callable[[Any, Mapping[str, Tensor]], None] = refuse_context
    prompts_see_photos: bool = False
    context_side: int = 512
    float32_latents: bool = False
    correct_guidance: Callable[[Tensor, Tensor, float], Tensor] | None = None
    made_parts: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    token_widths: float = TOKEN_WIDTHS
    training: FlowTraining = FlowTraining()
    chat_template: str = ""


def check_context_shapes(
    context: Mapping[str, Tensor], of_each: Mapping[str, Shape], most: int, of_all: Mapping[str, Shape] = MappingProxyType({})
) -> None:
    """`check_context` by shapes. of_each: of "name.0", "name.1" and so on, of at most so many photos. of_all: of other tensors.

    A side below 0 may be any multiple of that number. Raises ValueError.
    """
    number = sum(name.startswith(f"{next(iter(of_each))}.") for name in context)
    shapes = dict(of_all) | {f"{name}.{index}": shape for name, shape in of_each.items() for index in range(number)}
    if set(context) != set(shapes) or not 0 < number <= most:
        raise ValueError(f"named {', '.join(sorted(context)[: most + 1])}")
    for name, tensor in context.items():
        sides = list(zip(tensor.shape, shapes[name], strict=False))
        fits = all(side == needed if needed > 0 else side and side % needed == 0 for side, needed in sides)
        if not fits or tensor.ndim != len(shapes[name]) or not tensor.is_floating_point():
            raise ValueError(f"of shape {tuple(tensor.shape)} and type {tensor.dtype}, where {name} is read as {shapes[name]}")
        if name.startswith("latents.") and tensor[0].numel() > MAX_PHOTO_LATENTS:
            raise ValueError(f"of shape {tuple(tensor.shape)}, where a photo has at most {MAX_PHOTO_LATENTS:,} latents")


def of_each_photo(context: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """The tensors "name.0", "name.1" and so on of a context, in the order of the photos."""
    return [context[f"{name}.{index}"] for index in range(sum(each.startswith(f"{name}.") for each in context))]


def set_flow_timesteps(
    scheduler: Any, steps: int, device: torch.device, *, mu: float | None = None, sigmas: Sequence[float] | None = None
) -> None:
    """Set a scheduler of flow matching to so many steps. mu: the shift, where the scheduler's depends on the size.

    sigmas: of each step before the shift; a scheduler that takes none has its own. One step goes straight to the image: the
    configuration's `shift_terminal`, noise before the last of several, is left out, where diffusers would divide zero by zero.
    """
    if steps == 1 and scheduler.config.get("shift_terminal"):
        scheduler.register_to_config(shift_terminal=None)
    known = inspect.signature(scheduler.set_timesteps).parameters
    settings: dict[str, Any] = {}
    if mu is not None and "mu" in known and scheduler.config.get("use_dynamic_shifting"):
        settings["mu"] = mu
    if sigmas is not None and "sigmas" in known:
        settings["sigmas"] = np.asarray(sigmas)
    scheduler.set_timesteps(steps, device=device, **settings)


def size_shift(scheduler: Any, num_tokens: int) -> float:
    """The logarithm of the shift: a line over the tokens of an image, of which the scheduler's configuration has two points."""
    config = scheduler.config
    first, last = int(config.get("base_image_seq_len", 256)), int(config.get("max_image_seq_len", 4096))
    low, high = float(config.get("base_shift", 0.5)), float(config.get("max_shift", 1.15))
    return low + (high - low) / (last - first) * (num_tokens - first)
