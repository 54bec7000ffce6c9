"""Interpolation, pixel shuffle, unfold and fold against PyTorch: odd sizes, both layouts; and bad arguments."""

import importlib
import warnings

import hominy
import numpy as np
import pytest
from hominy import nn
from hominy.nn import functional as F
from hominy.testing.case import unit_roundoff
from test_pool import LAYOUTS, compare, laid

MODES = {
    1: ("nearest", "nearest-exact", "area", "linear"), 2: ("nearest", "nearest-exact", "area", "bilinear", "bicubic"),
    3: ("nearest", "nearest-exact", "area", "trilinear"),
}  # fmt: skip


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


@pytest.mark.torch
@pytest.mark.parametrize("dims", (1, 2, 3))
def test_interpolate(torch, dims, rng):
    """float32 weights that PyTorch rounds at positions up to 100 are wrong by as many units."""
    for number in range(40):
        mode = MODES[dims][number % len(MODES[dims])]
        longest = (70, 30, 7)[dims - 1]
        shape = (int(rng.choice([0, 1, 2])), int(rng.choice([1, 3, 17])), *map(int, rng.integers(1, longest, dims)))
        settings = {"mode": mode}
        # Of scales, PyTorch's nearest modes for 1 and 3 dimensions have a gradient that is not their own.
        if rng.random() < 0.5 or (mode.startswith("nearest") and dims != 2):
            settings["size"] = tuple(map(int, rng.integers(1, longest, dims)))
        else:
            factors = (2, 1.5, 3, tuple(float(f) for f in rng.uniform(1, 2.5, dims)), tuple([1.0] * dims))
            settings["scale_factor"] = factors[int(rng.integers(5))]
            settings["recompute_scale_factor"] = (None, True, False)[int(rng.integers(3))]
        if "linear" in mode or "cubic" in mode:
            settings["align_corners"] = (None, True, False)[int(rng.integers(3))]
        x = np.asarray(rng.standard_normal(shape), ("float32", "float64")[number % 2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compare(
                torch, lambda t, s=settings: torch.nn.functional.interpolate(t, **s),
                lambda t, s=settings: F.interpolate(t, **s), x, LAYOUTS[number % 4], (shape, settings),
                0 if mode.startswith("nearest") else 300,
            )  # fmt: skip


@pytest.mark.torch
def test_nearest_reads_what_torch_reads(torch):
    """Positions are computed in single precision: every size up to 60, and some larger."""
    for n in (1, 2, 3, 7, 10, 31, 60, 1000):
        for dims in (1, 2, 3):
            x = np.arange(n, dtype=np.float32).reshape(1, 1, *(1,) * (dims - 1), n)
            for mode in ("nearest", "nearest-exact"):
                for count in (*range(1, 60), 997, 1000, 2000, 2001):
                    size = (*(1,) * (dims - 1), count)
                    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode=mode).numpy()
                    got = F.interpolate(hominy.from_numpy(x), size, mode=mode).numpy()
                    np.testing.assert_array_equal(got, expected, f"{n} -> {count}, {mode}, {dims} dimensions")


@pytest.mark.torch
def test_upsample_and_its_layers(torch, rng):
    x = rng.standard_normal((2, 3, 5, 4))
    ours, theirs = hominy.from_numpy(x), torch.from_numpy(x)
    for text in (
        "Upsample(scale_factor=2)", "Upsample((7, 3), mode='bilinear', align_corners=True)",
        "Upsample(scale_factor=(1.5, 2.5), mode='bicubic')", "UpsamplingNearest2d(size=9)",
        "UpsamplingBilinear2d(scale_factor=2)", "PixelUnshuffle(1)", "Unfold((2, 3), padding=1)",
    ):  # fmt: skip
        layer, other = eval(f"nn.{text}"), eval(f"torch.nn.{text}", {"torch": torch})
        assert repr(layer) == repr(other)
        np.testing.assert_allclose(layer(ours).numpy(), other(theirs).numpy(), rtol=0, atol=1e-14)
    for text in ("Fold((4, 5), (2, 2))", "PixelShuffle(2)"):
        assert repr(eval(f"nn.{text}")) == repr(eval(f"torch.nn.{text}", {"torch": torch}))
    np.testing.assert_array_equal(F.upsample(ours, 7).numpy(), F.interpolate(ours, 7).numpy())
    np.testing.assert_array_equal(F.upsample_nearest(ours, 7).numpy(), F.interpolate(ours, 7).numpy())
    expected = F.interpolate(ours, scale_factor=2, mode="bilinear", align_corners=True).numpy()
    np.testing.assert_array_equal(F.upsample_bilinear(ours, scale_factor=2).numpy(), expected)


@pytest.mark.torch
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixel_shuffle_and_back(torch, layout, rng):
    for r in (1, 2, 3):
        x = np.asarray(rng.standard_normal((2, 2 * r * r, 3, 4)), np.float32)
        compare(
            torch, lambda t, r=r: torch.nn.functional.pixel_shuffle(t, r), lambda t, r=r: F.pixel_shuffle(t, r), x,
            layout, r,
        )  # fmt: skip
        x = np.asarray(rng.standard_normal((2, 2, 3 * r, 2 * r)), np.float32)
        compare(
            torch, lambda t, r=r: torch.nn.functional.pixel_unshuffle(t, r), lambda t, r=r: F.pixel_unshuffle(t, r), x,
            layout, r,
        )  # fmt: skip
    assert F.pixel_shuffle(hominy.ones(4, 2, 3), 2).shape == (1, 4, 6)
    assert F.pixel_shuffle(hominy.ones(2, 2, 4, 2, 3), 2).shape == (2, 2, 1, 4, 6)


@pytest.mark.torch
def test_unfold_and_fold(torch, rng):
    for number in range(40):
        kernel, dilation, stride = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
        padding = tuple(map(int, rng.integers(0, 3, 2)))
        space = tuple(max(int(rng.integers(1, 12)), (k - 1) * d + 1) for k, d in zip(kernel, dilation, strict=True))
        x = np.asarray(rng.standard_normal((int(rng.integers(1, 3)), 3, *space)), ("float32", "float64")[number % 2])
        rest = (kernel, dilation, padding, stride)
        if number % 5 == 0:
            x = x[0]
        layout = LAYOUTS[number % 4] if x.ndim == 4 else "contiguous"
        compare(
            torch, lambda t, r=rest: torch.nn.functional.unfold(t, *r), lambda t, r=rest: F.unfold(t, *r), x,
            layout, rest,
        )  # fmt: skip
        columns = torch.nn.functional.unfold(torch.from_numpy(x), *rest).numpy()
        compare(
            torch, lambda t, s=space, r=rest: torch.nn.functional.fold(t, s, *r),
            lambda t, s=space, r=rest: F.fold(t, s, *r), columns, "contiguous", (space, rest), 9,
        )  # fmt: skip


def test_a_constant_stays_constant():
    """Weights sum to 1, and an infinity is not spread beyond the outputs that read it."""
    for mode, dims in (("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3), ("area", 2)):
        for dtype in ("float32", "float64"):
            x = hominy.full((1, 2, *(5,) * dims), 3.0, dtype=dtype)
            y = F.interpolate(x, (13,) * dims, mode=mode).numpy()
            assert np.abs(y - 3).max() <= 256 * unit_roundoff(dtype), mode
    x = hominy.zeros(1, 1, 8)
    x[0, 0, 0] = float("inf")
    assert hominy.isfinite(F.interpolate(x, 16, mode="linear")[0, 0, 4:]).all()


BAD = [
    (lambda x: F.interpolate(x), ValueError, r"\[interpolate\] size, scale_factor: expected one of them"),
    (lambda x: F.interpolate(x, 3, 2.0), ValueError, r"\[interpolate\] size, scale_factor: expected one of them"),
    (lambda x: F.interpolate(x, 3, mode="cubic"), ValueError, r"\[interpolate\] mode: expected one of 'nearest'"),
    (lambda x: F.interpolate(x, 3, mode="linear"), ValueError, r"\[interpolate\] input: expected 3 dimensions for"),
    (lambda x: F.interpolate(x, 0), ValueError, r"\[interpolate\] size: expected a positive integer, got 0"),
    (lambda x: F.interpolate(x, (2, 3, 4)), ValueError, r"\[interpolate\] size: expected an integer or 2 of them"),
    (lambda x: F.interpolate(x, (2**31 - 1, 2**31 - 1)), OverflowError, r"\[interpolate\] the output's size"),
    (lambda x: F.interpolate(x, scale_factor=0), ValueError, r"\[interpolate\] scale_factor: expected positive finite"),
    (lambda x: F.interpolate(x, scale_factor=-1), ValueError, r"\[interpolate\] scale_factor: expected positive"),
    (lambda x: F.interpolate(x, scale_factor=float("nan")), ValueError, r"\[interpolate\] scale_factor: expected"),
    (lambda x: F.interpolate(x, scale_factor=0.01), ValueError, r"\[interpolate\] scale_factor: expected sizes of at"),
    (lambda x: F.interpolate(x, scale_factor=1e30), OverflowError, r"\[interpolate\] scale_factor: expected sizes"),
    (lambda x: F.interpolate(x, 3, align_corners=True), ValueError, r"\[interpolate\] align_corners: expected None"),
    (lambda x: F.interpolate(x, 3, mode="bilinear", antialias=True), ValueError, r"\[interpolate\] antialias"),
    (lambda x: F.interpolate(x, 3, recompute_scale_factor=True), ValueError, r"\[interpolate\] recompute_scale_factor"),
    (lambda x: F.pixel_shuffle(x, 2), ValueError, r"\[pixel_shuffle\] input: expected shape \(\*, C \* 4, H, W\)"),
    (lambda x: F.pixel_shuffle(x, 0), ValueError, r"\[pixel_shuffle\] upscale_factor: expected a positive integer"),
    (lambda x: F.pixel_unshuffle(x, 3), ValueError, r"\[pixel_unshuffle\] input: expected shape \(\*, C, H \* 3"),
    (lambda x: F.unfold(x, 9), ValueError, r"\[unfold\] kernel_size: expected a window that fits into"),
    (lambda x: F.unfold(x, 2, stride=0), ValueError, r"\[unfold\] stride: expected a positive integer, got 0"),
    (lambda x: F.fold(x[0], 4, 3), ValueError, r"\[fold\] input: expected rows in multiples of 9"),
    (lambda x: F.fold(x[0], 4, 1), ValueError, r"\[fold\] input: expected 16 columns, 4 x 4 windows, got 4"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(hominy.ones(1, 2, 4, 4))


def test_results_lie_as_their_inputs(rng):
    x = hominy.from_numpy(laid(rng.standard_normal((2, 8, 5, 6)), "channels last"))
    for y in (
        F.interpolate(x, scale_factor=2), F.interpolate(x, (3, 9), mode="bicubic"), F.pixel_shuffle(x, 2),
        F.adaptive_avg_pool2d(x, 2), nn.MaxPool2d(2)(x), nn.AvgPool2d(3, 1, 1)(x),
    ):  # fmt: skip
        assert y.numpy().strides[1] == 8, y.shape
