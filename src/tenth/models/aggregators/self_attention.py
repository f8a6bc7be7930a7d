"""The self-attention aggregator: a fixed number of photos, whose embeddings attend to each other, in no order.

Trained aggregators are modules over batches, (B, K, D) -> (B, M, D), and pool one person's photos by `pool`, (K, D) -> (M, D).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tenth.core.config import config_dataclass
from tenth.models.aggregators.pooling import validate_embeddings

MAX_DIM = 1 << 16  # far above any trained aggregator's: a file's module is built before shapes are compared
Dim = Annotated[int, Field(ge=1, le=MAX_DIM)]


@config_dataclass
class SelfAttentionConfig:
    """Of `SelfAttentionAggregator`."""

    heads: Dim = 4
    num_photos: Dim = 9  # always so many: further ones are dropped, missing ones resampled from those there are
    pooling: Literal["rows", "mean"] = "rows"  # the attended photos side by side, tokens for each; or their mean, of one


class SelfAttentionAggregator(nn.Module):
    """One residual layer of self-attention over the photos; its output starts at zero, so untrained it changes nothing.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; normalised first: Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, embedding_dim: int, config: SelfAttentionConfig | None = None) -> None:
        super().__init__()
        self.embedding_dim, self.config = embedding_dim, config or SelfAttentionConfig()
        self.norm = nn.LayerNorm(embedding_dim)
        self.attention = nn.MultiheadAttention(embedding_dim, self.config.heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    @property
    def max_photos(self) -> int:
        """At most so many photos are used: the first ones in file-name order."""
        return self.config.num_photos

    def forward(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - all rows are photos
        """(B, photos, D) -> (B, photos, D), or (B, 1, D) for the pooling "mean". mask: as of `SetAggregator`, all true."""
        with torch.autocast(embeddings.device.type, enabled=False):
            normed = self.norm(embeddings)
            attended, _ = self.attention(normed, normed, normed, need_weights=False)
            attended = embeddings + attended
        pooled: Tensor = attended if self.config.pooling == "rows" else attended.mean(1, keepdim=True)
        return pooled

    @torch.no_grad()
    def pool(self, embeddings: Tensor, seed: int = 0) -> Tensor:
        """(K, D) -> (M, D), of the device and type of the embeddings, of exactly `num_photos` photos (`resample_to`)."""
        sampled = resample_to(validate_embeddings(embeddings, 2), self.config.num_photos, seed)  # (photos, D)
        attended: Tensor = self(sampled[None].to(self.norm.weight))[0]
        return attended.to(embeddings)

    def photo_weights(self, embeddings: Tensor) -> Tensor | None:  # noqa: ARG002 - of `SetAggregator`
        """None: attention gives no weight of a photo."""
        return None


def resample_to(embeddings: Tensor, count: int, seed: int) -> Tensor:
    """Exactly `count` rows (count, D): the first ones of more; of fewer all, and the rest sampled from them with replacement.

    Which are sampled depends on the rows' values and the seed, not on their order.
    """
    rows = embeddings[:count]
    rows = rows[sorted(range(len(rows)), key=lambda row: rows[row].tolist())]
    indices = torch.randint(len(rows), (count - len(rows),), generator=torch.Generator().manual_seed(seed))
    return torch.cat([rows, rows[indices]])
