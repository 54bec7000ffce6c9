"""Tensors beside NumPy, DLPack, pickle and print; dtypes, promotion, half precision as storage; random numbers."""

import copy
import itertools
import pickle

import hominy
import numpy as np
import pytest

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def bfloat16():
    pytest.importorskip("ml_dtypes", reason="ml_dtypes absent: no bfloat16")
    return hominy.bfloat16


# ---- NumPy -----------------------------------------------------------------------------------------------------------


def test_from_numpy_and_numpy_copy_nothing():
    for array in (
        np.arange(6.0),
        np.arange(12, dtype=np.int32).reshape(3, 4)[::-1, ::2],
        np.zeros((0, 3), np.float32),
        np.asarray(1.5),
    ):
        t = hominy.from_numpy(array)
        assert np.shares_memory(t.numpy(), array) or array.size == 0
        assert t.shape == array.shape and t.dtype == array.dtype and t.numpy().strides == array.strides
    array = np.zeros(3, np.float32)
    t = hominy.from_numpy(array)
    array[0] = 5
    t[1] = 7
    assert t[0].item() == 5 and array[1] == 7


def test_tensor_copies():
    array = np.zeros(3, np.float32)
    t = hominy.tensor(array)
    array[0] = 5
    assert t[0].item() == 0
    assert hominy.as_tensor(array).data_ptr() == array.ctypes.data


def test_python_data_gets_pytorchs_dtypes():
    for data, dtype in (
        (1.5, "float32"),
        ([1, 2], "int64"),
        ([True], "bool"),
        ([1, 2.5], "float32"),
        ([], "float32"),
        ([[1.0], [2.0]], "float32"),
        (np.float64(1.5), "float64"),
        (np.asarray([1.5]), "float64"),
        ([np.float32(1)], "float32"),
    ):
        assert hominy.tensor(data).dtype == np.dtype(dtype), data


def test_an_array_on_the_left_keeps_the_gradient():
    array = np.asarray([1.0, 2.0])
    for operate, want in (
        (lambda a, t: a + t, [1, 1]),
        (lambda a, t: a * t, [1, 2]),
        (lambda a, t: a - t, [-1, -1]),
        (lambda a, t: a / t, [-1 / 9, -2 / 16]),
        (lambda a, t: a**t, [0, 2**4 * np.log(2)]),
        (lambda a, t: np.float64(3) * t, [3, 3]),
        (lambda a, t: np.multiply(a, t), [1, 2]),
        (lambda a, t: np.exp(t), np.exp([3, 4])),
        (lambda a, t: np.maximum(a, t), [1, 1]),
        (lambda a, t: a @ t, [1, 2]),
        (lambda a, t: -np.tanh(t), np.tanh([3, 4]) ** 2 - 1),
    ):
        t = hominy.tensor([3.0, 4.0], dtype="float64", requires_grad=True)
        result = operate(array, t)
        assert isinstance(result, hominy.Tensor) and result.requires_grad
        result.sum().backward()
        np.testing.assert_allclose(t.grad.numpy(), want, rtol=8 * np.finfo(float).eps, atol=4 * np.finfo(float).eps)
    assert (array < hominy.tensor([1.5, 1.5], dtype="float64")).tolist() == [True, False]


def test_ufuncs_that_hominy_lacks_raise():
    t = hominy.ones(2)
    with pytest.raises(TypeError):
        np.cbrt(t)
    with pytest.raises(TypeError):
        np.add.reduce(t)
    with pytest.raises(TypeError):
        np.add(t, t, out=np.ones(2, np.float32))


def test_array_protocol():
    t = hominy.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert np.asarray(t, dtype="float64").dtype == np.float64
    copied = np.array(t)
    copied[0] = 9
    assert t[0].item() == 1
    np.testing.assert_array_equal(np.concatenate([t, t]), [1, 2, 1, 2])
    required = hominy.tensor([1.0], requires_grad=True)
    for call in (required.numpy, lambda: np.asarray(required), required.__dlpack__):
        with pytest.raises((RuntimeError, BufferError), match="requires grad"):
            call()
    assert required.detach().numpy() == 1


def test_python_protocols():
    t = hominy.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2 and [row.tolist() for row in t] == [[1, 2], [3, 4]] and 3 in t and 7 not in t
    assert float(t[0, 0]) == 1.0 and int(t[1, 1]) == 4 and bool(t[0, 0]) and f"{t[0, 1]:.2f}" == "2.00"
    assert [10, 20, 30][hominy.tensor(1)] == 20 and hash(t) == hash(t)
    assert t.tolist() == [[1, 2], [3, 4]] and t.stride() == (2, 1) and t.numel() == 4 and t.element_size() == 4
    for call, error in (
        (lambda: bool(t), ValueError),
        (lambda: t.item(), ValueError),
        (lambda: len(t[0, 0]), TypeError),
        (lambda: iter(t[0, 0]), TypeError),
        (lambda: [1][t[0, 0]], TypeError),
    ):
        with pytest.raises(error, match=r"\["):
            call()


# ---- DLPack ----------------------------------------------------------------------------------------------------------


def test_dlpack_with_numpy():
    t = hominy.arange(6, dtype="float32").reshape(2, 3)
    array = np.from_dlpack(t)
    assert np.shares_memory(array, t.numpy())
    back = hominy.from_dlpack(np.arange(3.0))
    assert back.tolist() == [0, 1, 2]
    strided = np.arange(12.0).reshape(3, 4)[::2, 1::2]
    assert np.shares_memory(hominy.from_dlpack(strided).numpy(), strided)


@pytest.mark.torch
def test_dlpack_with_torch():
    import torch

    t = hominy.arange(6, dtype="float32").reshape(2, 3).t()
    theirs = torch.from_dlpack(t)
    assert theirs.data_ptr() == t.data_ptr() and tuple(theirs.stride()) == t.stride()
    theirs[0, 0] = 42
    assert t[0, 0].item() == 42
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.float16):
        source = torch.ones(3, 4, dtype=dtype)[:, 1:]
        ours = hominy.from_dlpack(source)
        assert ours.data_ptr() == source.data_ptr() and ours.shape == (3, 3)
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        hominy.from_dlpack(torch.ones(2, requires_grad=True))


# ---- pickling, copying, printing -------------------------------------------------------------------------------------


def test_pickling_and_copying():
    x = hominy.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
        assert again.tolist() == [1, 2] and again.requires_grad and again.is_leaf
    deep = copy.deepcopy(x)
    deep.detach().zero_()
    assert x.tolist() == [1, 2] and deep.grad.tolist() == [2, 2] and deep.grad.data_ptr() != x.grad.data_ptr()
    with pytest.raises(RuntimeError, match="only leaves"):
        copy.deepcopy(x * 2)
    for dtype in (*DTYPES, bfloat16()):
        t = hominy.ones(3, dtype=dtype)
        assert pickle.loads(pickle.dumps(t)).dtype == t.dtype


def test_printing():
    assert repr(hominy.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(hominy.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(hominy.tensor([1.0], dtype="float64")) == "tensor([1.], dtype=float64)"
    assert repr(hominy.tensor(True)) == "tensor(True)"
    assert "requires_grad=True" in repr(hominy.tensor([1.0], requires_grad=True))
    assert "grad_fn=<multiplyBackward>" in repr(hominy.tensor([1.0], requires_grad=True) * 2)
    assert "size=(0, 3)" in repr(hominy.zeros(0, 3))
    assert "..." in repr(hominy.zeros(10000)) and len(repr(hominy.zeros(1000, 1000))) < 1000


# ---- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(("first", "second"), list(itertools.product([*DTYPES, "bfloat16"], repeat=2)))
def test_promotion_as_in_torch(first, second):
    import torch

    def of_torch(name, shape):
        return torch.ones(shape, dtype=getattr(torch, name))

    def of_hominy(name, shape):
        return hominy.ones(shape, dtype=bfloat16() if name == "bfloat16" else name)

    assert str(hominy.promote_types(of_hominy(first, 1).dtype, of_hominy(second, 1).dtype)) == str(
        torch.promote_types(getattr(torch, first), getattr(torch, second))
    ).removeprefix("torch.")
    for shapes in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
        theirs = of_torch(first, shapes[0]) + of_torch(second, shapes[1])
        ours = of_hominy(first, shapes[0]) + of_hominy(second, shapes[1])
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch."), shapes
    for number in (True, 3, 2.5):
        for theirs, ours in (
            (of_torch(first, (2,)) * number, of_hominy(first, (2,)) * number),
            (number * of_torch(first, ()), number * of_hominy(first, ())),
        ):
            assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch."), number


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_results_dtypes_as_in_torch(dtype):
    import torch

    theirs, ours = (
        torch.ones(2, 2, dtype=getattr(torch, dtype)),
        hominy.ones(2, 2, dtype=bfloat16() if dtype == "bfloat16" else dtype),
    )
    for call in (
        lambda m, x: x.sum(),
        lambda m, x: x.prod(),
        lambda m, x: x.amax(),
        lambda m, x: x.exp(),
        lambda m, x: x / 2,
        lambda m, x: x / x,
        lambda m, x: x == x,
        lambda m, x: (x > 0).all(),
        lambda m, x: m.where(x > 0, x, x),
        lambda m, x: x.reshape(4),
        lambda m, x: m.sigmoid(x),
        *([lambda m, x: x.abs()] if dtype != "bool" else []),
    ):
        assert str(call(hominy, ours).dtype) == str(call(torch, theirs).dtype).removeprefix("torch.")


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_storage(name):
    dtype = bfloat16() if name == "bfloat16" else np.dtype("float16")
    x = hominy.tensor([1.0, 2.0, 3.0]).to(dtype)
    assert x.dtype == dtype and x.element_size() == 2 and x.is_floating_point()
    y = x * 2 + x
    assert y.dtype == dtype and y.float().tolist() == [3, 6, 9]
    assert (
        x.sum().float().item() == 6
        and x.mean().dtype == dtype
        and x.exp().dtype == dtype
        and x.softmax(0).dtype == dtype
    )
    assert (x.reshape(1, 3) @ x.reshape(3, 1)).float().item() == 14
    leaf = hominy.tensor([1.0, 2.0], requires_grad=True)
    leaf.to(dtype).float().square().sum().backward()
    assert leaf.grad.tolist() == [2, 4] and leaf.grad.dtype == np.float32
    stored = x.clone().requires_grad_()
    (stored * 3).float().sum().backward()
    assert stored.grad.dtype == dtype and stored.grad.float().tolist() == [3, 3, 3]


def test_casts():
    x = hominy.tensor([1.5, -2.5])
    assert x.int().tolist() == [1, -2] and x.long().dtype == np.int64 and x.bool().tolist() == [True, True]
    assert (
        x.double().dtype == np.float64
        and x.half().dtype == np.float16
        and x.type() == "float32"
        and x.to("float32") is not None
    )
    assert x.to(hominy.float32).data_ptr() == x.data_ptr()
    for wrong in ("complex64", "float128", "nonsense", np.dtype("U3"), object):
        with pytest.raises(TypeError):
            x.to(wrong)


def test_default_dtype():
    try:
        hominy.set_default_dtype("float64")
        assert (
            hominy.tensor([1.5]).dtype == np.float64
            and hominy.zeros(2).dtype == np.float64
            and (hominy.tensor([1, 2]) / 2).dtype == np.float64
        )
        with pytest.raises(TypeError, match=r"\[set_default_dtype\] dtype: expected float32 or float64, got float16"):
            hominy.set_default_dtype("float16")
    finally:
        hominy.set_default_dtype("float32")


# ---- random numbers and creation -------------------------------------------------------------------------------------


def test_random_numbers_repeat():
    hominy.manual_seed(7)
    first = [
        hominy.rand(3).tolist(),
        hominy.randint(0, 100, (4,)).tolist(),
        hominy.randperm(9).tolist(),
        hominy.randn(2).tolist(),
    ]
    hominy.manual_seed(7)
    assert first == [
        hominy.rand(3).tolist(),
        hominy.randint(0, 100, (4,)).tolist(),
        hominy.randperm(9).tolist(),
        hominy.randn(2).tolist(),
    ]
    generator = hominy.Generator().manual_seed(1)
    state = generator.get_state()
    a = hominy.rand(5, generator=generator).tolist()
    generator.set_state(state)
    assert hominy.rand(5, generator=generator).tolist() == a
    assert min(a) >= 0 and max(a) < 1 and sorted(hominy.randperm(9).tolist()) == list(range(9))


def test_creation_checks_its_arguments():
    for call, error, message in (
        (lambda: hominy.zeros(-1), ValueError, r"\[zeros\] size"),
        (lambda: hominy.ones("2"), TypeError, r"\[ones\] size"),
        (lambda: hominy.arange(0, 1, 0), ValueError, r"\[arange\] step"),
        (lambda: hominy.linspace(0, 1, -1), ValueError, r"\[linspace\] steps"),
        (lambda: hominy.randint(3, 3, (1,)), ValueError, r"\[randint\] high"),
        (lambda: hominy.randperm(-1), ValueError, r"\[randperm\] n"),
        (lambda: hominy.ones(2).normal_(std=-1), ValueError, r"\[normal_\] std"),
        (lambda: hominy.ones(2).uniform_(2, 1), ValueError, r"\[uniform_\] b"),
        (lambda: hominy.manual_seed(1.5), TypeError, r"\[manual_seed\] seed"),
    ):
        with pytest.raises(error, match=message):
            call()
