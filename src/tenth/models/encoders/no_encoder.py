"""What stands for the image encoder of a model that has no adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.types import Photo


class NoEncoder:
    """An encoder of nothing: it says that it gives no embeddings, and raises ModelError when it is asked for any."""

    name, embedding_dim, num_tokens = "", 0, 0
    crops_faces = False
    dlib_mean: Tensor | None = None

    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, photos: Sequence[Photo]) -> Tensor:  # noqa: ARG002 - refused
        """Raises ModelError, as all others."""
        self._refuse()

    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor:  # noqa: ARG002 - refused
        """Of the network."""
        self._refuse()

    def standardize(self, raw: Tensor) -> Tensor:  # noqa: ARG002 - refused
        """Of its normalization."""
        self._refuse()

    def null_embedding(self) -> Tensor:
        """Of guidance."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        needed = "a method of ip-adapter's needs an adapter and its image encoder"
        raise ModelError(f"{self.model} has no adapter", needed, "Choose a method without one, such as dreambooth-lora")
