"""The InceptionV3 of FID and IS: pictures -> rows of 2048 pooled features and 1008 logits, by one pass of the network.

This is the network of the TensorFlow graph of 2015, not the one of today's libraries: average pools leave the border out, the
last block pools by maximum, there are 1008 classes, and pictures become 299 x 299 as TensorFlow 1 resized them.
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

from tenth.core.types import Pixels

Rows = npt.NDArray[np.float64]
SIDE, FEATURES, CLASSES = 299, 2048, 1008
EPSILON = 1e-3  # of the batch normalisations
BATCH_IMAGES = 8  # in one pass: as fast as more of them, in a fifth of a gigabyte


@dataclass(frozen=True)
class Conv:
    """A convolution, its batch normalisation and ReLU. kernel: height, width. valid: nothing is put around the input."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


Step = Conv | tuple[Conv, Conv]


@dataclass(frozen=True)
class Block:
    """Paths side by side, each from the block's input; where a path ends in a pair, both of it read what comes before.

    pool: 'average' or 'max' over 3 x 3. pooled: the convolution beside it; None where the pool halves the picture.
    """

    name: str
    paths: tuple[tuple[Step, ...], ...]
    pool: str
    pooled: Conv | None = None


def _pair(step: Step) -> tuple[Conv, ...]:
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


def _block_a(name: str, pooled: int) -> Block:
    return Block(name, (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), _square("branch5x5_2", 64, 5)),
        (Conv("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96), _square("branch3x3dbl_3", 96)),
    ), "average", Conv("branch_pool", pooled))


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
    width = 3
    for conv in (conv for row in STEM for conv in row):
        yield conv.name, (conv.channels, width, *conv.kernel)
        width = conv.channels
    for block in BLOCKS:
        ends = 0 if block.pooled else width  # a pool without a convolution keeps its channels
        for path in (*block.paths, (block.pooled,)) if block.pooled else block.paths:
            inner = width
            for step in path:
                yield from ((f"{block.name}.{conv.name}", (conv.channels, inner, *conv.kernel)) for conv in _pair(step))
                inner = sum(conv.channels for conv in _pair(step))
            ends += inner
        width = ends


class Inception:
    """The network with its weights: an Extractor of rows (N, 3056), features and logits side by side.

    name: "name@digest". tensors: those of the standard file, by its names. meaningless: '' or, where the weights are not the
    standard ones, a sentence that goes wherever a figure goes.
    """

    width = FEATURES + CLASSES

    def __init__(self, name: str, tensors: Mapping[str, Tensor], meaningless: str = "") -> None:
        self.name, self.meaningless = name, meaningless
        self._folded = {conv: _folded(tensors, conv) for conv, _ in filter_shapes()}
        self._classes = tensors["fc.weight"].float().T  # (2048, 1008); the logits of IS leave the bias out

    def __call__(self, pictures: Sequence[Pixels]) -> Rows:
        """N pictures (H, W, 3) uint8 RGB, of any sizes -> (N, 3056).

        Equals torch-fidelity 0.4.0 within single precision: FID and IS of both agree to 1e-6 (tests/evaluate/).
        """
        threads = torch.get_num_threads()
        size = max(1, min(BATCH_IMAGES, -(-len(pictures) // threads)))
        batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        try:
            # A pass for each thread, instead of threads that wait for each other at each of 94 convolutions.
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return np.concatenate([np.empty((0, self.width)), *pool.map(self._pass, batches)])  # (N, 3056)
        finally:
            torch.set_num_threads(threads)  # what one thread sets counts for all that come later

    @torch.inference_mode()
    def _pass(self, pictures: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        x = torch.stack([resized(picture) for picture in pictures])  # (B, 299, 299, 3)
        x = ((x - 128) / 128).permute(0, 3, 1, 2)  # (B, 3, 299, 299), channels last in memory
        for row in STEM:
            for conv in row:
                x = self._conv(x, conv.name, conv)
            x = F.max_pool2d(x, 3, 2)
        for block in BLOCKS:
            x = self._block(x, block)  # in the end (B, 2048, 8, 8)
        features = x.mean((2, 3))  # (B, 2048)
        return torch.cat([features, features @ self._classes], 1).numpy()  # (B, 3056)

    def _block(self, x: Tensor, block: Block) -> Tensor:
        ends = []
        for path in block.paths:
            y = x
            for step in path:
                found = [self._conv(y, f"{block.name}.{conv.name}", conv) for conv in _pair(step)]
                y = found[0] if len(found) == 1 else torch.cat(found, 1)
            ends.append(y)
        return torch.cat([*ends, self._pooled(x, block)], 1)

    def _pooled(self, x: Tensor, block: Block) -> Tensor:
        if block.pooled is None:
            return F.max_pool2d(x, 3, 2)
        name = f"{block.name}.{block.pooled.name}"
        if block.pool == "max":
            return self._conv(F.max_pool2d(x, 3, 1, 1), name, block.pooled)
        # A mean over places and a sum over channels commute: the mean comes second, on a tenth of the channels.
        return F.avg_pool2d(F.conv2d(x, *self._folded[name]), 3, 1, 1, count_include_pad=False).relu_()

    def _conv(self, x: Tensor, name: str, conv: Conv) -> Tensor:
        padding = (0, 0) if conv.valid else (conv.kernel[0] // 2, conv.kernel[1] // 2)
        return F.conv2d(x, *self._folded[name], conv.stride, padding).relu_()


def features_of(rows: Rows) -> Rows:
    """The 2048 features for FID and KID, of rows (N, 3056)."""
    return rows[:, :FEATURES]


def logits_of(rows: Rows) -> Rows:
    """The 1008 logits without bias for the Inception Score, of rows (N, 3056)."""
    return rows[:, FEATURES:]


def resized(picture: Pixels, side: int = SIDE) -> Tensor:
    """(H, W, 3) uint8 -> (side, side, 3) float32, from 0 to 255, bilinear as in TensorFlow 1: pixel 0 stays at 0.

    Nothing is smoothed before, so that a picture larger than `side` is sampled. The same bits as torch-fidelity 0.4.0.
    """
    pixels = torch.from_numpy(np.array(picture))  # a copy: what is read-only cannot be a tensor
    (top, bottom, down), (left, right, across) = (_places(length, side) for length in picture.shape[:2])
    lines = pixels[:, left].float()  # (H, side, 3)
    lines += (pixels[:, right].float() - lines) * across[:, None]
    upper, lower = lines[top], lines[bottom]  # (side, side, 3)
    return upper + (lower - upper) * down[:, None, None]


def _places(length: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `side` places: the pixel before it, the one after it, and how far between them it lies."""
    places = torch.arange(side, dtype=torch.float32) * torch.tensor(length / side, dtype=torch.float32)
    before = places.long()
    return before, (before + 1).clamp_max(length - 1), places - before


def _folded(tensors: Mapping[str, Tensor], conv: str) -> tuple[Tensor, Tensor]:
    """Filters (out, in, h, w) and bias (out,) that do what the convolution and its batch normalisation do."""
    weight, (gain, bias, mean, variance) = (
        tensors[f"{conv}.conv.weight"].double(),
        (tensors[f"{conv}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")),
    )
    scale = gain / (variance + EPSILON).sqrt()  # (out,)
    filters = (weight * scale[:, None, None, None]).float()
    return filters.contiguous(memory_format=torch.channels_last), (bias - mean * scale).float()
