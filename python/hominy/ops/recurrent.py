"""Recurrent layers over whole sequences: RNN, LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014).

`recurrent_layer` is one layer in one or two directions, one kernel forward and one backward; `recurrent` puts layers on
each other. Gradients of gradients go through the definition, written step by step with differentiable operators.

Sequences of a batch are rows. With lengths, row b takes part in steps 0 .. lengths[b] - 1; kernels want rows in falling
order of length, `recurrent` sorts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import TensorBase, is_grad_enabled, wrap
from ..autograd import grad as gradients_of
from ..backends import Declined, direct, run
from ..backends.reference_recurrent import GATES, STANDARD, Options
from .activation import elu, leaky_relu, relu, sigmoid, softplus, softsign, tanh, threshold
from .define import as_tensor, operator, require_floating
from .dropout import dropout
from .shape import cat, stack

# What a direction has, in the order of the backends; None where there is none.
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole")


def _directions(weights: Any) -> tuple[Any, ...]:
    """12 arrays as one or two tuples of six."""
    return (weights[:6],) if weights[6] is None else (weights[:6], weights[6:])


@operator(public=False)
def recurrent_layer(
    input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, peephole,
    w_ih_back, w_hh_back, b_ih_back, b_hh_back, w_hr_back, peephole_back,
    lengths, cell, options, batch_first, reverse, keep,
):  # fmt: skip
    """(y, h_n, c_n, what the gradient needs) of one layer; see `backends.reference_recurrent.recurrent`."""
    weights = (w_ih, w_hh, b_ih, b_hh, w_hr, peephole, w_ih_back, w_hh_back, b_ih_back, b_hh_back, w_hr_back,
               peephole_back)  # fmt: skip
    return run("recurrent", input, lengths, _directions(weights), h0, c0, cell, options, batch_first, reverse, keep)


@operator(public=False)
def recurrent_layer_backward(
    grad_y, grad_h, grad_c, input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, peephole,
    w_ih_back, w_hh_back, b_ih_back, b_hh_back, w_hr_back, peephole_back,
    y, kept, lengths, cell, options, batch_first, reverse, needs,
):  # fmt: skip
    """Gradients of the fifteen tensors that `recurrent_layer` takes; `needs`: 1 input, 2 weights, 4 h0, 8 c0."""
    weights = (w_ih, w_hh, b_ih, b_hh, w_hr, peephole, w_ih_back, w_hh_back, b_ih_back, b_hh_back, w_hr_back,
               peephole_back)  # fmt: skip
    dx, dweights, dh, dc = run(
        "recurrent_backward", grad_y, grad_h, grad_c, input, lengths, _directions(weights), h0, c0, y, kept, cell,
        options, batch_first, reverse, needs,
    )  # fmt: skip
    flat = [None] * 12
    if dweights is not None:
        flat[: 6 * len(dweights)] = [g for direction in dweights for g in direction]
    return (dx, dh, dc, *flat)


# --- the definition ---------------------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Any] = {
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: tanh(x),
    "relu": lambda x, a, b: relu(x),
    "leaky_relu": lambda x, a, b: leaky_relu(x, a),
    "thresholded_relu": lambda x, a, b: threshold(x, a, 0.0),
    "affine": lambda x, a, b: x * a + b,
    "scaled_tanh": lambda x, a, b: tanh(x * b) * a,
    "hard_sigmoid": lambda x, a, b: (x * a + b).clamp(0.0, 1.0),
    "elu": lambda x, a, b: elu(x, a),
    "softsign": lambda x, a, b: softsign(x),
    "softplus": lambda x, a, b: softplus(x),
}


def _step(x: Any, h: Any, c: Any, weights: Any, cell: str, options: Options) -> tuple[Any, Any]:
    """(h, c) after one step: the formulas of `backends.reference_recurrent`."""
    w_ih, w_hh, b_ih, b_hh, w_hr, peephole = weights
    given = options.activations or [(name, 0.0, 0.0) for name in STANDARD[cell]]

    def apply(which: int, value: Any) -> Any:
        if options.clip > 0:
            value = value.clamp(-options.clip, options.clip)
        name, alpha, beta = given[which]
        return _ACTIVATIONS[name](value, alpha, beta)

    from_x, from_h = x @ w_ih.t(), h @ w_hh.t()
    from_x = from_x if b_ih is None else from_x + b_ih
    from_h = from_h if b_hh is None else from_h + b_hh
    units = w_ih.shape[0] // GATES[cell]
    xs, hs = from_x.split(units, 1), from_h.split(units, 1)
    if cell == "gru":
        r, z = apply(0, xs[0] + hs[0]), apply(0, xs[1] + hs[1])
        if options.reset_before:
            candidate = (r * h) @ w_hh[2 * units :].t()
            candidate = candidate if b_hh is None else candidate + b_hh[2 * units :]
        else:
            candidate = r * hs[2]
        n = apply(1, xs[2] + candidate)
        return n + z * (h - n), None
    if cell != "lstm":
        return apply(0, from_x + from_h), None
    i, f, g, o = (a + b for a, b in zip(xs, hs, strict=True))
    if peephole is not None:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    i, g = apply(0, i), apply(1, g)
    c = (1.0 - i if options.coupled else apply(0, f)) * c + i * g
    o = apply(0, o if peephole is None else o + peephole[2] * c)
    h = o * apply(2, c)
    return (h if w_hr is None else h @ w_hr.t()), c


def _definition(tensors, lengths, cell, options, batch_first, reverse):
    """(y, h_n, c_n) on the tape, step by step."""
    input, h0, c0, *flat = tensors
    options = Options(*options) if options is not None else Options()
    weights = _directions(flat)
    packed = input.ndim == 2
    x = input.transpose(0, 1) if batch_first and not packed else input
    if packed:
        counts = [int((lengths > t).sum()) for t in range(int(lengths[0]))]
        steps = input.split(counts, 0)
        batch = len(lengths)
    else:
        batch = x.shape[1]
        counts = [batch if lengths is None else int((lengths > t).sum()) for t in range(x.shape[0])]
        steps = [x[t, :n] for t, n in enumerate(counts)]
    units, width = weights[0][0].shape[0] // GATES[cell], weights[0][1].shape[1]
    zeros = wrap(np.zeros((batch, max(units, width)), input.dtype))
    outputs, last_h, last_c = [], [], []
    for d, direction in enumerate(weights):
        h = zeros[:, :width] if h0 is None else h0[d]
        c = None if cell != "lstm" else zeros[:, :units] if c0 is None else c0[d]
        backwards = bool(d) if len(weights) == 2 else reverse
        found: list[Any] = [None] * len(steps)
        for t in reversed(range(len(steps))) if backwards else range(len(steps)):
            n = counts[t]
            if n == 0:
                found[t] = h[:0]
                continue
            new_h, new_c = _step(steps[t], h[:n], None if c is None else c[:n], direction, cell, options)
            found[t] = new_h
            h = new_h if n == batch else cat([new_h, h[n:]])
            c = new_c if c is None or n == batch else cat([new_c, c[n:]])
        outputs.append(found)
        last_h.append(h)
        last_c.append(c)
    rows = [parts[0] if len(parts) == 1 else cat(parts, 1) for parts in zip(*outputs, strict=True)]
    if packed:
        y = cat(rows) if rows else wrap(np.zeros((0, width * len(weights)), input.dtype))
    else:
        nothing = wrap(np.zeros((batch, width * len(weights)), input.dtype))
        rows = [row if len(row) == batch else cat([row, nothing[len(row) :]]) for row in rows]
        y = stack(rows) if rows else wrap(np.zeros((0, batch, width * len(weights)), input.dtype))
        y = y.transpose(0, 1) if batch_first else y
    return y, stack(last_h), None if cell != "lstm" else stack(last_c)


def _gradients(
    grad, needs, input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, peephole,
    w_ih_back, w_hh_back, b_ih_back, b_hh_back, w_hr_back, peephole_back,
    lengths, cell, options, batch_first, reverse, output_0, output_3,
):  # fmt: skip
    tensors = (input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, peephole, w_ih_back, w_hh_back, b_ih_back, b_hh_back,
               w_hr_back, peephole_back)  # fmt: skip
    if is_grad_enabled():
        results = _definition(tensors, lengths, cell, options, batch_first, reverse)
        used = [(result, slot) for result, slot in zip(results, grad, strict=False) if slot is not None]
        wanted = [tensor for i, tensor in enumerate(tensors) if needs >> i & 1]
        found = iter(
            gradients_of(
                [result for result, _ in used], wanted, [slot for _, slot in used], create_graph=True, allow_unused=True
            )
        )
        return [next(found) if needs >> i & 1 else None for i in range(len(tensors))]
    wanted_of = (needs & 1) | (2 if needs >> 3 else 0) | (4 if needs & 2 else 0) | (8 if needs & 4 else 0)
    return recurrent_layer_backward(*grad[:3], *tensors, output_0, output_3, lengths, cell, options, batch_first,
                                    reverse, wanted_of)  # fmt: skip


recurrent_layer.joint_gradient(
    "input h0 c0 w_ih w_hh b_ih b_hh w_hr peephole w_ih_back w_hh_back b_ih_back b_hh_back w_hr_back peephole_back",
    _gradients,
)


# --- layers on each other ---------------------------------------------------------------------------------------------


def _require_shape(name: str, argument: str, value: Any, expected: tuple[int, ...], meaning: str) -> None:
    if tuple(value.shape) != expected:
        raise ValueError(f"[{name}] {argument}: expected shape {expected}, {meaning}, got {tuple(value.shape)}")


def checked_lengths(name: str, lengths: Any, batch: int, steps: int | None) -> np.ndarray:
    """lengths as an int64 array.

    Raises:
        TypeError: they are no integers.
        ValueError: there are not `batch` of them, or one is below 1 or above `steps`.
    """
    values = np.asarray(lengths._array if isinstance(lengths, TensorBase) else lengths)
    if values.ndim != 1 or len(values) != batch:
        raise ValueError(f"[{name}] lengths: expected {batch} numbers, one a sequence, got shape {values.shape}")
    if values.dtype.kind not in "iu":
        if values.size:
            raise TypeError(f"[{name}] lengths: expected integers, got dtype {values.dtype}")
        values = values.astype(np.int64)
    for value in values.tolist():
        if value < 1 or (steps is not None and value > steps):
            bound = "at least 1" if steps is None else f"in [1, {steps}]"
            raise ValueError(f"[{name}] lengths: expected lengths {bound}, got {value}")
    return values.astype(np.int64)


def _by_form(
    name: str, prepared: Any, layer: Any, input: Any, lengths: Any, h0: Any, c0: Any, cell: str, options: Any,
    batch_first: bool,
) -> Any:  # fmt: skip
    """What `recurrent_layer` gives, not recorded, by weights packed ahead; None where there are none."""
    form = prepared.form(name, layer)
    if form is None:
        return None
    weights = tuple(tuple(None if w is None else w._array for w in direction) for direction in layer)
    h0, c0 = (None if state is None else state._array for state in (h0, c0))
    results = direct["recurrent"](
        input._array, lengths, weights, h0, c0, cell, options, batch_first, False, False, form
    )
    if type(results) is Declined:
        return None
    return tuple(None if array is None else wrap(array) for array in results)


def recurrent(
    name: str,
    input: Any,
    lengths: Any,
    h0: Any,
    c0: Any,
    layers: Any,
    cell: str,
    options: Any = None,
    batch_first: bool = False,
    dropout_between: float = 0.0,
    training: bool = False,
    prepared: Any = None,
) -> tuple[Any, Any, Any]:
    """(y, h_n, c_n) of recurrent layers on each other.

    input: (T, B, I), with batch_first (B, T, I); or packed (sum of lengths, I) with falling lengths. lengths: None, or
    an array of B in any order. layers: for each, its one or two directions, each six tensors (`WEIGHTS`) or None.
    h0: (layers * directions, B, P), c0 (layers * directions, B, H), None for zeros; h_n, c_n alike. prepared: for each
    layer a `PreparedRecurrent`, or None.

    Raises:
        TypeError, ValueError: dtypes or shapes that do not fit each other.
        RuntimeError: weights that are prepared changed, or gradients are to be recorded.
    """
    x = require_floating(name, "input", input._array if isinstance(input, TensorBase) else input)
    input = as_tensor(name, "input", input)
    packed = x.ndim == 2
    directions = len(layers[0])
    w_ih, w_hh = layers[0][0][0], layers[0][0][1]
    batch = len(lengths) if packed else x.shape[0 if batch_first else 1]
    if x.shape[-1] != w_ih.shape[1]:
        raise ValueError(f"[{name}] input: expected input_size={w_ih.shape[1]} features, got shape {x.shape}")
    if x.dtype != w_ih.dtype:
        raise TypeError(f"[{name}] input: expected dtype {w_ih.dtype}, the weights', got {x.dtype}")
    states = len(layers) * directions
    units = w_ih.shape[0] // GATES[cell]
    for argument, state, size in (("h0", h0, w_hh.shape[1]), ("c0", c0, units)):
        if state is not None:
            _require_shape(name, argument, state, (states, batch, size), "(layers * directions, batch, size)")
            if state.dtype != x.dtype:
                raise TypeError(f"[{name}] {argument}: expected dtype {x.dtype}, got {state.dtype}")

    order = None
    if lengths is not None and not packed:
        lengths = checked_lengths(name, lengths, batch, x.shape[1 if batch_first else 0])
        if (lengths[1:] > lengths[:-1]).any():
            order = np.argsort(-lengths, kind="stable")
            lengths = lengths[order]
            input = input[order] if batch_first else input[:, order]
            h0, c0 = (None if state is None else state[:, order] for state in (h0, c0))

    flat = [weight for layer in layers for direction in layer for weight in direction]
    keep = is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, h0, c0, *flat))
    if prepared is not None and keep:
        raise RuntimeError(
            f"[{name}] weights: expected a layer that is not prepared where gradients are recorded; use "
            "hominy.no_grad(), or end the preparation by its handle's remove()"
        )
    last_h, last_c = [], []
    for number, layer in enumerate(layers):
        if number and dropout_between > 0 and training:
            input = dropout(input, dropout_between)
        part = slice(number * directions, (number + 1) * directions)
        states_of = (None if h0 is None else h0[part], None if c0 is None else c0[part])
        results = None if prepared is None else _by_form(
            name, prepared[number], layer, input, lengths, *states_of, cell, options, batch_first
        )  # fmt: skip
        if results is None:
            weights = [weight for direction in layer for weight in direction] + [None] * (12 - 6 * directions)
            results = recurrent_layer(input, *states_of, *weights, lengths, cell, options, batch_first, False, keep)
        input, h, c, _ = results
        last_h.append(h)
        last_c.append(c)
    h_n = last_h[0] if len(last_h) == 1 else cat(last_h)
    c_n = None if cell != "lstm" else last_c[0] if len(last_c) == 1 else cat(last_c)
    if order is not None:
        back = np.argsort(order)
        input = input[back] if batch_first else input[:, back]
        h_n, c_n = h_n[:, back], None if c_n is None else c_n[:, back]
    return input, h_n, c_n
