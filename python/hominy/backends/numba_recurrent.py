"""Recurrent layers where no compiler was there at installation. Part of `numba_jit`.

The formulas, and what the functions take and give, stand in reference_recurrent.py. Here results on the way have the
arrays' own dtype, and the products are NumPy's: of x for many steps at once, of the state in each step, and for the
gradients of x and of the weights one for all steps. What a step does to its sums are a few Numba loops around
`numpy.tanh`, which is vector code: a sigmoid is (1 + tanh(a / 2)) / 2, so one call of it serves all gates.

Rows of all steps lie one after another, step by step, as in a packed sequence; other layouts are brought into that one
and back. Kept for the gradient: what tanh gave for each gate, and lstm's c or, of gru, the state's share in n.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .declined import Declined
from .numba_math import jit
from .reference_recurrent import GATES, STANDARD, Array, Options

_KEPT = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 5, "gru": 4}  # numbers for each row and unit
_ROWS = 512  # of which the product of x is made at a time: the steps find it in a near cache
_TRANSPOSED_FROM = 16  # steps that are worth laying out the state's weights as their product reads them


def _refusal(weights: Any, cell: str, options: Any, *arrays: Array | None) -> Declined | None:
    dtype = weights[0][0].dtype
    if dtype != np.float32 and dtype != np.float64:
        return Declined(f"dtype {dtype} is neither float32 nor float64")
    for array in (*arrays, *(weight for direction in weights for weight in direction)):
        if array is not None and array.dtype != dtype:
            return Declined(f"dtypes differ: {dtype} and {array.dtype}")
    given = Options() if options is None else Options(*options)
    names = STANDARD[cell] if given.activations is None else tuple(name for name, *_ in given.activations)
    if names != STANDARD[cell] or given.clip > 0 or given.coupled or given.reset_before or given.keep_every > 1:
        return Declined("only standard cells are computed, which keep all steps")
    if any(direction[5] is not None for direction in weights):
        return Declined("peepholes are not computed")
    return None


class _Steps:
    """The rows of x's steps, one step after another: `counts[t]` of them from `starts[t]` on."""

    def __init__(self, x: Array, lengths: Any, batch_first: bool) -> None:
        self.packed, self.batch_first = x.ndim == 2, batch_first
        self.batch = x.shape[0 if batch_first else 1] if lengths is None else len(lengths)
        self.count = x.shape[1 if batch_first else 0] if not self.packed else int(max(lengths, default=0))
        self.inside = np.arange(self.count)[:, None] < (np.full(self.batch, self.count) if lengths is None else lengths)
        counts = self.inside.sum(1)
        self.counts, self.starts = counts.tolist(), (np.cumsum(counts) - counts).tolist()
        self.total = int(counts.sum())
        self.whole = self.total == self.count * self.batch

    def order(self, reverse: bool) -> list[int]:
        """The steps that have rows, in the order in which a direction takes them."""
        steps = [t for t, count in enumerate(self.counts) if count]
        return steps[::-1] if reverse else steps

    def pack(self, x: Array) -> Array:
        """(total, n) of x (T, B, n), (B, T, n) or packed."""
        if not self.packed:
            x = x.swapaxes(0, 1) if self.batch_first else x
            x = np.ascontiguousarray(x).reshape(self.total, x.shape[2]) if self.whole else x[self.inside]
        if len(x) != self.total:
            raise ValueError(f"[recurrent] input: expected {self.total} rows, the sum of lengths, got {len(x)}")
        return np.ascontiguousarray(x)

    def unpack(self, rows: Array) -> Array:
        """(total, n) in x's layout, 0 beyond a row's length."""
        if self.packed:
            return rows
        padded = rows
        if not self.whole:
            padded = np.zeros((*self.inside.shape, rows.shape[1]), rows.dtype)
            padded[self.inside] = rows
        padded = padded.reshape(*self.inside.shape, rows.shape[1])
        return np.ascontiguousarray(padded.swapaxes(0, 1)) if self.batch_first else padded

    def before(self, values: Array, first: Array, reverse: bool) -> Array:
        """For each row of values (total, n) that of the step before it; of a row's first step that of `first`."""
        result = np.empty(values.shape, values.dtype)
        start, count = 0, 0
        for t in self.order(reverse):
            into = result[self.starts[t] : self.starts[t] + self.counts[t]]
            count = min(count, len(into))
            into[:count] = values[start : start + count]
            into[count:] = first[count : len(into)]
            start, count = self.starts[t], len(into)
        return result


# --- what a step does to its rows: gates (n, G * H), states (n, H) ----------------------------------------------------
# Several short loops over a row, which stays in the first-level cache: LLVM makes vector code of a loop only while its
# arrays are few enough to be checked for overlap. i, f, o, r, z below are tanh of half of the gates' arguments.


@jit
def _add(gates, products, bias, scale):
    """gates = scale (gates + products + bias), for the first columns: as many as scale has."""
    for r in range(gates.shape[0]):
        row, product = gates[r], products[r]
        for j in range(scale.size):
            row[j] = scale[j] * (row[j] + product[j] + bias[j])


@jit
def _lstm_state(gates, c):
    units = c.shape[1]
    for r in range(gates.shape[0]):
        i, f, g, state = gates[r], gates[r, units:], gates[r, 2 * units :], c[r]
        for j in range(units):
            state[j] = (0.5 + 0.5 * f[j]) * state[j] + (0.5 + 0.5 * i[j]) * g[j]


@jit
def _lstm_output(gates, squashed, h):
    units = h.shape[1]
    for r in range(gates.shape[0]):
        o, t, out = gates[r, 3 * units :], squashed[r], h[r]
        for j in range(units):
            out[j] = (0.5 + 0.5 * o[j]) * t[j]


@jit
def _lstm_gradient(gates, squashed, before, grad_h, grad_c, out):
    """out: of the gates' arguments; grad_c becomes that of the c before. squashed: tanh(c)."""
    units = squashed.shape[1]
    for row in range(gates.shape[0]):
        i, f, g, o = gates[row], gates[row, units:], gates[row, 2 * units :], gates[row, 3 * units :]
        d_i, d_f, d_g, d_o = out[row], out[row, units:], out[row, 2 * units :], out[row, 3 * units :]
        d_h, d_c, t, c = grad_h[row], grad_c[row], squashed[row], before[row]
        for j in range(units):
            d_o[j] = 0.25 * d_h[j] * t[j] * (1.0 - o[j] * o[j])
            d_c[j] += d_h[j] * (0.5 + 0.5 * o[j]) * (1.0 - t[j] * t[j])
        for j in range(units):
            d_i[j] = 0.25 * d_c[j] * g[j] * (1.0 - i[j] * i[j])
            d_g[j] = d_c[j] * (0.5 + 0.5 * i[j]) * (1.0 - g[j] * g[j])
        for j in range(units):
            d_f[j] = 0.25 * d_c[j] * c[j] * (1.0 - f[j] * f[j])
            d_c[j] *= 0.5 + 0.5 * f[j]


@jit
def _gru_candidate(gates, products, x_bias, h_bias):
    """n's argument into gates; the state's share in it, with the bias, stays in products."""
    units = h_bias.size
    for row in range(gates.shape[0]):
        r, n, product = gates[row], gates[row, 2 * units :], products[row, 2 * units :]
        for j in range(units):
            product[j] += h_bias[j]
            n[j] += x_bias[j] + (0.5 + 0.5 * r[j]) * product[j]


@jit
def _gru_output(gates, h):
    units = h.shape[1]
    for row in range(gates.shape[0]):
        z, n, out = gates[row, units:], gates[row, 2 * units :], h[row]
        for j in range(units):
            out[j] = n[j] + (0.5 + 0.5 * z[j]) * (out[j] - n[j])


@jit
def _gru_gradient(gates, products, before, grad_h, out):
    """out (rows, 4 * H): of n's argument, then of the products with h for r, z, n; grad_h becomes its part z grad_h."""
    units = before.shape[1]
    for row in range(gates.shape[0]):
        r, z, n = gates[row], gates[row, units:], gates[row, 2 * units :]
        d_n, d_r, d_z, d_s = out[row], out[row, units:], out[row, 2 * units :], out[row, 3 * units :]
        d_h, product, h = grad_h[row], products[row], before[row]
        for j in range(units):
            d_n[j] = d_h[j] * (0.5 - 0.5 * z[j]) * (1.0 - n[j] * n[j])
        for j in range(units):
            d_z[j] = 0.25 * d_h[j] * (h[j] - n[j]) * (1.0 - z[j] * z[j])
            d_h[j] *= 0.5 + 0.5 * z[j]
        for j in range(units):
            d_r[j] = 0.25 * d_n[j] * product[j] * (1.0 - r[j] * r[j])
            d_s[j] = d_n[j] * (0.5 + 0.5 * r[j])


# --- one direction ----------------------------------------------------------------------------------------------------


class _Direction:
    """The weights of one direction, as `steps` steps use them, and scratch memory for `batch` rows."""

    def __init__(self, cell: str, weights: Any, steps: int, batch: int, number: int = 0, reverse: bool = False) -> None:
        self.cell, (self.w_ih, self.w_hh, b_ih, b_hh, self.w_hr, _) = cell, weights
        self.dtype, (rows, width) = self.w_ih.dtype, self.w_hh.shape
        self.units = units = rows // GATES[cell]
        if len(self.w_ih) != rows or (self.w_hr is None and width != units):
            raise ValueError(f"[recurrent] weight_hh: expected shape {(len(self.w_ih), units)}, got {(rows, width)}")
        self.number, self.reverse, self.columns = number, reverse, slice(number * width, (number + 1) * width)
        self.into_state = np.ascontiguousarray(self.w_hh.T) if steps >= _TRANSPOSED_FROM else self.w_hh.T
        biases = np.zeros((2, rows), self.dtype)
        biases[0], biases[1] = (0 if bias is None else bias for bias in (b_ih, b_hh))
        # A gru's n has its biases apart, and is not among the columns that are scaled.
        self.bias, (self.x_bias, self.h_bias) = biases.sum(0), biases[:, rows - units :]
        self.scale = np.full(2 * units if cell == "gru" else rows, 1 if cell.startswith("rnn") else 0.5, self.dtype)
        self.scale[2 * units : 3 * units] = 1  # lstm's g
        self.room(batch)

    def room(self, batch: int) -> None:
        """Makes the scratch memory."""
        self.products = np.empty((batch, self.bias.size), self.dtype)
        self.gates = np.empty_like(self.products)  # for recurrent_step
        self.squashed = np.empty((batch, self.units), self.dtype)
        self.output = np.empty_like(self.squashed)

    def kept(self, kept: Array, total: int) -> tuple[Array, Array]:
        """This direction's: what tanh gave (total, G * H), and c or the state's share in n (total, H)."""
        size, gates = _KEPT[self.cell] * total * self.units, total * self.bias.size
        own = kept[self.number * size : (self.number + 1) * size]
        return own[:gates].reshape(total, self.bias.size), own[gates:].reshape(total, self.units)

    def step(self, gates: Array, h: Array, c: Any) -> Array:
        """Take h (n, P) and c (n, H) a step on, in place. gates: x's products, then what tanh made of the sums.

        Returns c, or the state's share in a gru's n.
        """
        n, units = len(gates), self.units
        products = np.matmul(h, self.into_state, out=self.products[:n])
        _add(gates, products, self.bias, self.scale)
        if self.cell == "lstm":
            np.tanh(gates, out=gates)
            _lstm_state(gates, c)
            squashed = np.tanh(c, out=self.squashed[:n])
            output = h if self.w_hr is None else self.output[:n]
            _lstm_output(gates, squashed, output)
            if self.w_hr is not None:
                np.matmul(output, self.w_hr.T, out=h)
            return c
        if self.cell == "gru":
            np.tanh(gates[:, : 2 * units], out=gates[:, : 2 * units])
            _gru_candidate(gates, products, self.x_bias, self.h_bias)
            np.tanh(gates[:, 2 * units :], out=gates[:, 2 * units :])
            _gru_output(gates, h)
        else:
            h[...] = np.tanh(gates) if self.cell == "rnn_tanh" else np.maximum(gates, 0)
        return products[:, -units:]

    def forward(self, steps: _Steps, x: Array, h: Array, c: Any, y: Array, kept: Any) -> None:
        """Fill y and kept, and leave in h (B, P) and c (B, H) each row's last state."""
        order, y = steps.order(self.reverse), y[:, self.columns]
        kept = self.kept(kept, steps.total) if kept is not None and _KEPT[self.cell] else None
        room = None if kept is not None else np.empty((min(steps.total, _ROWS + steps.batch), self.bias.size), x.dtype)
        while order:
            block = rows = 0
            while block < len(order) and rows < _ROWS:
                rows += steps.counts[order[block]]
                block += 1
            low = steps.starts[min(order[:block])]
            gates = kept[0][low : low + rows] if room is None else room[:rows]
            np.matmul(x[low : low + rows], self.w_ih.T, out=gates)
            for t in order[:block]:
                n, start = steps.counts[t], steps.starts[t]
                extra = self.step(gates[start - low : start - low + n], h[:n], None if c is None else c[:n])
                y[start : start + n] = h[:n]
                if kept is not None:
                    kept[1][start : start + n] = extra
            del order[:block]

    def backward(
        self, steps: _Steps, x: Array, h0: Array, c0: Any, y: Array, kept: Any, grad_y: Any, grad_h: Array, grad_c: Any,
        dx: Any, of_weights: int,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Gradients of the weights, if wanted; grad_h and grad_c become those of h0 and c0, x's is added to dx.

        Rows as in `_Steps`: x, y, grad_y (None for zeros), dx (None: not wanted).
        """
        units, w_hh, gru = self.units, np.ascontiguousarray(self.w_hh), self.cell == "gru"
        y, flow = y[:, self.columns], None if grad_y is None else grad_y[:, self.columns]
        h = steps.before(y, h0, self.reverse)
        if _KEPT[self.cell]:
            kept = self.kept(kept, steps.total)
            out = np.empty((steps.total, 4 * units), self.dtype)
        else:
            out = 1 - y * y if self.cell == "rnn_tanh" else (y > 0).astype(self.dtype)
        if self.cell == "lstm":
            c, squashed, projected = steps.before(kept[1], c0, self.reverse), np.tanh(kept[1]), np.empty_like(h)
        for t in steps.order(not self.reverse):
            n = steps.counts[t]
            rows = slice(steps.starts[t], steps.starts[t] + n)
            to_h, d = grad_h[:n], out[rows]
            if flow is not None:
                to_h += flow[rows]
            if gru:
                _gru_gradient(kept[0][rows], kept[1][rows], h[rows], to_h, d)
                to_h += np.matmul(d[:, units:], w_hh, out=self.output[:n])
                continue
            if self.cell == "lstm":
                to_output = to_h
                if self.w_hr is not None:
                    projected[rows] = to_h
                    to_output = np.matmul(to_h, self.w_hr, out=self.output[:n])
                _lstm_gradient(kept[0][rows], squashed[rows], c[rows], to_output, grad_c[:n], d)
            else:
                d *= to_h
            np.matmul(d, w_hh, out=to_h)

        # A gru's columns: of x's share in n; then r, z, the state's share in n. So x's weights are turned to n, r, z.
        turn = units if gru else 0
        of_x, of_h = out[:, : self.bias.size], out[:, turn:]
        if dx is not None:
            dx += of_x @ np.roll(self.w_ih, turn, axis=0)
        if not of_weights:
            return ()
        of_w_ih, of_w_hh = np.roll(of_x.T @ x, -turn, axis=0), of_h.T @ h
        sums, of_w_hr = out.sum(0, dtype=np.float64).astype(self.dtype), None
        if self.w_hr is not None:
            of_w_hr = projected.T @ ((0.5 + 0.5 * kept[0][:, 3 * units :]) * squashed)
        return of_w_ih, of_w_hh, np.roll(sums[: self.bias.size], -turn), sums[turn:], of_w_hr, None


# --- the backend's functions ------------------------------------------------------------------------------------------


def _parts(x: Array, lengths: Any, weights: Any, cell: str, first: bool, reverse: bool) -> tuple[_Steps, Any, Any]:
    """The steps, x's rows and the directions."""
    steps = _Steps(x, lengths, first)
    both, rest = len(weights) == 2, (steps.count, steps.batch)
    made = [_Direction(cell, each, *rest, d, bool(d) if both else reverse) for d, each in enumerate(weights)]
    return steps, steps.pack(x), made


def _states(directions: list[_Direction], batch: int, *given: Any) -> tuple[Array, Any]:
    """h (D, B, P) and c (D, B, H), copies or zeros; for the c of other cells than lstm D times None."""
    first = directions[0]
    states = [np.zeros((len(directions), batch, size), first.dtype) for size in (first.columns.stop, first.units)]
    for state, value in zip(states, given, strict=True):
        if value is not None:
            state[...] = value
    return states[0], states[1] if first.cell == "lstm" else [None] * len(directions)


@np.errstate(all="ignore")
def recurrent(
    x: Array, lengths: Array | None, weights: Any, h0: Array | None, c0: Any, cell: str, options: Any,
    batch_first: bool, reverse: bool, keep: bool, prepared: Any = None,
) -> tuple[Any, ...] | Declined:  # fmt: skip
    """(y, h_n, c_n, kept)."""
    if refusal := _refusal(weights, cell, options, x, h0, c0):
        return refusal
    steps, rows, directions = _parts(x, lengths, weights, cell, batch_first, reverse)
    y = np.empty((steps.total, directions[-1].columns.stop), x.dtype)
    kept = np.empty(len(weights) * steps.total * directions[0].units * _KEPT[cell], x.dtype) if keep else None
    h, c = _states(directions, steps.batch, h0, c0)
    for d, direction in enumerate(directions):
        direction.forward(steps, rows, h[d], c[d], y, kept)
    return steps.unpack(y), h, c if cell == "lstm" else None, kept


@np.errstate(all="ignore")
def recurrent_backward(
    grad_y: Array | None, grad_h: Array | None, grad_c: Array | None, x: Array, lengths: Array | None, weights: Any,
    h0: Array | None, c0: Any, y: Array, kept: Array, cell: str, options: Any, batch_first: bool, reverse: bool,
    needs: int,
) -> tuple[Any, ...] | Declined:  # fmt: skip
    """(dx, dweights, dh0, dc0)."""
    if refusal := _refusal(weights, cell, options, x, h0, c0, y, kept, grad_y, grad_h, grad_c):
        return refusal
    steps, rows, directions = _parts(x, lengths, weights, cell, batch_first, reverse)
    size = len(weights) * steps.total * directions[0].units * _KEPT[cell]
    if kept.shape != (size,):
        raise ValueError(f"[recurrent] kept: expected shape ({size},), got {kept.shape}")
    h, c = _states(directions, steps.batch, h0, c0)
    to_h, to_c = _states(directions, steps.batch, grad_h, grad_c)
    y, flow = steps.pack(y), None if grad_y is None else steps.pack(grad_y)
    dx, dweights = np.zeros(rows.shape, x.dtype) if needs & 1 else None, []
    for d, (direction, own) in enumerate(zip(directions, weights, strict=True)):
        found = direction.backward(steps, rows, h[d], c[d], y, kept, flow, to_h[d], to_c[d], dx, needs & 2)
        dweights.append(tuple(None if weight is None else g for weight, g in zip(own, found, strict=False)))
    dx = None if dx is None else steps.unpack(dx)
    to_c = to_c if needs & 8 and cell == "lstm" else None
    return dx, tuple(dweights) if needs & 2 else None, to_h if needs & 4 else None, to_c


def recurrent_prepare(weights: Any, cell: str, options: Any) -> Any:
    """A handle for `recurrent_step`: copies of the weights, and memory for a step."""
    if refusal := _refusal(weights, cell, options):
        return refusal
    return _Direction(cell, [None if w is None else np.array(w, order="C") for w in weights[0]], _TRANSPOSED_FROM, 0)


@np.errstate(all="ignore")
def recurrent_step(prepared: Any, x: Array, h: Array, c: Any, h_out: Array, c_out: Any) -> Declined | None:
    """One step of one direction: x (B, I), h (B, P), c (B, H) or None, written to h_out and c_out."""
    if x.dtype != prepared.dtype:
        return Declined(f"dtypes differ: {prepared.dtype} and {x.dtype}")
    if len(prepared.gates) != len(x):
        prepared.room(len(x))
    gates = np.matmul(x, prepared.w_ih.T, out=prepared.gates)
    h_out[...] = h
    if c is not None:
        c_out[...] = c
    prepared.step(gates, h_out, c_out)
    return None
