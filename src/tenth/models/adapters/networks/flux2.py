"""IP-Adapters of FLUX.2: keys and values in every block, attended by the image beside the joint attention.

Nobody has published one: the layout is tenth's own (docs/adapters.md). Decoupled cross-attention as of Ye et al. 2023,
arXiv:2308.06721, eq. 5, with keys normalised as the transformer's own are, and no position: photos have none in the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from torch import Tensor, nn
from torch.nn import functional

from tenth.models.adapters.networks.adapted_network import AdaptedNetwork, Shapes, build_with, select, with_prefix

BLOCKS = ("transformer_blocks", "single_transformer_blocks")  # with two streams, and with one of text and image together


@dataclass(frozen=True, eq=False)
class PhotoTokens:
    """What an adapter's layers read: the photos' tokens (B, T, C), and how many of the prompt stand before the image."""

    tokens: Tensor
    num_txt_tokens: int


class PhotoAttention(nn.Module):
    """What an adapter adds to the attention of a block: queries of the image, keys and values of the photos' tokens."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(dim, dim, bias=False)
        self.to_v_ip = nn.Linear(dim, dim, bias=False)
        self.norm_k_ip = nn.RMSNorm(head_dim, eps=1e-6)
        self.scale = 1.0

    def attend(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Normalised queries (B, N, heads, head dim) and tokens (B, T, C) -> (B, N, C), times the scale."""
        key, value = (layer(tokens).unflatten(-1, query.shape[2:]) for layer in (self.to_k_ip, self.to_v_ip))
        return self.scale * _attention(query, self.norm_k_ip(key), value)


class DoubleBlockAttnProcessor(PhotoAttention):
    """diffusers' attention of a block with two streams, and the photos', added to the image's before the output layer."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        photos: PhotoTokens | None = None,
    ) -> Any:
        """The image (B, N, C) and the text (B, L, C) -> those attended."""
        image, text = Flux2AttnProcessor()(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        if photos is None or self.scale == 0:
            return image, text
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, (-1, attn.head_dim)))  # without position
        return image + attn.to_out[0](self.attend(query, photos.tokens)), text  # a linear layer without bias


class SingleBlockAttnProcessor(PhotoAttention):
    """diffusers' attention of a block with one stream, and the photos', added where the image is."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        photos: PhotoTokens | None = None,
    ) -> Tensor:
        """Text and image (B, L + N, C) -> those attended."""
        if photos is None or self.scale == 0:
            plain: Tensor = Flux2ParallelSelfAttnProcessor()(attn, hidden_states, attention_mask, image_rotary_emb)
            return plain

        # As diffusers': one layer gives queries, keys, values and what the feed-forward part reads.
        projected = attn.to_qkv_mlp_proj(hidden_states)
        *heads, feed_forward = projected.split([attn.inner_dim] * 3 + [attn.mlp_hidden_dim * attn.mlp_mult_factor], dim=-1)
        query, key, value = (each.unflatten(-1, (-1, attn.head_dim)) for each in heads)  # (B, L + N, heads, head dim)
        query, key = attn.norm_q(query), attn.norm_k(key)
        query_at, key_at = (apply_rotary_emb(each, image_rotary_emb, sequence_dim=1) for each in (query, key))
        attended = _attention(query_at, key_at, value, attention_mask)  # (B, L + N, C)

        text, image = attended.split([photos.num_txt_tokens, attended.shape[1] - photos.num_txt_tokens], dim=1)
        image = image + self.attend(query[:, photos.num_txt_tokens :], photos.tokens)  # (B, N, C)
        attended = torch.cat([text, image], dim=1)
        output: Tensor = attn.to_out(torch.cat([attended, attn.mlp_act_fn(feed_forward)], dim=-1))
        return output


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, N, heads, head dim) each -> (B, N, C)."""
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
    )
    return attended.transpose(1, 2).flatten(2).to(query.dtype)


def _blocks(transformer: Any) -> Iterator[tuple[str, Any]]:
    """Name and attention module of each block, in their order."""
    for name in BLOCKS:
        yield from ((f"{name}.{number}", block.attn) for number, block in enumerate(getattr(transformer, name)))


def _layer_shapes(transformer: Any, _: Mapping[str, Tensor]) -> Shapes:
    dim, head_dim = transformer.inner_dim, transformer.config.attention_head_dim
    layer = {"to_k_ip.weight": (dim, dim), "to_v_ip.weight": (dim, dim), "norm_k_ip.weight": (head_dim,)}
    return {f"{name}.{part}": shape for name, _ in _blocks(transformer) for part, shape in layer.items()}


def _build_processors(transformer: Any, layers: Mapping[str, Tensor], _: int) -> dict[str, nn.Module]:
    sizes, processors = (transformer.inner_dim, transformer.config.attention_head_dim), {}
    for name, _attention in _blocks(transformer):
        kind = DoubleBlockAttnProcessor if name.startswith("transformer_blocks.") else SingleBlockAttnProcessor
        processors[f"{name}.attn.processor"] = build_with(select(layers, f"{name}."), kind, *sizes)
    return processors


def _layer_weights(transformer: Any) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, attention in _blocks(transformer):
        weights |= with_prefix(f"{name}.", attention.processor.state_dict())
    return weights


@torch.no_grad()
def _init_layers(transformer: Any) -> dict[str, Tensor]:
    """The keys of the text, and values of zero: untrained, an adapter changes nothing."""
    weights: dict[str, Tensor] = {}
    for name, attention in _blocks(transformer):
        dim = transformer.inner_dim
        double = name.startswith("transformer_blocks.")
        key = attention.add_k_proj.weight if double else attention.to_qkv_mlp_proj.weight[dim : 2 * dim]
        norm = attention.norm_added_k.weight if double else attention.norm_k.weight
        layer = {"to_k_ip": key.clone(), "to_v_ip": torch.zeros_like(key), "norm_k_ip": norm.clone()}
        weights |= {f"{name}.{part}.weight": tensor.float() for part, tensor in layer.items()}
    return weights


def _pipeline_embeddings(_: Tensor, _nobody: Tensor) -> Tensor:
    raise ValueError("embeddings for an adapter of FLUX.2, which diffusers does not load")


FLUX2 = AdaptedNetwork(
    projection="encoder_hid_proj",
    projection_types=("pooled", "plus", "full"),
    token_dim=lambda transformer: int(transformer.inner_dim),
    layer_shapes=_layer_shapes,
    build_processors=_build_processors,
    layer_weights=_layer_weights,
    pipeline_embeddings=_pipeline_embeddings,
    init_layers=_init_layers,
)


def joint_attention_kwargs(transformer: Any, image_embeddings: Tensor | None, num_txt_tokens: int) -> dict[str, Any] | None:
    """What Flux2Transformer2DModel takes for embeddings (B, M, D) or (B, M, T, D): B images, each with M photos of its own.

    num_txt_tokens: of the prompts, which stand before the image in the blocks with one stream.
    """
    if image_embeddings is None:
        return None
    (tokens,) = transformer.encoder_hid_proj([image_embeddings])  # (B, M, T, C)
    return {"photos": PhotoTokens(tokens.flatten(1, 2), num_txt_tokens)}
