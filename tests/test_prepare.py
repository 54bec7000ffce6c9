"""Weights packed ahead: the same results, forms that are bounded, and refusals where they would be wrong."""

import copy
import pickle

import hominy
import numpy as np
import pytest
from hominy import backends, nn
from hominy.backends.conv_choice import ALGORITHMS
from hominy.nn import functional as F
from hominy.prepared import PreparedWeight

SHAPES = [
    ((2, 16, 12, 13), (24, 16, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (96, 64, 1, 1), {}),
    ((2, 3, 33, 31), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 24, 11, 10), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    ((2, 32, 9, 8), (32, 8, 3, 3), {"padding": 1, "groups": 4}),
    ((2, 16, 33), (16, 16, 5), {"padding": 2}),
    ((1, 8, 5, 6, 4), (8, 8, 3, 3, 3), {"padding": 1}),
    ((0, 8, 5, 6), (8, 8, 3, 3), {}),
]  # fmt: skip


def lay(x, layout):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if layout == "channels last" else x


def drawn(rng, dtype, *shapes):
    return [rng.uniform(-2, 2, shape).astype(dtype) for shape in shapes]


def function(x):
    return getattr(F, f"conv{x.ndim - 2}d")


@pytest.mark.native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_the_results_are_those_of_the_weight(algorithm, layout, dtype, level, rng):
    """To the last bit where one algorithm is named; "auto" may choose another when packing costs nothing."""
    for x, w, options in SHAPES:
        x, w, b = (hominy.from_numpy(a) for a in drawn(rng, dtype, x, w, w[:1]))
        x = hominy.from_numpy(lay(x.numpy(), layout))
        weight = hominy.from_numpy(lay(w.numpy(), layout))
        for given in (weight, w):
            packed = hominy.prepare(given)
            with hominy.no_grad(), backends.use_conv_algorithm(algorithm):
                try:
                    want = function(x)(x, given, b, **options).numpy()
                except ValueError:
                    with pytest.raises(ValueError, match="algorithm"):
                        function(x)(x, packed, b, **options)
                    continue
                for _ in range(2):
                    got = function(x)(x, packed, b, **options).numpy()
                    assert got.strides == want.strides and got.shape == want.shape
                    if algorithm == "auto":
                        eps = float(np.finfo(dtype).eps)
                        np.testing.assert_allclose(got, want, rtol=0, atol=4096 * eps)
                    else:
                        assert got.tobytes() == want.tobytes(), (algorithm, options)


@pytest.mark.native
def test_bits_do_not_depend_on_threads(level, rng):
    for x, w, options in SHAPES:
        x, w = (hominy.from_numpy(a) for a in drawn(rng, "float32", x, w))
        results = set()
        packed = hominy.prepare(w)
        for threads in (1, 2, 5):
            hominy.set_num_threads(threads)
            results.add(function(x)(x, packed, **options).numpy().tobytes())
            results.add(function(x)(x, hominy.prepare(w), **options).numpy().tobytes())
        assert len(results) == 1, options


def test_inputs_anywhere_in_memory(rng):
    """Slices, which the packed form may not be for, and a change of shape, layout and settings between calls."""
    big, w = drawn(rng, "float32", (4, 32, 21, 20), (8, 16, 3, 3))
    packed, weight = hominy.prepare(hominy.from_numpy(w)), hominy.from_numpy(w)
    for x in (
        big[:, ::2],
        big[::2, :16],
        big[:, 16:, ::-1],
        lay(big, "channels last")[:, :16],
        big[:1, :16, :9, :9],
        lay(big[:, :16], "channels last"),
        big[:, :16].copy(),
        np.broadcast_to(big[:1, :16], (3, 16, 21, 20)),
    ):
        for options in ({}, {"padding": 1}, {"stride": 2}, {"dilation": 2}):
            x_tensor = hominy.from_numpy(x)
            want = F.conv2d(x_tensor, weight, **options).numpy()
            np.testing.assert_allclose(F.conv2d(x_tensor, packed, **options).numpy(), want, rtol=0, atol=1e-4)
    one = hominy.from_numpy(big[0, :16])
    np.testing.assert_allclose(F.conv2d(one, packed).numpy(), F.conv2d(one, weight).numpy(), rtol=0, atol=1e-4)


def test_forms_are_bounded(rng):
    packed = hominy.prepare(hominy.from_numpy(*drawn(rng, "float32", (64, 64, 3, 3))))
    for size in range(5, 30):
        x = hominy.zeros(1, 64, size, size)
        assert not F.conv2d(x, packed).numpy().any()
        assert len(packed) <= len(packed._forms) <= 8
    assert repr(packed) == f"PreparedWeight(float32 (64, 64, 3, 3), {len(packed)} packed forms)"


@pytest.mark.parametrize("backend", ["reference", None])
def test_other_backends_take_the_weight_as_it_is(backend, rng):
    x, w = (hominy.from_numpy(a) for a in drawn(rng, "float32", (1, 3, 5, 5), (4, 3, 3, 3)))
    packed = hominy.prepare(w)
    with hominy.use_backend(backend):
        np.testing.assert_allclose(F.conv2d(x, packed).numpy(), F.conv2d(x, w).numpy(), rtol=1e-5, atol=1e-4)
        y = F.conv_transpose2d(F.conv2d(x, w), packed, stride=2)
        assert y.shape == (1, 3, 7, 7)


def test_no_gradient_is_lost():
    x, w = hominy.ones(1, 3, 5, 5), hominy.ones(4, 3, 3, 3)
    learnt, packed = nn.Parameter(w), hominy.prepare(w)
    message = r"\[conv2d\] weight: expected a tensor where gradients are recorded, got a prepared weight"
    assert not F.conv2d(x, packed).requires_grad  # nothing asks for a gradient
    for arguments in (
        (x, hominy.prepare(learnt)),
        (x.detach().requires_grad_(), packed),
        (x, packed, hominy.ones(4).requires_grad_()),
    ):
        with pytest.raises(RuntimeError, match=message):
            F.conv2d(*arguments)
        with hominy.no_grad():
            assert F.conv2d(*arguments).shape == (1, 4, 3, 3)
    with pytest.raises(RuntimeError, match=message.replace("conv2d", "conv_transpose2d")):
        F.conv_transpose2d(hominy.ones(1, 4, 5, 5), hominy.prepare(learnt))
    assert packed.requires_grad is False and packed.requires_grad_(False) is packed
    with pytest.raises(RuntimeError, match=r"\[prepare\] a prepared weight has no gradient"):
        packed.requires_grad_()
    with pytest.raises(RuntimeError, match=r"\[prepare\] a prepared weight has no gradient"):
        _ = packed.grad


def test_a_weight_that_changes_is_noticed():
    x, w = hominy.ones(1, 3, 5, 5), hominy.ones(4, 3, 3, 3)
    packed = hominy.prepare(w)
    F.conv2d(x, packed)
    w.mul_(2.0)
    with pytest.raises(RuntimeError, match=r"\[conv2d\] weight: it changed since it was prepared; prepare it again"):
        F.conv2d(x, packed)
    assert F.conv2d(x, hominy.prepare(w)).numpy().max() == 54


@pytest.mark.parametrize(
    ("weight", "kind", "message"),
    [
        (np.ones((4, 3, 3, 3)), TypeError, r"\[prepare\] weight: expected a tensor, got ndarray"),
        (hominy.ones(4, 3), ValueError, r"\[prepare\] weight: expected a convolution's, .* got float32 \(4, 3\)"),
        (hominy.ones(1, 1, 1, dtype="float16"), ValueError, r"\[prepare\] weight: expected a convolution's.* float16"),
    ],
)
def test_what_cannot_be_prepared(weight, kind, message):
    with pytest.raises(kind, match=message):
        hominy.prepare(weight)


def test_geometry_is_checked_as_ever():
    packed = hominy.prepare(hominy.ones(4, 3, 3, 3))
    with pytest.raises(ValueError, match=r"\[conv2d\] weight: expected \(out_channels, in_channels/groups=4, kh, kw\)"):
        F.conv2d(hominy.ones(1, 4, 5, 5), packed)
    with pytest.raises(TypeError, match=r"\[conv2d\] weight: expected dtype float64, as the input's, got float32"):
        F.conv2d(hominy.ones(1, 3, 5, 5, dtype="float64"), packed)


def test_copies_and_pickles():
    w = hominy.ones(4, 3, 3, 3)
    packed = hominy.prepare(w)
    for other in (copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert type(other) is PreparedWeight and other.shape == packed.shape == (4, 3, 3, 3)
        assert F.conv2d(hominy.ones(1, 3, 3, 3), other).numpy().ravel().tolist() == [27.0] * 4


# --- models -----------------------------------------------------------------------------------------------------------


def small_model():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Conv2d(16, 16, 3, padding="same", groups=16)),
        nn.Conv2d(16, 8, 1, padding_mode="reflect"), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(324, 5),
    )  # fmt: skip


def test_a_model_for_inference(rng):
    model, x = small_model(), hominy.from_numpy(*drawn(rng, "float32", (2, 3, 8, 8)))
    state = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    want = model(x).detach().numpy()
    handle = nn.utils.prepare(model)
    assert len(handle) == 3
    with hominy.no_grad():
        for _ in range(2):
            np.testing.assert_allclose(model(x).numpy(), want, rtol=0, atol=1e-4)
    assert [name for name, _ in model.named_parameters()] == list(state)
    for key, value in model.state_dict().items():
        assert (value.numpy() == state[key]).all()
    with pytest.raises(RuntimeError, match="prepared weight"):
        model(x)
    copied = copy.deepcopy(model)
    with hominy.no_grad():
        np.testing.assert_allclose(copied(x).numpy(), want, rtol=0, atol=1e-4)
        copied[0].weight.zero_()
        np.testing.assert_allclose(model(x).numpy(), want, rtol=0, atol=1e-4)
        with pytest.raises(RuntimeError, match="it changed since it was prepared"):
            copied(x)
    handle.remove()
    handle.remove()
    assert len(handle) == 0 and model(x).requires_grad
    with nn.utils.prepare(model), hominy.no_grad():
        np.testing.assert_allclose(model(x).numpy(), want, rtol=0, atol=1e-4)
    model(x).sum().backward()
    assert model[0].weight.grad.numpy().any()


def test_a_new_parameter_is_used_as_it_is():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    handle = nn.utils.prepare(layer)
    layer.weight = nn.Parameter(hominy.full((1, 1, 1, 1), 3.0))
    assert layer(hominy.ones(1, 1, 1, 1)).item() == 3.0
    handle.remove()
    handle = nn.utils.prepare(layer)
    with hominy.no_grad():
        layer.load_state_dict({"weight": hominy.full((1, 1, 1, 1), 4.0)})
        with pytest.raises(RuntimeError, match="it changed since it was prepared"):
            layer(hominy.ones(1, 1, 1, 1))


# --- recurrent layers -------------------------------------------------------------------------------------------------

RECURRENT = [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {}), (nn.LSTM, {"proj_size": 3}), (nn.GRU, {})]


def recurrent_results(layer, x):
    return [
        part.numpy()
        for lengths in (None, [2, 6, 4])
        for result in [layer(x, lengths=lengths)]
        for part in (result[0], *(result[1] if isinstance(result[1], tuple) else (result[1],)))
    ]


@pytest.mark.native
@pytest.mark.parametrize("dtype", [hominy.float32, hominy.float64])
@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_recurrent_results_are_those_of_the_weights(kind, options, dtype, level, rng):
    layer = kind(5, 19, 2, bidirectional=True, dtype=dtype, **options)
    x = hominy.from_numpy(rng.standard_normal((6, 3, 5))).to(dtype)
    with hominy.no_grad():
        want = recurrent_results(layer, x)
        with nn.utils.prepare(nn.ModuleList([layer])) as handle:
            assert len(handle) == 1
            for each in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
                for _ in range(2):
                    for got, expected in zip(recurrent_results(each, x), want, strict=True):
                        np.testing.assert_array_equal(got, expected)
            assert all(
                each.form("LSTM", parts) is not None
                for each, parts in zip(layer._prepared, layer._layers(), strict=True)
            )
        assert layer._prepared is None


def test_a_prepared_recurrent_layer_refuses_what_it_would_get_wrong(rng):
    layer, x = nn.LSTM(5, 4), hominy.from_numpy(rng.standard_normal((6, 3, 5)).astype("float32"))
    handle = nn.utils.prepare(layer)
    with pytest.raises(RuntimeError, match=r"\[LSTM\] weights: expected a layer that is not prepared where gradients"):
        layer(x)
    with hominy.no_grad():
        before = layer(x)[0].numpy()
        layer.bias_hh_l0 = nn.Parameter(layer.bias_hh_l0.detach() + 1.0)  # another tensor: used as it is
        assert (layer(x)[0].numpy() != before).any()
        handle.remove()
        handle = nn.utils.prepare(layer)
        layer.weight_hh_l0.mul_(2.0)
        if backends.current_backend() == "native":
            with pytest.raises(RuntimeError, match=r"\[LSTM\] weights: they changed since they were prepared"):
                layer(x)
    handle.remove()
    layer(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is not None


# --- what must not be taken for what was prepared ---------------------------------------------------------------------


@pytest.mark.native
@pytest.mark.parametrize(
    ("layer", "x", "name"),
    [
        (lambda: nn.LSTM(8, 8), lambda: hominy.ones(3, 2, 8), "weight_ih_l0"),
        (lambda: nn.Conv2d(128, 128, 3), lambda: hominy.ones(1, 128, 9, 9), "weight"),
    ],
)
def test_new_memory_behind_a_weight_is_noticed(layer, x, name):
    layer, x = layer(), x()
    weight = getattr(layer, name)
    with nn.utils.prepare(layer), hominy.no_grad():
        layer(x)
        weight.data = hominy.zeros(weight.shape)
        with pytest.raises(RuntimeError, match=r"since .* prepared"):
            layer(x)


def test_handles_end_their_own_preparation(rng):
    layer = nn.Conv2d(16, 16, 3)
    first, second = nn.utils.prepare(layer), nn.utils.prepare(layer)
    first.remove()
    assert layer._prepared is not None
    second.remove()
    assert layer._prepared is None


@pytest.mark.native
def test_a_dimension_of_one_may_have_any_stride(rng):
    x, w = drawn(rng, "float32", (1, 256, 64), (256, 256, 3, 3))
    x = hominy.from_numpy(x[..., None])
    broadcast = hominy.from_numpy(np.lib.stride_tricks.as_strided(x.numpy(), x.shape, (*x.numpy().strides[:3], 0)))
    weight = hominy.from_numpy(w)
    with hominy.no_grad():
        want = F.conv2d(x, weight, padding=1).numpy()
        for given in (weight, hominy.prepare(weight)):
            got = F.conv2d(broadcast, given, padding=1).numpy()  # perhaps by another algorithm
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
