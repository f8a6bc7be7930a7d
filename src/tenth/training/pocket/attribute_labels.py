"""What a table says of photos' face attributes, and the loss of a classifier that learns it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.core.errors import DataError
from tenth.data.captions.attributes import read_attributes
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, attribute_labels
from tenth.data.faces.crops import FaceCrops

MIN_POSITIVE_RATE = 0.02  # of an attribute: rarer ones are weighted as if they had this rate


@dataclass(frozen=True, eq=False)
class AttributeLabels:
    """values: (N, S), 1 yes, 0 no, NaN unknown. weights: (N, S), of unknown ones 0."""

    values: Tensor
    weights: Tensor

    @classmethod
    def read(cls, table: Path, faces: FaceCrops) -> AttributeLabels:
        """Of each face, both classes of an attribute weighing the same in all. Raises DataError if the table has none."""
        attributes, numbers = read_attributes(table), {True: 1.0, False: 0.0, None: float("nan")}
        files = [entry.file for entry in faces.entries]
        if not any(file in attributes for file in files):
            found = f"{table} knows none of {len(files)} photos"
            raise DataError(found, "the table of these photos is needed", "Check its path")
        unknown: dict[str, bool | None] = dict.fromkeys(FACE_ATTRIBUTES)
        labels = [attribute_labels(attributes[file]) if file in attributes else unknown for file in files]
        values = torch.tensor([[numbers[row[name]] for name in FACE_ATTRIBUTES] for row in labels])
        positive_rate = values.nanmean(0).nan_to_num(0.5).clamp(MIN_POSITIVE_RATE, 1 - MIN_POSITIVE_RATE)
        weights = torch.where(values > 0, 0.5 / positive_rate, 0.5 / (1 - positive_rate)) * ~values.isnan()
        return cls(values, weights)

    def loss(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Cross-entropy of logits (B, S) over the known labels of faces (B,). A scalar, the same for all parts of a batch."""
        losses = F.binary_cross_entropy_with_logits(logits, self.values[indices].nan_to_num(), reduction="none")
        weight_per_face = self.weights.sum() / len(self.weights)
        return (losses * self.weights[indices]).sum() / (len(indices) * weight_per_face)
