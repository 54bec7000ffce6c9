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


def one_operator(operator: str, inputs: Sequence[np.ndarray], output_dtype: np.dtype) -> bytes:
    """A model y = operator(x0, x1, ...) for arrays of these shapes and dtypes."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = b"".join(_field(1, name) for name in names) + _field(2, "y") + _field(4, operator)
    graph = _field(1, node) + _field(2, operator)
    graph += b"".join(_field(11, _value(name, x.shape, x.dtype)) for name, x in zip(names, inputs, strict=True))
    graph += _field(12, _value("y", None, output_dtype))
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))
