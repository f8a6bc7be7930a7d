"""The set aggregator: learned weights for any number of photos. It starts as the consensus mean."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tenth.core.config import config_dataclass
from tenth.models.aggregators.pooling import TEMPERATURE, keep_identical_rows_exact, leave_one_out_cosines, validate_embeddings
from tenth.models.aggregators.self_attention import Dim


@config_dataclass
class SetAggregatorConfig:
    """Of `SetAggregator`."""

    hidden_dim: Dim = 64  # width of the photos' features
    heads: Dim = 4
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    use_embeddings: bool = True  # whether scores read the embeddings themselves, or only how the photos agree and their norms
    use_residual: bool = True  # whether the result may leave the photos' span; otherwise only their weights are trained


class SetAggregator(nn.Module):
    """A mean of any number of photos with learned weights, plus a residual; untrained it is exactly the consensus mean.

    A learned score, which starts at zero, is added to the logits of the consensus weights. Sources: of attention between photos
    Lee et al. 2019 (Set Transformer, arXiv:1810.00825), of weights of photos Yang et al. 2017 (NAN, arXiv:1603.05474).
    """

    max_photos = None  # any number of photos

    def __init__(self, embedding_dim: int, config: SetAggregatorConfig | None = None) -> None:
        super().__init__()
        self.embedding_dim, self.config = embedding_dim, config or SetAggregatorConfig()
        hidden = self.config.hidden_dim
        self.enter = nn.Linear(embedding_dim + 2, hidden)  # beside each embedding its agreement with the others and its norm
        heads = self.config.heads
        layer = nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, 0.0, "gelu", batch_first=True, norm_first=True)
        self.photos = nn.TransformerEncoder(layer, self.config.layers, enable_nested_tensor=False)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would count for all photos alike: softmax takes it out again
        nn.init.zeros_(self.score.weight)
        if self.config.use_residual:
            self.residual = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, embedding_dim))
            self.residual_scale = nn.Parameter(torch.zeros(()))

    def forward(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, K, D) -> (B, 1, D). mask: (B, K) bool, which rows are photos."""
        with torch.autocast(embeddings.device.type, enabled=False):
            features, weights = self._features_and_weights(embeddings, mask)
            # The weighted mean with the photos' mean norm, as consensus restores it.
            counted = torch.ones_like(weights) if mask is None else mask.to(weights)
            mean = (weights[..., None] * embeddings).sum(1)  # (B, D)
            norm = (embeddings.norm(dim=-1) * counted).sum(1) / counted.sum(1)
            pooled: Tensor = mean * (norm / mean.norm(dim=-1).clamp(min=1e-12))[:, None]
            if self.config.use_residual:
                pooled = pooled + self.residual_scale * self.residual((weights[..., None] * features).sum(1))
        return pooled[:, None]

    @torch.no_grad()
    def pool(self, embeddings: Tensor) -> Tensor:
        """(K, D) -> (1, D), on the rows' device and of their type, whatever the module's are."""
        valid = validate_embeddings(embeddings, 2)
        pooled: Tensor = self(valid[None].to(self.score.weight))[0].to(valid.device)
        return pooled.to(valid.dtype) if self.config.use_residual else keep_identical_rows_exact(valid, pooled)

    @torch.no_grad()
    def photo_weights(self, embeddings: Tensor) -> Tensor:
        """How much each photo counts, (K,), summing to one."""
        valid = validate_embeddings(embeddings, 2)
        _, weights = self._features_and_weights(valid[None].to(self.score.weight), None)  # (1, K)
        return weights[0].to(embeddings.device)

    def _features_and_weights(self, embeddings: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (B, K, H) and weights (B, K), zero where no photo is."""
        mask = torch.ones(embeddings.shape[:2], dtype=torch.bool) if mask is None else mask
        mask = mask.to(embeddings.device)
        cosines = leave_one_out_cosines(embeddings, mask)  # (B, K)
        norms = embeddings.norm(dim=-1) / self.embedding_dim**0.5
        inputs = torch.cat([self.config.use_embeddings * embeddings, cosines[..., None], norms[..., None]], -1)  # (B, K, D + 2)
        features = self.photos(self.enter(inputs), src_key_padding_mask=~mask)
        scores = TEMPERATURE * cosines + self.score(features)[..., 0]
        weights: Tensor = torch.softmax(scores.masked_fill(~mask, -torch.inf), -1)
        return features, weights
