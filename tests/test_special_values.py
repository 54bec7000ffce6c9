"""What is not an ordinary number: NaN, infinities, zeros of both signs, subnormals; and the whole range of float32.

NaN and infinity propagate as in NumPy; errors in ulp hold for every exponent, not only near 1.
"""

import numpy as np
import pytest
from hominy.backends import Declined, reference
from hominy.testing.case import _exactly
from hominy.testing.cases import CASES
from test_kernels import own_bound

UNARY = [case for case in CASES if case.family == "unary"]
BINARY = [case for case in CASES if case.family == "binary"]
BACKWARD = [case for case in CASES if case.family == "backward"]
COMPARE = [case for case in CASES if case.family == "compare"]


def special(dtype):
    """Values where formulas break: both signs of each."""
    info = np.finfo(dtype)
    sizes = [
        0,
        info.smallest_subnormal,
        info.tiny,
        info.eps,
        0.5,
        1,
        1.5,
        2.5,
        20,
        88,
        89,
        105,
        709,
        746,
        2.0**23,
        info.max,
        np.inf,
    ]
    with np.errstate(over="ignore"):
        values = np.asarray(sizes, np.float64).astype(dtype)
    return np.concatenate([values, -values, np.asarray([np.nan], dtype)])


def equal_where_special(got, want, what):
    """NaN where NaN is due, the same infinity, the same zero (of either sign); numbers are judged elsewhere."""
    with np.errstate(over="ignore"):
        rounded = want.astype(got.dtype)
    due = ~np.isfinite(rounded) | (rounded == 0)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    bad = due & ~same
    assert not bad.any(), f"{what}: got {got[bad][:4]}, expected {rounded[bad][:4]}"


# At -infinity the limit of these is 0 and their formula NaN: either will do. Their derivatives have limits as well.
LIMITS = {"silu", "gelu", "gelu_tanh", "silu_backward", "gelu_backward", "gelu_tanh_backward"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", UNARY, ids=str)
def test_special_values_of_one_argument(case, dtype, computer):
    x = special(dtype)
    scalars = case.make(np.random.default_rng(0), np.dtype(dtype), (1,))[1:]
    got = computer(case.kernel)(x, *scalars)
    if isinstance(got, Declined):
        return
    with np.errstate(all="ignore"):
        want = getattr(reference, case.kernel)(x.astype(np.float64), *scalars)
    keep = np.isfinite(x) | np.isnan(x) if case.kernel in LIMITS else np.ones(x.shape, bool)
    # A float64 reference tells too little about a result of float32 that overflows or vanishes by a hair.
    edge = (
        np.abs(x) > 80
        if case.kernel in ("exp", "expm1", "sigmoid", "silu", "gelu", "gelu_tanh", "softplus", "elu", "tanh", "erf")
        else False
    )
    keep &= ~(edge & np.isfinite(x))
    equal_where_special(got[keep], np.asarray(want)[keep], case.kernel)
    assert np.isnan(got[np.isnan(x)]).all(), "NaN did not propagate"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [*BINARY, *COMPARE], ids=str)
def test_special_values_of_two_arguments(case, dtype, computer):
    a, b = (x.ravel() for x in np.meshgrid(special(dtype), special(dtype)))
    got = computer(case.kernel)(a, b)
    if isinstance(got, Declined):
        return
    ufunc = getattr(np, {"divide": "true_divide"}.get(case.kernel, case.kernel), None)
    with np.errstate(all="ignore"):
        want = ufunc(a, b) if ufunc else getattr(reference, case.kernel)(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    if ufunc is None:  # a sum of terms, which may cancel: that is the bound's to judge
        due = ~np.isfinite(want)
        equal_where_special(got[due], want[due], case.kernel)
    elif case.kernel == "power":  # libm against NumPy's own loops: special where special, else within the bound
        equal_where_special(got, want, "power")
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("case", BACKWARD, ids=str)
def test_gradients_of_activations_let_nan_through(case, computer):
    """A NaN in the incoming gradient comes out, but where the gradient is not looked at; so does one in the value."""
    scalars = case.make(np.random.default_rng(0), np.dtype("float32"), (1,))[2:]
    value = np.asarray([-1.5, -0.5, 0.25, 0.75, 1.5], np.float32)
    got = computer(case.kernel)(np.full_like(value, np.nan), value, *scalars)
    if isinstance(got, Declined):
        return
    with np.errstate(all="ignore"):
        want = getattr(reference, case.kernel)(np.full(value.shape, np.nan), value.astype(np.float64), *scalars)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    got = computer(case.kernel)(np.ones_like(value), np.full_like(value, np.nan), *scalars)
    with np.errstate(all="ignore"):
        want = getattr(reference, case.kernel)(np.ones(value.shape), np.full(value.shape, np.nan), *scalars)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_of_nan_and_infinity(name, dtype, computer):
    function = computer(name)
    for size in (3, 17, 131, 1009):
        for poison in (
            [np.nan],
            [np.inf],
            [-np.inf],
            [np.inf, -np.inf],
            [np.nan, np.inf],
            [-np.inf, np.nan],
            [np.nan, np.nan],
        ):
            for start in (0, size // 2, size - len(poison)):
                x = np.linspace(-1, 2, size).astype(dtype)
                x[start : start + len(poison)] = poison
                rows = np.stack([x, np.linspace(0.5, 1.5, size).astype(dtype)])
                for array, axis in ((x, 0), (rows, 1), (np.ascontiguousarray(rows.T), 0), (rows.T, 0)):
                    got = function(array, axis if name.startswith("arg") else (axis,), False)
                    if isinstance(got, Declined):
                        continue
                    with np.errstate(all="ignore"):
                        want = getattr(np, name)(array, axis=axis)
                    if name.startswith("arg"):
                        np.testing.assert_array_equal(got, want)
                    else:
                        special_ones = ~np.isfinite(np.asarray(want))
                        np.testing.assert_array_equal(np.asarray(got)[special_ones], np.asarray(want)[special_ones])
                        assert np.isfinite(np.asarray(got)[~special_ones]).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_of_nan_and_infinity(name, dtype, computer):
    inf = np.inf
    rows = [
        [1, 2, -inf],
        [-inf, -inf, 0],
        [-inf, -inf, -inf],
        [inf, 1, 2],
        [np.nan, 1, 2],
        [1000, 1001, 999],
        [-1e30, 0, 1e30],
    ]
    for repeat in (1, 7, 30):
        x = np.tile(np.asarray(rows, dtype), (1, repeat))
        for array, axis in ((x, 1), (np.ascontiguousarray(x.T), 0), (x.T, 0)):
            got = computer(name)(array, axis)
            with np.errstate(all="ignore"):
                want = getattr(reference, name)(array.astype(np.float64), axis)
            equal_where_special(got, want, f"{name} {repeat}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_skip_no_zero(dtype, computer):
    """0 times NaN or infinity is NaN, in every path of the product: tiny, vector, tall, blocked."""
    function = computer("matmul")
    for m, k, n in ((1, 1, 1), (3, 5, 4), (1, 300, 40), (40, 300, 1), (70, 130, 90), (4, 600, 520)):
        a, b = np.zeros((m, k), dtype), np.ones((k, n), dtype)
        for value in (np.nan, np.inf):
            b[k // 2, n - 1] = value
            got = function(a, b)
            if isinstance(got, Declined):
                return
            want = np.zeros((m, n), dtype)
            want[:, n - 1] = np.nan
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(function(b.T, a.T), want.T)


def test_denormals_are_numbers(computer):
    """Neither flushed on the way in nor on the way out."""
    tiny = np.full(67, 2.0**-140, np.float32)
    for name, arguments, want in (
        ("add", (tiny, tiny), 2.0**-139),
        ("multiply", (tiny, np.full(67, 2.0, np.float32)), 2.0**-139),
        ("sum", (tiny, (0,), False), 67 * 2.0**-140),
        ("absolute", (-tiny,), 2.0**-140),
        ("relu", (tiny,), 2.0**-140),
        ("exp", (np.full(67, -100.0, np.float32),), None),
        ("matmul", (tiny.reshape(1, -1), np.ones((67, 3), np.float32)), 67 * 2.0**-140),
    ):
        got = computer(name)(*arguments)
        if isinstance(got, Declined):
            continue
        if want is None:
            assert (got > 0).all() and (got < np.finfo(np.float32).tiny).all(), name
        else:
            assert (got == np.float32(want)).all(), f"{name}: {got.flat[0]} instead of {want}"


@pytest.mark.parametrize("case", [case for case in UNARY if case.bound is not _exactly], ids=str)
def test_errors_in_ulp_over_all_of_float32(case, computer, rng):
    """Bit patterns spread over every sign and exponent, with random low bits: within the documented bound of ulps."""
    bits = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)) | rng.integers(0, 1 << 16, 1 << 16, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    if case.kernel == "erf" or case.kernel.startswith("gelu"):
        x = x[np.abs(x) < 1e18]  # beyond, nothing changes
    arguments = (x, *case.make(rng, np.dtype("float32"), (1,))[1:])
    got = computer(case.kernel)(*arguments)
    if isinstance(got, Declined):
        return
    own_bound(case, computer.backend).verify(got, arguments, f"{case} over all of float32")
