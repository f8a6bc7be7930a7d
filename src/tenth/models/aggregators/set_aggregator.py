"""The set aggregator: learned weights for any number of photos. It starts as the consensus mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenth.models.aggregators.pooling import TEMPERATURE, agreement_cosines, checked, exact


@dataclass(frozen=True)
class SetSettings:
    """Of `SetAggregator`."""

    hidden: int = 64  # width of the photos' features
    heads: int = 4
    layers: int = 2
    content: bool = True  # whether scores read the embeddings themselves, or only how the photos agree and their norms
    residual: bool = True  # whether the result may leave the photos' span; otherwise only their weights are learnt


class SetAggregator(nn.Module):
    """A mean of any number of photos with learnt weights, plus a residual; untrained it is exactly the consensus mean.

    The weights are consensus's with a learnt score added, which begins at zero; the residual has a gain that begins at zero.
    Features of photos see one another, as in Lee et al. 2019 (Set Transformer, arXiv:1810.00825); weights that a person can
    read, as in Yang et al. 2017 (NAN, arXiv:1603.05474).
    """

    most = None  # any number of photos

    def __init__(self, width: int, settings: SetSettings | None = None) -> None:
        super().__init__()
        self.width, self.settings = width, settings or SetSettings()
        hidden = self.settings.hidden
        self.enter = nn.Linear(width + 2, hidden)  # beside each embedding its agreement with the others and its norm
        layer = nn.TransformerEncoderLayer(
            hidden, self.settings.heads, 2 * hidden, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.photos = nn.TransformerEncoder(layer, self.settings.layers, enable_nested_tensor=False)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would count for all photos alike: softmax takes it out again
        nn.init.zeros_(self.score.weight)
        if self.settings.residual:
            self.residual = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, width))
            self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, embeddings: Tensor, present: Tensor | None = None) -> Tensor:
        """(B, K, D), present (B, K) bool: which rows are photos -> (B, 1, D)."""
        with torch.autocast(embeddings.device.type, enabled=False):
            features, weights = self._weighed(embeddings, present)
            pooled = self._restored(embeddings, weights, present)
            if self.settings.residual:
                pooled = pooled + self.gain * self.residual((weights[..., None] * features).sum(1))
        return pooled[:, None]

    @torch.no_grad()
    def pool(self, embeddings: Tensor) -> Tensor:
        """(K, D) -> (1, D), on the rows' device and of their type, whatever the module's are."""
        rows = checked(embeddings)
        pooled: Tensor = self(rows[None].to(self.score.weight))[0].to(rows.device)
        return pooled.to(rows.dtype) if self.settings.residual else exact(rows, pooled)

    @torch.no_grad()
    def weights(self, embeddings: Tensor) -> Tensor:
        """How much each photo counts, (K,), summing to one."""
        weights: Tensor = self._weighed(checked(embeddings)[None].to(self.score.weight), None)[1][0]
        return weights.to(embeddings.device)

    def _weighed(self, embeddings: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (B, K, H) and weights (B, K), zero where no photo is."""
        present = torch.ones(embeddings.shape[:2], dtype=torch.bool) if present is None else present
        present = present.to(embeddings.device)
        cosines = agreement_cosines(embeddings, present)  # (B, K)
        norms = embeddings.norm(dim=-1) / self.width**0.5
        read = torch.cat([self.settings.content * embeddings, cosines[..., None], norms[..., None]], -1)  # (B, K, D + 2)
        features = self.photos(self.enter(read), src_key_padding_mask=~present)
        scores = TEMPERATURE * cosines + self.score(features)[..., 0]
        weights: Tensor = torch.softmax(scores.masked_fill(~present, -torch.inf), -1)
        return features, weights

    @staticmethod
    def _restored(embeddings: Tensor, weights: Tensor, present: Tensor | None) -> Tensor:
        """The weighted mean with the photos' mean norm, (B, D), as consensus restores it."""
        counted = torch.ones_like(weights) if present is None else present.to(weights)
        mean = (weights[..., None] * embeddings).sum(1)
        norm = (embeddings.norm(dim=-1) * counted).sum(1) / counted.sum(1)
        restored: Tensor = mean * (norm / mean.norm(dim=-1).clamp(min=1e-12))[:, None]
        return restored
