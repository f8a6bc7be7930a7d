"""dlib's face recognizer as a differentiable network. Source: dlib's dnn_face_recognition_ex.cpp (Boost licence)."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.data.faces.descriptors import CHIP_PADDING, CHIP_PIXELS, RECOGNIZER_WEIGHTS
from tenth.data.faces.detection import CROP_PADDING, CROP_SIZE, face_model_path

MEAN = (122.782, 117.001, 104.298)  # RGB, which its input layer takes off; then it divides by 256
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))  # width, blocks, does the first halve


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; with downsampling, it is a 2 x 2 mean, and missing channels are zeros."""

    def __init__(self, in_channels: int, out_channels: int, downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2 if downsample else 1, padding=0 if downsample else 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        y: Tensor = self.conv2(F.relu(self.conv1(x)))
        shortcut = F.avg_pool2d(x, 2) if self.downsample else x
        size = [max(one, other) for one, other in zip(shortcut.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_zero_pad(shortcut, size) + _zero_pad(y, size))


class DlibNet(nn.Module):
    """Aligned chips (B, 3, 150, 150) of 0 to 255 -> dlib's descriptors (B, 128). Affine layers are part of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        widths = [32, *(width for width, _, _ in STAGES)]
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        blocks: list[nn.Module] = []
        self.stage_ends = [0]  # how many blocks come before each stage, and how many there are
        for before, (width, count, halves) in zip(widths, STAGES, strict=False):
            blocks += [ResidualBlock(before, width, halves), *(ResidualBlock(width, width, False) for _ in range(count - 1))]
            self.stage_ends.append(len(blocks))
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(256, 128, bias=False)
        self.mean = nn.Buffer(torch.tensor(MEAN)[:, None, None], persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        descriptors, _ = self.forward_features(chips)
        return descriptors

    def forward_features(self, chips: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Descriptors, and what each stage but the last finds: (B, 32, 35, 35), (B, 64, 17, 17) and so on, four of them."""
        *features, last = self.stage_features(chips, len(STAGES))
        descriptors: Tensor = self.fc(last.mean((2, 3)))
        return descriptors, features

    def stage_features(self, chips: Tensor, count: int) -> list[Tensor]:
        """What each of the first `count` stages finds; the others are not computed."""
        x = F.max_pool2d(F.relu(self.stem((chips - self.mean) / 256)), 3, 2)
        features: list[Tensor] = []
        for start, end in itertools.pairwise(self.stage_ends[: count + 1]):
            x = self.blocks[start:end](x)
            features.append(x)
        return features


def load_dlib_net(path: Path | None = None) -> DlibNet:
    """The network with the weights of dlib's file, frozen. Raises ModelError if the file is of another layout."""
    path = path or face_model_path(RECOGNIZER_WEIGHTS)
    net = DlibNet()
    layers = [each for each in net.modules() if isinstance(each, nn.Conv2d)]
    data = path.read_bytes()
    try:
        with torch.no_grad():
            convolutions, scales = _tensors(data, b"con_4"), _tensors(data, b"affine_")
            for layer, values, scale in zip(layers, convolutions, scales, strict=True):
                size = layer.weight.numel()
                gamma, beta = scale.chunk(2)
                layer.weight.copy_(values[:size].view_as(layer.weight) * gamma[:, None, None, None])
                layer.bias.copy_(values[size:] * gamma + beta)  # type: ignore[union-attr]
            (fc_weight,) = _tensors(data, b"fc_2", num_skipped=2)
            net.fc.weight.copy_(fc_weight.view(256, 128).T)
    except (ValueError, RuntimeError, IndexError) as problem:
        found, needed = (
            f"{path} is not laid out as dlib's recognizer: {problem}",
            "the file of face-recognition-models is needed",
        )
        raise ModelError(found, needed, "Run `pip install --force-reinstall face-recognition-models`") from problem
    net.eval().requires_grad_(False)
    return net


def crops_to_chips(crops: Tensor) -> Tensor:
    """The pocket model's crops (B, 3, 128, 128) in [-1, 1] -> dlib's chips (B, 3, 150, 150), 0 to 255: the middle, enlarged."""
    visible = CROP_SIZE * (1 + 2 * CHIP_PADDING) / (1 + 2 * CROP_PADDING)  # 96 pixels
    margin = round((CROP_SIZE - visible) / 2)
    middle = crops[..., margin:-margin, margin:-margin]
    larger = F.interpolate(middle, size=CHIP_PIXELS, mode="bilinear", align_corners=False)
    return (larger.clamp(-1, 1) + 1) * 127.5


def _tensors(data: bytes, layer: bytes, num_skipped: int = 0) -> list[Tensor]:
    """The first tensor after each mention of a layer: `num_skipped` numbers, version, four sizes, then little-endian floats."""
    found = []
    for mention in re.finditer(re.escape(layer), data):
        offset, sizes = mention.end(), []
        for _ in range(num_skipped + 5):
            length = data[offset]
            sizes.append(int.from_bytes(data[offset + 1 : offset + 1 + length], "little"))
            offset += 1 + length
        count = int(np.prod(sizes[-4:]))
        found.append(torch.from_numpy(np.frombuffer(data, "<f4", count, offset).copy()))
    return found


def _zero_pad(x: Tensor, size: list[int]) -> Tensor:
    """Zeros after the last channel, row and column, up to `size`."""
    padding = [count for axis in (3, 2, 1) for count in (0, size[axis - 1] - x.shape[axis])]
    return F.pad(x, padding) if any(padding) else x
