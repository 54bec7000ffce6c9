"""Arguments that nobody should pass: each is an exception that names the operator and the argument, nothing is written,
nothing is read out of bounds, nothing crashes.

A backend function of the native module is called directly too: its own checks must hold whatever the layers above let
through.
"""

import gc
import sys

import hominy
import numpy as np
import pytest
from hominy import kernels
from hominy.backends import Declined
from hominy.nn import functional as F
from hominy.testing.cases import CASES
from numpy.lib.stride_tricks import as_strided

SMALL = np.ones((2, 3), np.float32)
VECTOR = np.ones(3, np.float32)
NOT_ARRAYS = (
    None,
    "text",
    b"bytes",
    object(),
    {},
    {1},
    lambda: 1,
    1j,
    [object()],
    np.datetime64("2020-01-01"),
    slice(1),
)
BAD_DTYPES = (
    np.asarray([object(), 1, 2]),
    np.asarray(["a", "b", "c"]),
    np.ones(3, complex),
    np.zeros(3, "M8[s]"),
    np.zeros(3, "S4"),
    np.zeros(3, [("x", "f4"), ("y", "f4")]),
)
ERRORS = (TypeError, ValueError, IndexError, OverflowError, RuntimeError)


def refuses(call, name, argument="", errors=ERRORS):
    """The call raises, and says `[name]` and the argument."""
    with pytest.raises(errors) as caught:
        call()
    text = str(caught.value)
    assert f"[{name}" in text or f"[{name.rstrip('_')}" in text, f"no operator in: {text}"
    assert argument in text, f"no {argument!r} in: {text}"
    return text


# ---- not arrays, not these dtypes ------------------------------------------------------------------------------------

UNARY = (
    "exp",
    "log",
    "tanh",
    "sqrt",
    "floor",
    "negative",
    "abs",
    "sign",
    "square",
    "sigmoid",
    "relu",
    "isnan",
    "logical_not",
)


@pytest.mark.parametrize(
    "name",
    [*UNARY, "sum", "mean", "prod", "amax", "argmax", "all", "max", "reshape", "clone", "cat", "sum_to_size", "t"],
)
def test_no_array(name):
    extra = {"reshape": ((1,),), "sum_to_size": ((1,),)}.get(name, ())
    for value in NOT_ARRAYS:
        refuses(
            lambda value=value: getattr(kernels, name)(value, *extra),
            name if name != "max" else "amax",
            "input" if name != "cat" else "tensors",
        )


@pytest.mark.parametrize(
    "name", ["add", "multiply", "divide", "pow", "maximum", "less", "equal", "matmul", "mm", "dot", "where"]
)
def test_no_second_array(name):
    for value in (*NOT_ARRAYS, *BAD_DTYPES):
        if name == "where":
            refuses(lambda value=value: kernels.where(np.ones(3, bool), VECTOR, value), "where")
        elif name in ("matmul", "mm", "dot"):
            first = VECTOR if name == "dot" else np.ones((3, 3), np.float32)
            refuses(lambda value=value, first=first: getattr(kernels, name)(first, value), name)
        else:
            refuses(lambda value=value: getattr(kernels, name)(VECTOR, value), {"pow": "pow"}.get(name, name))


@pytest.mark.parametrize("name", ["exp", "sigmoid", "sum", "mean", "amax", "softmax", "add", "less", "matmul"])
def test_dtypes_that_hominy_has_not(name):
    for array in BAD_DTYPES:
        extra = {"softmax": (0,), "add": (array,), "less": (array,), "matmul": (array,)}.get(name, ())
        refuses(lambda array=array, extra=extra: getattr(kernels, name)(array, *extra), name)
    for maker in (hominy.tensor, hominy.from_numpy):
        for array in BAD_DTYPES:
            with pytest.raises(TypeError, match=r"dtype|numbers|could not convert"):
                maker(array)


def test_byte_swapped_arrays():
    """Either computed right or refused; never read the wrong way round."""
    swapped = np.arange(5, dtype=">f4")
    for call in (
        lambda: kernels.exp(swapped),
        lambda: kernels.add(swapped, swapped),
        lambda: kernels.sum(swapped),
        lambda: kernels.matmul(swapped, swapped),
    ):
        try:
            got = call()
        except TypeError as error:
            assert "[" in str(error)
        else:
            native = np.arange(5, dtype="f4")
            want = {0: [np.exp(native), 2 * native, native.sum(), native @ native]}[0]
            assert any(np.shape(w) == np.shape(got) and np.allclose(got, w) for w in want)
    with pytest.raises(TypeError, match=r"\[from_numpy\] array: expected native byte order, got >f4"):
        hominy.from_numpy(swapped)


# ---- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name", "argument"),
    [
        (lambda: kernels.add(np.ones(2), np.ones(3)), "add", "other"),
        (lambda: kernels.where(np.ones(2, bool), np.ones(3), np.ones(3)), "where", "other"),
        (lambda: kernels.where(np.ones(3), VECTOR, VECTOR), "where", "condition"),
        (lambda: kernels.matmul(SMALL, SMALL), "matmul", "other"),
        (lambda: kernels.matmul(np.float32(1), SMALL), "matmul", "input"),
        (lambda: kernels.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), "matmul", "other"),
        (lambda: kernels.mm(VECTOR, SMALL), "mm", "input"),
        (lambda: kernels.bmm(np.ones((2, 3, 4)), np.ones((3, 4, 5))), "bmm", "mat2"),
        (lambda: kernels.mv(SMALL, np.ones(2, np.float32)), "mv", "other"),
        (lambda: kernels.dot(SMALL, VECTOR), "dot", "input"),
        (lambda: kernels.addmm(np.ones(7), SMALL, SMALL.T), "addmm", "input"),
        (lambda: kernels.linear(SMALL, np.ones((4, 5), np.float32)), "linear", "input"),
        (lambda: kernels.linear(SMALL, SMALL, np.ones(5, np.float32)), "linear", "bias"),
        (lambda: kernels.linear(SMALL, np.ones((1, 2, 3), np.float32)), "linear", "weight"),
        (lambda: kernels.linear_activation(SMALL, SMALL, None, "swish"), "linear_activation", "activation"),
        (lambda: kernels.bilinear(SMALL, SMALL, SMALL), "bilinear", "weight"),
        (lambda: kernels.bilinear(SMALL, np.ones((3, 3)), np.ones((2, 3, 3))), "bilinear", "input2"),
        (lambda: kernels.sum(SMALL, 2), "sum", "dim"),
        (lambda: kernels.sum(SMALL, (0, 0)), "sum", "dim"),
        (lambda: kernels.sum(SMALL, 1.5), "sum", "dim"),
        (lambda: kernels.mean(SMALL, True), "mean", "dim"),
        (lambda: kernels.amax(np.ones((0, 3)), 0), "amax", "input"),
        (lambda: kernels.argmax(np.ones(0)), "argmax", "input"),
        (lambda: kernels.softmax(SMALL, -3), "softmax", "dim"),
        (lambda: kernels.softmax(SMALL, None), "softmax", "dim"),
        (lambda: kernels.log_softmax(SMALL, "0"), "log_softmax", "dim"),
        (lambda: kernels.reshape(SMALL, (4,)), "reshape", "shape"),
        (lambda: kernels.reshape(SMALL, (-1, -1)), "reshape", "shape"),
        (lambda: kernels.reshape(SMALL, (2**62, 2**62)), "reshape", "shape"),
        (lambda: kernels.view(SMALL.T, (6,)), "view", "shape"),
        (lambda: kernels.permute(SMALL, (0, 0)), "permute", "dims"),
        (lambda: kernels.transpose(SMALL, 0, 5), "transpose", "dim"),
        (lambda: kernels.t(np.ones((1, 2, 3))), "t", "input"),
        (lambda: kernels.expand(SMALL, (3, 3)), "expand", "size"),
        (lambda: kernels.expand(SMALL, (-1, -1, -1, -1)), "expand", "size"),
        (lambda: kernels.broadcast_to(SMALL, (3, 3)), "broadcast_to", "shape"),
        (lambda: kernels.cat([]), "cat", "tensors"),
        (lambda: kernels.cat([SMALL, VECTOR]), "cat", "tensors[1]"),
        (lambda: kernels.stack([SMALL, VECTOR]), "stack", "tensors[1]"),
        (lambda: kernels.flatten(SMALL, 1, 0), "flatten", "start_dim"),
        (lambda: kernels.sum_to_size(SMALL, (5,)), "sum_to_size", "size"),
        (lambda: kernels.getitem(SMALL, (0, 0, 0)), "getitem", "index"),
        (lambda: kernels.getitem(SMALL, 1.5), "getitem", "index"),
        (lambda: kernels.getitem(SMALL, "x"), "getitem", "index"),
        (lambda: kernels.gather(SMALL, 1, np.full((2, 3), 3)), "gather", "index"),
        (lambda: kernels.gather(SMALL, 1, np.full((2, 3), -1)), "gather", "index"),
        (lambda: kernels.gather(SMALL, 1, np.zeros((9, 3), int)), "gather", "index"),
        (lambda: kernels.index_select(SMALL, 0, np.asarray([2])), "index_select", "index"),
        (lambda: kernels.index_select(SMALL, 0, np.asarray([0.5])), "index_select", "index"),
        (lambda: kernels.clamp(SMALL), "clamp", "min, max"),
        (lambda: kernels.clamp(SMALL, "a"), "clamp", "min"),
        (lambda: kernels.gelu(SMALL, "fast"), "gelu", "approximate"),
        (lambda: kernels.leaky_relu(SMALL, "a"), "leaky_relu", "negative_slope"),
        (lambda: kernels.softplus(SMALL, None), "softplus", "beta"),
        (lambda: kernels.pow(np.asarray([1, 2]), -1), "pow", "exponent"),
        (lambda: kernels.relu_backward(SMALL, np.ones((2, 3), int)), "relu_backward", "input"),
        (lambda: kernels.negative(np.ones(2, bool)), "negative", "input"),
        (lambda: kernels.bitwise_not(VECTOR), "bitwise_not", "input"),
        (lambda: kernels.mean(np.ones(2, int)), "mean", "input"),
    ],
)
def test_shapes_and_options(call, name, argument):
    refuses(call, name, argument)


def test_losses_check_their_arguments():
    x, target = hominy.ones(4, 3), hominy.zeros(4, dtype="int64")
    for call, name, argument in (
        (lambda: F.cross_entropy(x, hominy.zeros(5, dtype="int64")), "cross_entropy", "target"),
        (lambda: F.cross_entropy(x, target + 3), "cross_entropy", "target"),
        (lambda: F.cross_entropy(x, target - 1), "cross_entropy", "target"),
        (lambda: F.cross_entropy(x, target + 2**40), "cross_entropy", "target"),
        (lambda: F.cross_entropy(x, target, hominy.ones(2)), "cross_entropy", "weight"),
        (lambda: F.cross_entropy(x, target, label_smoothing=1.5), "cross_entropy", "label_smoothing"),
        (lambda: F.cross_entropy(x, target, label_smoothing=float("nan")), "cross_entropy", "label_smoothing"),
        (lambda: F.cross_entropy(x, target, reduction="median"), "cross_entropy", "reduction"),
        (lambda: F.cross_entropy(x.numpy(), target), "cross_entropy", "input"),
        (lambda: F.cross_entropy(hominy.ones(()), target), "cross_entropy", "input"),
        (lambda: F.cross_entropy(x.long(), target), "cross_entropy", "input"),
        (lambda: F.nll_loss(x, target + 3), "nll_loss", "target"),
        (lambda: F.mse_loss(x, hominy.ones(3, 4)), "mse_loss", "target"),
        (lambda: F.mse_loss(x, x, reduction="x"), "mse_loss", "reduction"),
        (lambda: F.binary_cross_entropy(x * 2, x), "binary_cross_entropy", "input"),
        (lambda: F.binary_cross_entropy(x * float("nan"), x), "binary_cross_entropy", "input"),
        (lambda: F.l1_loss(x, 3), "l1_loss", "target"),
    ):
        refuses(call, name, argument)


def test_wrong_calls():
    refuses(lambda: hominy.exp(), "exp", "input")
    refuses(lambda: hominy.exp(hominy.ones(1), 2, 3), "exp")
    refuses(lambda: hominy.exp(hominy.ones(1), nonsense=3), "exp", "nonsense")
    refuses(lambda: hominy.add(hominy.ones(1), 2, other=3), "add", "other")
    refuses(lambda: hominy.sum(hominy.ones(1), dim=0, axis=0), "sum")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_numbers_beyond_range():
    x = hominy.ones(2)
    for huge in (10**400, -(10**400)):
        for call in (
            lambda h=huge: x + h,
            lambda h=huge: x * h,
            lambda h=huge: x > h,
            lambda h=huge: x**h,
            lambda h=huge: h - x,
            lambda h=huge: x.clamp(h),
        ):
            with pytest.raises((OverflowError, ValueError, TypeError)) as caught:
                call()
            assert "[" in str(caught.value), f"no operator in: {caught.value}"
    assert (x * 1e300).tolist() == [np.inf, np.inf]  # a float that float32 has not: infinity, as in PyTorch
    integers = hominy.ones(2, dtype="int64")
    with pytest.raises((OverflowError, ValueError, TypeError)):
        integers + 2**70


def test_optimizer_steps_check_their_hyperparameters():
    p = hominy.ones(3, requires_grad=True)
    p.grad = hominy.ones(3)
    for bad in (float("nan"), float("inf"), -1.0, "x", None):
        for build in (
            lambda b=bad: hominy.optim.SGD([p], lr=b),
            lambda b=bad: hominy.optim.Adam([p], lr=b),
            lambda b=bad: hominy.optim.SGD([p], lr=0.1, momentum=b),
            lambda b=bad: hominy.optim.Adam([p], eps=b),
            lambda b=bad: hominy.optim.AdamW([p], weight_decay=b),
            lambda b=bad: hominy.optim.Adam([p], betas=(b, 0.9)),
        ):
            with pytest.raises((ValueError, TypeError)):
                build()
    assert p.tolist() == [1, 1, 1] and p._version == 0


# ---- memory ----------------------------------------------------------------------------------------------------------


def guarded(function, *arguments, out):
    before = out.tobytes()
    with pytest.raises(ERRORS) as caught:
        result = function(*arguments, out=out)
        if isinstance(result, Declined):
            raise ValueError(f"[declined] out {result}")
    assert out.tobytes() == before, "an output was written by a call that failed"
    return str(caught.value)


@pytest.mark.native
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.family in ("unary", "binary", "backward", "copy")], ids=str
)
def test_outputs_that_cannot_be_written(case):
    from hominy import _native

    function = getattr(_native, case.kernel)
    arguments = case.arguments(np.random.default_rng(0), "float32", (2, 3))
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    for out in (
        frozen,
        np.zeros((3, 2), np.float32),
        np.zeros(6, np.float32),
        np.zeros((2, 3), np.float64),
        np.zeros((2, 3), np.int32),
        np.zeros((2, 4), np.float32),
    ):
        assert "out" in guarded(function, *arguments, out=out) or case.kernel == "copy"
    for out in ("text", 3, [0.0]):
        refusal = function(*arguments, out=out)  # left to the layer above, which names the argument
        assert isinstance(refusal, Declined) and "out is not a NumPy array" in refusal
    broadcast = np.broadcast_to(np.zeros(3, np.float32), (2, 3))
    with pytest.raises(ValueError, match="read-only"):
        function(*arguments, out=broadcast)


@pytest.mark.native
@pytest.mark.parametrize("case", [case for case in CASES if case.kernel], ids=str)
def test_native_functions_check_for_themselves(case):
    """Each array argument replaced by what it must not be: an exception or a refusal, and no output touched."""
    from hominy import _native

    function = getattr(_native, case.kernel)
    size = case.sizes[8 if case.family in ("unary", "binary", "backward") else 5]
    arguments = case.arguments(np.random.default_rng(0), "float32", size)
    for place, original in enumerate(arguments):
        if isinstance(original, list):
            bad = [
                None,
                [None] * len(original),
                original[:-1] if original else [1],
                [np.zeros(9, np.float64) for _ in original],
                [x.astype("f8") for x in original],
                "text",
            ]
        elif isinstance(original, np.ndarray):
            bad = [
                *NOT_ARRAYS,
                *BAD_DTYPES,
                np.zeros((7, 11, 13, 5), original.dtype),
                original.astype(">f4"),
                np.zeros(3, np.float16),
            ]
        elif isinstance(original, (int, float)) and not isinstance(original, bool):
            bad = ["text", None, object(), 10**400, [1]]
        else:
            continue
        for value in bad:
            if case.kernel == "copy" or (
                case.family in ("unary", "reduction", "softmax")
                and isinstance(value, np.ndarray)
                and value.dtype == np.float32
            ):
                continue
            given = [value if i == place else (list(x) if isinstance(x, list) else x) for i, x in enumerate(arguments)]
            untouched = [x.copy() for x in arguments[0]] if case.writes else None
            try:
                result = function(*given)
            except (*ERRORS, MemoryError):
                pass
            else:
                plain_ok = isinstance(value, (int, float, np.ndarray)) or value is None or value == [1]
                assert isinstance(result, Declined) or plain_ok, f"argument {place} = {value!r} was accepted"
            if untouched is not None and place != 0:
                # A role that may be None (no momentum, no AMSGrad) makes a valid call.
                if value is None:
                    for x, was in zip(arguments[0], untouched, strict=True):
                        x[...] = was
                assert all((x == was).all() for x, was in zip(arguments[0], untouched, strict=True)), (
                    f"argument {place} = {value!r}: written"
                )


@pytest.mark.native
def test_axes_are_checked_by_native():
    from hominy import _native

    # The operator's to understand or to refuse.
    for axes in ((2,), (-1,), (0, 0), (2**40,), (10**30,), ("0",), (None,), (1.5,), (), 0, "0", [0]):
        assert isinstance(_native.sum(SMALL, axes, False), Declined)
    for axis in (2, -1, 2**31, 2**62, "0", None, 10**30):
        for name in ("argmax", "softmax", "log_softmax"):
            with pytest.raises((ValueError, TypeError, OverflowError)):
                getattr(_native, name)(SMALL, axis)


def test_arrays_of_more_dimensions_than_kernels_take():
    """NumPy allows 64; the kernels 32."""
    if int(np.__version__.split(".")[0]) < 2:
        pytest.skip("this NumPy has 32 dimensions itself")
    deep = np.ones((1,) * 33, np.float32)
    for name in ("exp", "sum", "relu"):
        try:
            result = getattr(kernels, name)(deep)
        except ValueError as error:
            assert "32 dimensions" in str(error) and f"[{name}]" in str(error)
        else:
            assert result.size == 1
    for call in (lambda: kernels.add(deep, deep), lambda: kernels.matmul(deep, deep), lambda: kernels.softmax(deep, 0)):
        try:
            call()
        except ValueError as error:
            assert "dimensions" in str(error) or "ndim" in str(error)


def test_strides_from_nowhere():
    """Overlapping, zero and huge strides of arrays that NumPy itself holds for legal: results as NumPy's, in bounds."""
    memory = np.arange(64, dtype=np.float32)
    windows = as_strided(memory, (20, 30), (4, 4))
    np.testing.assert_array_equal(kernels.negative(windows), -windows)
    np.testing.assert_array_equal(kernels.matmul(windows, windows.T[:, :5]), windows @ windows.T[:, :5])
    np.testing.assert_array_equal(kernels.sum(as_strided(memory, (1000, 64), (0, 4)), 0), memory * 1000)
    misplaced = as_strided(memory, (1, 5), (2**60, 4))  # never walked: one row
    np.testing.assert_array_equal(kernels.add(misplaced, misplaced), misplaced * 2)
    np.testing.assert_array_equal(kernels.matmul(misplaced, misplaced.T), [[30.0]])
    nothing = as_strided(memory, (0, 5), (-(2**60), 2**60))
    assert kernels.exp(nothing).shape == (0, 5) and kernels.matmul(nothing, np.ones((5, 2), np.float32)).shape == (0, 2)
    assert (kernels.sum(nothing, 0) == 0).all()
    assert kernels.softmax(nothing, 1).shape == (0, 5)


def test_sizes_whose_product_overflows():
    """Arrays of 2^80 elements cannot exist in NumPy, but sums and products that have as many can be asked for."""
    column = np.broadcast_to(np.float32(1), (2**40, 1))
    row = np.broadcast_to(np.float32(1), (1, 2**40))
    for call in (
        lambda: kernels.add(column, row),
        lambda: kernels.matmul(column, row),
        lambda: kernels.less(column, row),
        lambda: kernels.maximum(column, row),
    ):
        with pytest.raises((OverflowError, MemoryError, ValueError)):
            call()
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        hominy.zeros(2**40, 2**40)
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        kernels.expand(VECTOR, (2**40, 2**40, 3))


def test_subclasses_and_memory_maps(tmp_path):
    masked = np.ma.masked_array([1.0, 2.0], mask=[0, 1])
    try:
        assert type(kernels.exp(masked)) in (np.ndarray, np.ma.MaskedArray)
    except TypeError as error:
        assert "[exp]" in str(error)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4,))
    mapped[:] = 3
    np.testing.assert_array_equal(kernels.square(np.asarray(mapped)), [9] * 4)
    assert isinstance(kernels.square(mapped), np.ndarray)


def test_read_only_memory_is_never_written():
    frozen = np.ones(4, np.float32)
    frozen.flags.writeable = False
    t = hominy.from_numpy(frozen)
    for write in (
        lambda: t.add_(1),
        lambda: t.exp_(),
        lambda: t.zero_(),
        lambda: t.fill_(2),
        lambda: t.__setitem__(0, 5),
        lambda: t.copy_(hominy.ones(4)),
        lambda: t.mul_(t),
    ):
        with pytest.raises((ValueError, RuntimeError)):
            write()
    assert (frozen == 1).all()
    wide = hominy.ones(3).expand((2, 3))
    with pytest.raises((ValueError, RuntimeError)):
        wide.add_(1)


def test_optimizer_steps_refuse_arrays_that_do_not_match():
    from hominy.ops.optimizer import sgd_step

    p = [hominy.ones(3), hominy.ones(2)]
    for gradients in (
        [hominy.ones(3), hominy.ones(3)],
        [hominy.ones(3), hominy.ones(2, dtype="float64")],
        [hominy.ones(3)],
    ):
        with pytest.raises((ValueError, TypeError)):
            sgd_step(p, gradients, None, 0.1, 0.0, 0.0, 0.0, False, False, True)
    assert all(x.tolist() == [1] * len(x) and x._version == 0 for x in p)


def test_failed_calls_leak_nothing():
    """References to arguments are given back by calls that fail."""
    a, b = np.ones((5, 3), np.float32), np.ones((5, 3), np.float32)
    counts = sys.getrefcount(a), sys.getrefcount(b)
    for _ in range(50):
        with pytest.raises(ValueError):
            kernels.matmul(a, b)
        with pytest.raises(ValueError):
            kernels.add(a, b[:2])
    gc.collect()
    assert (sys.getrefcount(a), sys.getrefcount(b)) == counts


def huge(*shape, dtype=np.float32):
    return np.broadcast_to(dtype(1), shape)


# Broadcast views make sizes cheap whose scratch, offsets or work no integer holds.
HUGE_CONVOLUTIONS = {
    "weights": ("conv_pack", huge(85401592933840544, 1, 3, 3), [1, 1, 4, 4], False, (1, 1), ((0, 0),) * 2, (1, 1), 1,
                "winograd4"),
    "work": ("conv_pack", huge(2**38 - 16, 2**22, 1), [1, 2**22, 2**22 - 1], True, (1,), ((0, 0),), (1,), 1, "product"),
    "dilation": ("conv", np.zeros((1, 21, 17), np.float32).transpose(0, 2, 1), np.zeros((32, 17, 2), np.float32), None,
                 None, (1,), ((0, 67818912035696870),), (67818912035696870,), 1, "none", "product"),
    "channels": ("conv_input_gradient", huge(1, 2**57, 4, dtype=np.float64), huge(2**57, 1, 3, dtype=np.float64), None,
                 (6,), (1,), ((0, 0),), (1,), 1, "grouped"),
    "batch": ("conv_weight_gradient", huge(2**50, 4, 8, 8), huge(2**50, 4, 8, 8), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1),
              1),
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("name", list(HUGE_CONVOLUTIONS))
def test_sizes_that_no_memory_holds(name):
    from hominy.backends import native

    function, *arguments = HUGE_CONVOLUTIONS[name]
    with pytest.raises((OverflowError, MemoryError)):
        getattr(native, function)(*arguments)


@pytest.mark.native
def test_windows_over_no_columns_read_none():
    from hominy.backends import native

    nothing = np.ndarray((1, 1, 64, 0), np.float32, np.zeros(16, np.float32), 0, (4, 4, 2**40, 4))
    last = (np.array([1], np.int32), np.array([[63]], np.int32), None, None)
    none = (np.zeros(4, np.int32), np.zeros((1, 4), np.int32), None, None)
    assert not native.resample(nothing, (last, none)).any()
