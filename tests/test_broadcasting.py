"""Shapes and strides that nobody thought of: NumPy's semantics, on examples that Hypothesis finds."""

import hominy
import numpy as np
import pytest
from hominy.testing import LAYOUTS, cases, lay_out
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = st.sampled_from(["float32", "float64"])
LAYOUT = st.sampled_from(sorted(LAYOUTS))
SEED = st.integers(0, 2**32 - 1)


@pytest.fixture(params=["automatic", "reference"])
def backend(request):
    hominy.use_backend(None if request.param == "automatic" else "reference")


def drawn(seed, shape, dtype, layout="contiguous"):
    return lay_out(cases.draw(np.random.default_rng(seed), dtype, shape), layout)


@st.composite
def sliced(draw, dtype, shape=None):
    """An array behind basic indexing, transposition and reversal of a larger one: any strides."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)) if shape is None else shape
    steps = [draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in shape]
    room = tuple(size * abs(step) for size, step in zip(shape, steps, strict=True))
    order = draw(st.permutations(range(len(shape))))
    memory = drawn(draw(SEED), tuple(room[i] for i in order), dtype)
    inverse = np.argsort(order) if order else ()
    view = memory.transpose([int(i) for i in inverse])[(*(slice(None, None, step) for step in steps), ...)]
    assert view.shape == tuple(shape)
    return view


@given(st.data(), DTYPES, hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=6, min_side=0))
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "less", "divide"])
def test_two_arrays_broadcast_as_in_numpy(backend, name, data, dtype, shapes):
    a, b = (data.draw(sliced(dtype, shape)) for shape in shapes.input_shapes)
    got = getattr(hominy.kernels, name)(a, b)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(a, b)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@given(st.data(), DTYPES, hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=5, min_side=0))
def test_where_broadcasts_three_arrays(backend, data, dtype, shapes):
    condition, a, b = (data.draw(sliced(dtype, shape)) for shape in shapes.input_shapes)
    got = hominy.kernels.where(np.asarray(condition > 0), a, b)
    np.testing.assert_array_equal(got, np.where(condition > 0, a, b))


@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["negative", "square", "floor", "relu"])
def test_one_array_of_any_strides(backend, name, data, dtype):
    x = data.draw(sliced(dtype))
    want = np.maximum(x, 0) if name == "relu" else getattr(np, name)(x)
    np.testing.assert_array_equal(getattr(hominy.kernels, name)(x), want)


@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin"])
def test_reductions_over_any_axes(backend, name, data, dtype):
    x = data.draw(sliced(dtype))
    axes = tuple(data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))) if x.ndim else ()
    signed = tuple(axis - x.ndim * data.draw(st.booleans()) for axis in axes)
    keepdim = data.draw(st.booleans())
    if name in ("amax", "amin") and any(x.shape[axis] == 0 for axis in axes or range(x.ndim)):
        with pytest.raises(ValueError, match=rf"\[{name}\] input: expected at least one element"):
            getattr(hominy.kernels, name)(x, signed, keepdim)
        return
    got = getattr(hominy.kernels, name)(x, signed, keepdim)
    with np.errstate(all="ignore"):
        exact = (
            getattr(np, name)(x.astype(np.longdouble), axis=axes, keepdims=keepdim)
            if x.size or name != "mean"
            else None
        )
        total = np.sum(np.abs(x), axis=axes, keepdims=keepdim, dtype=np.float64)
    if exact is None:
        with np.errstate(all="ignore"):
            exact = np.asarray(np.sum(x, axis=axes, keepdims=keepdim) * np.nan)
    terms = max(1, int(np.prod([x.shape[axis] for axis in axes])))
    u = cases.unit_roundoff(dtype)
    bound = {
        "sum": (terms + 24) * u * total,
        "mean": (terms + 25) * u * total / terms,
        "prod": 1.01 * (terms + 1) * u * np.abs(exact),
    }
    cases.assert_within(np.asarray(got), np.asarray(exact), bound.get(name, 0.0), f"{name} {x.shape} {axes}")


@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(backend, name, data, dtype):
    x = np.asarray(np.round(data.draw(sliced(dtype))))  # with ties
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1))) if x.ndim else None
    if x.size == 0 and (axis is None or x.shape[axis] == 0):
        with pytest.raises(ValueError, match=rf"\[{name}\] input: expected at least one element"):
            getattr(hominy.kernels, name)(x, axis)
        return
    np.testing.assert_array_equal(getattr(hominy.kernels, name)(x, axis), getattr(np, name)(x, axis=axis))


@st.composite
def product_operands(draw):
    """Shapes of NumPy's matmul: vectors, matrices, batches that broadcast, sizes 0 and 1 among them."""
    side = st.integers(0, 9)
    m, k, n = draw(side), draw(side), draw(side)
    batches = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3, min_side=0)).input_shapes
    a = (k,) if draw(st.integers(0, 3)) == 0 else (*batches[0], m, k)
    b = (k,) if draw(st.integers(0, 3)) == 0 else (*batches[1], k, n)
    dtype = draw(DTYPES)
    return draw(sliced(dtype, a)), draw(sliced(dtype, b))


@given(product_operands())
def test_products_as_in_numpy(backend, operands):
    a, b = operands
    got = hominy.kernels.matmul(a, b)
    exact = np.matmul(a.astype(np.longdouble), b.astype(np.longdouble))
    bound = (
        1.01
        * (a.shape[-1] + 3)
        * cases.unit_roundoff(a.dtype)
        * np.matmul(np.abs(a).astype(np.float64), np.abs(b).astype(np.float64))
    )
    assert got.dtype == a.dtype
    cases.assert_within(np.asarray(got), np.asarray(exact), bound, f"{a.shape} @ {b.shape}")


@given(st.data(), DTYPES)
def test_shapes_that_do_not_broadcast_raise(data, dtype):
    a, b = data.draw(sliced(dtype)), data.draw(sliced(dtype))
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        with pytest.raises(ValueError, match=r"\[add\] other: expected a shape that broadcasts with"):
            hominy.kernels.add(a, b)
    else:
        assert hominy.kernels.add(a, b).shape == np.broadcast_shapes(a.shape, b.shape)


@given(st.data(), DTYPES, hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4, min_side=0))
def test_gradients_have_the_shapes_of_their_arguments(data, dtype, shapes):
    a, b = (hominy.from_numpy(data.draw(sliced(dtype, shape))).requires_grad_() for shape in shapes.input_shapes)
    (a * b).sum().backward()
    assert a.grad.shape == a.shape and b.grad.shape == b.shape
    wide = np.broadcast_to(b.detach().numpy(), shapes.result_shape)
    extra = len(shapes.result_shape) - a.ndim
    axes = tuple(
        i for i in range(len(shapes.result_shape)) if i < extra or a.shape[i - extra] == 1 != shapes.result_shape[i]
    )
    want = wide.astype(np.float64).sum(axis=axes, keepdims=True).reshape(a.shape)
    terms = max(1, wide.size)
    bound = (
        (24 + terms)
        * cases.unit_roundoff(dtype)
        * np.abs(wide).astype(np.float64).sum(axis=axes, keepdims=True).reshape(a.shape)
    )
    cases.assert_within(np.asarray(a.grad.numpy()), np.asarray(want), bound, f"{a.shape} * {b.shape}")


@given(st.data(), LAYOUT)
def test_indexing_as_in_numpy(data, layout):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    x = drawn(data.draw(SEED), shape, "float32", layout)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    got = hominy.from_numpy(x)[index]
    np.testing.assert_array_equal(got.numpy(), x[index])
