"""CLIP score: how well images fit their prompts, by a CLIP model of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from tenth.core.errors import ModelError
from tenth.core.types import FeatureArray, Pixels
from tenth.models.encoders.clip import load_clip
from tenth.models.model_folder import TOKENIZER, first_line, sanitized_folder

BATCH_IMAGES = 16
CLIP_SCORE_SCALE = 2.5  # of the cosine: Hessel et al. 2021, arXiv:2104.08718, section 3


class ClipScorer:
    """CLIP's image embeddings (N, D), to compare with its text embeddings of prompts, which are cut at 77 tokens.

    folder: a complete CLIP model in the layout of transformers; not the image encoder of a method that it scores. Adherence is
    the CLIP score, 2.5 * max(cosine, 0); the score matrix has cosines. Raises ModelError if the folder has no such model.
    """

    kind = "CLIP"
    gives_shares = False

    def __init__(self, folder: Path) -> None:
        needed = "a CLIP model with its text encoder is needed"
        self.model, self.processor, digest = load_clip(CLIPModel, folder, needed)
        try:
            with sanitized_folder(folder, {"": TOKENIZER}) as safe:
                self.tokenizer = CLIPTokenizer.from_pretrained(safe, local_files_only=True)
            self._encode_text(["a photo of a person"])
        except ModelError:
            raise
        except Exception as problem:  # whatever a library raises of a foreign file
            raise ModelError(f"{folder} has no tokenizer: {first_line(problem)}", needed, "Put it there whole") from problem
        self.feature_dim = int(self.model.config.projection_dim)
        self.name = f"clip-score@{digest}"

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        """(N, D) of length 1."""
        rows = [np.empty((0, self.feature_dim))]
        for start in range(0, len(images), BATCH_IMAGES):
            batch = list(images[start : start + BATCH_IMAGES])
            pixels = self.processor(batch, return_tensors="pt", input_data_format="channels_last").pixel_values
            rows.append(_l2_normalize(self.model.visual_projection(self.model.vision_model(pixels).pooler_output)))
        return np.concatenate(rows)

    def adherence(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """CLIP score of each image with its own prompt, (N,)."""
        known = list(dict.fromkeys(prompts))
        texts = self._encode_text(known)[[known.index(prompt) for prompt in prompts]]
        scores: FeatureArray = CLIP_SCORE_SCALE * np.maximum((rows * texts).sum(1), 0)
        return scores

    def score_matrix(self, rows: FeatureArray, prompts: Sequence[str]) -> FeatureArray:
        """Cosines (N, P)."""
        return rows @ self._encode_text(prompts).T

    def _encode_text(self, prompts: Sequence[str]) -> FeatureArray:
        """(P, D) of length 1."""
        tokens = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        return _l2_normalize(self.model.text_projection(self.model.text_model(**tokens).pooler_output))


def _l2_normalize(features: Tensor) -> FeatureArray:
    rows: FeatureArray = torch.nn.functional.normalize(features.double(), dim=-1).numpy()
    return rows
