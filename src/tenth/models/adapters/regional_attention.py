"""Several people in one image: each person's image tokens are attended in that person's region alone.

Why not diffusers' own `ip_adapter_masks`: docs/decisions/0010-generate.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import Tensor
from torch.nn import functional

from tenth.core.errors import ModelError


@dataclass(frozen=True, eq=False)
class RegionMasks:
    """Where each of P people acts in each of B images, at every resolution of a UNet.

    num_rows: (P,), how many rows of the image embeddings (B, M, ...) are each person's, in their order; they sum to M.
    weights: by number of query positions Q: (B, P, Q), 0 outside a person's region, 1 inside, a share of 1 at its border.
    """

    num_rows: tuple[int, ...]
    weights: Mapping[int, Tensor]

    @classmethod
    def of_latents(cls, num_rows: Sequence[int], masks: Tensor) -> RegionMasks:
        """From masks (B, P, h, w) of the latents' size. A UNet halves that, and rounds up, as often as it has blocks for it."""
        weights = {}
        while True:
            weights[masks.shape[-2] * masks.shape[-1]] = masks.flatten(2)  # (B, P, Q)
            if masks.shape[-2:] == (1, 1):
                return cls(tuple(num_rows), weights)
            masks = functional.avg_pool2d(masks, 2, ceil_mode=True)  # of what is inside the image alone

    @classmethod
    def concat(cls, masks: Sequence[RegionMasks]) -> RegionMasks:
        """Those of several batches as one, in their order. All have the same people's rows and the same size."""
        return cls(masks[0].num_rows, {size: torch.cat([each.weights[size] for each in masks]) for size in masks[0].weights})

    def at(self, num_positions: int) -> Tensor:
        """(B, P, Q) for so many query positions Q. Raises ModelError for a UNet that does not halve sizes and round up."""
        if num_positions not in self.weights:
            found = f"this UNet attends at {num_positions} positions, which is no half of its latents"
            raise ModelError(found, "regions need a UNet that halves its latents", "Give one person, without a region")
        return self.weights[num_positions]


class RegionalIPAdapterAttnProcessor(IPAdapterAttnProcessor2_0):  # type: ignore[misc]  # diffusers has no types
    """diffusers' cross-attention of an IP-Adapter, which also takes regions, by the name that diffusers hands on.

    Without regions it is diffusers' own. With regions, of the attention A(x, tokens) of queries x: A(x, text) + scale * sum
    over people of weight(x) * A(x, all tokens of the person). Where a person's weight is 0, nothing of that person is added.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_adapter_masks: RegionMasks | None = None,
    ) -> Tensor:
        """Queries (B, Q, C), and (text tokens (B, L, D), [image tokens (B, M, T, D)]) -> (B, Q, C)."""
        if ip_adapter_masks is None:
            plain: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain

        # The text. UNets of Stable Diffusion mask none of it, and their cross-attention has no norm of its own.
        text, (image_tokens,) = encoder_hidden_states
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        attended = _attend(query, attn.to_k(text), attn.to_v(text), attn.heads)  # (B, Q, C)

        # Each person's tokens, with all rows of the person attended together.
        if self.scale[0] != 0:
            weights = ip_adapter_masks.at(hidden_states.shape[1]).to(attended.dtype)  # (B, P, Q)
            for person, rows in enumerate(image_tokens.split(ip_adapter_masks.num_rows, dim=1)):
                tokens = rows.flatten(1, 2)  # (B, rows * T, D)
                of_person = _attend(query, self.to_k_ip[0](tokens), self.to_v_ip[0](tokens), attn.heads)
                attended = attended + self.scale[0] * (of_person * weights[:, person, :, None])

        projected: Tensor = attn.to_out[1](attn.to_out[0](attended)) / attn.rescale_output_factor
        return projected


def _split_heads(values: Tensor, heads: int) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    return values.view(*values.shape[:2], heads, -1).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Queries by head (B, heads, Q, C / heads) on keys and values (B, N, C) -> (B, Q, C)."""
    attended = functional.scaled_dot_product_attention(query, _split_heads(key, heads), _split_heads(value, heads))
    return attended.transpose(1, 2).flatten(2).to(query.dtype)
