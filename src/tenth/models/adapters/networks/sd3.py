"""IP-Adapters of SD3.5: a resampler that reads the timestep, and keys and values beside the image's own in each attention.

Source of the layout: InstantX' file, and how diffusers reads it (loaders/transformer_sd3.py). It knows one photo; what several
do is in docs/decisions/0015-adapters-on-transformers.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from tenth.models.adapters.networks.adapted_network import AdaptedNetwork, Shapes, build_with, select, with_prefix


class SeveralPhotosAttnProcessor(SD3IPAdapterJointAttnProcessor2_0):  # type: ignore[misc]  # diffusers has no types
    """diffusers' attention, whose image tokens have an axis of photos: (B, M, T, C).

    The tokens of all photos stand side by side, each counted 1 / M times in the softmax over them and the image's own keys, so
    that M copies of a photo are that photo. Of one photo it is diffusers' own.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ip_hidden_states: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Any:
        """The image (B, N, C) and the text (B, L, C) or None -> those attended; without a text, one tensor."""
        if self.scale == 0 or ip_hidden_states is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        tokens = ip_hidden_states.flatten(1, 2)  # (B, M * T, C)
        if ip_hidden_states.shape[1] == 1:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, tokens, temb)
        attended = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        image, *text = attended if isinstance(attended, tuple) else (attended,)
        from_photos = self.scale * self._attend(attn, hidden_states, tokens, temb, ip_hidden_states.shape[1])
        # The output layer is linear: what it gives beyond its bias is added.
        image = image + attn.to_out[0](from_photos) - attn.to_out[0](torch.zeros_like(from_photos[:1, :1]))
        return (image, *text) if text else image

    def _attend(self, attn: Any, hidden_states: Tensor, tokens: Tensor, temb: Tensor | None, num_photos: int) -> Tensor:
        """The image's attention to itself and to the tokens of its photos: (B, N, C)."""

        def by_head(values: Tensor) -> Tensor:
            heads: Tensor = values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, N, C / heads)
            return heads

        tokens = self.norm_ip(tokens, temb=temb)
        query, own_key = self.norm_q(by_head(attn.to_q(hidden_states))), self.norm_k(by_head(attn.to_k(hidden_states)))
        key = torch.cat([own_key, self.norm_ip_k(by_head(self.to_k_ip(tokens)))], dim=2)
        value = torch.cat([by_head(attn.to_v(hidden_states)), by_head(self.to_v_ip(tokens))], dim=2)
        bias = query.new_zeros(key.shape[2])
        bias[own_key.shape[2] :] = -math.log(num_photos)
        attended: Tensor = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None, None, None])
        return attended.transpose(1, 2).flatten(2).to(query.dtype)


def _processor_names(transformer: Any) -> list[str]:
    """Of the blocks: a resampler that is in the transformer has attention of its own."""
    return [name for name in transformer.attn_processors if name.startswith("transformer_blocks.")]


def _layer_shapes(transformer: Any, projection: Mapping[str, Tensor]) -> Shapes:
    dim, head_dim = transformer.inner_dim, transformer.config.attention_head_dim
    time_dim = len(projection["proj_in.bias"])  # the width of the resampler, in which it embeds the timestep
    shapes: Shapes = {}
    for number in range(len(_processor_names(transformer))):
        layer = {"norm_ip.linear.weight": (2 * dim, time_dim), "norm_ip.linear.bias": (2 * dim,)}
        layer |= {f"to_{part}_ip.weight": (dim, dim) for part in "kv"}
        layer |= {f"{norm}.weight": (head_dim,) for norm in ("norm_q", "norm_k", "norm_ip_k")}
        shapes |= {f"{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def _build_processors(transformer: Any, layers: Mapping[str, Tensor], _: int) -> dict[str, nn.Module]:
    processors = {}
    for number, name in enumerate(_processor_names(transformer)):
        weights = select(layers, f"{number}.")
        processors[name] = build_with(
            weights,
            SeveralPhotosAttnProcessor,
            hidden_size=transformer.inner_dim,
            ip_hidden_states_dim=transformer.inner_dim,
            head_dim=transformer.config.attention_head_dim,
            timesteps_emb_dim=weights["norm_ip.linear.weight"].shape[1],
        )
    return processors


def _layer_weights(transformer: Any) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for number, name in enumerate(_processor_names(transformer)):
        weights |= with_prefix(f"{number}.", transformer.attn_processors[name].state_dict())
    return weights


def _pipeline_embeddings(person: Tensor, nobody: Tensor) -> Tensor:
    """(2, T, D), with guidance."""
    if len(person) > 1:
        raise ValueError(f"{len(person)} photos side by side, which diffusers' pipeline of SD3.5 does not take")
    return torch.cat([nobody, person])


SD3 = AdaptedNetwork(
    projection="image_proj",
    projection_types=("timed",),
    token_dim=lambda transformer: int(transformer.inner_dim),
    layer_shapes=_layer_shapes,
    build_processors=_build_processors,
    layer_weights=_layer_weights,
    pipeline_embeddings=_pipeline_embeddings,
)


def joint_attention_kwargs(image_embeddings: Tensor | None) -> dict[str, Any] | None:
    """What SD3Transformer2DModel takes for patch tokens (B, M, T, D) of an adapter: B images, each with M photos of its own."""
    return None if image_embeddings is None else {"ip_adapter_image_embeds": image_embeddings}
