"""Recurrent layers and cells, with PyTorch's parameters, names, gate order and defaults."""

from __future__ import annotations

import math
from typing import Any

from ..backends.reference_recurrent import Options
from ..creation import empty
from ..ops.recurrent import recurrent
from ..prepared import PreparedRecurrent
from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import init
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence

_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


class _Weights(Module):
    """What layers and cells have in common: how weights are made and start."""

    hidden_size: int

    def _parameter(self, name: str, *shape: int, dtype: Any) -> None:
        self.register_parameter(name, Parameter(empty(shape, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew, uniform in +-1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)


class _Recurrent(_Weights):
    """Layers on each other, in one or both directions.

    `keep_every`, an attribute beyond PyTorch's: 1 keeps what backward reads of every step, k the cell state of every
    k-th step alone; backward then takes the steps between once more. For long sequences: a third more work, and next to
    no memory.
    """

    mode: str  # "RNN", "LSTM", "GRU"
    keep_every: int = 1
    _prepared: list[PreparedRecurrent] | None = None  # set by nn.utils.prepare

    def _build(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
    ) -> None:
        where = type(self).__name__
        choice(where, "device", device, (None, "cpu"))
        self.input_size = integer(where, "input_size", input_size, lowest=1)
        self.hidden_size = integer(where, "hidden_size", hidden_size, lowest=1)
        self.num_layers = integer(where, "num_layers", num_layers, lowest=1)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = number(where, "dropout", dropout, low=0.0)
        if self.dropout > 1.0:
            raise ValueError(wrong(where, "dropout", "a probability in [0, 1]", dropout))
        self.proj_size = integer(where, "proj_size", proj_size, lowest=0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(wrong(where, "proj_size", f"less than hidden_size={hidden_size}", proj_size))
        rows, width = _GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        self._names: list[list[tuple[str | None, ...]]] = []
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else width * directions
            self._names.append([])
            for direction in range(directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                self._parameter("weight_ih" + suffix, rows, features, dtype=dtype)
                self._parameter("weight_hh" + suffix, rows, width, dtype=dtype)
                names: list[str | None] = ["weight_ih" + suffix, "weight_hh" + suffix, None, None, None, None]
                if self.bias:
                    names[2:4] = ["bias_ih" + suffix, "bias_hh" + suffix]
                    self._parameter("bias_ih" + suffix, rows, dtype=dtype)
                    self._parameter("bias_hh" + suffix, rows, dtype=dtype)
                if self.proj_size:
                    names[4] = "weight_hr" + suffix
                    self._parameter("weight_hr" + suffix, self.proj_size, self.hidden_size, dtype=dtype)
                self._names[-1].append(tuple(names))
        self.reset_parameters()

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [
            [getattr(self, name) for name in direction if name is not None]
            for layer in self._names
            for direction in layer
        ]

    def flatten_parameters(self) -> None:
        """Does nothing: weights are packed when a call needs them."""

    def _cell(self) -> str:
        return self.mode.lower()

    def _layers(self) -> list[list[tuple[Any, ...]]]:
        """For each layer its directions, for each direction its six weights or None."""
        return [
            [tuple(None if name is None else getattr(self, name) for name in direction) for direction in layer]
            for layer in self._names
        ]

    def _prepare(self) -> list[PreparedRecurrent]:
        return [PreparedRecurrent(layer, self._cell()) for layer in self._layers()]

    def _run(self, input: Any, h0: Any, c0: Any, lengths: Any) -> tuple[Any, Any, Any]:
        where, layers = type(self).__name__, self._layers()
        every = integer(where, "keep_every", self.keep_every, lowest=1)
        options = None if every == 1 else tuple(Options(keep_every=every))
        settings = (self._cell(), options, self.batch_first, self.dropout, self.training, self._prepared)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(f"[{where}] lengths: expected none beside a PackedSequence, got {lengths}")
            order = None if input.sorted_indices is None else input.sorted_indices.numpy()
            if order is not None:
                h0, c0 = (None if state is None else state[:, order] for state in (h0, c0))
            data, h, c = recurrent(where, input.data, input.lengths, h0, c0, layers, *settings)
            if input.unsorted_indices is not None:
                back = input.unsorted_indices.numpy()
                h, c = h[:, back], None if c is None else c[:, back]
            return input._replace(data=data), h, c
        if not isinstance(input, Tensor):
            raise TypeError(f"[{where}] input: expected a tensor or a PackedSequence, got {type(input).__name__}")
        if input.ndim not in (2, 3):
            raise ValueError(
                f"[{where}] input: expected (time, features) or (time, batch, features), got {tuple(input.shape)}"
            )
        if input.ndim == 3:
            return recurrent(where, input, lengths, h0, c0, layers, *settings)
        axis = 0 if self.batch_first else 1
        for argument, state in (("h0", h0), ("c0", c0)):
            if state is not None and state.ndim != 2:
                raise ValueError(
                    f"[{where}] {argument}: expected 2 dimensions beside an input without a batch, got "
                    f"{tuple(state.shape)}"
                )
        h0, c0 = (None if state is None else state.unsqueeze(1) for state in (h0, c0))
        y, h, c = recurrent(where, input.unsqueeze(axis), lengths, h0, c0, layers, *settings)
        return y.squeeze(axis), h.squeeze(1), None if c is None else c.squeeze(1)

    def extra_repr(self) -> str:
        """The sizes, and the settings that are not the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        for name, default in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
                              ("bidirectional", False)):  # fmt: skip
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def _batch_states(where: str, hx: Any) -> tuple[Any, Any]:
    if hx is None:
        return None, None
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"[{where}] hx: expected (h0, c0) or None, got {type(hx).__name__}")
    for state in hx:
        _require_state(where, state)
    return hx[0], hx[1]


def _require_state(where: str, hx: Any) -> None:
    if hx is not None and not isinstance(hx, Tensor):
        raise TypeError(f"[{where}] hx: expected a tensor or None, got {type(hx).__name__}")


class RNN(_Recurrent):
    """h = tanh(W x + b + R h' + b'), or its ReLU, over whole sequences (Elman 1990).

    input: (T, B, input_size), with `batch_first` (B, T, input_size); (T, input_size) for a single sequence; or a
    PackedSequence. Returns (output, h_n): h of all steps of the last layer, (T, B, directions * hidden_size), and
    of each sequence's last step, (num_layers * directions, B, hidden_size). `lengths`, an addition to PyTorch's
    arguments: B integers in any order; steps beyond them are not computed, and 0 in the output.
    """

    mode = "RNN"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.nonlinearity = choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        self._build(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)

    def _cell(self) -> str:
        return "rnn_" + self.nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None, lengths: Any = None) -> tuple[Any, Tensor]:
        """(output, h_n); hx: the first state, zeros where None."""
        _require_state("RNN", hx)
        output, h, _ = self._run(input, hx, None, lengths)
        return output, h

    def extra_repr(self) -> str:
        """The sizes, and the settings that are not the defaults."""
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class GRU(_Recurrent):
    """Gated recurrent units over whole sequences (Cho et al. 2014, https://arxiv.org/abs/1406.1078).

        r = sigmoid(W_r x + b_r + R_r h')    z = sigmoid(W_z x + b_z + R_z h')
        n = tanh(W_n x + b_n + r (R_n h' + b_n'))    h = (1 - z) n + z h'

    Arguments and results as `RNN`'s; weights hold r, z, n in this order.
    """

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)

    def forward(self, input: Any, hx: Tensor | None = None, lengths: Any = None) -> tuple[Any, Tensor]:
        """(output, h_n); hx: the first state, zeros where None."""
        _require_state("GRU", hx)
        output, h, _ = self._run(input, hx, None, lengths)
        return output, h


class LSTM(_Recurrent):
    """Long short-term memory over whole sequences (Hochreiter and Schmidhuber 1997).

        i, f, o = sigmoid(W x + b + R h' + b')    g = tanh(W_g x + b_g + R_g h' + b_g')
        c = f c' + i g    h = o tanh(c)

    Arguments as `RNN`'s, results (output, (h_n, c_n)); weights hold i, f, g, o in this order. With `proj_size` h is
    W_hr o tanh(c), of that size (Sak et al. 2014, https://arxiv.org/abs/1402.1128).
    """

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """(output, (h_n, c_n)); hx: (h0, c0), zeros where None."""
        h0, c0 = _batch_states("LSTM", hx)
        output, h, c = self._run(input, h0, c0, lengths)
        return output, (h, c)


class _RecurrentCell(_Weights):
    """One step of one layer."""

    mode: str
    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def _build(self, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any) -> None:
        where = type(self).__name__
        choice(where, "device", device, (None, "cpu"))
        self.input_size = integer(where, "input_size", input_size, lowest=1)
        self.hidden_size = integer(where, "hidden_size", hidden_size, lowest=1)
        self.bias = bool(bias)
        rows = _GATES[self.mode] * self.hidden_size
        self._parameter("weight_ih", rows, self.input_size, dtype=dtype)
        self._parameter("weight_hh", rows, self.hidden_size, dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            if self.bias:
                self._parameter(name, rows, dtype=dtype)
            else:
                self.register_parameter(name, None)
        self.reset_parameters()

    def _run(self, cell: str, input: Any, h: Any, c: Any) -> tuple[Any, Any]:
        where = type(self).__name__
        if not isinstance(input, Tensor) or input.ndim not in (1, 2):
            got = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
            raise ValueError(wrong(where, "input", "a tensor (batch, features) or (features,)", got))
        single = input.ndim == 1
        x = input.unsqueeze(0) if single else input
        states = []
        for argument, state in (("h0", h), ("c0", c)):
            if state is not None and state.ndim != input.ndim:
                raise ValueError(wrong(where, argument, f"{input.ndim} dimensions", tuple(state.shape)))
            states.append(None if state is None else state.unsqueeze(0).unsqueeze(0) if single else state.unsqueeze(0))
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None, None)
        _, h, c = recurrent(where, x.unsqueeze(0), None, states[0], states[1], [[weights]], cell)
        h, c = h.squeeze(0), None if c is None else c.squeeze(0)
        return (h.squeeze(0), None if c is None else c.squeeze(0)) if single else (h, c)

    def extra_repr(self) -> str:
        """The sizes, and whether there is no bias."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_RecurrentCell):
    """One step of `RNN`: input (B, input_size), state (B, hidden_size), both without B for a single one."""

    mode = "RNN"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.nonlinearity = choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state; hx: the state before, zeros where None."""
        _require_state("RNNCell", hx)
        return self._run("rnn_" + self.nonlinearity, input, hx, None)[0]

    def extra_repr(self) -> str:
        """The sizes, and the settings that are not the defaults."""
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class GRUCell(_RecurrentCell):
    """One step of `GRU`: input (B, input_size), state (B, hidden_size), both without B for a single one."""

    mode = "GRU"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state; hx: the state before, zeros where None."""
        _require_state("GRUCell", hx)
        return self._run("gru", input, hx, None)[0]


class LSTMCell(_RecurrentCell):
    """One step of `LSTM`: input (B, input_size), states (B, hidden_size), all without B for a single one."""

    mode = "LSTM"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """(h, c) after the step; hx: (h, c) before, zeros where None."""
        return self._run("lstm", input, *_batch_states("LSTMCell", hx))
