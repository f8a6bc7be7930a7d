"""Tiny ONNX networks of 16 x 16 crops, written byte by byte: onnx.proto's messages, without its library."""

from __future__ import annotations

POINTS = [[4.0, 4.0], [12.0, 4.0], [8.0, 8.0], [5.0, 12.0], [11.0, 12.0]]  # of a face, in a crop of 16 x 16


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: a number, or a text or message with its length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _tensor(name: str, *shape: int | str) -> bytes:
    dims = b"".join(_field(1, _field(2 if isinstance(length, str) else 1, length)) for length in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _sides(name: str, value: int) -> bytes:
    return _field(5, _field(1, name) + _field(8, value) + _field(8, value) + _field(20, 7))


def quadrants() -> bytes:
    """The mean of each quadrant: (N, 3, 16, 16) -> (N, 12)."""
    pool = _field(1, "face") + _field(2, "means") + _field(4, "AveragePool") + _sides("kernel_shape", 8) + _sides("strides", 8)
    flatten = _field(1, "means") + _field(2, "embedding") + _field(4, "Flatten")
    return _model([pool, flatten], _tensor("face", "n", 3, 16, 16), [_tensor("embedding", "n", 12)])


def mean_of_crop(batch: int | None) -> bytes:
    """The mean of all values: (N, 3, 16, 16) -> (N, 1). batch: the only N that it takes; None: any."""
    pool = _field(1, "input.1") + _field(2, "means") + _field(4, "GlobalAveragePool")
    flatten = _field(1, "means") + _field(2, "rows") + _field(4, "Flatten")
    mean = _field(1, "rows") + _field(2, "score") + _field(4, "ReduceMean") + _axis(1)
    count = batch or "n"
    return _model([pool, flatten, mean], _tensor("input.1", count, 3, 16, 16), [_tensor("score", count, 1)])


def several_outputs() -> bytes:
    """As `mean_of_crop`, which also gives the mean of each channel."""
    pool = _field(1, "input.1") + _field(2, "means") + _field(4, "GlobalAveragePool")
    flatten = _field(1, "means") + _field(2, "rows") + _field(4, "Flatten")
    mean = _field(1, "rows") + _field(2, "score") + _field(4, "ReduceMean") + _axis(1)
    outputs = [_tensor("score", "n", 1), _tensor("rows", "n", 3)]
    return _model([pool, flatten, mean], _tensor("input.1", "n", 3, 16, 16), outputs)


def _axis(axis: int) -> bytes:
    return _field(5, _field(1, "axes") + _field(8, axis) + _field(20, 7))


def _model(nodes: list[bytes], entry: bytes, outputs: list[bytes]) -> bytes:
    """ModelProto {ir_version 1, graph 7, opset_import 8} of GraphProto {node 1, name 2, input 11, output 12}."""
    ends = _field(11, entry) + b"".join(_field(12, output) for output in outputs)
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "toy") + ends
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
