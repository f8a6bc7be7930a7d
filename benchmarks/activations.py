"""Bytes of activations, counted tensor by tensor on networks that have no memory, beside the estimate
of tenth.models.memory.footprint.

Networks of Stable Diffusion 1.5 and SDXL at their own size and half of it, an image alone and four, with guidance; FLUX.2 klein
4B, an image alone, four, and with four photos in context.
What kernels take for themselves is not counted. Prints one JSON object as its last line; over: counted over estimate, without
the share for layers that are laid out anew. `--tiny` is for a test of this file.
"""

import json
import weakref
from typing import Any

import torch
from large_flow import networks as flow_networks
from large_models import networks
from sd15 import SIDE
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tenth.models.memory.flow_footprint import PROMPT_TOKENS, compute_flow_footprint
from tenth.models.memory.footprint import WeightCounts, activation_bytes, compute_footprint
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.profiles import FLOW_CPU_PROFILES


class Held(TorchDispatchMode):
    """The most bytes that tensors made inside hold at once."""

    def __init__(self, *before: torch.nn.Module) -> None:
        super().__init__()
        self.most = self.now = 0
        self.seen = {value.untyped_storage()._cdata for module in before for value in module.parameters()}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)):
            if storage._cdata not in self.seen:
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        return made

    def freed(self, key: int, count: int) -> None:
        self.seen.discard(key)
        self.now -= count


def counted(parts: dict[str, Any], images: int, pixels: int) -> dict[str, int]:
    unet, found, side = parts["unet"], {}, pixels // 8
    added = {}
    if unet.config.addition_embed_type:
        added = {"text_embeds": torch.empty(2 * images, parts["text_encoder_2"].config.projection_dim)}
        added |= {"time_ids": torch.empty(2 * images, 6)}
    noisy, hidden = torch.empty(2 * images, 4, side, side), torch.empty(2 * images, 77, unet.config.cross_attention_dim)
    with Held(unet) as held:
        unet(noisy, torch.tensor(500), hidden, added_cond_kwargs=added)
    found["unet"] = held.most
    with Held(parts["vae"]) as held:
        parts["vae"].decode(torch.empty(images, 4, side, side))
    found["vae"] = held.most
    with Held(parts["image_encoder"]) as held:
        parts["image_encoder"](torch.empty(8, 3, 224, 224))
    return found | {"image_encoder": held.most}


def counted_flow(parts: dict[str, Any], images: int, pixels: int, photos: int) -> dict[str, int]:
    transformer, found, side = parts["transformer"], {}, pixels // 16
    tokens, text = (1 + photos) * side**2, transformer.config.joint_attention_dim
    numbers = torch.empty(images, tokens, transformer.config.in_channels), torch.empty(images, PROMPT_TOKENS, text)
    with Held(transformer) as held:
        transformer(*numbers, torch.ones(images), torch.zeros(tokens, 4), torch.zeros(PROMPT_TOKENS, 4))
    found["transformer"] = held.most
    with Held(parts["vae"]) as held:
        parts["vae"].decode(torch.empty(images, 32, 2 * side, 2 * side))
    found["vae"] = held.most
    words = torch.zeros(1, PROMPT_TOKENS, dtype=torch.long)
    with Held(parts["text_encoder"]) as held:
        parts["text_encoder"](words, attention_mask=torch.ones_like(words), output_hidden_states=True, use_cache=False)
    return found | {"text_encoder": held.most}


def flow_rows() -> list[dict[str, Any]]:
    """Counted over estimate by part, without guidance, which klein does not need."""
    rows = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        parts = flow_networks(1024, "cpu")
        parts["text_encoder"].config.architectures = [type(parts["text_encoder"]).__name__]
        configs = {name: part.config if name != "text_encoder" else part.config.to_dict() for name, part in parts.items()}
        footprint = compute_flow_footprint(configs, dict.fromkeys(parts, WeightCounts()), 1024, rows=1)
        for images, pixels, photos in ((1, 256, 0), (1, 1024, 0), (4, 1024, 0), (1, 1024, 4)):
            found = counted_flow(parts, images, pixels, photos)
            options = LoadOptions(image_size=pixels, batch_size=images, context_photos=photos)
            estimate = footprint.activation_bytes(FLOW_CPU_PROFILES[0], options)
            over = {name: round(found[name] / estimate[name], 3) for name in found}
            rows.append({"images": images, "pixels": pixels, "photos": photos, "over": over, "bytes": found})
    return rows


def main() -> None:
    rows = []
    for family in ("sd15", "sdxl"):
        own = SIDE * (2 if family == "sdxl" else 1)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            parts = networks(family, own, "cpu")
            for images, pixels in ((1, own // 2), (1, own), (4, own)):
                found = counted(parts, images, pixels)
                vision = parts["image_encoder"].config.to_dict()
                sizes = compute_footprint(parts["unet"].config, parts["vae"].config, vision, {"": WeightCounts()})
                estimate = activation_bytes(sizes, images, image_size=pixels, vae_tiling=False)
                over = round(max(found.values()) / estimate, 3)
                rows.append({"family": family, "images": images, "pixels": pixels, "over": over, "estimate": estimate, **found})
    print(json.dumps({"name": "activations", "rows": rows, "flow": flow_rows(), "torch": torch.__version__}))


main()
