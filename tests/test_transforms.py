"""Augmentation, looked at pixel by pixel: known pictures, PyTorch's interpolation, colorsys, and every draw's share."""

import colorsys
import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import transforms as T
from hominy.transforms import functional as F

EPS = float(np.finfo(np.float32).eps)
# 0 1 2 / 3 4 5 / 6 7 8, one channel
NINE = np.arange(9, dtype=np.float32).reshape(1, 3, 3)


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


@pytest.fixture(autouse=True)
def seeded():
    hominy.manual_seed(11)


def marked(count=400, size=6):
    """Pictures whose pixels say where they were: 10 row + column, in 3 channels 100 apart."""
    grid = 10 * np.arange(size)[:, None] + np.arange(size)
    picture = np.stack([grid, grid + 100, grid + 200])
    return np.broadcast_to(picture, (count, 3, size, size)).astype(np.float32)


def about(found, expected, count):
    """A frequency within five standard deviations of what it should be."""
    assert abs(found - expected) <= 5 * math.sqrt(expected * (1 - expected) / count) + 1e-12


ALL = [
    T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.RandomCrop(4, padding=1), T.RandomResizedCrop(5),
    T.RandomRotation(30), T.RandomAffine(10, (0.1, 0.2), (0.8, 1.2), 5), T.ColorJitter(0.4, 0.4, 0.4, 0.1),
    T.RandomErasing(0.9), T.RandomApply([T.RandomRotation(5)]), T.CenterCrop(3), T.Resize(4), T.Pad(1), T.Grayscale(3),
    T.Compose([T.RandomHorizontalFlip(), T.CenterCrop(2)]),
]  # fmt: skip


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_every_form_of_picture(transform, rng):
    """Tensors and arrays, one or many, of every dtype, with or without labels; inputs stay as they were."""
    for dtype in ("uint8", "float16", "float32", "float64"):
        batch = rng.random((5, 3, 6, 7)) * (255 if dtype == "uint8" else 1)
        batch = batch.astype(dtype)
        before = batch.copy()
        result = transform(batch)
        assert type(result) is np.ndarray and result.dtype == batch.dtype and result.shape[:2] == (5, 3)
        assert not np.shares_memory(result, batch) and np.array_equal(batch, before) and result.flags.c_contiguous
        one = transform(batch[0])
        assert one.shape == result.shape[1:]
        tensor, labels = transform(hominy.from_numpy(batch), "labels")
        assert type(tensor) is hominy.Tensor and tuple(tensor.shape) == result.shape and labels == "labels"
        assert str(tensor.dtype) == dtype
        hominy.manual_seed(3)
        first = transform(batch)
        hominy.manual_seed(3)
        assert np.array_equal(first, transform(batch))
        if dtype != "uint8" and not isinstance(transform, T.ColorJitter):  # which holds floats within 0 and 1
            assert np.isfinite(result).all()
    assert type(transform).__name__ in repr(transform)
    assert transform(np.zeros((0, 3, 6, 7), "f4")).shape[0] == 0
    for bad, error, pattern in [
        (np.zeros((6, 7), "f4"), ValueError, r"expected \(C, H, W\) or \(N, C, H, W\), got shape \(6, 7\)"),
        (np.zeros((3, 6, 7), "i8"), TypeError, "expected a tensor or an array of uint8, .*, got int64"),
        ([[[1.0]]], TypeError, "expected a tensor or an array of .*, got list"),
    ]:
        with pytest.raises(error, match="pictures: " + pattern):
            transform(bad)


def test_a_generator_of_ones_own(rng):
    pictures = rng.random((20, 3, 6, 6))
    for build in (
        lambda g: T.RandomHorizontalFlip(generator=g),
        lambda g: T.RandomCrop(3, generator=g),
        lambda g: T.RandomResizedCrop(4, generator=g),
        lambda g: T.RandomRotation(90, generator=g),
        lambda g: T.RandomAffine(90, (0.5, 0.5), (0.5, 1), 3, generator=g),
        lambda g: T.ColorJitter(0.5, 0.5, 0.5, 0.5, generator=g),
        lambda g: T.RandomErasing(value="random", generator=g),
        lambda g: T.RandomApply([F.hflip], generator=g),
    ):
        first, second = (build(hominy.Generator().manual_seed(5))(pictures) for _ in range(2))
        assert np.array_equal(first, second)
        assert not np.array_equal(first, build(hominy.Generator().manual_seed(6))(pictures))


# ---- where pixels are ------------------------------------------------------------------------------------------------


def test_flips():
    assert F.hflip(NINE)[0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert F.vflip(NINE)[0].tolist() == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
    pictures = marked()
    for transform, flipped in (
        (T.RandomHorizontalFlip(0.3), F.hflip(pictures)),
        (T.RandomVerticalFlip(0.3), F.vflip(pictures)),
    ):
        result = transform(pictures)
        turned = (result == flipped).all((1, 2, 3))
        assert (turned | (result == pictures).all((1, 2, 3))).all()
        about(turned.mean(), 0.3, 400)
    assert np.array_equal(T.RandomHorizontalFlip(1)(pictures), F.hflip(pictures))
    assert np.array_equal(T.RandomHorizontalFlip(0)(pictures), pictures)


def test_crops():
    assert F.crop(NINE, 1, 0, 2, 2)[0].tolist() == [[3, 4], [6, 7]]
    assert F.crop(np.stack([NINE, NINE]), [0, 1], [1, 0], 2, 2)[:, 0].tolist() == [[[1, 2], [4, 5]], [[3, 4], [6, 7]]]
    assert F.center_crop(NINE, 1)[0].tolist() == [[4]] and T.CenterCrop((1, 3))(NINE)[0].tolist() == [[3, 4, 5]]
    assert F.center_crop(NINE, (1, 5))[0].tolist() == [[0, 3, 4, 5, 0]]
    result = T.RandomCrop((2, 3))(marked())
    corner = result[:, 0, 0, 0]
    rows, columns = corner // 10, corner % 10
    assert set(rows) == set(range(5)) and set(columns) == set(range(4))
    for row in range(5):
        about((rows == row).mean(), 1 / 5, 400)
    expected = corner[:, None, None] + np.array([[0, 1, 2], [10, 11, 12]])
    assert np.array_equal(result, expected[:, None] + np.array([0, 100, 200])[None, :, None, None])
    padded = T.RandomCrop(6, padding=2, fill=-1)(marked())
    assert len({picture.tobytes() for picture in padded}) == 25 and (padded == -1).any()
    assert (padded[:, :, 2:4, 2:4] >= 0).all()
    assert T.RandomCrop(8, pad_if_needed=True)(marked(2)).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"\[RandomCrop\] pictures: expected at least 7 x 7 pixels, got \(6, 6\)"):
        T.RandomCrop(7)(marked(1))
    for box in ((0, 0, 4, 1), (-1, 0, 1, 1), (0, 3, 1, 1), (0, 0, 0, 1)):
        with pytest.raises(ValueError, match="expected boxes within 3 x 3 pixels"):
            F.crop(NINE, *box)


def test_padding():
    assert F.pad(NINE, (1, 0), 7)[0].tolist() == [[7, 0, 1, 2, 7], [7, 3, 4, 5, 7], [7, 6, 7, 8, 7]]
    assert F.pad(NINE, (1, 0, 0, 1), padding_mode="edge")[0].tolist() == [
        [0, 0, 1, 2], [3, 3, 4, 5], [6, 6, 7, 8], [6, 6, 7, 8],
    ]  # fmt: skip
    assert F.pad(NINE, (2, 0), padding_mode="reflect")[0, 0].tolist() == [2, 1, 0, 1, 2, 1, 0]
    assert F.pad(NINE, (2, 0), padding_mode="symmetric")[0, 0].tolist() == [1, 0, 0, 1, 2, 2, 1]
    for padding in (-1, (1, 2, 3), "1", 1.5, True):
        with pytest.raises(ValueError, match="padding: expected 1, 2 or 4 integers of 0 or more"):
            F.pad(NINE, padding)
    with pytest.raises(ValueError, match="padding: expected less than the picture's"):
        F.pad(NINE, 3, padding_mode="reflect")


def test_resizing_known_pictures():
    assert F.resize(NINE, (3, 3)).tolist() == NINE.tolist()
    two = np.array([[[0.0, 4.0]]])
    assert F.resize(two, (1, 4))[0].tolist() == [[0, 1, 3, 4]]  # at -1/4, 1/4, 3/4, 5/4, the ends held
    assert F.resize(np.array([[[0.0, 4.0, 8.0, 12.0]]]), (1, 2), antialias=False)[0].tolist() == [[2, 10]]
    # Antialiased by half: weights 1 3 3 1 around each point, those beyond the border left out.
    assert np.allclose(F.resize(np.array([[[0.0, 4.0, 8.0, 12.0]]]), (1, 2))[0], [[20 / 7, 12 - 20 / 7]], atol=1e-12)
    assert F.resize(np.zeros((1, 4, 6)), 2).shape == (1, 2, 3) and F.resize(np.zeros((1, 6, 4)), 2).shape == (1, 3, 2)
    assert F.resize(np.array([[[0, 255]]], np.uint8), (1, 3))[0].tolist() == [[0, 128, 255]]  # 127.5 goes to even
    box = F.resized_crop(NINE, 1, 1, 2, 2, 2)
    assert box[0].tolist() == [[4, 5], [7, 8]]


@pytest.mark.torch
@pytest.mark.parametrize("size", [(8, 9), (30, 40), (8, 40), (1, 1), (17, 23)])
@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_is_torchs(size, antialias, torch, rng):
    pictures = rng.standard_normal((2, 3, 17, 23))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(pictures), size, mode="bilinear", antialias=antialias, align_corners=False
    ).numpy()
    assert np.allclose(F.resize(pictures, size, antialias), theirs, rtol=0, atol=1e-12)
    # Each picture's own box: the same as the box alone.
    tops, lefts, heights, widths = [0, 9], [3, 1], [17, 8], [5, 22]
    ours = F.resized_crop(pictures, tops, lefts, heights, widths, size, antialias)
    for n in range(2):
        box = pictures[n : n + 1, :, tops[n] : tops[n] + heights[n], lefts[n] : lefts[n] + widths[n]]
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(box), size, mode="bilinear", antialias=antialias, align_corners=False
        ).numpy()
        assert np.allclose(ours[n], theirs[0], rtol=0, atol=1e-12)
    # In float32: sums of weights that add up to 1, of numbers below 5, in two rounds.
    assert np.allclose(F.resize(pictures.astype("f4"), size, antialias), F.resize(pictures, size, antialias),
                       rtol=0, atol=5 * 30 * EPS)  # fmt: skip


def test_random_resized_crops_are_boxes_of_the_picture(monkeypatch):
    seen = []
    original = F.resized_crop
    monkeypatch.setattr(F, "resized_crop", lambda *arguments: (seen.append(arguments[1:5]), original(*arguments))[1])
    result = T.RandomResizedCrop((5, 4), scale=(0.2, 0.6), ratio=(0.5, 2))(np.zeros((500, 3, 40, 60), "f4"))
    top, left, height, width = (np.asarray(part) for part in seen[0])
    assert result.shape == (500, 3, 5, 4)
    assert ((top >= 0) & (left >= 0) & (top + height <= 40) & (left + width <= 60)).all()
    share, shape = height * width / 2400, width / height
    assert (share > 0.17).all() and (share < 0.63).all() and (shape > 0.47).all() and (shape < 2.1).all()
    assert share.min() < 0.25 and share.max() > 0.55 and top.min() == 0 and len(set(left)) > 20
    seen.clear()
    T.RandomResizedCrop(4, scale=(0.9, 1), ratio=(1, 1))(np.zeros((3, 1, 10, 100), "f4"))  # never fits: the middle
    assert [np.asarray(part).tolist() for part in seen[0]] == [[0] * 3, [45] * 3, [10] * 3, [10] * 3]
    seen.clear()
    T.RandomResizedCrop(4, scale=(0.9, 1), ratio=(1, 1))(np.zeros((2, 1, 90, 9), "f4"))
    assert [np.asarray(part).tolist() for part in seen[0]] == [[40] * 2, [0] * 2, [9] * 2, [9] * 2]


def test_turning_known_pictures():
    for turns in range(5):
        for interpolation in ("bilinear", "nearest"):
            turned = F.rotate(NINE.astype("f8"), 90 * turns, interpolation)
            assert np.allclose(turned, np.rot90(NINE, turns, (1, 2)), atol=1e-12)
    assert np.allclose(F.rotate(np.stack([NINE, NINE]), [90, 180])[1], NINE[:, ::-1, ::-1], atol=8 * 8 * EPS)
    assert F.affine(NINE, translate=(1, 0), fill=-1)[0].tolist() == [[-1, 0, 1], [-1, 3, 4], [-1, 6, 7]]
    assert F.affine(NINE, translate=(0, -1))[0].tolist() == [[3, 4, 5], [6, 7, 8], [0, 0, 0]]
    assert F.affine(NINE, translate=(0.5, 0), fill=9)[0, 0].tolist() == [4.5, 0.5, 1.5]
    assert F.affine(NINE, scale=2)[0].tolist() == [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]
    assert np.allclose(F.affine(NINE, shear=(45, 0), fill=-1)[0], [[-1, 0, 1], [3, 4, 5], [7, 8, -1]], atol=64 * EPS)
    colours = np.concatenate([NINE, NINE])
    assert F.affine(colours, translate=(3, 0), fill=(5, 6))[:, 0, 0].tolist() == [5, 6]
    about_corner = F.rotate(NINE.astype("f8"), 90, center=(0, 0), fill=-1)
    assert np.allclose(about_corner, -1)  # turned up and out of sight
    assert np.allclose(F.rotate(NINE.astype("f8"), 180, center=(1.5, 1.5)), NINE[:, ::-1, ::-1], atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_affine_is_torchs_grid_sample(interpolation, torch, rng):
    count, rows, columns = 4, 17, 23
    pictures = rng.random((count, 3, rows, columns))
    angle, scale = rng.uniform(-180, 180, count), rng.uniform(0.5, 2, count)
    move, shear = rng.uniform(-5, 5, (2, count)), rng.uniform(-30, 30, (2, count))
    ours = F.affine(pictures, angle, move, scale, shear, interpolation)
    matrices = []
    for n in range(count):
        turn, (along_x, along_y) = math.radians(angle[n]), np.tan(np.radians(shear[:, n]))
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        matrix = scale[n] * matrix @ [[1, 0], [-along_y, 1]] @ [[1, -along_x], [0, 1]]
        inverse = np.linalg.inv(matrix)
        units = np.diag([2 / columns, 2 / rows])
        matrices.append(units @ np.hstack([inverse @ np.linalg.inv(units), (-inverse @ move[:, n])[:, None]]))
    grid = torch.nn.functional.affine_grid(torch.tensor(np.array(matrices)), [count, 3, rows, columns], False)
    theirs = torch.nn.functional.grid_sample(torch.tensor(pictures), grid, interpolation, align_corners=False).numpy()
    assert np.allclose(ours, theirs, rtol=0, atol=1e-11)


def test_random_turns_and_moves(monkeypatch):
    seen = []
    original = F.affine
    monkeypatch.setattr(F, "affine", lambda *a, **k: (seen.append((a, k)), original(*a, **k))[1])
    pictures = np.zeros((500, 1, 10, 20), "f4")
    T.RandomRotation((10, 30))(pictures)
    angles = -np.asarray(seen[0][0][1])  # affine turns clockwise
    assert angles.min() >= 10 and angles.max() <= 30 and np.ptp(angles) > 19
    T.RandomAffine(0, (0.25, 0.1), (0.5, 2), (-10, 10, 0, 5))(pictures)
    _, angle, (x, y), scale, (shear_x, shear_y), *_ = seen[1][0]
    assert not angle.any() and set(x) == set(range(-5, 6)) and set(y) == {-1, 0, 1}
    assert scale.min() >= 0.5 and scale.max() <= 2 and np.ptp(scale) > 1.4
    assert np.abs(shear_x).max() <= 10 and shear_x.min() < -9 and shear_y.min() >= 0 and 4.8 < shear_y.max() <= 5


# ---- what colours they have ------------------------------------------------------------------------------------------


def colours(rng, count=3):
    return rng.random((count, 3, 4, 5))


def test_brightness_contrast_saturation(rng):
    picture = np.array([0.2, 0.4, 0.9]).reshape(3, 1, 1)
    gray = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.9
    assert np.allclose(F.adjust_brightness(picture, 1.5).ravel(), [0.3, 0.6, 1])
    assert np.allclose(F.grayscale(picture).ravel(), [gray]) and F.grayscale(picture, 3).shape == (3, 1, 1)
    assert np.allclose(F.adjust_saturation(picture, 0.5).ravel(), [(c + gray) / 2 for c in (0.2, 0.4, 0.9)])
    pictures = colours(rng)
    level = np.einsum("nchw,c->nhw", pictures, [0.2989, 0.587, 0.114]).mean((1, 2))[:, None, None, None]
    factor = np.array([0.3, 1, 2])
    expected = np.clip(level + factor[:, None, None, None] * (pictures - level), 0, 1)
    assert np.allclose(F.adjust_contrast(pictures, factor), expected)
    for adjust in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
        assert np.allclose(adjust(pictures, 1), pictures)
        with pytest.raises(ValueError, match="_factor: expected numbers of 0 or more"):
            adjust(pictures, -0.1)
    assert np.allclose(F.adjust_saturation(pictures, 0), F.grayscale(pictures, 3))
    one = pictures[:, :1]
    assert np.array_equal(F.adjust_saturation(one, 0.3), one) and np.array_equal(F.adjust_hue(one, 0.3), one)
    assert np.allclose(F.adjust_contrast(one, 0), one.mean((1, 2, 3), keepdims=True))
    with pytest.raises(ValueError, match="pictures: expected 1 or 3 channels"):
        F.adjust_hue(pictures[:, :2], 0.1)


def test_bytes_are_rounded_to_nearest_and_held():
    picture = np.array([0, 3, 101, 255], np.uint8).reshape(1, 2, 2)
    assert F.adjust_brightness(picture, 0.5).ravel().tolist() == [0, 2, 50, 128]
    assert F.adjust_brightness(picture, 3).ravel().tolist() == [0, 9, 255, 255]
    assert F.adjust_contrast(picture, 0).ravel().tolist() == [90] * 4  # 359 / 4 = 89.75


def test_hue_is_colorsys(rng):
    pictures = colours(rng)
    pictures[0, :, 0] = 0.5  # gray
    pictures[0, :, 1, 0], pictures[0, :, 1, 1] = (1, 1, 0), (0, 0, 0)
    for turn in (-0.5, -0.2, 0, 0.1, 0.5):
        result = F.adjust_hue(pictures, turn)
        for n, row, column in np.ndindex(3, 4, 5):
            hue, saturation, value = colorsys.rgb_to_hsv(*pictures[n, :, row, column])
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            assert np.allclose(result[n, :, row, column], expected, atol=1e-12)
    each = F.adjust_hue(pictures, [0.1, 0, -0.3])
    assert np.allclose(each[2], F.adjust_hue(pictures[2], -0.3)) and np.allclose(each[1], pictures[1])
    with pytest.raises(ValueError, match=r"hue_factor: expected numbers from -0\.5 to 0\.5"):
        F.adjust_hue(pictures, 0.6)


def test_colour_jitter_changes_each_picture_in_its_own_order(monkeypatch):
    calls = []
    for name in ("brightness", "contrast", "saturation", "hue"):
        original = getattr(F, "adjust_" + name)
        monkeypatch.setattr(
            F, "adjust_" + name,
            lambda x, f, name=name, original=original: (calls.append((name, x[:, 0, 0, 0], f)), original(x, f))[1],
        )  # fmt: skip
    jitter = T.ColorJitter(0.2, (0.5, 0.6), 0.3, 0.1)
    jitter(np.random.default_rng(0).random((300, 3, 2, 2)))
    for name, low, high in (
        ("brightness", 0.8, 1.2),
        ("contrast", 0.5, 0.6),
        ("saturation", 0.7, 1.3),
        ("hue", -0.1, 0.1),
    ):
        factors = np.concatenate([factor for called, _, factor in calls if called == name])
        assert len(factors) == 300 and factors.min() >= low and factors.max() <= high
        assert np.ptp(factors) > 0.9 * (high - low)
    assert len({name for name, _, _ in calls[:4]}) == 4  # every kind comes first for some
    calls.clear()
    T.ColorJitter(brightness=0.5)(np.ones((4, 3, 2, 2)))
    assert [name for name, _, _ in calls] == ["brightness"]
    pictures = np.random.default_rng(1).random((4, 3, 2, 2))
    assert np.array_equal(T.ColorJitter()(pictures), pictures)


def test_normalising():
    pictures = np.stack([NINE[0], NINE[0], NINE[0]]).astype("f4")
    result = T.Normalize((1, 2, 3), (2, 4, 8))(pictures)
    assert np.array_equal(result, (pictures - np.array([1, 2, 3])[:, None, None]) / np.array([2, 4, 8])[:, None, None])
    assert T.Normalize(1, 2)(NINE).dtype == np.float32
    assert type(T.Normalize(1, 2)(hominy.from_numpy(NINE))) is hominy.Tensor
    with pytest.raises(TypeError, match=r"\[normalize\] pictures: expected floats"):
        F.normalize(NINE.astype("u1"), 0, 1)
    with pytest.raises(ValueError, match="mean: expected 1 or 3 numbers, got 2"):
        F.normalize(pictures, (1, 2), 1)
    with pytest.raises(ValueError, match="std: expected numbers other than 0"):
        F.normalize(pictures, 1, (1, 0, 1))


def test_conversion():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)  # (H, W, C)
    tensor = T.ToTensor()(picture)
    assert type(tensor) is hominy.Tensor and str(tensor.dtype) == "float32"
    assert np.array_equal(tensor.numpy(), picture.transpose(2, 0, 1) / np.float32(255))
    assert tuple(T.ToTensor()(picture[..., 0]).shape) == (1, 2, 4)
    assert tuple(T.ToTensor()(np.stack([picture] * 5)).shape) == (5, 3, 2, 4)
    floats = T.ToTensor()(picture.astype("f8"))
    assert str(floats.dtype) == "float64" and floats.numpy().max() == 23
    with pytest.raises(ValueError, match=r"\[ToTensor\] pictures: expected numbers"):
        T.ToTensor()(np.zeros(3))
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for dtype in ("float16", "float32", "float64"):
        there = T.ToDtype(dtype, scale=True)(every)
        assert there.max() == 1 and there.dtype == dtype
        assert np.array_equal(T.ToDtype("uint8", scale=True)(there), every)
    assert T.ToDtype("float32")(every).max() == 255
    with pytest.raises(TypeError, match="dtype: expected uint8 or a float beside scale=True"):
        T.ToDtype("int64", scale=True)(every)


# ---- erased and mixed ------------------------------------------------------------------------------------------------


def test_erasing():
    assert F.erase(NINE, 0, 1, 2, 2, -1)[0].tolist() == [[0, -1, -1], [3, -1, -1], [6, 7, 8]]
    pictures = marked(600, 20) + 1
    result = T.RandomErasing(0.4, (0.1, 0.3), (0.5, 2), value=0)(pictures)
    erased = (result == 0).all(1)
    assert np.array_equal(np.where(erased[:, None], 0, pictures), result)
    hit = erased.any((1, 2))
    about(hit.mean(), 0.4, 600)
    heights, widths = erased.any(2).sum(1)[hit], erased.any(1).sum(1)[hit]
    assert np.array_equal(heights * widths, erased.sum((1, 2))[hit])  # boxes, full ones
    share, shape = heights * widths / 400, heights / widths
    assert share.min() > 0.07 and share.max() < 0.34 and shape.min() > 0.4 and shape.max() < 2.5
    assert len({tuple(np.argwhere(box)[0]) for box in erased[hit]}) > 50
    each = T.RandomErasing(1, value=(-1, -2, -3))(marked(5))
    assert (each.min((0, 2, 3)) == [-1, -2, -3]).all()
    noise = T.RandomErasing(1, value="random")(np.zeros((50, 3, 20, 20)))
    drawn = noise[noise != 0]
    assert abs(drawn.mean()) < 0.1 and abs(drawn.std() - 1) < 0.1
    with pytest.raises(TypeError, match="expected floats for value='random', got uint8"):
        T.RandomErasing(1, value="random")(np.zeros((2, 3, 9, 9), np.uint8))


def test_mixup():
    pictures, labels = marked(300), np.arange(300) % 4
    mixed, shares = T.MixUp(num_classes=4)(pictures, labels)
    assert shares.shape == (300, 4) and shares.dtype == np.float32 and np.allclose(shares.sum(1), 1)
    constant = np.arange(300, dtype=np.float64)[:, None, None, None] * np.ones((1, 1, 2, 2))
    mixed, shares = T.MixUp(num_classes=4)(constant, labels)
    kept = shares[np.arange(300), labels]  # each picture's own share: its neighbour has another label
    expected = kept * np.arange(300) + (1 - kept) * np.roll(np.arange(300), 1)
    assert np.allclose(mixed[:, 0, 0, 0], expected, atol=300 * EPS * 4)
    tensors = T.MixUp()(hominy.from_numpy(pictures), hominy.from_numpy(np.eye(4, dtype="f4")[labels]))
    assert all(type(tensor) is hominy.Tensor for tensor in tensors)
    for alpha in (0.2, 1.0, 3.0):  # the shares' moments: mean 1/2, variance 1 / (8 alpha + 4)
        _, shares = T.MixUp(alpha=alpha, num_classes=2)(np.zeros((20000, 1, 1, 1)), np.arange(20000) % 2)
        kept = shares[:, 0]
        assert abs(kept.mean() - 0.5) < 0.02 and abs(kept.var() * (8 * alpha + 4) - 1) < 0.05


def test_cutmix():
    pictures = np.arange(402.0)[:, None, None, None] * np.ones((1, 3, 12, 10))
    labels = np.arange(402) % 3
    mixed, shares = T.CutMix(num_classes=3)(pictures, labels)
    own = mixed == pictures
    assert (own | (mixed == np.roll(pictures, 1, 0))).all() and (own[:, :1] == own).all()
    cut = ~own[:, 0]
    rows, columns = cut.any(2).sum(1), cut.any(1).sum(1)
    assert np.array_equal(rows * columns, cut.sum((1, 2)))  # boxes, full ones
    assert np.allclose(shares[np.arange(402), labels], own[:, 0].mean((1, 2)), atol=EPS)
    assert 0.5 < own.mean() < 0.8 and cut[:, 0, 0].any() and cut[:, -1, -1].any()


def test_mixing_checks_its_labels():
    pictures = np.zeros((3, 1, 2, 2))
    for labels, error, pattern in [
        (np.array([0, 1, 4]), IndexError, "labels: expected classes from 0 to 3, got 4"),
        (np.array([0, -1, 1]), IndexError, "labels: expected classes from 0 to 3, got -1"),
        (np.array([0.0, 1, 1]), TypeError, "labels: expected integers, got 'float64'"),
        (np.array([0, 1]), ValueError, "labels: expected 3 class indices or rows"),
        (None, TypeError, "labels: expected the labels beside the pictures"),
    ]:
        for transform in (T.MixUp(num_classes=4), T.CutMix(num_classes=4)):
            with pytest.raises(error, match=pattern):
                transform(pictures, labels)
    with pytest.raises(ValueError, match="num_classes: expected the number of classes"):
        T.MixUp()(pictures, np.array([0, 1, 2]))
    with pytest.raises(TypeError, match="pictures: expected floats"):
        T.CutMix(num_classes=4)(pictures.astype("u1"), np.array([0, 1, 2]))


def test_apply_and_compose():
    pictures = marked()
    result = T.RandomApply([F.hflip, F.vflip], p=0.25)(pictures)
    both = F.hflip(F.vflip(pictures))
    applied = (result == both).all((1, 2, 3))
    assert (applied | (result == pictures).all((1, 2, 3))).all()
    about(applied.mean(), 0.25, 400)
    with pytest.raises(ValueError, match="transforms: expected ones that keep shape and dtype"):
        T.RandomApply(T.CenterCrop(2), p=1)(pictures)
    chain = T.Compose([T.CenterCrop(2), T.Normalize(0, 2), lambda x: x + 1])
    assert np.array_equal(chain(pictures), pictures[:, :, 2:4, 2:4] / 2 + 1)
    mixed, labels = T.Compose([T.CenterCrop(2), T.MixUp(num_classes=2)])(pictures, np.arange(400) % 2)
    assert mixed.shape == (400, 3, 2, 2) and labels.shape == (400, 2)
    with pytest.raises(TypeError, match=r"\[Compose\] transforms: expected functions, got 3"):
        T.Compose([3])


@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        (lambda: T.RandomHorizontalFlip(1.5), r"\[RandomHorizontalFlip\] p: expected a number from 0 to 1, got 1.5"),
        (lambda: T.RandomErasing(-0.1), r"\[RandomErasing\] p: expected"),
        (lambda: T.RandomErasing(scale=(0.5, 0.1)), "scale: expected a pair, the lower number first"),
        (lambda: T.RandomErasing(ratio=(0, 1)), "ratio: expected positive numbers"),
        (lambda: T.RandomErasing(value="noise"), "value: expected a number, one a channel"),
        (lambda: T.RandomCrop(0), "size: expected a positive integer or two"),
        (lambda: T.RandomCrop((1, 2, 3)), "size: expected"),
        (lambda: T.RandomCrop(2, padding=-1), "padding: expected"),
        (lambda: T.RandomCrop(2, padding_mode="wrap"), "padding_mode: expected one of"),
        (lambda: T.RandomResizedCrop(2, ratio=(0, 1)), "ratio: expected positive numbers"),
        (lambda: T.RandomRotation(-5), r"\[RandomRotation\] degrees: expected a finite number of 0 or more"),
        (lambda: T.RandomRotation((5, -5)), "degrees: expected a pair"),
        (lambda: T.RandomAffine(5, translate=(0.5, 1.5)), "translate: expected two numbers from 0 to 1"),
        (lambda: T.RandomAffine(5, scale=(0, 1)), "scale: expected positive numbers"),
        (lambda: T.RandomAffine(5, interpolation="cubic"), "interpolation: expected one of"),
        (lambda: T.ColorJitter(brightness=-1), "brightness: expected"),
        (lambda: T.ColorJitter(hue=0.6), "hue: expected numbers from -0.5 to 0.5"),
        (lambda: T.MixUp(alpha=0), "alpha: expected a positive number"),
        (lambda: T.CutMix(num_classes=0), "num_classes: expected a positive integer"),
        (lambda: F.affine(NINE, scale=0), "scale: expected positive numbers"),
        (lambda: F.rotate(NINE, [1, 2]), "angle: expected one number or 1, got shape"),
        (lambda: F.grayscale(NINE, 2), "num_output_channels: expected 1 or 3"),
    ],
)
def test_settings_are_checked(build, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        build()
