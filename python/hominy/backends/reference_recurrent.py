"""Recurrent layers in NumPy: the specification, never optimised. Everything is computed in float64 and rounded once.

One layer, one or two directions. Rows are sequences, sorted by length; row b takes part in steps 0 .. lengths[b] - 1,
so the rows of a step are the first ones. A reversed direction starts each row at its own last step. The formulas stand
in `_Cell`; `csrc/cpu/recurrent.hpp` has them in one place.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
STANDARD: dict[str, tuple[str, ...]] = {
    "rnn_tanh": ("tanh",),
    "rnn_relu": ("relu",),
    "lstm": ("sigmoid", "tanh", "tanh"),
    "gru": ("sigmoid", "tanh"),
}


def _sigmoid(x: Array) -> Array:
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


# name -> (value, slope), each of the argument and the activation's alpha and beta; ONNX's definitions.
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (lambda x, a, b: _sigmoid(x), lambda x, a, b: _sigmoid(x) * _sigmoid(-x)),
    "tanh": (lambda x, a, b: np.tanh(x), lambda x, a, b: 1 - np.tanh(x) ** 2),
    "relu": (lambda x, a, b: np.maximum(x, 0), lambda x, a, b: (x > 0) * 1.0),
    "leaky_relu": (lambda x, a, b: np.where(x < 0, a * x, x), lambda x, a, b: np.where(x > 0, 1.0, a)),
    "thresholded_relu": (lambda x, a, b: np.where(x > a, x, 0), lambda x, a, b: (x > a) * 1.0),
    "affine": (lambda x, a, b: a * x + b, lambda x, a, b: np.full_like(x, a)),
    "scaled_tanh": (lambda x, a, b: a * np.tanh(b * x), lambda x, a, b: a * b * (1 - np.tanh(b * x) ** 2)),
    "hard_sigmoid": (
        lambda x, a, b: np.clip(a * x + b, 0, 1),
        lambda x, a, b: np.where((a * x + b > 0) & (a * x + b < 1), a, 0.0),
    ),
    "elu": (
        lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
        lambda x, a, b: np.where(x > 0, 1.0, a * np.exp(np.minimum(x, 0))),
    ),
    "softsign": (lambda x, a, b: x / (1 + abs(x)), lambda x, a, b: 1 / (1 + abs(x)) ** 2),
    "softplus": (lambda x, a, b: np.logaddexp(0, x), lambda x, a, b: _sigmoid(x)),
}


class Options(NamedTuple):
    """What makes a cell other than the standard one; see `hominy.nn.LSTM`, ONNX's operators."""

    activations: Any = None
    clip: float = 0.0
    coupled: bool = False
    reset_before: bool = False
    keep_every: int = 1


class _Cell:
    """One step of one direction and its gradient, for n rows. State: h (n, P), c (n, H) or None."""

    def __init__(self, cell: str, weights: Any, options: Any) -> None:
        self.kind = cell
        self.options = Options(*options) if options is not None else Options()
        exact: list[Any] = [None if w is None else w.astype(np.float64) for w in weights]
        self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_hr, self.peephole = exact
        self.hidden = self.w_ih.shape[0] // GATES[cell]
        given = self.options.activations
        self.activations = given if given is not None else tuple((name, 0.0, 0.0) for name in STANDARD[cell])
        self.grads: list[Any] = [None if w is None else np.zeros(w.shape) for w in weights]

    def _clipped(self, x: Array) -> Array:
        clip = self.options.clip
        return np.clip(x, -clip, clip) if clip > 0 else x

    def _apply(self, which: int, x: Array) -> Array:
        name, alpha, beta = self.activations[which]
        return ACTIVATIONS[name][0](self._clipped(x), alpha, beta)

    def _slope(self, which: int, x: Array) -> Array:
        name, alpha, beta = self.activations[which]
        slope = ACTIVATIONS[name][1](self._clipped(x), alpha, beta)
        clip = self.options.clip
        return slope * (abs(x) <= clip) if clip > 0 else slope

    def _gates(self, x: Array, h: Array) -> tuple[list[Array], list[Array]]:
        """The shares of x and h in each gate's argument."""
        count = GATES[self.kind]
        from_x = x @ self.w_ih.T + (0 if self.b_ih is None else self.b_ih)
        from_h = h @ self.w_hh.T + (0 if self.b_hh is None else self.b_hh)
        return np.split(from_x, count, axis=1), np.split(from_h, count, axis=1)

    def step(self, x: Array, h: Array, c: Array | None) -> tuple[Array, Array | None, Any]:
        """(h, c, what the gradient needs) of the next step."""
        xs, hs = self._gates(x, h)
        if self.kind == "lstm":
            return self._lstm(x, h, c, xs, hs)
        if self.kind == "gru":
            return self._gru(x, h, xs, hs)
        a = xs[0] + hs[0]
        return self._apply(0, a), None, (x, h, a)

    def _lstm(self, x: Array, h: Array, c: Any, xs: list[Array], hs: list[Array]) -> Any:
        a_i, a_f, a_g, a_o = (a + b for a, b in zip(xs, hs, strict=True))
        if self.peephole is not None:
            a_i, a_f = a_i + self.peephole[0] * c, a_f + self.peephole[1] * c
        i, g = self._apply(0, a_i), self._apply(1, a_g)
        f = 1 - i if self.options.coupled else self._apply(0, a_f)
        new = f * c + i * g
        if self.peephole is not None:
            a_o = a_o + self.peephole[2] * new
        o, squashed = self._apply(0, a_o), self._apply(2, new)
        y = o * squashed
        out = y if self.w_hr is None else y @ self.w_hr.T
        return out, new, (x, h, c, a_i, a_f, a_g, a_o, i, f, g, o, new, squashed, y)

    def _gru(self, x: Array, h: Array, xs: list[Array], hs: list[Array]) -> Any:
        a_r, a_z = xs[0] + hs[0], xs[1] + hs[1]
        r, z = self._apply(0, a_r), self._apply(0, a_z)
        if self.options.reset_before:
            units = self.hidden
            bias = 0 if self.b_hh is None else self.b_hh[2 * units :]
            a_n = xs[2] + (r * h) @ self.w_hh[2 * units :].T + bias
        else:
            a_n = xs[2] + r * hs[2]
        n = self._apply(1, a_n)
        return n + z * (h - n), None, (x, h, a_r, a_z, a_n, r, z, n, hs[2])

    def _to_inputs(self, x: Array, h: Array, of_x: list[Array], of_h: list[Array]) -> tuple[Array, Array]:
        """Gradients of x and h from those of the gates' shares; those of the weights are added up."""
        from_x, from_h = np.concatenate(of_x, axis=1), np.concatenate(of_h, axis=1)
        for at, value in enumerate((from_x.T @ x, from_h.T @ h, from_x.sum(0), from_h.sum(0))):
            if self.grads[at] is not None:
                self.grads[at] += value
        return from_x @ self.w_ih, from_h @ self.w_hh

    def backward(self, grad_h: Array, grad_c: Array | None, kept: Any) -> tuple[Array, Array, Array | None]:
        """Gradients of x, of h and of c before the step."""
        if self.kind == "lstm":
            return self._lstm_backward(grad_h, grad_c, *kept)
        if self.kind == "gru":
            return self._gru_backward(grad_h, *kept)
        x, h, a = kept
        grad_a = grad_h * self._slope(0, a)
        return (*self._to_inputs(x, h, [grad_a], [grad_a]), None)

    def _lstm_backward(self, grad_h, grad_c, x, h, c, a_i, a_f, a_g, a_o, i, f, g, o, new, squashed, y):
        if self.w_hr is not None:
            self.grads[4] += grad_h.T @ y
            grad_h = grad_h @ self.w_hr
        d_o = grad_h * squashed * self._slope(0, a_o)
        grad_c = grad_c + grad_h * o * self._slope(2, new)
        if self.peephole is not None:
            grad_c = grad_c + d_o * self.peephole[2]
        to_i, to_f = grad_c * g, grad_c * c
        d_f = np.zeros_like(d_o) if self.options.coupled else to_f * self._slope(0, a_f)
        d_i = (to_i - to_f if self.options.coupled else to_i) * self._slope(0, a_i)
        d_g = grad_c * i * self._slope(1, a_g)
        before = grad_c * f
        if self.peephole is not None:
            before = before + d_i * self.peephole[0] + d_f * self.peephole[1]
            self.grads[5] += np.stack([(d_i * c).sum(0), (d_f * c).sum(0), (d_o * new).sum(0)])
        gates = [d_i, d_f, d_g, d_o]
        return (*self._to_inputs(x, h, gates, gates), before)

    def _gru_backward(self, grad_h, x, h, a_r, a_z, a_n, r, z, n, h_n):
        d_n = grad_h * (1 - z) * self._slope(1, a_n)
        d_z = grad_h * (h - n) * self._slope(0, a_z)
        before = grad_h * z
        if self.options.reset_before:
            units = self.hidden
            w_n = self.w_hh[2 * units :]
            to_reset = d_n @ w_n
            d_r = to_reset * h * self._slope(0, a_r)
            before = before + to_reset * r
            zero = np.zeros_like(d_n)
            grad_x, grad_before = self._to_inputs(x, h, [d_r, d_z, d_n], [d_r, d_z, zero])
            self.grads[1][2 * units :] += d_n.T @ (r * h)
            if self.grads[3] is not None:
                self.grads[3][2 * units :] += d_n.sum(0)
        else:
            d_r = d_n * h_n * self._slope(0, a_r)
            grad_x, grad_before = self._to_inputs(x, h, [d_r, d_z, d_n], [d_r, d_z, d_n * r])
        return grad_x, before + grad_before, None


def rows_of_steps(x: Array, lengths: Any, batch_first: bool) -> tuple[list[Array], list[int]]:
    """The input of each step in float64, and how many rows take part in it."""
    if x.ndim == 2:
        counts = [int((lengths > t).sum()) for t in range(int(lengths[0]) if len(lengths) else 0)]
        ends = np.cumsum([0, *counts])
        return [x[a:b].astype(np.float64) for a, b in itertools.pairwise(ends)], counts
    steps = x.swapaxes(0, 1) if batch_first else x
    counts = [steps.shape[1] if lengths is None else int((lengths > t).sum()) for t in range(steps.shape[0])]
    return [steps[t, :n].astype(np.float64) for t, n in enumerate(counts)], counts


def _walk(made: _Cell, xs: list[Array], counts: list[int], h: Array, c: Any, reverse: bool) -> tuple[list[Array], Any]:
    """Outputs of all steps, and what their gradients need; h and c are left as after each row's last step."""
    outputs: list[Any] = [None] * len(xs)
    kept: list[Any] = [None] * len(xs)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        n = counts[t]
        new_h, new_c, kept[t] = made.step(xs[t], h[:n].copy(), None if c is None else c[:n].copy())
        h[:n] = outputs[t] = new_h
        if c is not None:
            c[:n] = new_c
    return outputs, kept


def _setting(x, lengths, weights, h0, c0, cell, batch_first):
    """Steps, rows, and the directions' first states in float64."""
    xs, counts = rows_of_steps(x, lengths, batch_first)
    batch = len(lengths) if lengths is not None else x.shape[0 if batch_first else 1]
    units = weights[0][0].shape[0] // GATES[cell]
    width = weights[0][1].shape[1]
    states = []
    for d in range(len(weights)):
        h = np.zeros((batch, width)) if h0 is None else h0[d].astype(np.float64)
        c = None if cell != "lstm" else np.zeros((batch, units)) if c0 is None else c0[d].astype(np.float64)
        states.append((h, c))
    return xs, counts, states


def _assembled(steps: list[Array], x: Array, batch_first: bool, width: int) -> Array:
    """The steps' rows in the layout of x: (T, B, width), (B, T, width) or packed."""
    if x.ndim == 2:
        return np.concatenate(steps) if steps else np.zeros((0, width))
    result = np.zeros((*((x.shape[1], x.shape[0]) if batch_first else x.shape[:2]), width))
    for t, rows in enumerate(steps):
        result[t, : len(rows)] = rows
    return result.swapaxes(0, 1) if batch_first else result


def recurrent(
    x: Array,
    lengths: Array | None,
    weights: Any,
    h0: Array | None,
    c0: Any,
    cell: str,
    options: Any,
    batch_first: bool,
    reverse: bool,
    keep: bool,
    prepared: Any = None,
) -> tuple[Any, ...]:
    """(y, h_n, c_n, kept): outputs of all steps, states after each row's last one; c_n is None but for "lstm".

    x: (T, B, I), with batch_first (B, T, I), or packed (sum of lengths, I). weights: for each direction (w_ih, w_hh,
    b_ih, b_hh, w_hr, peephole), None where there is none. kept: here nothing, the gradient computes all steps again.
    """
    xs, counts, states = _setting(x, lengths, weights, h0, c0, cell, batch_first)
    width, directions = weights[0][1].shape[1], []
    for d, (h, c) in enumerate(states):
        outputs, _ = _walk(
            _Cell(cell, weights[d], options), xs, counts, h, c, bool(d) if len(weights) == 2 else reverse
        )
        directions.append(outputs)
    steps = [np.concatenate(parts, axis=1) for parts in zip(*directions, strict=True)]
    y = np.ascontiguousarray(_assembled(steps, x, batch_first, width * len(weights)), x.dtype)
    h_n = np.stack([h for h, _ in states]).astype(x.dtype)
    c_n = np.stack([c for _, c in states]).astype(x.dtype) if cell == "lstm" else None
    return y, h_n, c_n, np.empty(0, x.dtype) if keep else None


def recurrent_backward(
    grad_y: Array | None,
    grad_h: Array | None,
    grad_c: Array | None,
    x: Array,
    lengths: Array | None,
    weights: Any,
    h0: Array | None,
    c0: Any,
    y: Array,
    kept: Array,
    cell: str,
    options: Any,
    batch_first: bool,
    reverse: bool,
    needs: int,
) -> tuple[Any, ...]:
    """(dx, dweights, dh0, dc0) from the gradients of y, h_n and c_n, any of them None for zeros.

    needs: 1 x, 2 weights, 4 h0, 8 c0; what is not needed is None.
    """
    xs, counts, states = _setting(x, lengths, weights, h0, c0, cell, batch_first)
    width = weights[0][1].shape[1]
    grad_steps: Any = None if grad_y is None else rows_of_steps(grad_y, lengths, batch_first)[0]
    dx = [np.zeros(step.shape) for step in xs]
    dweights: list[Any] = []
    dh0: list[Any] = []
    dc0: list[Any] = []
    for d, (h, c) in enumerate(states):
        made = _Cell(cell, weights[d], options)
        backwards = bool(d) if len(weights) == 2 else reverse
        _, all_kept = _walk(made, xs, counts, h, c, backwards)
        to_h = np.zeros(h.shape) if grad_h is None else grad_h[d].astype(np.float64)
        to_c: Any = None if c is None else np.zeros(c.shape) if grad_c is None else grad_c[d].astype(np.float64)
        for t in range(len(xs)) if backwards else reversed(range(len(xs))):
            n = counts[t]
            step_h = to_h[:n] if grad_steps is None else to_h[:n] + grad_steps[t][:, d * width : (d + 1) * width]
            grad_x, to_h[:n], before = made.backward(step_h, None if to_c is None else to_c[:n], all_kept[t])
            dx[t] += grad_x
            if to_c is not None:
                to_c[:n] = before
        dweights.append(tuple(None if g is None else g.astype(x.dtype) for g in made.grads))
        dh0.append(to_h)
        dc0.append(to_c)
    return (
        np.ascontiguousarray(_assembled(dx, x, batch_first, x.shape[-1]), x.dtype) if needs & 1 else None,
        tuple(dweights) if needs & 2 else None,
        np.stack(dh0).astype(x.dtype) if needs & 4 else None,
        np.stack(dc0).astype(x.dtype) if needs & 8 and cell == "lstm" else None,
    )


def recurrent_prepare(weights: Any, cell: str, options: Any) -> Any:
    """A handle for `recurrent_step`: the weights as they are."""
    return weights, cell, options


def recurrent_step(prepared: Any, x: Array, h: Array, c: Any, h_out: Array, c_out: Any) -> None:
    """One step of one direction: x (B, I), h (B, P), c (B, H) or None, written to h_out and c_out."""
    weights, cell, options = prepared
    made = _Cell(cell, weights[0], options)
    exact: list[Any] = [None if a is None else a.astype(np.float64) for a in (x, h, c)]
    new_h, new_c, _ = made.step(*exact)
    h_out[...] = new_h
    if c_out is not None:
        c_out[...] = new_c
