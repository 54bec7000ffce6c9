"""ONNX models of one operator or a few, written byte by byte: ONNX Runtime brings no way to make one, and the onnx
package is large. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""

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


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    """AttributeProto of an integer, a string or several integers."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    if isinstance(value, str):
        return _field(1, name) + _field(4, value) + _field(20, 3)
    return _field(1, name) + b"".join(_field(8, item) for item in value) + _field(20, 7)


def _constant(name: str, x: np.ndarray) -> bytes:
    """TensorProto: an array that belongs to the model."""
    dimensions = b"".join(_field(1, size) for size in x.shape)
    return dimensions + _field(2, _ELEMENT_TYPES[x.dtype]) + _field(8, name) + _field(9, x.tobytes())


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: int | str | Sequence[int]) -> bytes:
    """NodeProto of one result."""
    names = b"".join(_field(1, name) for name in inputs) + _field(2, output)
    return names + _field(4, operator) + b"".join(_field(5, _attribute(*item)) for item in attributes.items())


def _model(nodes: Sequence[bytes], constants: dict[str, np.ndarray], inputs: dict[str, np.ndarray],
           output_dtype: np.dtype) -> bytes:  # fmt: skip
    """ModelProto of a graph whose result is y; `inputs` give shapes and dtypes."""
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "graph")
    graph += b"".join(_field(5, _constant(name, x)) for name, x in constants.items())
    graph += b"".join(_field(11, _value(name, x.shape, x.dtype)) for name, x in inputs.items())
    graph += _field(12, _value("y", None, output_dtype))
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))


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
    node = _node(operator, ("x", "weight", "bias"), "y", strides=stride, pads=[*padding, *padding],
                 kernel_shape=weight.shape[2:], group=groups)  # fmt: skip
    return _model([node], {"weight": weight, "bias": bias}, {"x": x}, x.dtype)


def recurrent(operator: str, x: np.ndarray, layers: Sequence[dict[str, np.ndarray]]) -> bytes:
    """A model y = operator(x), layer on layer; operator: RNN, LSTM or GRU (its product before its reset).

    x: (T, B, I). layers: for each, the operator's W, R and B. y: (T, B, directions * hidden_size).
    """
    nodes, constants = [], {"sizes": np.array([0, 0, -1])}
    for i, layer in enumerate(layers):
        constants |= {f"{name}{i}": array for name, array in layer.items()}
        attributes: dict[str, int | str] = {"hidden_size": layer["R"].shape[2]}
        if len(layer["R"]) == 2:
            attributes["direction"] = "bidirectional"
        if operator == "GRU":
            attributes["linear_before_reset"] = 1
        nodes += [
            _node(operator, (f"y{i - 1}" if i else "x", f"W{i}", f"R{i}", f"B{i}"), f"h{i}", **attributes),
            _node("Transpose", (f"h{i}",), f"t{i}", perm=(0, 2, 1, 3)),
            _node("Reshape", (f"t{i}", "sizes"), "y" if i + 1 == len(layers) else f"y{i}"),
        ]
    return _model(nodes, constants, {"x": x}, x.dtype)


def one_operator(operator: str, inputs: Sequence[np.ndarray], output_dtype: np.dtype) -> bytes:
    """A model y = operator(x0, x1, ...) for arrays of these shapes and dtypes."""
    named = {f"x{i}": x for i, x in enumerate(inputs)}
    return _model([_node(operator, tuple(named), "y")], {}, named, output_dtype)
