"""Recurrent layers and packed sequences: PyTorch as oracle in float64, every shape of call, and what is refused."""

import itertools
import re

import hominy
import numpy as np
import pytest
from conftest import COMPUTERS, NATIVE, NUMBA, TORCH, computer_name
from hominy import backends, nn
from hominy.backends import reference_recurrent as reference
from hominy.nn.utils import rnn

if TORCH:
    import torch

KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("LSTM", {"proj_size": 3}), ("GRU", {})]
STEPS, BATCH, INPUTS, HIDDEN = 6, 3, 4, 5
LENGTHS = {"whole": None, "sorted": [6, 4, 1], "unsorted": [2, 6, 3], "lengths": [3, 1, 6]}


@pytest.fixture(params=["automatic", *["numba"] * (NATIVE and NUMBA)])
def kernels(request, monkeypatch):
    """Recurrent layers by the backend that is asked first, and by Numba's alone; all else stays as it is."""
    if request.param == "numba":
        from hominy.backends import numba_jit

        for name in ("recurrent", "recurrent_backward"):
            monkeypatch.setitem(backends._table, name, (getattr(numba_jit, name),))


def ours(x):
    return hominy.from_numpy(x.detach().numpy().copy())


def twins(mode, settings):
    theirs = getattr(torch.nn, mode)(INPUTS, HIDDEN, dtype=torch.float64, **settings)
    mine = getattr(nn, mode)(INPUTS, HIDDEN, dtype=hominy.float64, **settings)
    mine.load_state_dict({name: ours(value) for name, value in theirs.state_dict().items()})
    return theirs, mine


def run(framework, packing, model, x, lengths, how, state):
    """[output, *states], padded where it was packed."""
    first = model.batch_first
    if how in ("sorted", "unsorted"):
        packed = packing.pack_padded_sequence(x, lengths, first, enforce_sorted=how == "sorted")
        output, states = model(packed, state)
        output = packing.pad_packed_sequence(output, first)[0]
    elif how == "lengths" and framework is torch:
        return run(framework, packing, model, x, lengths, "unsorted", state)
    elif how == "lengths":
        output, states = model(x, state, lengths=lengths)
    else:
        output, states = model(x, state)
    return [output, *(states if isinstance(states, tuple) else (states,))]


@pytest.mark.torch
@pytest.mark.parametrize(("mode", "settings"), KINDS, ids=lambda x: str(x))
@pytest.mark.parametrize("how", list(LENGTHS))
@pytest.mark.parametrize("state", [False, True])
def test_layers_against_pytorch(mode, settings, how, state, kernels):
    """Layers, directions, bias, batch first: results, and gradients of input, parameters and states."""
    torch.manual_seed(0)
    for layers, both, first, bias in itertools.product((1, 2), (False, True), (False, True), (True, False)):
        all_settings = dict(settings, num_layers=layers, bidirectional=both, batch_first=first, bias=bias)
        theirs, mine = twins(mode, all_settings)
        x = torch.randn((BATCH, STEPS, INPUTS) if first else (STEPS, BATCH, INPUTS), dtype=torch.float64)
        rows = layers * (1 + both)
        states = [torch.randn(rows, BATCH, n, dtype=torch.float64) for n in (settings.get("proj_size", HIDDEN), HIDDEN)]
        states = states[: 2 if mode == "LSTM" else 1] if state else []
        inputs = [t.requires_grad_() for t in (x, *states)]
        copies = [ours(t).requires_grad_() for t in inputs]
        whole = [tuple(t[1:]) if mode == "LSTM" else t[1] if state else None for t in (inputs, copies)]
        whole = whole if state else [None, None]
        lengths = LENGTHS[how]
        expected = run(torch, torch.nn.utils.rnn, theirs, inputs[0], lengths, how, whole[0])
        got = run(hominy, rnn, mine, copies[0], lengths, how, whole[1])
        flows = [torch.randn_like(y) for y in expected]
        sum((y * g).sum() for y, g in zip(expected, flows, strict=True)).backward()
        sum((y * ours(g)).sum() for y, g in zip(got, flows, strict=True)).backward()
        pairs = [*zip(expected, got, strict=True)]
        pairs += [(a.grad, b.grad) for a, b in zip(inputs, copies, strict=True)]
        parameters = dict(mine.named_parameters())
        pairs += [(p.grad, parameters[name].grad) for name, p in theirs.named_parameters()]
        for a, b in pairs:
            np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
def test_a_single_sequence(mode):
    theirs, mine = twins(mode, {"num_layers": 2, "bidirectional": True})
    x = torch.randn(STEPS, INPUTS, dtype=torch.float64)
    expected, got = theirs(x), mine(ours(x))
    for a, b in zip((expected[0], expected[1][0]), (got[0], got[1][0]), strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("mode", "settings"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {})]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(BATCH, INPUTS), (INPUTS,)])
def test_cells_against_pytorch(mode, settings, bias, shape, kernels):
    theirs, mine = twins(mode, dict(settings, bias=bias))
    x = torch.randn(shape, dtype=torch.float64)
    expected, got = theirs(x), mine(ours(x))
    for _ in range(3):  # the state carried on
        expected, got = theirs(x, expected), mine(ours(x), got)
    flat = [(a, b) for a, b in zip(expected, got, strict=True)] if mode == "LSTMCell" else [(expected, got)]
    for a, b in flat:
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=0, atol=1e-12)


def test_steps_alone_are_the_sequence(kernels):
    layer = nn.LSTM(INPUTS, HIDDEN, dtype=hominy.float64)
    x = hominy.randn(7, 2, INPUTS, dtype=hominy.float64)
    whole, (h, c) = layer(x)
    state, parts = None, []
    for t in range(7):
        y, state = layer(x[t : t + 1], state)
        parts.append(y)
    np.testing.assert_allclose(hominy.cat(parts).detach().numpy(), whole.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(state[1].detach().numpy(), c.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(state[0].detach().numpy(), h.detach().numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("every", [2, 3, 50])
def test_steps_that_are_not_kept_are_taken_again(mode, every):
    layer = getattr(nn, mode)(INPUTS, HIDDEN, num_layers=2, bidirectional=True, dtype=hominy.float64)
    x = hominy.randn(7, 3, INPUTS, dtype=hominy.float64).requires_grad_()
    flow = hominy.randn(7, 3, 2 * HIDDEN, dtype=hominy.float64)
    found = []
    for layer.keep_every in (1, every):
        y, _ = layer(x, lengths=[5, 7, 2])
        found.append([y, *hominy.autograd.grad(y, [x, *layer.parameters()], flow)])
    for kept, taken_again in zip(*found, strict=True):
        np.testing.assert_allclose(taken_again.detach().numpy(), kept.detach().numpy(), rtol=0, atol=1e-13)
    layer.keep_every = 0
    with pytest.raises(ValueError, match=r"\[" + mode + r"\] keep_every"):
        layer(x)


def test_lengths_are_each_sequence_alone(kernels):
    """A row of a batch with lengths is what the row gives by itself, and 0 beyond it."""
    layer = nn.GRU(INPUTS, HIDDEN, num_layers=2, bidirectional=True, batch_first=True, dtype=hominy.float64)
    lengths = [2, 5, 1, 5]
    x = hominy.randn(4, 5, INPUTS, dtype=hominy.float64)
    y, h = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, state = layer(x[row : row + 1, :length])
        np.testing.assert_allclose(y[row, :length].detach().numpy(), alone[0].detach().numpy(), rtol=0, atol=1e-14)
        np.testing.assert_allclose(h[:, row].detach().numpy(), state[:, 0].detach().numpy(), rtol=0, atol=1e-14)
        assert not y[row, length:].detach().numpy().any()


def test_empty_sequences(kernels):
    layer = nn.LSTM(INPUTS, HIDDEN)
    y, (h, c) = layer(hominy.zeros(0, 2, INPUTS), (hominy.ones(1, 2, HIDDEN), hominy.full((1, 2, HIDDEN), 2.0)))
    assert y.shape == (0, 2, HIDDEN) and (h == 1).all() and (c == 2).all()
    y, h = nn.GRU(INPUTS, HIDDEN)(hominy.zeros(3, 0, INPUTS))
    assert y.shape == (3, 0, HIDDEN) and h.shape == (1, 0, HIDDEN)


def weights_of(rng, cell, directions, inputs, units, width, dtype):
    """Tuples of six, w_hr where width is not units."""
    rows = reference.GATES[cell] * units
    shapes = ((rows, inputs), (rows, width), (rows,), (rows,), (width, units) if width != units else None, None)
    return tuple(
        tuple(None if s is None else (0.4 * rng.standard_normal(s)).astype(dtype) for s in shapes)
        for _ in range(directions)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("form", "directions"), [("time first", 1), ("batch first", 2), ("lengths", 2), ("packed", 1), ("no rows", 2)]
)
@pytest.mark.parametrize(("cell", "width"), [*((cell, 6) for cell in reference.GATES), ("lstm", 4)])
@pytest.mark.parametrize("computer", COMPUTERS[:-1], ids=computer_name, indirect=True)
def test_backends_against_the_reference(computer, cell, width, form, directions, dtype, rng):
    """More rows than are multiplied at once; backward twice from what was kept; one direction is a reversed one."""
    steps, batch, inputs, units = 27, 21, 5, 6
    weights = weights_of(rng, cell, directions, inputs, units, width, dtype)
    lengths = np.sort(rng.integers(0, steps + 1, batch))[::-1].copy()
    lengths[:2] = steps
    if form == "no rows":
        lengths[:] = 0
    first = form == "batch first"
    shape = (lengths.sum(), inputs) if form == "packed" else (batch, steps, inputs) if first else (steps, batch, inputs)
    lengths = None if form in ("time first", "batch first") else lengths

    def draw(*size):
        return rng.standard_normal(size).astype(dtype)

    x, h0 = draw(*shape), draw(directions, batch, width)
    c0 = draw(directions, batch, units) if cell == "lstm" else None
    setting = (x, lengths, weights, h0, c0, cell, None, first, True)
    *expected, nothing = reference.recurrent(*setting, True)
    *results, kept = computer("recurrent")(*setting, True)
    *again, _ = computer("recurrent")(*setting, False)
    flow = [None if y is None else draw(*y.shape) for y in expected]

    def gradients(function, y, kept):
        dx, dweights, dh, dc = function(*flow, *setting[:5], y, kept, *setting[5:], 15)
        return [dx, dh, dc, *(gradient for direction in dweights for gradient in direction)]

    expected += gradients(reference.recurrent_backward, expected[0], nothing)
    results += gradients(computer("recurrent_backward"), results[0], kept)
    again += gradients(computer("recurrent_backward"), results[0], kept)
    for want, got, same in zip(expected, results, again, strict=True):
        if want is None:
            assert got is same is None
            continue
        assert want.shape == got.shape and want.dtype == got.dtype and (got == same).all()
        tolerance = 300 * np.finfo(dtype).eps * max(1.0, float(abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


@pytest.mark.extra("numba")
def test_what_numba_declines_goes_to_the_reference(monkeypatch, rng):
    """As where nothing was compiled: cells out of the ordinary, and one step at a time."""
    from hominy.backends import numba_jit

    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    setting = (None, None, "lstm")
    weights = weights_of(rng, "lstm", 1, 3, 5, 5, np.float32)
    peephole = ((*weights[0][:5], np.ones((3, 5), np.float32)),)
    relu = (("relu", 0.0, 0.0), ("tanh", 0.0, 0.0), ("tanh", 0.0, 0.0))
    standard = tuple((name, 0.0, 0.0) for name in reference.STANDARD["lstm"])
    monkeypatch.setattr(backends, "_order", lambda: ("numba", "reference"))
    backends._choose(None)
    for own, options, reason in (
        (weights, (relu, 0.0, False, False, 1), "only standard cells"),
        (weights, (None, 1.0, False, False, 1), "only standard cells"),
        (weights, (None, 0.0, True, False, 1), "only standard cells"),
        (weights, (None, 0.0, False, False, 3), "which keep all steps"),
        (peephole, None, "peepholes"),
        (tuple(tuple(None if w is None else w.astype("d") for w in d) for d in weights), None, "dtypes differ"),
        (weights, (standard, 0.0, False, False, 1), None),
    ):
        arguments = (x, None, own, *setting, options, False, False, True)
        answer = numba_jit.recurrent(*arguments)
        assert answer[3].size if reason is None else type(answer) is backends.Declined and reason in answer
        y, h, c, kept = backends.run("recurrent", *arguments)
        np.testing.assert_allclose(y, reference.recurrent(*arguments)[0], rtol=0, atol=1e-6)
        dx = backends.run(
            "recurrent_backward", y, h, c, x, None, own, None, None, y, kept, "lstm", options, False, False, 1
        )
        assert dx[0].shape == x.shape and dx[1:] == (None, None, None)
    huge = np.where(x > 0, np.float32(np.inf), np.float32(np.nan))  # no warning: overflow is nobody's mistake
    _, _, _, kept_of_huge = numba_jit.recurrent(huge, None, weights, *setting, None, False, False, True)
    numba_jit.recurrent_backward(
        y, h, c, huge, None, weights, None, None, y, kept_of_huge, "lstm", None, False, False, 15
    )
    with pytest.raises(ValueError, match=r"\[recurrent\] kept: expected shape"):
        numba_jit.recurrent_backward(y, h, c, x, None, weights, None, None, y, kept[1:], "lstm", None, False, False, 1)
    with pytest.raises(ValueError, match=r"\[recurrent\] weight_hh: expected shape \(20, 5\), got \(20, 4\)"):
        numba_jit.recurrent(x, None, ((weights[0][0], weights[0][1][:, :4], *weights[0][2:]),), *arguments[3:])
    for mode in ("RNN", "LSTM", "GRU"):
        layer = getattr(nn, mode)(3, 5, 2)
        stream = nn.StreamingRecurrent(layer, 2)
        assert stream._layers[0][0].__class__.__module__ == "hominy.backends.numba_recurrent"
        with hominy.no_grad():
            expected = layer(hominy.from_numpy(x))[0].numpy()
        for now, y in zip(x, expected, strict=True):
            np.testing.assert_allclose(stream.step(now), y, rtol=0, atol=1e-6)


def test_dropout_between_layers():
    """Only in training, only between layers; the same seed drops the same."""
    layer = nn.LSTM(INPUTS, 64, num_layers=2, dropout=0.5)
    x = hominy.randn(3, 2, INPUTS)

    def outputs(seed):
        hominy.manual_seed(seed)
        return layer(x)[0].detach().numpy()

    assert (outputs(1) == outputs(1)).all() and (outputs(1) != outputs(2)).any()
    layer.eval()
    assert (outputs(1) == outputs(2)).all()


def test_packing_and_back():
    x = hominy.randn(5, 4, 3)
    lengths = [5, 2, 3, 1]
    packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    assert packed.batch_sizes.numpy().tolist() == [4, 3, 2, 1, 1] and packed.lengths.tolist() == [5, 3, 2, 1]
    padded, back = rnn.pad_packed_sequence(packed, padding_value=-1.0, total_length=6)
    assert back.numpy().tolist() == lengths and padded.shape == (6, 4, 3)
    for row, length in enumerate(lengths):
        assert (padded[:length, row] == x[:length, row]).all() and (padded[length:, row] == -1).all()
    rows = [hominy.randn(n, 2) for n in (3, 4, 1)]
    for row, again in zip(rows, rnn.unpack_sequence(rnn.pack_sequence(rows, enforce_sorted=False)), strict=True):
        assert (row == again).all()
    assert rnn.pad_sequence(rows, batch_first=True, padding_side="left").shape == (3, 4, 2)


@pytest.mark.torch
@pytest.mark.parametrize("first", [False, True])
def test_packed_sequences_are_pytorchs(first):
    x = torch.randn(4, 3, 2) if first else torch.randn(3, 4, 2)
    lengths = [1, 3, 2, 3]
    theirs = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
    mine = rnn.pack_padded_sequence(ours(x), lengths, first, enforce_sorted=False)
    for name in ("data", "batch_sizes"):
        assert (getattr(theirs, name).numpy() == getattr(mine, name).numpy()).all()
    for a, b in zip(torch.nn.utils.rnn.pad_packed_sequence(theirs), rnn.pad_packed_sequence(mine), strict=True):
        assert (a.numpy() == b.numpy()).all()


LSTM, X = nn.LSTM(INPUTS, HIDDEN), hominy.zeros(STEPS, BATCH, INPUTS)
REFUSED = [
    (lambda: LSTM(hominy.zeros(STEPS, BATCH, 3)), ValueError, "[LSTM] input: expected input_size=4 features"),
    (lambda: LSTM(hominy.zeros(2, 2, 2, 4)), ValueError, "[LSTM] input: expected (time, features)"),
    (lambda: LSTM(np.zeros(3)), TypeError, "[LSTM] input: expected a tensor or a PackedSequence, got ndarray"),
    (lambda: LSTM(X.double()), TypeError, "[LSTM] input: expected dtype float32, the weights', got float64"),
    (lambda: LSTM(X, hominy.zeros(1, 3, 5)), TypeError, "[LSTM] hx: expected (h0, c0) or None, got Tensor"),
    (
        lambda: LSTM(X, (hominy.zeros(1, 2, 5), hominy.zeros(1, 3, 5))),
        ValueError,
        "[LSTM] h0: expected shape (1, 3, 5), (layers * directions, batch, size), got (1, 2, 5)",
    ),
    (
        lambda: LSTM(X, (hominy.zeros(1, 3, 5), hominy.zeros(2, 3, 5))),
        ValueError,
        "[LSTM] c0: expected shape (1, 3, 5)",
    ),
    (lambda: LSTM(X, lengths=[1, 2]), ValueError, "[LSTM] lengths: expected 3 numbers, one a sequence"),
    (lambda: LSTM(X, lengths=[1, 0, 2]), ValueError, "[LSTM] lengths: expected lengths in [1, 6], got 0"),
    (lambda: LSTM(X, lengths=[1, 7, 2]), ValueError, "[LSTM] lengths: expected lengths in [1, 6], got 7"),
    (lambda: LSTM(X, lengths=[1.0, 2.0, 2.0]), TypeError, "[LSTM] lengths: expected integers, got dtype float64"),
    (lambda: nn.GRU(INPUTS, 0), ValueError, "[GRU] hidden_size"),
    (lambda: nn.RNN(-1, 3), ValueError, "[RNN] input_size"),
    (lambda: nn.RNN(2, 3, num_layers=0), ValueError, "[RNN] num_layers"),
    (lambda: nn.RNN(2, 3, nonlinearity="gelu"), ValueError, "[RNN] nonlinearity"),
    (lambda: nn.LSTM(2, 3, dropout=1.5), ValueError, "[LSTM] dropout"),
    (lambda: nn.LSTM(2, 3, proj_size=3), ValueError, "[LSTM] proj_size"),
    (lambda: nn.GRUCell(4, 5)(hominy.zeros(2, 3)), ValueError, "[GRUCell] input: expected input_size=4"),
    (
        lambda: rnn.pack_padded_sequence(X, [1, 2, 3]),
        ValueError,
        "[pack_padded_sequence] lengths: expected lengths that do not increase (or enforce_sorted=False), got [1, 2",
    ),
    (
        lambda: rnn.pad_packed_sequence(rnn.pack_padded_sequence(X, [3, 2, 1]), total_length=2),
        ValueError,
        "[pad_packed_sequence] total_length: expected at least 3",
    ),
    (lambda: rnn.pack_sequence([]), ValueError, "[pad_sequence] sequences: expected at least one tensor"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_wrong_calls_are_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_representations():
    assert repr(nn.LSTM(4, 5, num_layers=2, proj_size=3)) == "LSTM(4, 5, proj_size=3, num_layers=2)"
    assert repr(nn.GRU(4, 5, batch_first=True, bidirectional=True)) == "GRU(4, 5, batch_first=True, bidirectional=True)"
    assert repr(nn.RNNCell(4, 5, nonlinearity="relu")) == "RNNCell(4, 5, nonlinearity=relu)"
