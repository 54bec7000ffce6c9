"""Pooling and unpooling against PyTorch: odd geometry, both layouts, with and without a batch, NaN; and bad geometry.

Maxima must agree to the last bit, indices included; averages within the kernel's bound (csrc/cpu/interpolate.hpp).
"""

import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import nn
from hominy.nn import functional as F
from hominy.testing.case import unit_roundoff

DIMS = (1, 2, 3)


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


def laid(x, layout):
    """x in another order in memory."""
    if layout == "channels last" and x.ndim > 2:
        axes = (0, *range(2, x.ndim), 1)
    elif layout == "reversed":
        axes = tuple(range(x.ndim))[::-1]
    elif layout == "strided":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), 7, x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    else:
        return x
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


LAYOUTS = ("contiguous", "channels last", "strided", "reversed")


def drawn(rng, shape, dtype):
    """Small integers (equal elements), now and then with a NaN or an infinity."""
    x = np.round(rng.standard_normal(shape) * 3).astype(dtype)
    if x.size and rng.random() < 0.3:
        x.flat[rng.integers(x.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return x


def outcome(function, x):
    """(results, gradient of the input) of a function of a tensor, as arrays; or the exception."""
    try:
        results = function(x)
    except Exception as error:
        return error
    results = results if isinstance(results, tuple) else (results,)
    shape = tuple(results[0].shape)
    grad = (np.arange(math.prod(shape)) % 7 + 1).reshape(shape).astype(x.detach().numpy().dtype)
    results[0].backward(importlib.import_module(type(x).__module__.split(".")[0]).from_numpy(grad))
    return [y.detach().numpy() for y in results], x.grad.numpy()


def compare(torch, theirs, ours, x, layout, what, terms=0):
    """Both results, and both gradients; `terms`: of the sums whose rounding may differ, 0: none may."""
    expected = outcome(theirs, torch.from_numpy(x.copy()).requires_grad_())
    got = outcome(ours, hominy.from_numpy(laid(x, layout)).requires_grad_())
    assert not isinstance(expected, Exception), (what, expected)
    assert not isinstance(got, Exception), (what, got)
    u = unit_roundoff(x.dtype)
    for ours_, theirs_ in zip(got[0], expected[0], strict=True):
        assert ours_.dtype == theirs_.dtype and ours_.shape == theirs_.shape, what
        if terms:
            largest = np.abs(np.nan_to_num(x, posinf=0, neginf=0)).max(initial=1)
            np.testing.assert_allclose(ours_, theirs_, rtol=0, atol=2 * (terms + 8) * u * largest, err_msg=str(what))
        else:
            np.testing.assert_array_equal(ours_, theirs_, str(what))
    largest = np.abs(expected[1]).max(initial=1)
    np.testing.assert_allclose(got[1], expected[1], rtol=0, atol=2 * (terms + 8) * u * largest, err_msg=str(what))
    y = got[0][0]
    if layout == "channels last" and y.ndim == x.ndim and y.size and y.shape[1] > 1 and x[0, 0].size > 1:
        assert y[0, 0].size == 1 or y.strides[1] == y.itemsize, f"{what}: the result is not channels-last"


def geometry(rng, dims):
    """(shape, kernel_size, stride, padding, dilation, ceil_mode) that PyTorch accepts."""
    kernel = tuple(int(k) for k in rng.integers(1, 5, dims))
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    dilation = tuple(int(d) for d in rng.integers(1, 3, dims))
    stride = tuple(int(s) for s in rng.integers(1, 4, dims))
    longest = (90, 40, 12)[dims - 1]
    space = tuple(max(int(rng.integers(1, longest)), (k - 1) * d + 1) for k, d in zip(kernel, dilation, strict=True))
    shape = (*((int(rng.choice([0, 1, 3])),) if rng.random() < 0.8 else ()), int(rng.choice([1, 3, 17, 33])), *space)
    return shape, kernel, stride, padding, dilation, bool(rng.random() < 0.5)


@pytest.mark.torch
@pytest.mark.parametrize("dims", DIMS)
def test_max_pool(torch, dims, rng):
    theirs, ours = getattr(torch.nn.functional, f"max_pool{dims}d"), getattr(F, f"max_pool{dims}d")
    for number in range(25):
        shape, kernel, stride, padding, dilation, ceil = geometry(rng, dims)
        layout = LAYOUTS[number % 4] if len(shape) == dims + 2 else "contiguous"
        x = drawn(rng, shape, ("float32", "float64")[number % 2])
        for indices in (False, True):
            arguments = (kernel, stride, padding, dilation, ceil, indices)
            compare(
                torch, lambda t, a=arguments: theirs(t, *a), lambda t, a=arguments: ours(t, *a), x, layout,
                (shape, *arguments, layout),
            )  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("dims", DIMS)
def test_avg_pool(torch, dims, rng):
    theirs, ours = getattr(torch.nn.functional, f"avg_pool{dims}d"), getattr(F, f"avg_pool{dims}d")
    for number in range(25):
        shape, kernel, stride, padding, _, ceil = geometry(rng, dims)
        layout = LAYOUTS[number % 4] if len(shape) == dims + 2 else "contiguous"
        x = drawn(rng, shape, ("float32", "float64")[number % 2])
        arguments = (kernel, stride, padding, ceil, bool(rng.random() < 0.5))
        if dims > 1 and rng.random() < 0.3:
            arguments = (*arguments, -3)
        compare(
            torch, lambda t, a=arguments: theirs(t, *a), lambda t, a=arguments: ours(t, *a), x, layout,
            (shape, *arguments, layout), int(np.prod(kernel)),
        )  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("dims", DIMS)
def test_adaptive_pools(torch, dims, rng):
    for number in range(25):
        shape, *_ = geometry(rng, dims)
        layout = LAYOUTS[number % 4] if len(shape) == dims + 2 else "contiguous"
        x = drawn(rng, shape, ("float32", "float64")[number % 2])
        size = tuple(int(n) for n in rng.integers(1, 9, dims)) if number % 5 else 1
        for name, terms in ((f"adaptive_avg_pool{dims}d", math.prod(shape[1:])), (f"adaptive_max_pool{dims}d", 0)):
            rest = () if terms or "avg" in name else (True,)
            compare(
                torch,
                lambda t, name=name, rest=rest, size=size: getattr(torch.nn.functional, name)(t, size, *rest),
                lambda t, name=name, rest=rest, size=size: getattr(F, name)(t, size, *rest),
                x, layout, (name, shape, size, layout), terms,
            )  # fmt: skip
    x = hominy.randn(2, 3, *(5,) * dims)
    assert getattr(F, f"adaptive_avg_pool{dims}d")(x, (None,) * dims).shape == x.shape
    assert getattr(F, f"adaptive_avg_pool{dims}d")(x, 0).shape == (2, 3, *(0,) * dims)


@pytest.mark.torch
@pytest.mark.parametrize("dims", DIMS)
def test_max_unpool(torch, dims, rng):
    pool = getattr(torch.nn.functional, f"max_pool{dims}d")
    for number in range(20):
        shape, kernel, *_ = geometry(rng, dims)
        x = np.asarray(rng.standard_normal(shape), ("float32", "float64")[number % 2])
        if not x.size:
            continue
        layout = LAYOUTS[number % 4] if len(shape) == dims + 2 else "contiguous"
        values, indices = pool(torch.from_numpy(x), kernel, return_indices=True)
        space = shape[len(shape) - dims :]
        size = (None, shape if len(shape) == dims + 2 else space, space)[number % 3]
        if any(n % k for n, k in zip(space, kernel, strict=True)):
            size = size or space
        compare(
            torch,
            lambda t, i=indices, k=kernel, s=size: getattr(torch.nn.functional, f"max_unpool{dims}d")(
                t, i, k, output_size=s
            ),
            lambda t, i=indices, k=kernel, s=size, layout=layout: getattr(F, f"max_unpool{dims}d")(
                t, hominy.from_numpy(laid(i.numpy(), layout)), k, output_size=s
            ),
            values.numpy(), layout, (shape, kernel, size, layout),
        )  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("dims", DIMS)
def test_lp_pool(torch, dims, rng):
    for p in (1.0, 2.0, 3.5):
        x = np.asarray(rng.uniform(0.5, 2, (2, 3, *(9,) * dims)))
        compare(
            torch,
            lambda t, p=p: getattr(torch.nn.functional, f"lp_pool{dims}d")(t, p, 3, 2, True),
            lambda t, p=p: getattr(F, f"lp_pool{dims}d")(t, p, 3, 2, True),
            x, "channels last", (dims, p), 200,
        )  # fmt: skip


def test_a_mean_of_equal_elements_is_that_element():
    for value in (1.0, 0.1, 7.3):
        for kernel in range(1, 10):
            x = hominy.full((1, 1, 20, 20), value)
            assert (F.avg_pool2d(x, kernel, 1) - value).abs().max() <= 2 * np.spacing(np.float32(value))
    assert (F.avg_pool2d(hominy.ones(1, 3, 9, 9), 3, 1, 1, count_include_pad=False) == 1).all()


def test_second_gradients_of_maxima_go_where_the_first_went(rng):
    x = hominy.from_numpy(rng.standard_normal((1, 2, 6, 6))).requires_grad_()
    weight = hominy.from_numpy(rng.standard_normal((1, 2, 3, 3)))
    out = F.max_pool2d(x * x, 2)
    (first,) = hominy.autograd.grad((out * weight).sum(), x, create_graph=True)
    (second,) = hominy.autograd.grad(first.sum(), x)
    selected = (first != 0).numpy()
    assert selected.sum() == 18 and ((second.numpy() != 0) == selected).all()


BAD = [
    (lambda x: F.max_pool2d(x, 0), ValueError, r"\[max_pool2d\] kernel_size: expected a positive integer, got 0"),
    (lambda x: F.max_pool2d(x, 2, 0), ValueError, r"\[max_pool2d\] stride: expected a positive integer, got 0"),
    (lambda x: F.max_pool2d(x, 2, padding=-1), ValueError, r"\[max_pool2d\] padding: expected an integer of 0 or more"),
    (lambda x: F.max_pool2d(x, 2, padding=2), ValueError, r"\[max_pool2d\] padding: expected at most half of the"),
    (lambda x: F.max_pool2d(x, 2, dilation=0), ValueError, r"\[max_pool2d\] dilation: expected a positive integer"),
    (lambda x: F.max_pool2d(x, 9), ValueError, r"\[max_pool2d\] kernel_size: expected a window that fits into"),
    (lambda x: F.max_pool2d(x, (2, 2, 2)), ValueError, r"\[max_pool2d\] kernel_size: expected an integer or 2 of them"),
    (lambda x: F.max_pool2d(x, 2.5), TypeError, r"\[max_pool2d\] kernel_size: expected a positive integer, got 2.5"),
    (lambda x: F.max_pool2d(x, 2**40), ValueError, r"\[max_pool2d\] kernel_size: expected integers of at most"),
    (lambda x: F.max_pool2d(x, 2, padding=1, dilation=9), ValueError, r"\[max_pool2d\] kernel_size"),
    (lambda x: F.max_pool2d(x[0, 0], 2), ValueError, r"\[max_pool2d\] input: expected shape \(N, C, H, W\) or"),
    (lambda x: F.max_pool2d(x.long(), 2), TypeError, r"\[max_pool2d\] input: expected dtype float32 or float64"),
    (lambda x: F.max_pool2d(x[:, :, :0], 2), ValueError, r"\[max_pool2d\] input: expected sizes above 0"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=0), ValueError, r"\[avg_pool2d\] divisor_override: expected"),
    (lambda x: F.avg_pool3d(x[None], 9), ValueError, r"\[avg_pool3d\] kernel_size: expected a window"),
    (lambda x: F.adaptive_avg_pool2d(x, -1), ValueError, r"\[adaptive_avg_pool2d\] output_size: expected an integer"),
    (lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)), ValueError, r"\[adaptive_avg_pool2d\] output_size: expected an"),
    (lambda x: F.adaptive_max_pool2d(x, 2**31 - 1), OverflowError, r"\[adaptive_max_pool2d\] the output's size"),
    (lambda x: nn.MaxPool2d(0), ValueError, r"\[MaxPool2d\] kernel_size: expected a positive integer, got 0"),
    (lambda x: nn.AvgPool2d(2, padding=-1), ValueError, r"\[AvgPool2d\] padding: expected an integer of 0 or more"),
    (lambda x: nn.AdaptiveAvgPool2d("2"), TypeError, r"\[AdaptiveAvgPool2d\] output_size: expected an integer"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_geometry_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(hominy.ones(1, 2, 4, 4))


@pytest.mark.parametrize("wrong", [-1, 16, 2**40, -(2**62)])
def test_indices_are_checked(wrong):
    x = hominy.ones(1, 2, 2, 2)
    indices = hominy.zeros(1, 2, 2, 2, dtype="int64")
    indices[0, 1, 1, 0] = wrong
    with pytest.raises(IndexError, match=rf"indices: expected integers in \[0, 16\), got {wrong}"):
        F.max_unpool2d(x, indices, 2)
    with pytest.raises(TypeError, match=r"\[max_unpool2d\] indices: expected int64"):
        F.max_unpool2d(x, x, 2)
    with pytest.raises(ValueError, match=r"\[max_unpool2d\] output_size: expected each size less than a stride from"):
        F.max_unpool2d(x, hominy.zeros(1, 2, 2, 2, dtype="int64"), 2, output_size=(7, 4))


def test_layers_print_as_torchs():
    for text, expected in (
        ("MaxPool2d(3, 2, 1)", "MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)"),
        ("MaxUnpool2d(2)", "MaxUnpool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"),
        ("AvgPool1d(2)", "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
        ("AvgPool2d(2)", "AvgPool2d(kernel_size=2, stride=2, padding=0)"),
        ("LPPool2d(2, 3)", "LPPool2d(norm_type=2, kernel_size=3, stride=None, ceil_mode=False)"),
        ("AdaptiveAvgPool2d((None, 7))", "AdaptiveAvgPool2d(output_size=(None, 7))"),
        ("AdaptiveMaxPool1d(5)", "AdaptiveMaxPool1d(output_size=5)"),
    ):
        assert repr(eval(f"nn.{text}")) == expected
