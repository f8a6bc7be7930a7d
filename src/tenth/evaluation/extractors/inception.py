"""The InceptionV3 of FID and Inception Score: images -> 2048 pooled features and 1008 logits, in one pass.

This is the network of the TensorFlow graph of 2015, not that of today's libraries: average pools leave the padding out, the
last block pools by maximum, there are 1008 classes, and images become 299 x 299 as TensorFlow 1 resized them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.core.types import FeatureArray, Pixels

INPUT_PIXELS, NUM_FEATURES, NUM_CLASSES = 299, 2048, 1008
BATCH_NORM_EPS = 1e-3  # of the batch normalisations
BATCH_IMAGES = 8  # in one pass: as fast as more of them, in a fifth of a gigabyte


@dataclass(frozen=True)
class Conv:
    """A convolution, its batch normalization and ReLU. kernel: height, width. valid: no padding."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


Step = Conv | tuple[Conv, Conv]


@dataclass(frozen=True)
class Block:
    """Parallel paths, each from the block's input; where a path ends in a pair, both convolutions take what precedes it.

    pool: 'average' or 'max' over 3 x 3. pool_conv: the convolution of the pool's path; None: the pool halves the resolution.
    """

    name: str
    paths: tuple[tuple[Step, ...], ...]
    pool: str
    pool_conv: Conv | None = None


def _parallel_convs(step: Step) -> tuple[Conv, ...]:
    return step if isinstance(step, tuple) else (step,)


def _square(name: str, channels: int, side: int = 3, stride: int = 1, *, valid: bool = False) -> Conv:
    return Conv(name, channels, (side, side), stride, valid or stride > 1)


def _wide(name: str, channels: int, length: int = 7) -> Conv:
    return Conv(name, channels, (1, length))


def _tall(name: str, channels: int, length: int = 7) -> Conv:
    return Conv(name, channels, (length, 1))


# Names are those of the file. Szegedy et al. 2015, arXiv:1512.00567: figures 5, 6, 7 and 10 and table 1.
# fmt: off
STEM = (
    (_square("Conv2d_1a_3x3", 32, stride=2), _square("Conv2d_2a_3x3", 32, valid=True), _square("Conv2d_2b_3x3", 64)),
    (Conv("Conv2d_3b_1x1", 80), _square("Conv2d_4a_3x3", 192, valid=True)),
)  # each row ends in a max pool


def _block_a(name: str, pool_channels: int) -> Block:
    return Block(name, (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), _square("branch5x5_2", 64, 5)),
        (Conv("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96), _square("branch3x3dbl_3", 96)),
    ), "average", Conv("branch_pool", pool_channels))


def _block_c(name: str, inner: int) -> Block:
    return Block(name, (
        (Conv("branch1x1", 192),),
        (Conv("branch7x7_1", inner), _wide("branch7x7_2", inner), _tall("branch7x7_3", 192)),
        (Conv("branch7x7dbl_1", inner), _tall("branch7x7dbl_2", inner), _wide("branch7x7dbl_3", inner),
         _tall("branch7x7dbl_4", inner), _wide("branch7x7dbl_5", 192)),
    ), "average", Conv("branch_pool", 192))


def _block_e(name: str, pool: str) -> Block:
    return Block(name, (
        (Conv("branch1x1", 320),),
        (Conv("branch3x3_1", 384), (_wide("branch3x3_2a", 384, 3), _tall("branch3x3_2b", 384, 3))),
        (Conv("branch3x3dbl_1", 448), _square("branch3x3dbl_2", 384),
         (_wide("branch3x3dbl_3a", 384, 3), _tall("branch3x3dbl_3b", 384, 3))),
    ), pool, Conv("branch_pool", 192))


BLOCKS = (
    _block_a("Mixed_5b", 32), _block_a("Mixed_5c", 64), _block_a("Mixed_5d", 64),
    Block("Mixed_6a", (
        (_square("branch3x3", 384, stride=2),),
        (Conv("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96), _square("branch3x3dbl_3", 96, stride=2)),
    ), "max"),
    _block_c("Mixed_6b", 128), _block_c("Mixed_6c", 160), _block_c("Mixed_6d", 160), _block_c("Mixed_6e", 192),
    Block("Mixed_7a", (
        (Conv("branch3x3_1", 192), _square("branch3x3_2", 320, stride=2)),
        (Conv("branch7x7x3_1", 192), _wide("branch7x7x3_2", 192), _tall("branch7x7x3_3", 192),
         _square("branch7x7x3_4", 192, stride=2)),
    ), "max"),
    _block_e("Mixed_7b", "average"),
    _block_e("Mixed_7c", "max"),  # a slip of 2015 that every FID since repeats
)
# fmt: on


def filter_shapes() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Name and filter shape (out, in, height, width) of the 94 convolutions, in the order of the file."""
    in_channels = 3
    for conv in (conv for row in STEM for conv in row):
        yield conv.name, (conv.channels, in_channels, *conv.kernel)
        in_channels = conv.channels
    for block in BLOCKS:
        out_channels = 0 if block.pool_conv else in_channels  # a pool without a convolution keeps its channels
        for path in (*block.paths, (block.pool_conv,)) if block.pool_conv else block.paths:
            path_channels = in_channels
            for step in path:
                yield from (
                    (f"{block.name}.{conv.name}", (conv.channels, path_channels, *conv.kernel))
                    for conv in _parallel_convs(step)
                )
                path_channels = sum(conv.channels for conv in _parallel_convs(step))
            out_channels += path_channels
        in_channels = out_channels


class Inception:
    """The network with its weights: an Extractor of rows (N, 3056), features and logits side by side.

    name: "name@digest". tensors: those of the standard file, by its names. disclaimer: '' or, where the weights are not the
    standard ones, a sentence that goes wherever a figure goes.
    """

    feature_dim = NUM_FEATURES + NUM_CLASSES

    def __init__(self, name: str, tensors: Mapping[str, Tensor], disclaimer: str = "") -> None:
        self.name, self.disclaimer = name, disclaimer
        self._folded_weights = {conv: _fold_batch_norm(tensors, conv) for conv, _ in filter_shapes()}
        self._classes = tensors["fc.weight"].float().T  # (2048, 1008); the logits of IS leave the bias out

    def __call__(self, images: Sequence[Pixels]) -> FeatureArray:
        """N images (H, W, 3) uint8 RGB, of any sizes -> (N, 3056).

        Equals torch-fidelity 0.4.0 within single precision: FID and IS of both agree to 1e-6 (tests/evaluate/).
        """
        threads = torch.get_num_threads()
        size = max(1, min(BATCH_IMAGES, -(-len(images) // threads)))
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        try:
            # A batch per thread, instead of threads that wait for each other at each of 94 convolutions.
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return np.concatenate([np.empty((0, self.feature_dim)), *pool.map(self._forward, batches)])  # (N, 3056)
        finally:
            torch.set_num_threads(threads)  # the pool's threads changed it for the whole process

    @torch.inference_mode()
    def _forward(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        return self.forward(preprocess(images)).numpy()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 299, 299), about [-1, 1] -> (B, 3056)."""
        for row in STEM:
            for conv in row:
                x = self._conv(x, conv.name, conv)
            x = F.max_pool2d(x, 3, 2)
        for block in BLOCKS:
            x = self._block(x, block)  # in the end (B, 2048, 8, 8)
        features = x.mean((2, 3))  # (B, 2048)
        return torch.cat([features, features @ self._classes], 1)  # (B, 3056)

    def _block(self, x: Tensor, block: Block) -> Tensor:
        outputs = []
        for path in block.paths:
            y = x
            for step in path:
                branches = [self._conv(y, f"{block.name}.{conv.name}", conv) for conv in _parallel_convs(step)]
                y = branches[0] if len(branches) == 1 else torch.cat(branches, 1)
            outputs.append(y)
        return torch.cat([*outputs, self._pool(x, block)], 1)

    def _pool(self, x: Tensor, block: Block) -> Tensor:
        if block.pool_conv is None:
            return F.max_pool2d(x, 3, 2)
        name = f"{block.name}.{block.pool_conv.name}"
        if block.pool == "max":
            return self._conv(F.max_pool2d(x, 3, 1, 1), name, block.pool_conv)
        # A mean over places and a sum over channels commute: the mean comes second, on a tenth of the channels.
        return F.avg_pool2d(F.conv2d(x, *self._folded_weights[name]), 3, 1, 1, count_include_pad=False).relu_()

    def _conv(self, x: Tensor, name: str, conv: Conv) -> Tensor:
        padding = (0, 0) if conv.valid else (conv.kernel[0] // 2, conv.kernel[1] // 2)
        return F.conv2d(x, *self._folded_weights[name], conv.stride, padding).relu_()


def preprocess(images: Sequence[Pixels]) -> Tensor:
    """Images (H, W, 3) -> (B, 3, 299, 299), about [-1, 1], channels last in memory."""
    return ((torch.stack([resize_tf1(image) for image in images]) - 128) / 128).permute(0, 3, 1, 2)


def features_of(rows: FeatureArray) -> FeatureArray:
    """The 2048 features for FID and KID, of rows (N, 3056)."""
    return rows[:, :NUM_FEATURES]


def logits_of(rows: FeatureArray) -> FeatureArray:
    """The 1008 logits without bias for the Inception Score, of rows (N, 3056)."""
    return rows[:, NUM_FEATURES:]


def resize_tf1(image: Pixels, side: int = INPUT_PIXELS) -> Tensor:
    """(H, W, 3) uint8 -> (side, side, 3) float32, from 0 to 255, bilinear as in TensorFlow 1: pixel 0 stays at 0.

    There is no antialiasing. Equal to torch-fidelity 0.4.0, bit for bit.
    """
    pixels = torch.from_numpy(np.array(image))  # a copy: what is read-only cannot be a tensor
    (top, bottom, down), (left, right, across) = (_interpolation_indices(length, side) for length in image.shape[:2])
    lines = pixels[:, left].float()  # (H, side, 3)
    lines += (pixels[:, right].float() - lines) * across[:, None]
    upper, lower = lines[top], lines[bottom]  # (side, side, 3)
    return upper + (lower - upper) * down[:, None, None]


def _interpolation_indices(length: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `side` positions: the pixel before, the pixel after, and the position between them in [0, 1)."""
    positions = torch.arange(side, dtype=torch.float32) * torch.tensor(length / side, dtype=torch.float32)
    before = positions.long()
    return before, (before + 1).clamp_max(length - 1), positions - before


def _fold_batch_norm(tensors: Mapping[str, Tensor], conv: str) -> tuple[Tensor, Tensor]:
    """Weight (out, in, h, w) and bias (out,) of the convolution with its batch normalization folded in."""
    weight, (gain, bias, mean, variance) = (
        tensors[f"{conv}.conv.weight"].double(),
        (tensors[f"{conv}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")),
    )
    scale = gain / (variance + BATCH_NORM_EPS).sqrt()  # (out,)
    filters = (weight * scale[:, None, None, None]).float()
    return filters.contiguous(memory_format=torch.channels_last), (bias - mean * scale).float()
