"""Convolutions against PyTorch: results and all gradients, in every layout, algorithm, level and thread count.

Tolerances are error bounds. A sum of k products, a bias and a residual is within 1.01 (k + 3) u of the same sum of
magnitudes; those sums are PyTorch's, in float64, of absolute values. Winograd's algorithms mix the pixels of a tile:
their bound is 8 times as large, with every |x| replaced by the largest around it.
"""

import contextlib
import math

import hominy
import numpy as np
import pytest
from conftest import LEVELS
from hominy import backends, kernels
from hominy.backends import reference
from hominy.backends.conv_choice import ALGORITHMS, DIRECTIONS
from hominy.backends.reference_conv import channels_last
from hominy.nn import functional as F
from hominy.testing import conv_cases
from hominy.testing.case import assert_within, unit_roundoff
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even")  # PyTorch's, of a copy it makes

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_layouts = pytest.mark.parametrize("layout", ["contiguous", "channels last"])


@pytest.fixture(params=[*LEVELS, "reference"])
def computed_by(request):
    """Every ISA level, and the reference."""
    if request.param == "reference":
        hominy.use_backend("reference")
    else:
        from hominy import _native

        _native.select_isa(request.param)


def lay(x, layout):
    """(N, C, *space) in that layout."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if layout == "channels last" else x


def drawn(rng, dtype, *shapes):
    return [rng.uniform(-2, 2, shape).astype(dtype) for shape in shapes]


def in_torch(function, arrays, flow, **options):
    """(result, gradients of the arrays) of PyTorch, in float64."""
    tensors = [None if x is None else torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in arrays]
    y = getattr(torch.nn.functional, function)(*tensors, **options)
    flow = np.ones(y.shape) if flow is None else flow
    y.backward(torch.from_numpy(np.array(flow, np.float64)))
    return [y.detach().numpy(), *(None if x is None else x.grad.numpy() for x in tensors)]


def in_hominy(function, arrays, flow, **options):
    tensors = [None if x is None else hominy.from_numpy(x).requires_grad_() for x in arrays]
    y = getattr(F, function)(*tensors, **options)
    y.backward(hominy.from_numpy(flow))
    return [y.detach().numpy(), *(None if x is None else x.grad.numpy() for x in tensors)]


def spread(x, reach):
    """The largest magnitude around each pixel, `reach` pixels far."""
    return torch.nn.functional.max_pool2d(torch.from_numpy(np.abs(x)), 2 * reach + 1, 1, reach).numpy()


def bounds(function, arrays, flow, depths, factor=1.0, reach=0, **options):
    """The errors that (result, gradients) may have, each a sum of so many products."""
    u = unit_roundoff(arrays[0].dtype)
    x, weight, bias = (None if each is None else np.abs(each) for each in arrays)
    terms = in_torch(function, (x, weight, bias), np.abs(flow), **options)
    if reach:  # of the result and of the input's gradient; a weight gradient is a plain sum
        terms[0] = in_torch(function, (spread(x, reach), weight, bias), np.abs(flow), **options)[0]
        terms[1] = in_torch(function, (x, weight, bias), spread(flow, reach), **options)[1]
    factors = (factor, factor, 1.0, 1.0)
    return [
        None if t is None else 1.01 * (k + 3) * u * t * f + 2.0**-149
        for k, t, f in zip(depths, terms, factors, strict=True)
    ]


def depths(x, weight, result, groups, transposed=False):
    """How many products stand in an element of the result and of the gradients of x, weight and bias."""
    taps, positions = math.prod(weight[2:]), len(x) and x[0] * math.prod(result[2:])
    if transposed:
        return weight[0] // groups * taps, weight[1] * taps, x[0] * math.prod(x[2:]), positions
    return weight[1] * taps, weight[0] // groups * taps, positions, positions


def compare(function, arrays, rng, layout="contiguous", factor=1.0, reach=0, **options):
    dtype = arrays[0].dtype
    shape = in_torch(function, arrays, None, **options)[0].shape
    (flow,) = drawn(rng, dtype, shape)
    want = in_torch(function, arrays, flow, **options)
    placed = [lay(arrays[0], layout), *arrays[1:]]
    got = in_hominy(function, placed, lay(flow, layout), **options)
    k = depths(arrays[0].shape, arrays[1].shape, want[0].shape, options.get("groups", 1), function.startswith("conv_t"))
    allowed = bounds(function, arrays, flow, k, factor, reach, **options)
    for what, mine, theirs, bound in zip(
        ("result", "of input", "of weight", "of bias"), got, want, allowed, strict=True
    ):
        if theirs is not None:
            assert mine.dtype == dtype
            assert_within(mine, theirs, bound, f"{function} {options} {layout}: {what}")
    if layout == "channels last" and got[0].size and not got[0].flags.c_contiguous:
        assert channels_last(got[0]) and channels_last(got[1]) == channels_last(placed[0])
    elif layout == "contiguous":
        assert got[0].flags.c_contiguous and got[1].flags.c_contiguous
    return got


# --- geometry ---------------------------------------------------------------------------------------------------------

CONVOLUTIONS = [
    ("conv1d", (2, 3, 11), (5, 3, 4), {}),
    ("conv1d", (2, 4, 23), (6, 2, 3), {"stride": 3, "padding": 4, "dilation": 3, "groups": 2}),
    ("conv1d", (1, 6, 9), (12, 1, 3), {"padding": "same", "groups": 6}),
    ("conv1d", (3, 2, 40), (2, 2, 9), {"stride": 2, "padding": [8]}),
    ("conv2d", (2, 3, 9, 7), (4, 3, 3, 3), {"padding": 1}),
    ("conv2d", (2, 3, 31, 17), (8, 3, 7, 7), {"stride": 2, "padding": 3}),
    ("conv2d", (1, 17, 5, 6), (33, 17, 1, 1), {}),
    ("conv2d", (2, 8, 6, 7), (4, 8, 1, 1), {"stride": (2, 3), "padding": (0, 2)}),
    ("conv2d", (2, 6, 8, 9), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    ("conv2d", (1, 5, 8, 9), (15, 1, 5, 3), {"groups": 5, "padding": (2, 0), "stride": (1, 2)}),
    ("conv2d", (2, 12, 7, 7), (18, 4, 3, 2), {"groups": 3, "dilation": (2, 1), "padding": "valid"}),
    ("conv2d", (1, 3, 10, 9), (4, 3, 4, 3), {"padding": "same", "dilation": (3, 2)}),
    ("conv2d", (2, 16, 13, 14), (24, 16, 3, 3), {"padding": 1}),
    ("conv2d", (1, 40, 20, 19), (16, 40, 3, 3), {"padding": (0, 2)}),
    ("conv2d", (1, 2, 3, 3), (2, 2, 2, 2), {"padding": 5, "stride": 4}),
    ("conv2d", (1, 1, 28, 28), (16, 1, 5, 5), {"padding": 2}),
    ("conv3d", (1, 2, 5, 4, 6), (3, 2, 3, 2, 2), {"stride": (1, 2, 1), "padding": (1, 0, 2)}),
    ("conv3d", (2, 4, 4, 5, 3), (4, 1, 2, 3, 3), {"groups": 4, "padding": 1, "dilation": (1, 2, 1)}),
    # rows of images that neighbouring rows of the result share: of some planes, strided, dilated, longer than a block
    ("conv3d", (2, 8, 5, 7, 11), (18, 8, 3, 3, 3), {"padding": 1}),
    ("conv3d", (1, 16, 6, 9, 14), (20, 8, 2, 5, 3), {"padding": (1, 2, 1), "stride": (2, 3, 1), "groups": 2}),
    ("conv2d", (3, 9, 23, 40), (17, 9, 3, 3), {"padding": 1, "stride": 2}),
    ("conv2d", (2, 16, 19, 30), (18, 16, 3, 2), {"padding": (4, 3), "dilation": (2, 3)}),
    ("conv2d", (2, 8, 3, 531), (17, 8, 3, 5), {"padding": (2, 1)}),
]  # fmt: skip
TRANSPOSED = [
    ("conv_transpose1d", (2, 3, 7), (3, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose1d", (1, 4, 5), (4, 3, 3), {"stride": 3, "output_padding": 2, "groups": 2}),
    ("conv_transpose1d", (2, 2, 5), (2, 3, 3), {"dilation": 4, "output_padding": 3}),
    ("conv_transpose1d", (2, 2, 5), (2, 3, 3), {"dilation": 4, "output_padding": 3, "padding": 2, "stride": 2}),
    ("conv_transpose2d", (2, 8, 6, 5), (8, 4, 4, 4), {"stride": 2, "padding": 1}),
    ("conv_transpose2d", (1, 6, 4, 5), (6, 1, 3, 3), {"groups": 6, "stride": 2, "padding": 1, "output_padding": 1}),
    ("conv_transpose2d", (2, 3, 5, 4), (3, 5, 3, 2), {"padding": (2, 0), "dilation": (1, 3)}),
    ("conv_transpose2d", (2, 5, 3, 3), (5, 7, 1, 1), {"stride": 2}),
    ("conv_transpose3d", (1, 4, 3, 2, 4), (4, 3, 2, 3, 2), {"stride": (1, 2, 3), "padding": (0, 1, 0), "groups": 2}),
]  # fmt: skip


@both_dtypes
@both_layouts
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("function", "x", "weight", "options"), CONVOLUTIONS + TRANSPOSED)
def test_pytorch_agrees(function, x, weight, options, biased, layout, dtype, computed_by, rng):
    outputs = weight[1] * options.get("groups", 1) if function.startswith("conv_t") else weight[0]
    x, w, b = drawn(rng, dtype, x, weight, (outputs,))
    with exactly():
        compare(function, [x, w, b if biased else None], rng, layout, **options)


@contextlib.contextmanager
def exactly():
    hominy.set_float_precision("exact")
    try:
        yield
    finally:
        hominy.set_float_precision("high")


@given(data=st.data())
def test_any_geometry(data):
    """Whatever PyTorch computes, hominy computes; what it refuses, hominy refuses."""
    n = data.draw(st.integers(1, 3))
    small = st.integers(1, 3)
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    transposed = data.draw(st.booleans())
    kernel, space = (tuple(data.draw(st.integers(1, top)) for _ in range(n)) for top in (4, 7))
    tops = {"stride": (1, 3), "dilation": (1, 3), "padding": (0, 3)}
    options = {name: tuple(data.draw(st.integers(*ends)) for _ in range(n)) for name, ends in tops.items()}
    options["groups"] = groups
    channels, outputs = groups * data.draw(small), groups * data.draw(small)
    weight = (channels, outputs // groups, *kernel) if transposed else (outputs, channels // groups, *kernel)
    if transposed:
        options["output_padding"] = tuple(data.draw(st.integers(0, 2)) for _ in range(n))
    function = f"conv{'_transpose' if transposed else ''}{n}d"
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = drawn(rng, "float32", (data.draw(st.integers(1, 2)), channels, *space), weight, (outputs,))
    layout = data.draw(st.sampled_from(["contiguous", "channels last"]))
    try:
        in_torch(function, arrays, None, **options)
    except RuntimeError:
        with pytest.raises(ValueError, match=rf"\[{function}\]"):
            in_hominy(function, arrays, arrays[0], **options)
        return
    with exactly():
        compare(function, arrays, rng, layout, **options)


@pytest.mark.parametrize(("function", "x", "weight", "options"), CONVOLUTIONS[1::4] + TRANSPOSED[1::3])
def test_without_a_batch(function, x, weight, options, rng):
    outputs = weight[1] * options.get("groups", 1) if function.startswith("conv_t") else weight[0]
    x, w, b = (hominy.from_numpy(a) for a in drawn(rng, "float64", x[1:], weight, (outputs,)))
    one = getattr(F, function)(x, w, b, **options)
    assert (one.numpy() == getattr(F, function)(x.unsqueeze(0), w, b, **options)[0].numpy()).all()


@both_layouts
def test_an_empty_batch(layout, computed_by, rng):
    for function, x, weight, options in CONVOLUTIONS + TRANSPOSED:
        outputs = weight[1] * options.get("groups", 1) if function.startswith("conv_t") else weight[0]
        x, w, b = drawn(rng, "float32", (0, *x[1:]), weight, (outputs,))
        shape = in_torch(function, [x, w, b], None, **options)[0].shape
        y, of_x, of_w, of_b = in_hominy(function, [lay(x, layout), w, b], np.zeros(shape, np.float32), **options)
        assert y.shape == shape and of_x.shape == x.shape
        assert of_w.shape == w.shape and not of_w.any() and of_b.shape == b.shape and not of_b.any()


def test_no_output_channels(computed_by, rng):
    x, w = drawn(rng, "float32", (2, 3, 5, 5), (0, 3, 3, 3))
    y, of_x, of_w = in_hominy("conv2d", [x, w], np.zeros((2, 0, 3, 3), np.float32))
    assert y.shape == (2, 0, 3, 3) and not of_x.any() and of_x.shape == x.shape and of_w.shape == w.shape


@both_layouts
@pytest.mark.parametrize("width", [32, 31])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_large_depthwise_results(kernel, stride, width, layout, computed_by, rng):
    """Those of 4 MB and more are written past the caches where they are aligned: as image by image."""
    x, w, b = drawn(rng, "float32", (9, 64, 64 // stride, 2 * width // stride), (64, 1, kernel, kernel), (64,))
    options = {"padding": kernel // 2, "groups": 64}
    with hominy.no_grad():
        w, b = hominy.from_numpy(w), hominy.from_numpy(b)
        if stride == 2:  # the input gradient
            run, options = F.conv_transpose2d, options | {"output_padding": 1, "stride": 2}
        else:
            run = F.conv2d
        whole = run(hominy.from_numpy(lay(x, layout)), w, b, **options).numpy()
        assert whole.nbytes >= 8 << 20
        for image, result in zip(x, whole, strict=True):
            assert (run(hominy.from_numpy(lay(image[None], layout)), w, b, **options).numpy()[0] == result).all()


@both_layouts
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("width", [64, 61])
@pytest.mark.parametrize(("channels", "kernel"), [(3, 3), (12, 1)])
def test_large_results(channels, kernel, width, residual, layout, computed_by, rng):
    """As `test_large_depthwise_results`, where one block of products makes a result."""
    x, w, b, r = drawn(
        rng, "float32", (9, channels, 64, width), (64, channels, kernel, kernel), (64,), (9, 64, 64, width)
    )
    options = {"padding": ((kernel // 2,) * 2,) * 2, "algorithm": "product"}

    def run(x, w, b, r):
        return kernels.conv(lay(x, layout), w, b, lay(r, layout) if residual else None, **options)

    result = run(x, w, b, r)
    assert result.nbytes >= 8 << 20
    wide = [a.astype("float64") for a in (x, w, b, r)]
    terms = run(*(abs(a) for a in wide))
    assert_within(result, run(*wide), 1.01 * (channels * kernel**2 + 3) * unit_roundoff("float32") * terms, "result")


@both_dtypes
def test_inputs_anywhere_in_memory(dtype, computed_by, rng):
    """Slices, flips and stretched arrays: the result is that of their copies, whatever the layout."""
    big, weights = drawn(rng, dtype, (4, 9, 15, 16), (14, 4, 5, 6))
    x, w = big[::2, 1::2, ::-1, 2:14:2], weights[::2, :, 1:4, ::-2]
    with exactly():
        want = F.conv2d(hominy.from_numpy(x.copy()), hominy.from_numpy(w.copy()), padding=1).numpy()
        got = F.conv2d(hominy.from_numpy(x), hominy.from_numpy(w), padding=1).numpy()
        terms = F.conv2d(hominy.from_numpy(abs(x)), hominy.from_numpy(abs(w)), padding=1).numpy()
        assert (abs(got - want) <= 2 * 1.01 * 39 * unit_roundoff(dtype) * terms).all()
        ones = np.broadcast_to(np.ones((), dtype), (2, 4, 6, 6))
        assert (F.conv2d(hominy.from_numpy(ones), hominy.from_numpy(np.ones((1, 4, 2, 2), dtype))).numpy() == 16).all()


@both_dtypes
def test_weights_gradient_of_one_tap(dtype, computed_by, rng):
    """What lies in memory as patches are wanted is read in place: but only the image, however it lies."""
    big = rng.standard_normal((3, 4, 6, 7, 5)).astype(dtype)  # N, D, H, W + 1, C
    small = rng.standard_normal((3, 5, 1, 1)).astype(dtype)
    images = {
        "channels-last": (big[:, 0, :, :6].transpose(0, 3, 1, 2).copy(order="K"), ((0, 0), (0, 0))),
        "padded behind": (np.ascontiguousarray(big[:, 0]).transpose(0, 3, 1, 2), ((0, 1), (0, 1))),
        "the same pixel everywhere": (np.broadcast_to(small, (3, 5, 4, 4)), ((0, 1), (0, 1))),
        "part of each row": (big[:, 0, :, :6].transpose(0, 3, 1, 2), ((0, 0), (0, 1))),
        "part of each row, 3d": (big[:, :, :, :6].transpose(0, 4, 1, 2, 3), ((0, 0), (0, 0), (0, 1))),
        "one column": (big[:, 0, :, :1].transpose(0, 3, 1, 2), ((0, 0), (0, 0))),
        "one pixel": (big[:, 0, :1, :1].transpose(0, 3, 1, 2), ((0, 0), (0, 0))),
    }
    for name, (x, padding) in images.items():
        space = [n + before + behind for n, (before, behind) in zip(x.shape[2:], padding, strict=True)]
        for channels in (16, 32, 37):
            gradient = rng.standard_normal((3, *space, channels)).astype(dtype)
            gradient = np.moveaxis(gradient, -1, 1)
            weight = hominy.from_numpy(rng.standard_normal((channels, 5, *[1] * len(space))).astype(dtype))
            weight.requires_grad = True
            function = F.conv2d if len(space) == 2 else F.conv3d
            out = function(hominy.from_numpy(x), weight, padding=padding)
            (got,) = hominy.autograd.grad(out, (weight,), hominy.from_numpy(gradient))
            inside = (slice(None), slice(None), *(slice(0, n) for n in x.shape[2:]))
            axes = "abcd"[: len(space)]
            terms = f"no{axes},ni{axes}->oi", gradient[inside].astype("longdouble"), x.astype("longdouble")
            exact = np.einsum(*terms).reshape(weight.shape)
            bound = np.einsum(terms[0], np.abs(terms[1]), np.abs(terms[2])).reshape(weight.shape)
            bound *= (x[:, 0].size + 2) * unit_roundoff(dtype)
            assert_within(got.numpy(), exact, bound, f"{name}, {channels} channels")


def test_the_layout_of_the_output(computed_by, rng):
    """As PyTorch: the input's; one channel or one pixel counts as contiguous."""
    for x, out in (((2, 8, 5, 6), True), ((2, 1, 5, 6), False), ((2, 8, 1, 1), False), ((2, 8, 5, 1), True)):
        x, w = drawn(rng, "float32", x, (4, x[1], 1, 1))
        y = F.conv2d(hominy.from_numpy(lay(x, "channels last")), hominy.from_numpy(w)).numpy()
        assert channels_last(y) == out and y.flags.c_contiguous != out
    x, w = drawn(rng, "float32", (2, 8, 4, 5, 6), (4, 8, 2, 2, 2))
    y = F.conv3d(hominy.from_numpy(lay(x, "channels last")), hominy.from_numpy(w)).numpy()
    assert channels_last(y)
    y = F.conv3d(hominy.from_numpy(lay(x, "channels last")[0]), hominy.from_numpy(w)).numpy()
    assert y.strides[0] == y.itemsize


def test_half_precision(rng):
    """Computed in float32, rounded once."""
    x, w, b = (a.astype(np.float16) for a in drawn(rng, "float32", (2, 3, 6, 6), (4, 3, 3, 3), (4,)))
    y = F.conv2d(*(hominy.from_numpy(a) for a in (x, w, b)), padding=1)
    wide = F.conv2d(*(hominy.from_numpy(a.astype(np.float32)) for a in (x, w, b)), padding=1)
    assert y.dtype == np.float16 and (y.numpy() == wide.numpy().astype(np.float16)).all()
    _, *gradients = in_hominy("conv2d", [x, w, b], np.ones((2, 4, 4, 4), np.float16))
    assert all(g.dtype == np.float16 for g in gradients)


def test_nan_stays_where_it_is_seen(computed_by):
    x = np.zeros((1, 1, 9, 9), np.float32)
    x[0, 0, 4, 4] = np.nan
    w = np.ones((1, 1, 3, 3), np.float32)
    with exactly():
        y = F.conv2d(hominy.from_numpy(x), hominy.from_numpy(w), padding=1).numpy()
    assert np.isnan(y[0, 0, 3:6, 3:6]).all() and np.isnan(y).sum() == 9


# --- algorithms -------------------------------------------------------------------------------------------------------

NAMED = [
    ("conv2d", (2, 16, 12, 13), (24, 16, 3, 3), {"padding": 1}),
    ("conv2d", (1, 33, 9, 30), (17, 33, 3, 3), {"padding": (1, 0)}),
    ("conv2d", (2, 24, 11, 10), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    ("conv2d", (1, 20, 15, 9), (40, 1, 5, 5), {"padding": 2, "groups": 20, "stride": 2}),
    ("conv2d", (2, 32, 9, 8), (32, 8, 3, 3), {"padding": 1, "groups": 4}),
    ("conv1d", (2, 16, 33), (16, 1, 5), {"padding": 2, "groups": 16}),
    ("conv3d", (1, 8, 5, 6, 4), (8, 4, 3, 3, 3), {"padding": 1, "groups": 2}),
]
REACH = {"winograd2": 3, "winograd4": 5}


def fixed(name):
    return backends.use_conv_algorithm(name)


@pytest.mark.native
@both_dtypes
@both_layouts
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
@pytest.mark.parametrize(("function", "x", "weight", "options"), NAMED)
def test_every_algorithm_that_accepts_it(function, x, weight, options, algorithm, layout, dtype, level, rng):
    x, w, b = drawn(rng, dtype, x, weight, weight[:1])
    tile = REACH.get(algorithm, max(REACH.values()) if algorithm == "auto" and x.ndim == 4 else 0)
    with fixed(algorithm):
        try:
            getattr(F, function)(hominy.from_numpy(lay(x, layout)), hominy.from_numpy(w), **options)
        except ValueError as error:
            assert "algorithm" in str(error) and algorithm not in ("auto", "product"), error
            return
        compare(function, [x, w, b], rng, layout, factor=8.0 if tile else 1.0, reach=tile, **options)


@pytest.mark.native
@both_dtypes
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_bits_do_not_depend_on_threads(algorithm, dtype, level, rng):
    """Three directions, both layouts, 1 to 8 threads."""
    from hominy.backends import native

    def results(x, w, b, flow, rest):
        made = []
        for function, *arguments in (
            (native.conv, x, w, b, None, *rest, "relu"),
            (native.conv_input_gradient, flow, w, None, x.shape[2:], *rest),
            (native.conv_weight_gradient, flow, x, w.shape[2:], *rest),
        ):
            with contextlib.suppress(ValueError):  # not one that the algorithm computes
                made.append(function(*arguments, algorithm).tobytes())
        return made

    for number, size in enumerate(conv_cases.LARGE):
        x, w, b, flow = drawn(rng, dtype, *size[:2], size[1][:1], conv_cases.out_shape(size))
        for layout in ("contiguous", "channels last"):
            arrays = lay(x, layout), w, b, lay(flow, layout)
            hominy.set_num_threads(1)
            expected = results(*arrays, size[2:])
            for threads in range(2, 9) if number == 0 else (2, 5):
                hominy.set_num_threads(threads)
                assert results(*arrays, size[2:]) == expected, (size, layout, threads)


def test_the_choice_is_shown_and_fixed(rng):
    x, w = (hominy.from_numpy(a) for a in drawn(rng, "float32", (2, 64, 56, 56), (64, 64, 3, 3)))
    assert backends.conv_algorithm(x, w, padding=1) in ALGORITHMS
    assert backends.conv_algorithm(x.numpy(), w.numpy(), 1, 1) == backends.conv_algorithm(x, w, padding=1)
    for direction in DIRECTIONS:
        assert backends.conv_algorithm(x, w, padding=1, direction=direction) in ALGORITHMS
    with fixed("product"):
        assert backends.conv_algorithm(x, w, padding=1) == "product"
        with fixed("winograd2"):
            assert backends.conv_algorithm(x, w, padding=1) == "winograd2"
            assert backends.conv_algorithm(x, w, padding=1, direction="weight_gradient") == "winograd2"
        assert backends.conv_algorithm(x, w, padding=1) == "product"
    backends.use_conv_algorithm("grouped")
    assert backends.conv_algorithm(x, w, padding=1) == "grouped"
    backends.use_conv_algorithm("auto")
    with pytest.raises(ValueError, match=r"\[use_conv_algorithm\] algorithm: expected one of 'auto', .*, got 'fft'"):
        fixed("fft")
    with pytest.raises(ValueError, match=r"\[conv_algorithm\] direction: expected one of forward, .*, got 'up'"):
        backends.conv_algorithm(x, w, direction="up")
    with pytest.raises(ValueError, match=r"algorithm"), fixed("depthwise"):
        F.conv2d(x, w)
    unknown = pytest.raises(ValueError, match=r"\[conv\] algorithm: expected 'auto' or 'product' of this backend")
    with unknown, hominy.use_backend("reference"), fixed("winograd4"):
        F.conv2d(x, w)


def test_precision():
    assert hominy.get_float_precision() == "high"
    x, w = hominy.zeros(1, 64, 28, 28), hominy.zeros(64, 64, 3, 3)
    with exactly():
        assert hominy.get_float_precision() == "exact"
        for direction in DIRECTIONS:
            assert not backends.conv_algorithm(x, w, padding=1, direction=direction).startswith("winograd")
    with pytest.raises(ValueError, match=r"\[set_float_precision\] precision: expected 'exact' or 'high', got 'low'"):
        hominy.set_float_precision("low")


# --- arrays -----------------------------------------------------------------------------------------------------------


@both_dtypes
@both_layouts
def test_the_fused_kernel(layout, dtype, computed_by, rng):
    x, w, b, r = drawn(rng, dtype, (2, 4, 9, 8), (6, 4, 3, 3), (6,), (2, 6, 5, 4))
    options = {"stride": 2, "padding": 1}
    wide = [a.astype(np.float64) for a in (x, w, b, r)]
    plain = reference.conv(*wide[:3], None, (2, 2), ((1, 1), (1, 1)), (1, 1), 1, "none")
    terms = reference.conv(*(abs(a) for a in wide), (2, 2), ((1, 1), (1, 1)), (1, 1), 1, "none")
    bound = 1.01 * 42 * unit_roundoff(dtype) * terms
    with exactly():
        for activation in ("none", "relu", "sigmoid", "tanh", "gelu", "silu"):
            got = kernels.conv(lay(x, layout), w, b, lay(r, layout), activation=activation, **options)
            want = plain + wide[3]
            want = want if activation == "none" else getattr(reference, activation)(want)
            slack = 0 if activation in ("none", "relu") else 12 * unit_roundoff(dtype) * (1 + abs(want))
            assert_within(got, want, 1.2 * bound + slack, activation)
            assert channels_last(got) == (layout == "channels last")
        assert_within(
            kernels.conv(lay(x, layout), w, b, lay(r, "contiguous"), **options), plain + wide[3], bound, "mixed"
        )
        uneven = kernels.conv(x, w, padding=((1, 0), (2, 3)))
        padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 3)))
        assert_within(uneven, kernels.conv(padded.astype(np.float64), w.astype(np.float64)), 50 * bound.max(), "uneven")
    assert kernels.conv(x, w, algorithm="product").shape == (2, 6, 7, 6)


def test_a_fused_gradient(rng):
    """Of the operator behind models in training: relu(conv + residual) in one store."""
    arrays = drawn(rng, "float64", (2, 3, 6, 5), (4, 3, 3, 3), (4,), (2, 4, 6, 5))
    tensors = [hominy.from_numpy(a).requires_grad_() for a in arrays]
    settings = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    fused = hominy.ops.REGISTRY["convolution_activation"](*tensors, *settings, "relu", "auto", True)
    fused.square().sum().backward()
    got = [t.grad.numpy() for t in tensors]
    for t in tensors:
        t.grad = None
    plain = (F.conv2d(*tensors[:3], padding=1) + tensors[3]).relu()
    plain.square().sum().backward()
    np.testing.assert_allclose(fused.detach().numpy(), plain.detach().numpy(), rtol=1e-12, atol=1e-12)
    for mine, tensor in zip(got, tensors, strict=True):
        np.testing.assert_allclose(mine, tensor.grad.numpy(), rtol=1e-10, atol=1e-10)
    smooth = hominy.ops.REGISTRY["convolution_activation"](*tensors, *settings, "gelu", "auto", True)
    with pytest.raises(RuntimeError, match="gelu keeps no gradient"):
        smooth.sum().backward()


# --- what is refused --------------------------------------------------------------------------------------------------

X, W, B = np.ones((2, 16, 8, 8), np.float32), np.ones((16, 8, 3, 3), np.float32), np.ones(16, np.float32)
HUGE = 2**62


def stretched(*shape):
    return np.broadcast_to(np.ones((), np.float32), shape)


REFUSED = [
    ({"weight": np.ones((16, 4, 3, 3), np.float32)}, ValueError,
     "weight: expected (out_channels, in_channels/groups=8, kh, kw), got (16, 4, 3, 3)"),
    ({"weight": np.ones((16, 8, 3), np.float32)}, ValueError,
     "weight: expected (out_channels, in_channels/groups=8, kh, kw), got (16, 8, 3)"),
    ({"weight": np.ones((16, 8, 0, 3), np.float32)}, ValueError, "weight: expected (out_channels, in_channels/gr"),
    ({"weight": np.ones((15, 8, 3, 3), np.float32)}, ValueError, "weight: expected out_channels that groups=2 divides"),
    ({"weight": W.astype(np.float64)}, TypeError, "weight: expected dtype float32, as the input's, got float64"),
    ({"weight": None}, TypeError, "weight: expected a tensor or an array, got NoneType"),
    ({"weight": "same"}, TypeError, "weight: expected a tensor or an array, got str"),
    ({"input": X[0, 0]}, ValueError, "input: expected (N, C, H, W) or (C, H, W), got shape (8, 8)"),
    ({"input": X.astype(np.int64)}, TypeError, "input: expected a float dtype, got int64"),
    ({"input": X[:, :15]}, ValueError, "groups: expected a divisor of in_channels=15, got 2"),
    ({"input": X[:, :, :2]}, ValueError,
     "input: expected at least 3 elements, the kernel's reach (3 taps, dilation 1), in dimension 2 with its padding, "
     "got 2 + 0 + 0"),
    ({"input": X[..., :0], "padding": 1}, ValueError, "input: expected at least 3 elements"),
    ({"bias": B[:15]}, ValueError, "bias: expected (16,), one of each output channel, got (15,)"),
    ({"bias": np.float32(1)}, ValueError, "bias: expected (16,), one of each output channel, got ()"),
    ({"bias": B.astype(np.float64)}, TypeError, "bias: expected dtype float32, as the input's, got float64"),
    ({"groups": 3}, ValueError, "groups: expected a divisor of in_channels=16, got 3"),
    ({"groups": 0}, ValueError, "groups: expected integers above 0 and below 2**63, got 0"),
    ({"groups": -2}, ValueError, "groups: expected integers above 0"),
    ({"groups": 2.0}, TypeError, "groups: expected an integer"),
    ({"groups": (2, 2)}, ValueError, "groups: expected an integer"),
    ({"stride": 0}, ValueError, "stride: expected integers above 0 and below 2**63, got 0"),
    ({"stride": (1, -1)}, ValueError, "stride: expected integers above 0 and below 2**63, got (1, -1)"),
    ({"stride": (1, 1, 1)}, ValueError, "stride: expected an integer or 2 integers, got (1, 1, 1)"),
    ({"stride": ()}, ValueError, "stride: expected an integer or 2 integers, got ()"),
    ({"stride": 1.5}, TypeError, "stride: expected an integer or 2 integers, got 1.5"),
    ({"stride": True}, TypeError, "stride: expected an integer or 2 integers, got True"),
    ({"stride": None}, TypeError, "stride: expected an integer or 2 integers, got None"),
    ({"stride": "2"}, TypeError, "stride: expected an integer or 2 integers, got '2'"),
    ({"stride": 2**63}, ValueError, "stride: expected integers above 0 and below 2**63"),
    ({"padding": -1}, ValueError, "padding: expected integers of 0 or more and below 2**63, got -1"),
    ({"padding": "full"}, ValueError, "padding: expected integers, 'same' or 'valid', got 'full'"),
    ({"padding": "same", "stride": 2}, ValueError, "stride: expected 1 with padding='same', got (2, 2)"),
    ({"padding": HUGE}, ValueError, "sizes"),
    ({"padding": 2**40}, ValueError, "output: expected sizes whose product is below 2**63 bytes"),
    ({"padding": 2**63}, ValueError, "padding: expected integers of 0 or more and below 2**63"),
    ({"padding": 10**30}, ValueError, "padding: expected integers"),
    ({"dilation": 0}, ValueError, "dilation: expected integers above 0"),
    ({"dilation": HUGE}, ValueError, "input: expected sizes below 2**63"),
    ({"dilation": 2**40}, ValueError, "input: expected at least"),
    ({"input": stretched(2**33, 16, 2**20, 8), "padding": (0, 8)}, ValueError, "product is below 2**63 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "kind", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_is_refused(changed, kind, message):
    arguments = {"input": X, "weight": W, "bias": B, "groups": 2} | changed
    tensors = {
        name: hominy.from_numpy(x) if isinstance(x, np.ndarray) and x.flags.writeable else x
        for name, x in arguments.items()
    }
    for given_ in (arguments, tensors):
        with pytest.raises(kind) as caught:
            F.conv2d(**given_)
        assert str(caught.value).startswith("[conv2d] ") and message in str(caught.value), caught.value
    if "input" not in changed and arguments["weight"] is not None:
        with pytest.raises(kind) as caught:
            kernels.conv(**arguments)
        assert str(caught.value).startswith("[conv2d] ") and message in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": W}, "weight: expected (in_channels=16, out_channels/groups, kh, kw), got (15, 8, 3, 3)"),
        ({"output_padding": 2}, "output_padding: expected less than stride or dilation, 1 in dimension 2, got 2"),
        ({"output_padding": -1}, "output_padding: expected integers of 0 or more"),
        ({"padding": 5}, "input: expected a size that leaves an output in dimension 2, got 8: (8 - 1) * 1 - 2 * 5 + 1"),
        ({"padding": "same"}, "padding: expected an integer or 2 integers, got 'same'"),
        ({"stride": HUGE}, "input: expected output sizes below 2**63"),
        ({"stride": 2**31}, "output: expected sizes whose product is below 2**63 bytes"),
        ({"stride": 0}, "stride: expected integers above 0"),
        ({"dilation": HUGE}, "sizes below 2**63"),
        ({"input": X[..., :0]}, "input: expected a size that leaves an output in dimension 3, got 0"),
        ({"bias": B[:8]}, "bias: expected (16,), one of each output channel, got (8,)"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_what_a_transposed_convolution_refuses(changed, message):
    arguments = {"input": X, "weight": W, "bias": B, "groups": 2} | changed
    if "weight" in changed:
        arguments["weight"] = W[:15]
    if changed.get("padding") == 5:
        arguments["weight"] = W[:, :, :2, :2]
    with pytest.raises((TypeError, ValueError)) as caught:
        F.conv_transpose2d(**arguments)
    assert str(caught.value).startswith("[conv_transpose2d] ") and message in str(caught.value), caught.value


def test_what_the_kernel_refuses():
    with pytest.raises(ValueError, match=r"\[conv2d\] activation: expected one of none, relu, .*, got 'mish'"):
        kernels.conv(X, W, groups=2, activation="mish")
    with pytest.raises(ValueError, match=r"\[conv2d\] residual: expected float32 of \(2, 16, 6, 6\), got float32"):
        kernels.conv(X, W, groups=2, residual=X)
    with pytest.raises(ValueError, match=r"\[conv2d\] algorithm: expected one of 'auto'"):
        kernels.conv(X, W, groups=2, algorithm="im2col")
    with pytest.raises(ValueError, match=r"\[conv\] input: expected \(N, channels, \*space\)"):
        kernels.conv(B, W)
    with pytest.raises(TypeError, match=r"\[conv\] input: expected a tensor or an array"):
        kernels.conv([[1.0]], W)


def test_operators_on_raw_arguments(rng):
    """Whatever is given to the operators behind the functions: a result, or an exception of Python's own kind."""

    def number(usual):
        return int(rng.choice([0, -1, 2**62, 2**63 - 1])) if rng.random() < 0.1 else int(rng.integers(*usual))

    def array(*shape):
        x = rng.standard_normal(shape).astype(rng.choice(["f4", "f4", "f4", "f8", "i4"]))
        return lay(x, "channels last") if x.ndim > 2 and rng.random() < 0.3 else x

    results = 0
    for _ in range(400):
        n, batch = int(rng.integers(1, 4)), int(rng.integers(0, 3))
        space, kernel, out = (tuple(int(i) for i in rng.integers(low, 5, n)) for low in (0, 1, 0))
        channels, outputs, groups = (int(rng.choice([0, 1, 2, 4])) for _ in range(3))
        count = n if rng.random() < 0.95 else 4 - n
        stride, dilation = (tuple(number((1, 4)) for _ in range(count)) for _ in range(2))
        rest = (stride, tuple((number((0, 3)), number((0, 3))) for _ in range(n)), dilation, groups)
        x, weight = array(batch, channels, *space), array(outputs, channels // max(groups, 1), *kernel)
        flow, bias = array(batch, outputs, *out), array(outputs) if rng.random() < 0.5 else None
        algorithm = rng.choice(list(ALGORITHMS))
        for function, *arguments in (
            (kernels.convolution, x, weight, bias, None, *rest, "relu", algorithm, False),
            (kernels.conv_input_gradient, flow, weight, None, space, *rest, algorithm, False),
            (kernels.conv_weight_gradient, flow, x, kernel, *rest, algorithm, False),
            (kernels.conv, x, weight, bias, None, *rest),
        ):
            with contextlib.suppress(ValueError, TypeError, OverflowError, MemoryError):
                function(*arguments)
                results += 1
    assert results > 100


def test_checks_do_not_depend_on_earlier_calls():
    x, w = hominy.ones(1, 2, 9, 9), hominy.ones(2, 2, 3, 3)
    F.conv2d(x, w, stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    F.max_pool2d(x, (2, 2), stride=(1, 1))
    for wrong in ((1.0, 1.0), (1, 1.0)):
        with pytest.raises(TypeError, match="stride"):
            F.conv2d(x, w, stride=wrong)
        with pytest.raises(TypeError, match="stride"):
            F.max_pool2d(x, (2, 2), stride=wrong)


def test_a_kernel_larger_than_its_input_has_no_result(computed_by):
    x, w = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight|kernel"):
        kernels.convolution(x, w, None, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "none", "auto", False)


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((1, 8, 9, 9), (8, 4, 3, 3), {"groups": 2}),
        ((2, 4, 9, 7), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
        ((2, 4, 9, 7), (4, 1, 3, 3), {"groups": 4, "padding": 2, "dilation": 2}),
        ((1, 2, 9, 8), (8, 1, 3, 3), {"groups": 2, "stride": 2}),
    ],
)
@both_dtypes
@both_layouts
def test_an_infinity_spoils_only_the_weights_that_meet_it(shape, weight, options, dtype, layout, computed_by):
    """As the definition says; PyTorch's own kernels differ among themselves in what padding times infinity is."""
    x = np.ones(shape, dtype)
    x[0, 1, 0, 0] = np.inf
    x[0, 0, 2, -1] = np.inf
    w = hominy.ones(weight, dtype=hominy.tensor(x).dtype).requires_grad_()
    given = hominy.from_numpy(
        x if layout == "contiguous" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    )
    F.conv2d(given, w, **options).sum().backward()
    clean = torch.ones(weight, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.conv2d(torch.from_numpy(np.isinf(x)).double(), clean, **options).sum().backward()
    np.testing.assert_array_equal(~np.isfinite(w.grad.numpy()), clean.grad.numpy() > 0)
