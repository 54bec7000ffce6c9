"""Every kernel of the case table, on every backend and ISA level, against the reference in float64.

A result must lie within the error bound that its kernel documents (`hominy.testing.cases`), whatever the sizes, strides
and alignment of its arguments; inputs stay untouched; bits depend neither on threads nor on alignment.
"""

import copy
import dataclasses
import math

import hominy
import numpy as np
import pytest
from conftest import NATIVE, optional
from hominy.backends import Declined, reference
from hominy.testing import LAYOUTS, cases, conv_cases, lay_out, pool_cases
from hominy.testing.case import _arrays, _exactly, _ulps
from hominy.testing.cases import CASES

KERNELS = [case for case in CASES if case.kernel]
ELEMENTWISE = [case for case in KERNELS if case.family in ("unary", "binary", "backward", "compare", "where", "copy")]
WITH_OUT = [case for case in KERNELS if case.family in ("unary", "binary", "backward", "copy")]
DTYPES = ("float32", "float64")

every_kernel = pytest.mark.parametrize("case", KERNELS, ids=str)
every_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
every_with_out = pytest.mark.parametrize("case", WITH_OUT, ids=str)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def call(case, function, arguments):
    """The result, or a Declined; fails if an argument was written that is not an output."""
    given = tuple(copy.deepcopy(x) if number in case.writes else x for number, x in enumerate(arguments))
    before = as_bytes(arguments)
    with np.errstate(all="raise"):  # no backend may leave floating-point warnings to its caller
        result = case.results(function, given)
    assert as_bytes(arguments) == before, f"{case}: an argument was written"
    return result


def as_bytes(result):
    return [x.tobytes() for x in _arrays([result])]


def check(case, computer, arguments, what):
    result = call(case, computer(case.kernel), arguments)
    if isinstance(result, Declined):
        # The native kernels take all that the table has but optimizer states that are not contiguous.
        assert computer.backend == "numba", f"{case} {what}: {computer.backend} declines: {result}"
        return
    own_bound(case, computer.backend).verify(result, arguments, f"{case} [{computer.backend} {computer.level}] {what}")


def own_bound(case, backend):
    """The case with the bound of that backend, where the native kernels promise less error.

    NumPy's own tests of its vectorised exp, log, tanh, ... allow 4 ulp; the Numba kernels state 4 ulp for float64. Of
    sums, the native kernels promise 24 + log2 n roundings; NumPy takes n along strided axes, Numba's cascade up to 192
    (a block of 128, a remainder of 64). Both add float32 in float64, so that this matters in float64 alone.
    """
    documented = case.bound
    if backend != "native" and (case.ufunc or (backend == "numba" and case.family in ("unary", "backward"))):

        def bound(y, u, *arguments):
            return np.maximum(documented(y, u, *arguments), _ulps(4)(y, u))

    elif backend != "native" and case.family in ("reduction", "softmax") and documented is not _exactly:

        def bound(y, u, *arguments):
            longest = arguments[0].size if u < 2.0**-50 else 1
            longest = min(longest, 192) if backend == "numba" else longest
            return documented(y, u, *arguments) * max(1, longest / 24)

    else:
        return case

    return dataclasses.replace(case, bound=bound)


# No function of arrays alone: tests/test_conv.py and tests/test_recurrent.py have them.
ELSEWHERE = {"conv_algorithm", "recurrent", "recurrent_backward", "recurrent_prepare", "recurrent_step"}


def test_every_kernel_has_a_case():
    covered = {case.kernel for case in KERNELS}
    if NATIVE:
        from hominy import _native

        assert {
            name for name in dir(_native) if hasattr(reference, name) and callable(getattr(reference, name))
        } <= covered | ELSEWHERE
    from hominy.backends import numba_jit

    own = {
        name
        for name, value in vars(numba_jit).items()
        if callable(value)
        and hasattr(reference, name)
        and not name.startswith("_")
        and value is not numba_jit._numpy_is_as_fast
        and getattr(value, "__module__", "") == numba_jit.__name__
        and name not in ("Callable", "Sequence")
    }
    assert own <= covered


@every_kernel
def test_bounds_reject_what_exceeds_them(case, rng):
    """The judge itself: a result off by a little more than its bound does not pass."""
    for dtype in DTYPES:
        size = case.sizes[5]
        arguments = case.arguments(rng, dtype, size)
        exact, bounds = case.expected(arguments)
        for number, (want, bound) in enumerate(zip(exact, bounds, strict=True)):
            if not want.size:
                continue
            right = [x.astype(x.dtype if x.dtype.kind in "bi" else dtype) for x in exact]
            wrong = [x.copy() for x in right]
            if want.dtype.kind == "b":
                wrong[number].flat[-1] ^= True
            elif want.dtype.kind == "i":
                wrong[number].flat[-1] += 1
            else:
                off = np.float64(np.broadcast_to(bound, want.shape).flat[-1]) * 1.1
                value = np.asarray(wrong[number].flat[-1])
                wrong[number].flat[-1] = np.nextafter(
                    np.nextafter((value + off).astype(dtype), np.asarray(np.inf, dtype)), np.asarray(np.inf, dtype)
                )
            case.verify(right, arguments)
            with pytest.raises(AssertionError, match="elements are wrong"):
                case.verify(wrong, arguments)


@both_dtypes
@every_kernel
def test_values(case, dtype, computer, rng):
    for size in case.sizes:
        check(case, computer, case.arguments(rng, dtype, size), f"{dtype} {size}")


def small_sizes(case):
    """Sizes whose layouts matter: two to four dimensions, lengths beside vector widths, and one for threads."""
    if case.family == "optimizer":
        return ()
    if case.family in ("unary", "binary", "backward", "compare", "where", "copy"):
        return ((), (1,), (17,), (33,), (5, 17), (17, 5), (3, 1), (1, 7), (0, 3), (2, 3, 5), (2, 3, 1, 7), (97, 401))
    if case.family == "reduction":
        return tuple(size for size in case.sizes if len(size[0]) != 1 or size[0][0] in (1, 17, 33, 1009))
    if case.kernel == "matmul":  # the extended precision of the expected result is slow
        small = [size for size in case.sizes if math.prod(size[0]) * size[1][-1] <= 20_000]
        return (*small, *[size for size in case.sizes if size[0] in ((97, 101), (5, 1031))][:2])
    return case.sizes[1::2]  # linear, softmax, cross entropy


@both_dtypes
@every_kernel
def test_layouts(case, dtype, computer, rng):
    """Every layout for all arguments alike, and for the first, or all others, alone."""
    alone = sum(isinstance(x, np.ndarray) for x in case.arguments(rng, dtype, case.sizes[-1])) == 1
    for size in small_sizes(case):
        for layout in LAYOUTS:
            mixed = [] if alone or computer.backend == "reference" else [(layout, "contiguous"), ("contiguous", layout)]
            for layouts in ((layout,), *mixed):
                check(case, computer, case.arguments(rng, dtype, size, *layouts), f"{dtype} {size} {layouts}")


def strides_that_matter(x):
    return [stride for stride, size in zip(x.strides, x.shape, strict=True) if size > 1]


@every_elementwise
def test_outputs_keep_the_order_of_their_inputs(case, computer, rng):
    """Native results lie as NumPy's do (K order), whatever mixture of layouts comes in; the fallbacks' where all inputs
    lie alike in memory of their own."""
    own = [layout for layout in LAYOUTS if not layout.startswith("stretched")]
    for shape in ((5, 17), (2, 3, 5), (2, 3, 4, 5), (4, 1, 6)):
        pairs = [(a, b) for a in LAYOUTS for b in LAYOUTS] if computer.backend == "native" else [(a, a) for a in own]
        for first, second in pairs:
            arguments = case.arguments(rng, "float32", shape, first, second)
            arrays = [x for x in arguments if isinstance(x, np.ndarray)]
            result = call(case, computer(case.kernel), arguments)
            if isinstance(result, Declined):
                continue
            like_numpy = {1: np.negative, 2: np.add, 3: np.where}[len(arrays)]
            expected = like_numpy(*arrays)
            ours, theirs = strides_that_matter(result), strides_that_matter(expected)
            scale = expected.itemsize // result.itemsize
            assert [stride * scale for stride in ours] == theirs, (shape, first, second)


def check_same(case, computer, got, expected, arguments, what):
    """Equal to the last bit; NumPy's loops promise that only for equal strides, so there within the bound."""
    if computer.backend == "reference":
        own_bound(case, "reference").verify(got, arguments, what)
    else:
        assert got.tobytes() == expected.tobytes(), what


@both_dtypes
@every_with_out
def test_out_is_written_in_place(case, dtype, computer, rng):
    """`out` may be any writeable layout, an input itself, or overlap one: the result is that of separate memory."""
    function = computer(case.kernel)
    for shape in ((), (1,), (33,), (5, 17), (0, 3), (97, 101)):
        arguments = case.arguments(rng, dtype, shape)
        arrays = [x for x in arguments if isinstance(x, np.ndarray)]
        expected = call(case, function, arguments)
        if isinstance(expected, Declined):
            return
        for layout in LAYOUTS:
            if layout.startswith("stretched"):
                continue
            out = lay_out(np.full(shape, 7, dtype), layout)
            with np.errstate(all="ignore"):
                result = function(*arguments, out=out)
            assert result is out, f"{layout}: another array came back"
            check_same(case, computer, out, expected, arguments, layout)
        for place in range(len(arrays)):
            given = [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]
            out = [x for x in given if isinstance(x, np.ndarray)][place]
            with np.errstate(all="ignore"):
                assert function(*given, out=out) is out
            check_same(case, computer, out, expected, arguments, f"in place of argument {place}")


@both_dtypes
@every_with_out
def test_out_may_overlap_its_inputs(case, dtype, computer, rng):
    function = computer(case.kernel)
    for size, shift in ((33, 1), (33, -1), (1009, 16), (1009, -7), (40009, 3), (40009, -64)):
        arguments = list(case.arguments(rng, dtype, (size,)))
        places = [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
        expected = call(case, function, tuple(arguments))
        if isinstance(expected, Declined):
            return
        for place in places:
            memory = np.zeros(size + abs(shift), dtype)
            source, out = (memory[:size], memory[abs(shift) :]) if shift > 0 else (memory[-shift:], memory[:size])
            source[...] = arguments[place]
            given = list(arguments)
            given[place] = source
            with np.errstate(all="ignore"):
                function(*given, out=out)
            check_same(case, computer, out, expected, arguments, f"argument {place}, shifted by {shift}")
        # Reversed onto itself.
        given = list(arguments)
        given[places[0]] = arguments[places[0]].copy()
        out = given[places[0]][::-1]
        with np.errstate(all="ignore"):
            function(*given, out=out)
        check_same(case, computer, out, expected, arguments, "reversed onto itself")


@every_with_out
def test_nothing_is_written_beside_out(case, computer, rng):
    for size in (1, 3, 15, 16, 17, 31, 33, 1009):
        arguments = case.arguments(rng, "float32", (size,))
        memory = np.full(size + 64, 99, np.float32)
        with np.errstate(all="ignore"):
            result = computer(case.kernel)(*arguments, out=memory[32 : 32 + size])
        if isinstance(result, Declined):
            return
        assert (memory[:32] == 99).all() and (memory[32 + size :] == 99).all(), size


LARGE = {
    "unary": [(300007,), (517, 601)],
    "binary": [(300007,), (517, 601)],
    "backward": [(300007,)],
    "compare": [(300007,)],
    "where": [(300007,)],
    "copy": [(300007,), (517, 601)],
    "view": [((1, 601), (517, 601))],
    "rows": [(997, 301), (61, 5000)],
    "channels": [(9, 64, 401), (997, 64, 1)],
    "embedding": [((301, 67), 5003)],
    "dropout": [(300007,)],
    "reduction": [((300007,), (0,)), ((517, 601), (0,)), ((517, 601), (1,)), ((31, 97, 103), (1,))],
    "softmax": [((300, 1001), 1), ((1001, 300), 0)],
    "loss": [(997, 301)],
    "conv": conv_cases.LARGE,
    **pool_cases.LARGE,
    "optimizer": [((300, 401), (401,), (7,))],
    "matmul": [
        ((300, 401), (401, 307), ""),
        ((1, 2048), (2048, 2048), ""),
        ((8, 1024), (1024, 1031), "b"),
        ((2048, 1031), (1031, 1), "a"),
        ((64, 4096), (4096, 64), ""),
        ((20, 33, 65), (20, 65, 31), ""),
        ((70001,), (70001,), ""),
    ],
}


def large_sizes(case):
    if case.kernel.startswith("linear"):
        return [((128, 1031), 513)]
    if case.kernel.startswith("arg"):
        return [size for size in LARGE["reduction"] if len(size[1]) == 1]
    return LARGE[case.family]


@pytest.mark.native
@both_dtypes
@every_kernel
def test_bits_do_not_depend_on_threads(case, dtype, level, rng):
    from hominy.backends import native

    function = getattr(native, case.kernel)
    for number, size in enumerate(large_sizes(case)):
        for layout in ("contiguous",) if case.writes else ("contiguous", "permuted"):
            arguments = case.arguments(rng, dtype, size) if case.writes else case.arguments(rng, dtype, size, layout)
            hominy.set_num_threads(1)
            expected = as_bytes(case.results(function, copy.deepcopy(arguments) if case.writes else arguments))
            every = number == 0 and layout == "contiguous"
            for threads in range(2, 9) if every else (3, 8):
                hominy.set_num_threads(threads)
                assert hominy.get_num_threads() == threads
                got = case.results(function, copy.deepcopy(arguments) if case.writes else arguments)
                assert as_bytes(got) == expected, (size, layout, threads)


def moved(x, offset):
    """`x` with the same strides, its first element `offset` bytes behind a multiple of 64."""
    memory = np.zeros(x.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    view = memory[start : start + x.nbytes].view(x.dtype)
    view = view.reshape(x.shape)
    view[...] = x
    return view


@pytest.mark.native
@both_dtypes
@every_kernel
def test_bits_do_not_depend_on_alignment(case, dtype, level, rng):
    from hominy.backends import native

    def arrange(x, offset):
        if isinstance(x, list):
            return [moved(y, offset) for y in x]
        return moved(x, offset) if isinstance(x, np.ndarray) else x

    sizes = case.sizes if case.family == "optimizer" else (case.sizes[-1], case.sizes[-3], *large_sizes(case)[:1])
    function = getattr(native, case.kernel)
    for size in sizes:
        arguments = case.arguments(rng, dtype, size)
        if any(isinstance(x, np.ndarray) and not x.flags.c_contiguous for x in arguments):
            arguments = tuple(np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x for x in arguments)
        expected = as_bytes(case.results(function, tuple(arrange(x, 0) for x in arguments)))
        for offset in (1, 4, 8, 16, 20, 32, 36, 63):
            given = tuple(arrange(x, (offset * (1 + place)) % 64) for place, x in enumerate(arguments))
            assert as_bytes(case.results(function, given)) == expected, (size, offset)


@pytest.mark.native
@every_kernel
def test_native_declines_other_dtypes(case, rng):
    from hominy.backends import native

    if case.kernel in ("copy", "broadcast_to"):
        return  # any dtype will do
    for dtype in ("float16", "longdouble"):
        arguments = case.arguments(rng, "float32", case.sizes[4])
        cast = tuple(
            [y.astype(dtype) for y in x]
            if isinstance(x, list)
            else x.astype(dtype)
            if isinstance(x, np.ndarray) and x.dtype.kind == "f"
            else x
            for x in arguments
        )
        result = getattr(native, case.kernel)(*cast)
        assert isinstance(result, Declined) and len(result) > 10, f"{dtype}: {result!r}"


@both_dtypes
def test_copy_takes_every_dtype(computer, dtype, rng):
    ml_dtypes = optional("ml_dtypes")
    for kind in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", dtype, ml_dtypes.bfloat16):
        x = rng.integers(0, 2, (7, 33, 5)).astype(kind)
        for layout in LAYOUTS:
            laid = lay_out(x, layout)
            result = computer("copy")(laid)
            if not isinstance(result, Declined):
                assert result.dtype == x.dtype and (result == laid).all(), layout


def test_scalars_take_the_dtype_of_the_array(computer):
    x = np.asarray([1.5, -2.0], np.float32)
    for function, scalar, expected in (
        ("add", 1, [2.5, -1]),
        ("multiply", 0.1, x * np.float32(0.1)),
        ("power", 2.0, [2.25, 4]),
    ):
        for result in (computer(function)(x, scalar), computer(function)(scalar, x)):
            if isinstance(result, Declined):
                continue
            assert result.dtype == np.float32
        result = computer(function)(x, scalar)
        if not isinstance(result, Declined):
            np.testing.assert_array_equal(result, np.asarray(expected, np.float32))


@both_dtypes
def test_the_last_dimension_counts_up_to_the_limit(computer, dtype, rng):
    """32 dimensions, the most that kernels take."""
    x = cases.draw(rng, dtype, (1, 2) * 8 + (1,) * 16)
    y = computer("negative")(x)
    if not isinstance(y, Declined):
        np.testing.assert_array_equal(y, -x)
    total = computer("sum")(x, tuple(range(32)), False)
    if not isinstance(total, Declined):
        cases.assert_within(
            total, np.sum(x, dtype=np.float64), 32 * cases.unit_roundoff(dtype) * np.abs(x).sum(), "sum"
        )


def test_large_sums_stay_accurate(computer):
    """A naive float32 sum of 2^24 ones and more stands still; the tree does not."""
    x = np.ones((1 << 24) + 8, np.float32)
    result = computer("sum")(x, (0,), False)
    assert float(result) == x.size
    third = np.full(3_000_001, 1 / 3, np.float32)
    exact = math.fsum(third.astype(np.float64))
    bound = (24 + math.log2(third.size)) * 2.0**-24 * exact
    assert abs(float(computer("sum")(third, (0,), False)) - exact) <= bound
