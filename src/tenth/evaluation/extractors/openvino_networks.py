"""Inception and dlib's recognizer compiled for CPUs by OpenVINO (the extra `fast`): the same rows, within a tolerance.

Each core computes batches of its own. Names differ from those of the exact networks, so that kept features never mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.core.optional_packages import openvino_core
from tenth.core.types import FeatureArray, Photo, Pixels
from tenth.data.faces.descriptors import CHIP_PIXELS, face_chip
from tenth.data.faces.detection import find_faces
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer, l2_normalize, validate_image
from tenth.evaluation.extractors.inception import INPUT_PIXELS, Inception, preprocess
from tenth.models.compiled import PRECISION_HINTS, convert, is_available
from tenth.models.encoders.dlib_resnet import load_dlib_net

BATCH_IMAGES = 8


class CompiledNetwork:
    """A module (B, 3, S, S) -> (B, D), compiled. precision: "fp32", or "bf16" where the processor computes in it.

    Raises ModelError if OpenVINO is not installed.
    """

    def __init__(self, module: nn.Module, side: int, precision: str) -> None:
        if not is_available():
            action = "Install the extra: pip install 'tenth[fast]'"
            raise ModelError("OpenVINO is not installed", "the feature backend openvino needs it", action)
        core, example = openvino_core(), torch.zeros(BATCH_IMAGES, 3, side, side)
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "fp32"
        network = convert(module, {"images": example})
        network.reshape(list(example.shape))
        threads = torch.get_num_threads()
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        self.precision, self._shape = precision, tuple(example.shape)
        self._network = core.compile_model(network, "CPU", settings)

    def __call__(self, batch: Tensor) -> npt.NDArray[np.float32]:
        """At most BATCH_IMAGES images -> (B, D); for any threads."""
        padded = np.zeros(self._shape, np.float32)
        padded[: len(batch)] = batch.numpy()
        request = self._network.create_infer_request()
        request.infer([padded], share_inputs=True)
        rows: npt.NDArray[np.float32] = request.get_output_tensor(0).data[: len(batch)].copy()
        return rows


class FastInception:
    """`Inception` in bfloat16 where the processor computes in it: FID within 1 %. An Extractor."""

    def __init__(self, inception: Inception) -> None:
        self._network = CompiledNetwork(_Forward(inception.forward), INPUT_PIXELS, "bf16")
        self.feature_dim, self.disclaimer = inception.feature_dim, inception.disclaimer
        self.name = f"{inception.name}-openvino-{self._network.precision}"

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        return _in_batches(lambda batch: self._network(preprocess(batch)), images, self.feature_dim)


class FastDlibRecognizer:
    """`DlibRecognizer` in single precision: rows within 1e-4. A FaceEmbedder."""

    feature_dim, threshold, licence = DlibRecognizer.feature_dim, None, ""

    def __init__(self, recognizer: DlibRecognizer) -> None:
        self._network = CompiledNetwork(load_dlib_net(), CHIP_PIXELS, "fp32")
        self.center, self.name = recognizer.center, f"{recognizer.name}-openvino-fp32"

    def __call__(self, pixels: Sequence[Pixels]) -> FeatureArray:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            chips = list(pool.map(_chip, pixels))
        places = [place for place, chip in enumerate(chips) if chip is not None]
        rows = np.full((len(chips), self.feature_dim), np.nan)  # (N, 128)
        rows[places] = _in_batches(self._describe, [chips[place] for place in places], self.feature_dim) - self.center
        return l2_normalize(rows)

    def _describe(self, chips: Sequence[Any]) -> npt.NDArray[np.float32]:
        return self._network(torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float())


class _Forward(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def _chip(image: Pixels) -> Pixels | None:
    faces = find_faces(validate_image(image))
    return face_chip(Photo(image, "", face=faces[0])) if faces else None


def _in_batches(run: Callable[[Sequence[Any]], npt.NDArray[np.float32]], items: Sequence[Any], dim: int) -> FeatureArray:
    """The rows (N, dim) of the items, whose batches are computed by a thread each."""
    batches = [items[start : start + BATCH_IMAGES] for start in range(0, len(items), BATCH_IMAGES)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return np.concatenate([np.empty((0, dim)), *pool.map(run, batches)])
