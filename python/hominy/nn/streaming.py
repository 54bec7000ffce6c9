"""Recurrent layers step by step, for serving."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import TensorBase, wrap
from ..backends import Declined, _functions
from ..tensor import Tensor
from ..utils.arguments import integer, wrong
from .recurrent import GRU, LSTM, RNN


class StreamingRecurrent:
    """One step at a time of an `RNN`, `LSTM` or `GRU`, which carries its state along.

        stream = nn.StreamingRecurrent(layer)              # zeros as the first state
        stream.state = layer(beginning)[1]                 # or that after a beginning (T, 1, input_size)
        for x in source:                                   # (1, input_size), a NumPy array or a tensor
            y = stream.step(x)                             # (1, hidden_size), of the same kind

    The weights of all layers are copied, packed for the kernels, when the object is made: later changes of the layer's
    are not seen. After its first step nothing is allocated. It computes as the layer in evaluation does (no dropout
    between layers), by the backend in use when it was made, and records no gradients. Steps of one object belong to
    one thread at a time.

    Args:
        layer: the layer, of one direction (the other one needs the end of a sequence first).
        batch_size: how many sequences go forward together.

    Raises:
        TypeError: layer is none of the three, or its weights are neither float32 nor float64.
        ValueError: it has two directions, or batch_size is below 1.
    """

    __slots__ = (
        "_c", "_dtype", "_h", "_layers", "_row", "_row_shape", "_row_tensor", "_rows", "_rows_tensor", "_shape",
        "_step", "batch_size", "input_size",
    )  # fmt: skip

    def __init__(self, layer: RNN | LSTM | GRU, batch_size: int = 1) -> None:
        where = "StreamingRecurrent"
        if not isinstance(layer, (RNN, LSTM, GRU)):
            raise TypeError(wrong(where, "layer", "an RNN, an LSTM or a GRU", type(layer).__name__))
        if layer.bidirectional:
            raise ValueError(wrong(where, "layer", "one direction", "bidirectional=True"))
        self.batch_size, self.input_size = integer(where, "batch_size", batch_size), layer.input_size
        cell, dtype = layer._cell(), layer.all_weights[0][0].dtype
        if dtype.char not in "fd":
            raise TypeError(f"[{where}] layer: expected weights of float32 or float64, got {dtype}")
        prepared, self._step = [], None
        for (names,) in layer._names:
            # Copies: a backend's handle may be the arrays themselves.
            weights: Any = (tuple(None if name is None else getattr(layer, name)._array.copy() for name in names),)
            handle, self._step = _prepare(weights, cell)
            prepared.append(handle)
        self._dtype = weights[0][0].dtype
        rows = (layer.num_layers, self.batch_size)
        self._h = np.zeros((*rows, layer.proj_size or layer.hidden_size), self._dtype)
        self._c = np.zeros((*rows, layer.hidden_size), self._dtype) if cell == "lstm" else None
        self._layers = [(handle, self._h[i], None if self._c is None else self._c[i])
                        for i, handle in enumerate(prepared)]  # fmt: skip
        # What `step` gives: the last layer's h itself, with and without the dimension of the batch. Arrays of it are
        # read-only, so that nobody changes the state by accident.
        self._shape, self._row_shape = (self.batch_size, self.input_size), (self.input_size,)
        self._rows, self._row = self._h[-1], self._h[-1, 0]
        self._rows_tensor: Any = wrap(self._h[-1])
        self._row_tensor: Any = wrap(self._h[-1, 0], self._rows_tensor._storage)
        self._rows.flags.writeable = self._row.flags.writeable = False

    def step(self, x: Any) -> Any:
        """The output of the next step for x: (batch_size, input_size) to (batch_size, hidden_size).

        With a batch_size of 1 also (input_size,) to (hidden_size,). A NumPy array gives an array (read-only), a tensor
        gives a tensor. Each step writes its result over that of the step before: copy what is to stay.

        Raises:
            TypeError: x is of another type or dtype. ValueError: it has another shape.
        """
        as_tensor, single = isinstance(x, TensorBase), False
        array: Any = x._array if isinstance(x, TensorBase) else x
        if not isinstance(array, np.ndarray):
            raise TypeError(wrong("StreamingRecurrent", "x", "a NumPy array or a tensor", type(x).__name__))
        if array.shape != self._shape:
            if array.shape != self._row_shape or self.batch_size != 1:
                expected = f"shape {self._shape}, (batch_size, input_size)"
                raise ValueError(f"[StreamingRecurrent] x: expected {expected}, got {array.shape}")
            array, single = array[None], True
        if array.dtype != self._dtype:
            raise TypeError(f"[StreamingRecurrent] x: expected dtype {self._dtype}, the weights', got {array.dtype}")
        step: Any = self._step
        for prepared, h, c in self._layers:
            reason = step(prepared, array, h, c, h, c)
            if reason is not None:
                raise ValueError(f"[StreamingRecurrent] x: {reason}")
            array = h
        self._rows_tensor._storage.version += 1  # who kept the last result for a gradient shall hear of the write
        if as_tensor:
            return self._row_tensor if single else self._rows_tensor
        return self._row if single else self._rows

    @property
    def state(self) -> Any:
        """The state after the last step, a copy in the form of the layer's: h, or (h, c) of an LSTM.

        h: (num_layers, batch_size, hidden_size or proj_size), c: (num_layers, batch_size, hidden_size). It can be set,
        to tensors or arrays of these shapes, which are copied.
        """
        h: Any = wrap(self._h.copy())
        return h if self._c is None else (h, wrap(self._c.copy()))

    @state.setter
    def state(self, value: Any) -> None:
        where = "StreamingRecurrent"
        if self._c is not None and (not isinstance(value, (tuple, list)) or len(value) != 2):
            raise TypeError(wrong(where, "state", "(h, c)", type(value).__name__))
        pairs = [("h", value, self._h)] if self._c is None else [("h", value[0], self._h), ("c", value[1], self._c)]
        arrays = []
        for name, given, own in pairs:
            if not isinstance(given, (Tensor, np.ndarray)):
                raise TypeError(wrong(where, f"state {name}", "a tensor or an array", type(given).__name__))
            array: Any = given._array if isinstance(given, TensorBase) else given
            if array.shape != own.shape:
                expected = f"shape {own.shape}, (num_layers, batch_size, size)"
                raise ValueError(f"[{where}] state {name}: expected {expected}, got {array.shape}")
            if array.dtype != own.dtype:
                raise TypeError(f"[{where}] state {name}: expected dtype {own.dtype}, got {array.dtype}")
            arrays.append((own, array))
        for own, array in arrays:
            own[...] = array

    def reset(self) -> None:
        """Set the state to zeros: a new sequence begins."""
        self._h.fill(0)
        if self._c is not None:
            self._c.fill(0)

    def __repr__(self) -> str:
        size = f"{self.input_size}, {self._h.shape[2]}"
        return f"StreamingRecurrent({size}, num_layers={len(self._layers)}, batch_size={self.batch_size})"


def _prepare(weights: Any, cell: str) -> tuple[Any, Any]:
    """Packed weights, and the step of the backend that packed them."""
    steps = dict(_functions("recurrent_step"))
    reason: Any = "no backend has the function"
    for backend, prepare in _functions("recurrent_prepare"):
        reason = prepare(weights, cell, None)
        if type(reason) is not Declined:
            return reason, steps[backend]
    raise ValueError(f"[StreamingRecurrent] layer: {reason}")
