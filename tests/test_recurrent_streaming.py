"""Recurrent layers step by step, and their weights in ONNX's and Keras's forms."""

import importlib
import itertools
import re
import tracemalloc

import hominy
import numpy as np
import pytest
from conftest import required
from hominy import nn
from hominy.nn.utils import recurrent_weights as forms

KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("LSTM", {"proj_size": 3}), ("GRU", {})]
STEPS, INPUTS, HIDDEN = 5, 4, 6


def layer_of(mode, settings, dtype=hominy.float64):
    return getattr(nn, mode)(INPUTS, HIDDEN, dtype=dtype, **settings)


def states_of(mode, states):
    return states if mode == "LSTM" else (states,)


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize(("mode", "settings"), KINDS, ids=lambda x: str(x))
def test_steps_are_the_layers(mode, settings, backend):
    """Outputs and states of all steps, from zeros and from the state after a beginning."""
    with hominy.use_backend(backend):
        for layers, batch, bias, dtype in itertools.product(
            (1, 3), (1, 2, 7), (True, False), (hominy.float32, hominy.float64)
        ):
            layer = layer_of(mode, dict(settings, num_layers=layers, bias=bias, dropout=0.5 * (layers > 1)), dtype)
            layer.eval()
            x = hominy.randn(STEPS, batch, INPUTS, dtype=dtype)
            stream = nn.StreamingRecurrent(layer, batch)
            tolerance = {"rtol": 0, "atol": 1e-6 if dtype == hominy.float32 else 1e-14}
            with hominy.no_grad():
                begin = None
                for _ in range(2):
                    y, states = layer(x, begin)
                    for t in range(STEPS):
                        given = x[t] if t % 2 else x[t].numpy()
                        got = stream.step(given)
                        assert type(got) is type(given)
                        np.testing.assert_allclose(np.asarray(got), y[t].numpy(), **tolerance)
                    for a, b in zip(states_of(mode, states), states_of(mode, stream.state), strict=True):
                        assert a.shape == b.shape
                        np.testing.assert_allclose(a.numpy(), b.numpy(), **tolerance)
                    begin = states
                stream.reset()
                np.testing.assert_allclose(stream.step(x[0]).numpy(), layer(x[:1])[0][0].numpy(), **tolerance)
                stream.state = states
                np.testing.assert_allclose(stream.step(x[0]).numpy(), layer(x[:1], states)[0][0].numpy(), **tolerance)


@pytest.mark.parametrize("layers", [1, 2])
def test_what_goes_out_comes_in(layers):
    """The result of a step, which is the state's own memory, as the input of the next; with and without a batch."""
    layer = nn.GRU(HIDDEN, HIDDEN, layers, dtype=hominy.float64)
    expected, stream, single = hominy.ones(1, 1, HIDDEN, dtype=hominy.float64), *map(nn.StreamingRecurrent, [layer] * 2)
    y, row, state = np.ones((1, HIDDEN)), np.ones(HIDDEN), None
    for _ in range(4):
        expected, state = layer(expected, state)
        y, row = stream.step(y), single.step(row)
        assert row.shape == (HIDDEN,)
        np.testing.assert_allclose(y, expected[0].detach().numpy(), rtol=0, atol=1e-14)
        np.testing.assert_allclose(row, y[0], rtol=0, atol=0)


def test_input_of_any_strides():
    layer = nn.LSTM(INPUTS, HIDDEN)
    x = np.random.default_rng(0).standard_normal((INPUTS, 6)).astype("float32")
    for view in (x[:, ::2].T, x.T[::-2], np.broadcast_to(x[:, :1].T, (3, INPUTS))):
        got = nn.StreamingRecurrent(layer, 3).step(view).copy()
        np.testing.assert_allclose(got, nn.StreamingRecurrent(layer, 3).step(view.copy()), rtol=0, atol=1e-7)


def test_weights_are_copied():
    for backend in (None, "reference"):
        layer, x = nn.LSTM(INPUTS, HIDDEN), np.ones((1, INPUTS), "float32")
        with hominy.use_backend(backend):
            stream = nn.StreamingRecurrent(layer)
        before = stream.step(x).copy()
        with hominy.no_grad():
            layer.weight_ih_l0.zero_()
        stream.reset()
        assert (stream.step(x) == before).all()


def test_results_are_one_memory():
    """A step gives the same object again, read-only; the tape hears of the write."""
    stream = nn.StreamingRecurrent(nn.RNN(INPUTS, HIDDEN))
    x = np.ones((1, INPUTS), "float32")
    first = stream.step(x)
    assert stream.step(x) is first and not first.flags.writeable
    state = stream.state
    state.zero_()
    assert first.any() and not (stream.state == 0).all()
    y = stream.step(hominy.from_numpy(x))
    loss = nn.Linear(HIDDEN, 1)(y).sum()
    stream.step(hominy.from_numpy(x))
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()


@pytest.mark.native  # the reference allocates
@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
def test_no_memory_is_allocated_after_the_first_step(mode):
    stream = nn.StreamingRecurrent(getattr(nn, mode)(512, 512, 2))
    x = np.ones((1, 512), "float32")
    stream.step(x)
    peaks = []
    for _ in range(3):  # the least: other threads of the process are counted too
        tracemalloc.start()
        try:
            for _ in range(5):
                stream.step(x)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 1024  # a result would be 2048 bytes


STREAM, X = nn.StreamingRecurrent(nn.LSTM(INPUTS, HIDDEN), 2), np.zeros((2, INPUTS), "float32")
H = np.zeros((1, 2, HIDDEN), "float32")
REFUSED = [
    (lambda: nn.StreamingRecurrent(nn.Linear(2, 2)), TypeError, "layer: expected an RNN, an LSTM or a GRU, got 'Lin"),
    (lambda: nn.StreamingRecurrent(nn.GRU(2, 2, bidirectional=True)), ValueError, "layer: expected one direction"),
    (lambda: nn.StreamingRecurrent(nn.GRU(2, 2), 0), ValueError, "batch_size: expected a positive integer, got 0"),
    (lambda: STREAM.step([1.0]), TypeError, "x: expected a NumPy array or a tensor, got 'list'"),
    (lambda: STREAM.step(X[:1]), ValueError, "x: expected shape (2, 4), (batch_size, input_size), got (1, 4)"),
    (lambda: STREAM.step(X[0]), ValueError, "x: expected shape (2, 4), (batch_size, input_size), got (4,)"),
    (lambda: STREAM.step(X.astype("float64")), TypeError, "x: expected dtype float32, the weights', got float64"),
    (lambda: setattr(STREAM, "state", H), TypeError, "state: expected (h, c), got 'ndarray'"),
    (lambda: setattr(STREAM, "state", (H, H[0])), ValueError, "state c: expected shape (1, 2, 6), (num_layers"),
    (lambda: setattr(STREAM, "state", (H.astype("d"), H)), TypeError, "state h: expected dtype float32, got float64"),
    (lambda: setattr(STREAM, "state", ([0], H)), TypeError, "state h: expected a tensor or an array, got 'list'"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_wrong_calls_are_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape("[StreamingRecurrent] " + message)):
        call()
    assert not STREAM.state[0].numpy().any()


# --- ONNX's and Keras's weights ---------------------------------------------------------------------------------------

FORMS = [kind for kind in KINDS if not kind[1].get("proj_size")]


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, value):
    """An integer, a string or a message as field `number` of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_model(operator, inputs, attributes, outputs):
    """One operator's model; inputs: names and arrays. Field numbers: onnx.proto."""
    node = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    node += field(4, operator)
    for name, value in attributes.items():
        if isinstance(value, int):
            node += field(5, field(1, name) + field(3, value) + field(20, 2))
        elif isinstance(value, str):
            node += field(5, field(1, name) + field(4, value) + field(20, 3))
        else:
            node += field(5, field(1, name) + b"".join(field(9, each) for each in value) + field(20, 8))
    graph = field(1, node) + field(2, operator)
    for name, array in inputs.items():
        shape = b"".join(field(1, field(1, size)) for size in array.shape)
        graph += field(11, field(1, name) + field(2, field(1, field(1, 1) + field(2, shape))))
    graph += b"".join(field(12, field(1, name) + field(2, field(1, field(1, 1)))) for name in outputs)
    return field(1, 9) + field(7, graph) + field(8, field(1, "") + field(2, 20))


@pytest.mark.parametrize(("mode", "settings"), FORMS, ids=lambda x: str(x))
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_onnx_weights_compute_the_same(mode, settings, both, bias):
    # Where PyTorch is required, so is this peer: its absence is a failure there, and a skip elsewhere.
    runtime = importlib.import_module("onnxruntime") if required("TORCH") else pytest.importorskip("onnxruntime")
    layer = layer_of(mode, dict(settings, bidirectional=both, bias=bias), hominy.float32)
    x = np.random.default_rng(0).standard_normal((STEPS, 2, INPUTS)).astype("float32")
    weights = forms.onnx_weights(layer)
    assert ("B" in weights) == bias
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional" if both else "forward"}
    if mode == "GRU":
        attributes["linear_before_reset"] = 1
    if settings.get("nonlinearity") == "relu":
        attributes["activations"] = ["Relu"] * (1 + both)
    outputs = ["Y", "Y_h", "Y_c"][: 3 if mode == "LSTM" else 2]
    inputs = {"X": x, **weights}
    model = runtime.InferenceSession(onnx_model(mode, inputs, attributes, outputs), providers=["CPUExecutionProvider"])
    expected, *states = model.run(None, inputs)
    with hominy.no_grad():
        y, own = layer(hominy.from_numpy(x))
    np.testing.assert_allclose(y.numpy(), expected.swapaxes(1, 2).reshape(y.shape), rtol=0, atol=2e-6)
    for a, b in zip(states_of(mode, own), states, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=2e-6)


def keras(mode, x, weights, relu):
    """h of all steps by the formulas of Keras's layers; x (T, B, I)."""
    kernel, recurrent, *bias = weights
    h = c = np.zeros((x.shape[1], recurrent.shape[0]))
    bias = bias[0] if bias else np.zeros((2, kernel.shape[1]) if mode == "GRU" else kernel.shape[1])

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    result = []
    for step in x:
        if mode == "RNN":
            a = step @ kernel + bias + h @ recurrent
            h = np.maximum(a, 0) if relu else np.tanh(a)
        elif mode == "LSTM":
            i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            x_z, x_r, x_h = np.split(step @ kernel + bias[0], 3, axis=1)
            h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3, axis=1)
            z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
            h = z * h + (1 - z) * np.tanh(x_h + r * h_h)
        result.append(h)
    return np.stack(result)


@pytest.mark.parametrize(("mode", "settings"), FORMS, ids=lambda x: str(x))
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_keras_weights_compute_the_same(mode, settings, both, bias):
    layer = layer_of(mode, dict(settings, bidirectional=both, bias=bias))
    x = np.random.default_rng(0).standard_normal((STEPS, 2, INPUTS))
    weights = forms.keras_weights(layer)
    each = len(weights) // (1 + both)
    assert each == 2 + bias
    relu = settings.get("nonlinearity") == "relu"
    expected = keras(mode, x, weights[:each], relu)
    if both:
        back = keras(mode, x[::-1], weights[each:], relu)[::-1]
        expected = np.concatenate([expected, back], axis=2)
    np.testing.assert_allclose(layer(hominy.from_numpy(x))[0].detach().numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("mode", "settings"), FORMS, ids=lambda x: str(x))
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_there_and_back(mode, settings, both, bias):
    """The second of two layers, into another layer; one without biases into one with."""
    settings = dict(settings, num_layers=2, bidirectional=both)
    x = hominy.randn(STEPS, 2, INPUTS, dtype=hominy.float64)
    for other_bias in {True, bias}:
        layer, by_onnx, by_keras = (layer_of(mode, dict(settings, bias=b)) for b in (bias, other_bias, other_bias))
        for number in range(2):
            forms.load_onnx_weights(by_onnx, **forms.onnx_weights(layer, number), number=number)
            forms.load_keras_weights(by_keras, forms.keras_weights(layer, number), number=number)
        expected = layer(x)[0].detach().numpy()
        for other in (by_onnx, by_keras):
            np.testing.assert_allclose(other(x)[0].detach().numpy(), expected, rtol=0, atol=1e-14)
    if bias:
        exact = dict(by_onnx.named_parameters())
        assert all((p == exact[name]).all() for name, p in layer.named_parameters())


def test_gates_in_order():
    gates = np.repeat(np.arange(4), 2)
    assert forms.reorder_gates(gates, "LSTM", "pytorch", "onnx").tolist() == [0, 0, 3, 3, 1, 1, 2, 2]
    assert forms.reorder_gates(gates[None], "LSTM", "onnx", "pytorch", 1)[0].tolist() == [0, 0, 2, 2, 3, 3, 1, 1]
    assert forms.reorder_gates(gates[:6], "GRU", "keras", "pytorch").tolist() == [1, 1, 0, 0, 2, 2]
    assert forms.reorder_gates(gates[:6], "GRU", "keras", "onnx") is not gates


PLAIN, WIDE = nn.GRU(INPUTS, HIDDEN, bias=False), nn.GRU(INPUTS, HIDDEN)
ONNX, KERAS = forms.onnx_weights(WIDE), forms.keras_weights(WIDE)
WRONG_FORMS = [
    (lambda: forms.onnx_weights(nn.Linear(2, 2)), TypeError, "[onnx_weights] layer: expected an RNN, an LSTM or a GRU"),
    (lambda: forms.onnx_weights(nn.LSTM(2, 3, proj_size=2)), ValueError, "[onnx_weights] layer: expected no projectio"),
    (lambda: forms.keras_weights(WIDE, 1), ValueError, "[keras_weights] number: expected below num_layers=1, got 1"),
    (
        lambda: forms.load_onnx_weights(PLAIN, **ONNX),
        ValueError,
        "[load_onnx_weights] B: expected None for a layer without bias",
    ),
    (
        lambda: forms.load_onnx_weights(WIDE, ONNX["W"][0], ONNX["R"]),
        ValueError,
        "[load_onnx_weights] W: expected 3 dimensions, the first of 1 directions, got shape (18, 4)",
    ),
    (
        lambda: forms.load_onnx_weights(WIDE, ONNX["R"], ONNX["R"]),
        ValueError,
        "[load_onnx_weights] W: expected (18, 4) for each direction in PyTorch's form, got (18, 6)",
    ),
    (
        lambda: forms.load_onnx_weights(WIDE, ONNX["W"], ONNX["R"], ONNX["B"][:, 1:]),
        ValueError,
        "[load_onnx_weights] B: expected (18,) for each direction in PyTorch's form, got (17,)",
    ),
    (lambda: forms.load_onnx_weights(WIDE, [1], ONNX["R"]), TypeError, "[load_onnx_weights] W: expected a NumPy array"),
    (
        lambda: forms.load_keras_weights(WIDE, KERAS[:1]),
        ValueError,
        "[load_keras_weights] weights: expected 2 or 3 arrays a direction, 1 of them, got 1",
    ),
    (
        lambda: forms.load_keras_weights(WIDE, [*KERAS[:2], KERAS[2][0]]),
        ValueError,
        "[load_keras_weights] bias, of a GRU with reset_after=True: expected shape (2, 18), got (18,)",
    ),
    (
        lambda: forms.load_keras_weights(WIDE, [KERAS[0].T, *KERAS[1:]]),
        ValueError,
        "[load_keras_weights] weight_ih: expected (18, 4) for each direction in PyTorch's form, got (4, 18)",
    ),
    (lambda: forms.reorder_gates(np.zeros(5), "GRU", "onnx", "keras"), ValueError, "[reorder_gates] x: expected a mul"),
    (lambda: forms.reorder_gates(np.zeros(6), "TCN", "onnx", "keras"), ValueError, "[reorder_gates] mode: expected"),
    (lambda: forms.reorder_gates(np.zeros(6), "GRU", "onnx", "caffe"), ValueError, "[reorder_gates] target: expected"),
    (lambda: forms.reorder_gates(np.zeros(6), "GRU", "onnx", "keras", 1), ValueError, "[reorder_gates] axis: expected"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG_FORMS, ids=[message[:50] for *_, message in WRONG_FORMS])
def test_wrong_forms_are_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_dtypes_that_no_backend_computes():
    with pytest.raises(TypeError, match=r"\[StreamingRecurrent\] layer: expected weights of float32 or float64"):
        nn.StreamingRecurrent(nn.LSTM(4, 8, dtype=hominy.float16))


def test_states_are_tensors():
    layer, x, states = nn.LSTM(3, 4), hominy.ones(2, 1, 3), np.zeros((1, 1, 4), np.float32)
    with pytest.raises(TypeError, match=r"\[LSTM\] hx: expected a tensor or None, got ndarray"):
        layer(x, (states, states))
