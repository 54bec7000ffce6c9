"""Weights of recurrent layers in other libraries' forms: ONNX's operators RNN, LSTM and GRU, and Keras's layers.

Gates follow each other along the dimension of gates * hidden_size, in each library's own order (g and n, the
candidates, by that one's name):

            hominy, PyTorch    ONNX          Keras
    LSTM    i, f, g, o         i, o, f, c    i, f, c, o
    GRU     r, z, n            z, r, h       z, r, h
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import TensorBase, no_grad
from ...creation import from_numpy
from ...utils.arguments import choice, integer, wrong

Array = np.ndarray

_ORDERS = {
    "RNN": {"pytorch": "h", "onnx": "h", "keras": "h"},
    "LSTM": {"pytorch": "ifgo", "onnx": "iofg", "keras": "ifgo"},
    "GRU": {"pytorch": "rzn", "onnx": "zrn", "keras": "zrn"},
}


def reorder_gates(x: Any, mode: str, source: str, target: str, axis: int = 0) -> Array:
    """A copy of x with its gates in the order of `target` instead of that of `source`.

    Args:
        x: an array or tensor whose dimension `axis` holds the gates, gates * hidden_size long.
        mode: "RNN", "LSTM" or "GRU".
        source, target: "pytorch" (hominy's order too), "onnx" or "keras".

    Raises:
        ValueError: mode, source, target or axis is none of these, or the dimension is no multiple of the gates.
    """
    where = "reorder_gates"
    orders = _ORDERS[choice(where, "mode", mode, _ORDERS)]
    old = orders[choice(where, "source", source, orders)]
    new = orders[choice(where, "target", target, orders)]
    array = _array(where, "x", x)
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(wrong(where, "axis", f"a dimension of x, {array.ndim} of them", axis))
    if array.shape[axis] % len(old):
        raise ValueError(f"[{where}] x: expected a multiple of {len(old)} along axis {axis}, got shape {array.shape}")
    gates = np.split(array, len(old), axis)
    return np.concatenate([gates[old.index(gate)] for gate in new], axis)


def _array(where: str, argument: str, value: Any) -> Array:
    array = value._array if isinstance(value, TensorBase) else value
    if not isinstance(array, np.ndarray):
        raise TypeError(wrong(where, argument, "a NumPy array or a tensor", type(value).__name__))
    return array


def _directions(where: str, layer: Any, number: int) -> list[dict[str, Any]]:
    """The parameters of each direction of one layer: weight_ih, weight_hh, and bias_ih, bias_hh or None."""
    from ..recurrent import GRU, LSTM, RNN

    if not isinstance(layer, (RNN, LSTM, GRU)):
        raise TypeError(wrong(where, "layer", "an RNN, an LSTM or a GRU", type(layer).__name__))
    if layer.proj_size:
        raise ValueError(wrong(where, "layer", "no projection, which the other form has not", layer))
    if integer(where, "number", number, lowest=0) >= layer.num_layers:
        raise ValueError(wrong(where, "number", f"below num_layers={layer.num_layers}", number))
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    return [{name: getattr(layer, f"{name}_l{number}{suffix}", None) for name in names} for suffix in suffixes]


def _store(where: str, pairs: list[tuple[str, Any, Array]]) -> None:
    """Copy arrays into parameters, all or none."""
    for argument, parameter, array in pairs:
        if array.shape != tuple(parameter.shape):
            raise ValueError(f"[{where}] {argument}: expected {tuple(parameter.shape)} for each direction in "
                             f"PyTorch's form, got {array.shape}")  # fmt: skip
    with no_grad():
        for _, parameter, array in pairs:
            parameter.copy_(from_numpy(np.ascontiguousarray(array, dtype=parameter.dtype)))


def onnx_weights(layer: Any, number: int = 0) -> dict[str, Array]:
    """Inputs W, R and B of the ONNX operator RNN, LSTM or GRU that computes what layer `number` of `layer` does.

    W: (directions, gates * hidden_size, input_size), R: (directions, gates * hidden_size, hidden_size),
    B: (directions, 2 * gates * hidden_size), the biases of W, then those of R; absent where the layer has none. A GRU
    needs the attribute linear_before_reset=1, two directions need direction="bidirectional", an RNN of ReLU needs
    activations=["Relu"] for each direction. The operator's Y is (T, directions, B, hidden_size).

    Raises:
        TypeError: layer is no recurrent layer. ValueError: it has a projection, or no layer `number`.
    """
    found = _directions("onnx_weights", layer, number)

    def form(name: str) -> list[Array]:
        return [reorder_gates(each[name], layer.mode, "pytorch", "onnx") for each in found]

    result = {"W": np.stack(form("weight_ih")), "R": np.stack(form("weight_hh"))}
    if layer.bias:
        result["B"] = np.concatenate([np.stack(form("bias_ih")), np.stack(form("bias_hh"))], axis=1)
    return result


def load_onnx_weights(layer: Any, W: Any, R: Any, B: Any = None, number: int = 0) -> None:
    """Copy inputs W, R and B of an ONNX operator into layer `number` of `layer`: the inverse of `onnx_weights`.

    Without B biases become 0. A GRU must have been computed with linear_before_reset=1: the layer does.

    Raises:
        TypeError: layer is no recurrent layer, or W, R or B no array.
        ValueError: it has a projection, no layer `number`, no bias though there is B; or a shape does not fit.
    """
    where = "load_onnx_weights"
    found = _directions(where, layer, number)
    if B is not None and not layer.bias:
        raise ValueError(wrong(where, "B", "None for a layer without bias", "biases"))
    given = [("W", _array(where, "W", W), 3), ("R", _array(where, "R", R), 3)]
    given += [] if B is None else [("B", _array(where, "B", B), 2)]
    for argument, array, dimensions in given:
        if array.ndim != dimensions or len(array) != len(found):
            expected = f"{dimensions} dimensions, the first of {len(found)} directions"
            raise ValueError(f"[{where}] {argument}: expected {expected}, got shape {array.shape}")
    pairs = []
    for d, parameters in enumerate(found):
        size = len(parameters["weight_ih"])
        parts = [("W", "weight_ih", given[0][1][d]), ("R", "weight_hh", given[1][1][d])]
        if layer.bias:
            both = np.zeros(2 * size) if B is None else given[2][1][d]
            parts += [("B", "bias_ih", both[:size]), ("B", "bias_hh", both[size:])]
        for argument, name, array in parts:
            if len(array) == size:  # else _store refuses it
                array = reorder_gates(array, layer.mode, "onnx", "pytorch")
            pairs.append((argument, parameters[name], array))
    _store(where, pairs)


def keras_weights(layer: Any, number: int = 0) -> list[Array]:
    """What `set_weights` of Keras's SimpleRNN, LSTM or GRU takes to compute what layer `number` of `layer` does.

    For each direction (Bidirectional's order: forward, backward): kernel (input_size, gates * hidden_size), recurrent
    kernel (hidden_size, gates * hidden_size) and, where the layer has biases, bias: (gates * hidden_size,), the sum of
    both; of a GRU (2, gates * hidden_size), with reset_after=True, Keras's default. The sum is rounded to the dtype.

    Raises:
        TypeError: layer is no recurrent layer. ValueError: it has a projection, or no layer `number`.
    """
    result = []
    for each in _directions("keras_weights", layer, number):
        parts = {name: reorder_gates(value, layer.mode, "pytorch", "keras")
                 for name, value in each.items() if value is not None}  # fmt: skip
        result += [np.ascontiguousarray(parts["weight_ih"].T), np.ascontiguousarray(parts["weight_hh"].T)]
        if layer.bias:
            biases = [parts["bias_ih"], parts["bias_hh"]]
            result.append(np.stack(biases) if layer.mode == "GRU" else biases[0] + biases[1])
    return result


def load_keras_weights(layer: Any, weights: Any, number: int = 0) -> None:
    """Copy what `get_weights` of Keras's SimpleRNN, LSTM or GRU gave into layer `number` of `layer`.

    weights: as `keras_weights` returns them, of a Bidirectional both directions'. A single bias goes to bias_ih, and
    bias_hh becomes 0; without biases both become 0. A GRU must have been made with reset_after=True, Keras's default:
    the layer has no other form.

    Raises:
        TypeError: layer is no recurrent layer, or one of the weights no array.
        ValueError: it has a projection, no layer `number`, no bias though there are some; their number or a shape does
            not fit.
    """
    where = "load_keras_weights"
    found = _directions(where, layer, number)
    arrays = [_array(where, f"weights[{i}]", value) for i, value in enumerate(weights)]
    each = len(arrays) // len(found)
    if each not in ((2, 3) if layer.bias else (2,)) or each * len(found) != len(arrays):
        expected = f"{'2 or 3' if layer.bias else '2'} arrays a direction, {len(found)} of them"
        raise ValueError(f"[{where}] weights: expected {expected}, got {len(arrays)}")
    pairs = []
    for d, parameters in enumerate(found):
        kernel, recurrent, *rest = arrays[d * each : (d + 1) * each]
        size = len(parameters["weight_ih"])
        parts = [("weight_ih", kernel.T), ("weight_hh", recurrent.T)]
        if layer.bias:
            bias = rest[0] if rest else np.zeros((2, size) if layer.mode == "GRU" else size)
            shape = (2, size) if layer.mode == "GRU" else (size,)
            if bias.shape != shape:
                which = "bias, of a GRU with reset_after=True" if layer.mode == "GRU" else "bias"
                raise ValueError(f"[{where}] {which}: expected shape {shape}, got {bias.shape}")
            parts += zip(("bias_ih", "bias_hh"), bias if layer.mode == "GRU" else (bias, np.zeros(size)), strict=True)
        for name, array in parts:
            if array.ndim and len(array) == size:  # else _store refuses it
                array = reorder_gates(array, layer.mode, "keras", "pytorch")
            pairs.append((name, parameters[name], array))
    _store(where, pairs)
