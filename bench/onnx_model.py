"""ONNX models of one operator, written byte by byte: ONNX Runtime brings no way to make one, and the onnx package is
large. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ELEMENT_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.bool_): 9, np.dtype(np.float64): 11}
_IR_VERSION, _OPSET = 9, 20


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """An integer, a string or a message as field `number`."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _value(name: str, shape: Sequence[int] | None, dtype: np.dtype) -> bytes:
    """ValueInfoProto: a name with its type; without a shape, any."""
    tensor = _field(1, _ELEMENT_TYPES[dtype])
    if shape is not None:
        tensor += _field(2, b"".join(_field(1, _field(1, size)) for size in shape))
    return _field(1, name) + _field(2, _field(1, tensor))


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    """AttributeProto of an integer or of several."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + b"".join(_field(8, item) for item in value) + _field(20, 7)


def _constant(name: str, x: np.ndarray) -> bytes:
    """TensorProto: an array that belongs to the model."""
    dimensions = b"".join(_field(1, size) for size in x.shape)
    return dimensions + _field(2, _ELEMENT_TYPES[x.dtype]) + _field(8, name) + _field(9, x.tobytes())


def convolution(
    operator: str,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
) -> bytes:
    """A model y = operator(x) with a weight and a bias of its own; operator: Conv or ConvTranspose."""
    attributes = {"strides": stride, "pads": [*padding, *padding], "kernel_shape": weight.shape[2:], "group": groups}
    node = b"".join(_field(1, name) for name in ("x", "weight", "bias")) + _field(2, "y") + _field(4, operator)
    node += b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())
    graph = _field(1, node) + _field(2, operator)
    graph += _field(5, _constant("weight", weight)) + _field(5, _constant("bias", bias))
    graph += _field(11, _value("x", x.shape, x.dtype)) + _field(12, _value("y", None, x.dtype))
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))


def one_operator(operator: str, inputs: Sequence[np.ndarray], output_dtype: np.dtype) -> bytes:
    """A model y = operator(x0, x1, ...) for arrays of these shapes and dtypes."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = b"".join(_field(1, name) for name in names) + _field(2, "y") + _field(4, operator)
    graph = _field(1, node) + _field(2, operator)
    graph += b"".join(_field(11, _value(name, x.shape, x.dtype)) for name, x in zip(names, inputs, strict=True))
    graph += _field(12, _value("y", None, output_dtype))
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))
