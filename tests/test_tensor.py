"""Tensors beside NumPy, DLPack, pickle and print; dtypes, promotion, half precision as storage; random numbers."""

import copy
import itertools
import pickle
import statistics
import threading

import hominy
import numpy as np
import pytest
from conftest import optional

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def bfloat16():
    optional("ml_dtypes")
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


# ---- indexing ----------------------------------------------------------------------------------------------------

ROWS, COLUMNS = np.asarray([2, 0, -1, 2]), np.asarray([1, 3, 0, 1])
INDICES = (
    1, -1, slice(None, None, 2), (slice(None), 1), (Ellipsis, 0), (None, 2, Ellipsis), (slice(1, 3), slice(0, 4, 3)),
    ROWS, [0, 2], (ROWS, COLUMNS), (ROWS, slice(1, 3)), (slice(None), COLUMNS, slice(None)),
    (ROWS, slice(None), COLUMNS), (ROWS[:, None], COLUMNS), (1, COLUMNS), (Ellipsis, COLUMNS),
    (None, ROWS, None, COLUMNS), np.asarray([True, False, True]), (slice(None), np.asarray([False, True, True, False])),
    (np.asarray([True, False, True]), 1), True, (0, 1, 2), np.zeros((3, 4, 5), bool),
    np.arange(60).reshape(3, 4, 5) % 7 == 0,
)  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("index", INDICES, ids=range(len(INDICES)))
def test_indexing_as_in_torch(index):
    """Reads with gradients, assignments of numbers, and of tensors with gradients."""
    import torch

    def of(framework, value):
        if isinstance(value, tuple):
            return tuple(of(framework, part) for part in value)
        return framework.from_numpy(value) if isinstance(value, np.ndarray) else value

    data = np.arange(60.0).reshape(3, 4, 5)
    results = []
    for framework in (hominy, torch):
        place = of(framework, index)
        x = framework.from_numpy(data.copy()).requires_grad_()
        read = x[place]
        weight = framework.from_numpy(np.arange(1.0, read.numel() + 1).reshape(tuple(read.shape)))
        (read * weight).sum().backward()
        y = framework.from_numpy(data.copy())
        y[place] = -1.5
        base = framework.from_numpy(data.copy()).requires_grad_()
        source = framework.from_numpy(np.linspace(1, 2, read.numel()).reshape(tuple(read.shape))).requires_grad_()
        z = base * 2.0
        z[place] = source
        (z * z).sum().backward()
        results.append([t.detach().numpy() for t in (read, x.grad, y, z, base.grad)])
        if not isinstance(index, np.ndarray) or index.dtype == bool:  # repeated places: which one wins is not said
            results[-1].append(source.grad.numpy())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_indices_out_of_range():
    x = hominy.arange(12).reshape(3, 4)
    there = hominy.tensor([[0, 7]])
    source = hominy.ones(1, 2, dtype="int64")
    for call in (
        lambda: x[there],
        lambda: x.gather(0, there),
        lambda: x.scatter(1, there, source),
        lambda: x.scatter_(1, there, 5),
        lambda: x.scatter_add(1, there, source),
        lambda: x.index_select(0, there[0]),
        lambda: x.index_add(0, there[0], hominy.ones(2, 4, dtype="int64")),
        lambda: x.index_copy(0, there[0], hominy.ones(2, 4, dtype="int64")),
        lambda: x.index_fill(0, there[0], 1),
        lambda: x[0, :3].take(there),
        lambda: x[0, :3].put(there, source),
        lambda: x.take_along_dim(there, 1),
        lambda: x.__setitem__(there, 1),
        lambda: x.select(0, 7),
        lambda: x.sum(7),
        lambda: hominy.searchsorted(hominy.arange(2), hominy.tensor(1), sorter=hominy.tensor([0, 7])),
    ):
        with pytest.raises(IndexError, match=r"^\[\w+\] \w+: .*\b7\b"):
            call()
    for call in (lambda: x.gather(0, there - 8), lambda: x.index_select(0, there[0] - 8), lambda: x[there - 8]):
        with pytest.raises(IndexError, match="-8"):
            call()
    assert x.tolist() == hominy.arange(12).reshape(3, 4).tolist()


IN_PLACE = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "deg2rad", "erf", "erfc",
    "erfinv", "exp", "exp2", "expm1", "floor", "frac", "lgamma", "log", "log10", "log1p", "log2", "logit", "neg",
    "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sinc", "sinh", "sqrt", "square", "tan",
    "tanh", "trunc", "tril", "triu",
)  # fmt: skip
M, V = np.asarray([[True, False, True], [False, False, True]]), np.asarray([[0.5, 0.25, 0.75], [0.1, 0.6, 0.3]])
IN_PLACE_WITH_ARGUMENTS = {
    "add": [(V,), (2.0,)], "sub": [(V,)], "mul": [(V,)], "div": [(V,)], "pow": [(2,), (V,)], "clamp": [(0.2, 0.6)],
    "clamp_min": [(0.3,)], "clamp_max": [(0.3,)], "masked_fill": [(M, 3.0)], "masked_scatter": [(M, V)],
    "lerp": [(V, 0.25)], "addcmul": [(V, V)], "addcdiv": [(V, V)], "fmod": [(0.2,)], "remainder": [(0.2,)],
     "atan2": [(V,)], "hypot": [(V,)], "xlogy": [(V,)], "copysign": [(-1.0,)],
    "cumsum": [(1,)],
    "cumprod": [(0,)], "eq": [(V,)], "ge": [(0.3,)], "lt": [(0.3,)], "index_fill": [(1, np.asarray([2, 0]), 4.0)],
    "index_add": [(1, np.asarray([2, 0]), V[:, :2].copy())], "index_copy": [(1, np.asarray([2, 0]), V[:, :2].copy())],
    "scatter": [(1, np.asarray([[2, 0]]), V[:1, :2].copy())],
    "scatter_add": [(0, np.asarray([[1, 0]]), V[:1, :2].copy())],
    "nan_to_num": [()], "float_power": [(2,)], "renorm": [(2, 0, 0.5)], "copy": [(V,)], "zero": [()], "fill": [(2.0,)],
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", [*IN_PLACE, *IN_PLACE_WITH_ARGUMENTS])
def test_in_place_methods_as_in_torch(name):
    import torch

    for arguments in IN_PLACE_WITH_ARGUMENTS.get(name, [()]):
        results = []
        for framework in (hominy, torch):
            given = [framework.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x for x in arguments]
            start = framework.from_numpy(V.copy() * 0.9 + 0.05).requires_grad_()
            x = start * 1.0
            same = getattr(x, name + "_")(*given)
            assert same is x
            gradient = None
            if x.requires_grad:
                (x * framework.from_numpy(V)).sum().backward()
                gradient = start.grad
            results.append([x.detach().tolist(), np.zeros_like(V) if gradient is None else gradient.tolist()])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-15)


def test_in_place_refusals():
    x = hominy.arange(3)
    with pytest.raises(TypeError, match=r"\[sin_\].*float32 cannot be stored in a tensor of"):
        x.sin_()
    with pytest.raises(ValueError, match=r"\[lerp_\] expected a result of shape \(3,\), got \(2, 3\)"):
        hominy.ones(3).lerp_(hominy.ones(2, 3), 0.5)
    leaf = hominy.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        leaf.masked_fill_(leaf > 0, 1.0)
    with pytest.raises(TypeError, match=r"\[masked_fill\] value"):
        x.masked_fill(x > 0, 1.5)


def test_whole_tensor_comparison():
    a = hominy.tensor([1.0, 2.0])
    assert hominy.equal(a, a.clone()) is True and a.equal(a + 1) is False and not a.equal(hominy.tensor([1.0]))
    assert a.eq(a).tolist() == [True, True] and (a == a).all()
    assert hominy.allclose(a, a + 1e-9) is True and a.allclose(a + 1) is False


@pytest.mark.torch
def test_einsum_as_in_torch():
    import torch

    rng = np.random.default_rng(3)
    for equation, *shapes in (
        ("ij,jk", (2, 3), (3, 4)), ("ij,jk->", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
        ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij->ji", (2, 3)), ("i,j,k->kij", (2,), (3,), (4,)),
        ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
        ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)), ("ab,bc,cd->ad", (2, 3),
        (3, 4), (4, 2)), ("b...,b...->...", (3, 2, 2), (3, 2, 2)), ("i...->...", (3, 2)),
        ("iij,jk->ik", (2, 2, 3), (3, 2)),
        (" a b , b -> a ", (2, 3), (3,)), ("a,a,a->a", (3,), (3,), (3,)), ("ab,c->", (2, 3), (4,)), ("i,i->", (0,),
        (0,)),
    ):  # fmt: skip
        arrays = [rng.standard_normal(shape) for shape in shapes]
        theirs = torch.einsum(equation, *map(torch.from_numpy, arrays)).numpy()
        ours = hominy.einsum(equation, *map(hominy.from_numpy, arrays)).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13, err_msg=equation)
    a = hominy.ones(2, 3)
    for equation, operands, message in (
        ("ij,jk->ik", (a,), "expected 2"), ("ijk->i", (a,), "expected 3 dimensions"),
        ("i1->i", (a,), "expected letters"),
        ("ij->ii", (a,), "distinct"), ("ij->k", (a,), "distinct input labels"), ("ij,ij->i", (a, a.T), "expected size"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"\[einsum\] \w+: .*{message}"):
            hominy.einsum(equation, *operands)


@pytest.mark.torch
def test_every_function_is_torchs():
    """What hominy calls by a name PyTorch calls so (or NumPy, where PyTorch has none), and it is a method alike."""
    import torch

    of_numpy = {"power", "concatenate"}
    own = {"getitem", "matrix_transpose", "sum_to_size", "view", "reshape_as", "view_as", "expand", "expand_as",
    "to", "repeat",
           "unfold", "new_tensor", "vector_norm", "matrix_norm", "pad", "contiguous", "less_equal",
           "where"}  # fmt: skip
    for name, function in hominy.ops.public_functions().items():
        assert callable(function) and function.__doc__, name
        known = hasattr(torch, name) or hasattr(torch.Tensor, name) or name in of_numpy | own
        assert known, f"{name} is neither PyTorch's nor NumPy's"
    methods = [name for name in dir(torch.Tensor) if hasattr(hominy, name) and not name.startswith("_")]
    lacking = {name for name in methods if callable(getattr(hominy, name)) and not hasattr(hominy.Tensor, name)}
    assert not lacking - {"random"}, lacking


# ---- conversions and results that scripts rely on --------------------------------------------------------------------


def test_casts_and_copies():
    x = hominy.rand(2, 3)
    assert x.to("cpu") is x and x.to(device="cpu", dtype=None) is x and x.cpu() is x and x.float() is x
    assert x.to(hominy.zeros(1, dtype="int8")).dtype == np.int8 and x.type_as(hominy.arange(2)).dtype == np.int64
    assert x.to("cpu", hominy.float64, non_blocking=True).dtype == np.float64
    assert x.to(x.dtype, copy=True).data_ptr() != x.data_ptr()
    with pytest.raises(ValueError, match=r"\[to\] device: expected 'cpu', got 'cuda'"):
        x.to("cuda")
    with pytest.raises(ValueError, match=r"\[zeros\] device"):
        hominy.zeros(2, device="cuda:0")
    assert x.new_zeros(2, 2).dtype == x.dtype and x.double().new_ones((3,)).dtype == np.float64
    assert x.new_full((2,), 7).tolist() == [7, 7] and x.new_tensor([1, 2]).dtype == np.float32
    assert hominy.full((2,), True).dtype == bool and hominy.full((2,), 3).dtype == np.int64


def test_unpacking_and_named_results():
    x = hominy.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    values, indices = x.max(dim=1)
    assert values.tolist() == [3, 5] and indices.tolist() == [0, 1]
    assert x.min(1).indices.tolist() == [1, 0] and x.sort(1).values[0].tolist() == [1, 2, 3]
    assert x.topk(2, axis=1).indices.tolist() == [[0, 2], [1, 2]] and x.kthvalue(2).values.tolist() == [2, 4]
    assert x.aminmax(dim=0).max.tolist() == [3, 5, 4] and x.median().item() == 2
    assert hominy.max(x, x.flip(0)).tolist() == [[3, 5, 4], [3, 5, 4]]
    assert x.sum(axis=0, keepdims=True).shape == (1, 3) and x.std(axis=1).shape == (2,)
    a, b = x.split(2, dim=1)
    assert a.shape == (2, 2) and b.shape == (2, 1) and [t.shape for t in x.chunk(2)] == [(1, 3)] * 2
    x.split(1)[0].zero_()  # a view
    square = hominy.zeros(2, 3, 3)
    version = square._version
    square.diagonal(1, -2, -1).fill_(2.0)
    assert square[1].tolist() == [[0, 2, 0], [0, 0, 2], [0, 0, 0]] and square._version == version + 1
    for part in (
        square.narrow(1, 0, 2),
        square.select(2, 1),
        square.unbind()[0],
        square.movedim(0, 1),
        square.chunk(2)[1],
    ):
        part.add_(1.0)
        version += 1
        assert square._version == version + 1
    assert x[0].tolist() == [0, 0, 0]
    assert x.T.shape == (3, 2) and hominy.zeros(2, 3, 4).mT.shape == (2, 4, 3)
    assert hominy.cat([x, x]).shape == (4, 3) and x.repeat(2, 1, 1).shape == (2, 2, 3)
    assert x.where(x > 1, 0.0).tolist() == [[0, 0, 0], [0, 5, 4]]


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
    assert repr(hominy.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])"
    assert repr(hominy.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(hominy.tensor([1.0], dtype="float64")) == "tensor([1.], dtype=float64)"
    assert repr(hominy.tensor(True)) == "tensor(True)"
    assert "requires_grad=True" in repr(hominy.tensor([1.0], requires_grad=True))
    assert "grad_fn=<multiplyBackward>" in repr(hominy.tensor([1.0], requires_grad=True) * 2)
    assert "size=(0, 3)" in repr(hominy.zeros(0, 3))
    assert "..." in repr(hominy.zeros(10000)) and len(repr(hominy.zeros(1000, 1000))) < 1000
    assert repr(hominy.tensor([0.5, 0.25]).to(bfloat16())) == "tensor([0.5000, 0.2500], dtype=bfloat16)"
    try:
        hominy.set_printoptions(precision=2, edgeitems=1, threshold=3, sci_mode=False)
        assert repr(hominy.tensor([0.125, 1e-9, 7.0, 1e6])) == "tensor([      0.12, ..., 1000000.00])"
    finally:
        hominy.set_printoptions(precision=4, edgeitems=3, threshold=1000)


@pytest.mark.torch
def test_printing_as_in_torch():
    import torch

    rng = np.random.default_rng(0)
    for array in (
        rng.standard_normal((3, 4)),
        rng.standard_normal((40, 50)) * 100,
        rng.standard_normal((2, 3, 2)) * 10.0 ** rng.integers(-9, 9, (2, 3, 2)),
        np.asarray([1e-5, 1.0]),
        np.asarray([1e9, 1.0]),
        np.asarray([np.nan, np.inf, -np.inf, 1.5]),
        np.asarray([np.nan, 2.0]),
        np.asarray(3.14159),
        np.arange(2000.0),
        np.zeros((2, 2)),
    ):
        array = np.asarray(array, np.float32)
        assert "".join(repr(hominy.from_numpy(array)).split()) == "".join(repr(torch.from_numpy(array)).split()), array
    for integers in (np.arange(-5, 5), np.arange(3000).reshape(3, 1000), np.asarray([[True], [False]])):
        assert repr(hominy.from_numpy(integers)).split() == repr(torch.from_numpy(integers)).split()


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


def test_random_bits_are_philoxs():
    """The documented construction, step by step, from NumPy's Philox (whose words are fixed by Random123's vectors)."""
    seed = 1234567
    words = np.random.Philox(key=seed, counter=0).random_raw(16)
    halves = words.astype("<u8").view("<u4")

    def fresh():
        return hominy.Generator().manual_seed(seed)

    assert (
        hominy.rand(9, generator=fresh()).numpy().tobytes()
        == (halves[:9] >> 8).astype("f4").__mul__(np.float32(2.0**-24)).tobytes()
    )
    got = hominy.rand(5, dtype="float64", generator=fresh()).numpy()
    np.testing.assert_array_equal(got, (words[:5] >> np.uint64(11)) * 2.0**-53)
    np.testing.assert_array_equal(
        hominy.randint(-3, 1000, (7,), generator=fresh()).numpy(), [int(w) % 1003 - 3 for w in words[:7]]
    )
    np.testing.assert_array_equal(hominy.randperm(16, generator=fresh()).numpy(), np.argsort(words))
    normal = statistics.NormalDist()
    np.testing.assert_allclose(
        hominy.randn(16, dtype="float64", generator=fresh()).numpy(),
        [normal.inv_cdf(((int(w) >> 12) + 0.5) * 2.0**-52) for w in words],
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        hominy.randn(16, generator=fresh()).numpy(),
        [normal.inv_cdf((int(w) + 0.5) * 2.0**-32) for w in halves[:16]],
        rtol=2.0**-23,
    )
    both = fresh()  # a draw takes whole blocks of four words
    assert hominy.rand(3, generator=both).tolist() == hominy.rand(3, generator=fresh()).tolist()
    np.testing.assert_array_equal(
        hominy.rand(2, dtype="float64", generator=both).numpy(), (words[4:6] >> np.uint64(11)) * 2.0**-53
    )


def test_random_numbers_have_their_distributions():
    generator = hominy.Generator().manual_seed(5)
    count = 40_000
    for x, mean, deviation in (
        (hominy.rand(count, generator=generator), 0.5, 12**-0.5),
        (hominy.randn(count, generator=generator), 0.0, 1.0),
        (hominy.normal(2.0, 3.0, (count,), generator=generator), 2.0, 3.0),
        (hominy.empty(count).uniform_(-1, 3, generator=generator), 1.0, 4 * 12**-0.5),
        (hominy.empty(count).normal_(1, 0.5, generator=generator), 1.0, 0.5),
        (hominy.empty(count).exponential_(2.0, generator=generator), 0.5, 0.5),
        (hominy.empty(count).geometric_(0.25, generator=generator), 4.0, 12**0.5),
        (hominy.empty(count).log_normal_(0.0, 0.5, generator=generator), np.exp(0.125), 0.6039),
        (hominy.empty(count).bernoulli_(0.3, generator=generator), 0.3, 0.21**0.5),
        (hominy.full((count,), 0.3).bernoulli(generator=generator), 0.3, 0.21**0.5),
        (hominy.randint(0, 6, (count,), generator=generator), 2.5, (35 / 12) ** 0.5),
        (hominy.empty(count).random_(3, 5, generator=generator), 3.5, 0.5),
    ):
        values = x.numpy().astype(np.float64)
        assert abs(values.mean() - mean) < 5 * deviation / count**0.5
        assert abs(values.std() / deviation - 1) < 0.05
    ends = hominy.randn(count, generator=generator).numpy()
    assert abs((np.abs(ends) > 1.959964).mean() - 0.05) < 0.006 and np.isfinite(ends).all()
    medians = hominy.empty(count).cauchy_(1.0, 2.0, generator=generator).numpy()
    assert abs(np.median(medians) - 1) < 0.1


def test_multinomial():
    generator = hominy.Generator().manual_seed(2)
    weights = hominy.tensor([[0.0, 1.0, 3.0, 0.0], [2.0, 2.0, 0.0, 4.0]])
    drawn = weights.multinomial(20_000, replacement=True, generator=generator).numpy()
    shares = np.stack([np.bincount(row, minlength=4) for row in drawn]) / 20_000
    np.testing.assert_allclose(shares, [[0, 0.25, 0.75, 0], [0.25, 0.25, 0, 0.5]], atol=0.02)
    once = hominy.multinomial(weights, 2, generator=generator).tolist()
    assert sorted(once[0]) == [1, 2] and set(once[1]) <= {0, 1, 3} and len(set(once[1])) == 2
    first = hominy.multinomial(weights[1].expand(20_000, 4), 2, generator=generator)[:, 0].numpy()
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 20_000, [0.25, 0.25, 0, 0.5], atol=0.02)
    for call, message in (
        (lambda: weights.multinomial(3), r"num_samples: expected at most the number of positive weights \(2\), got 3"),
        (lambda: hominy.tensor([1.0, -1.0]).multinomial(1), "weights of 0 or more"),
        (lambda: hominy.tensor([0.0]).multinomial(1, True), "num_samples"),
        (lambda: hominy.tensor([0.5, 1.5]).bernoulli(), r"\[bernoulli\] input: .* got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_generator_state():
    generator = hominy.Generator()
    assert generator.seed() == generator.initial_seed()
    hominy.randn(7, generator=generator)
    state = generator.get_state()
    assert state.dtype == np.uint8
    ahead = [hominy.randn(3, generator=generator).tolist() for _ in range(2)]
    for other in (hominy.Generator(), pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)):
        other.set_state(state)
        assert [hominy.randn(3, generator=other).tolist() for _ in range(2)] == ahead
    outer = hominy.get_rng_state()
    before = hominy.rand(3).tolist()
    hominy.set_rng_state(outer)
    assert hominy.rand(3).tolist() == before
    with pytest.raises(ValueError, match=r"\[set_state\] state"):
        generator.set_state(hominy.zeros(3))
    assert hominy.manual_seed(-1).initial_seed() == 2**64 - 1
    wide = hominy.randint(-(2**63), 2**63, (1000,)).numpy()
    assert wide.min() < -(2**61) and wide.max() > 2**61


def test_threads_share_a_generator():
    """Each draw is one piece of the stream: whatever the order, the same numbers come out, each once."""
    generator = hominy.Generator().manual_seed(3)
    alone = {tuple(hominy.rand(5, generator=generator).tolist()) for _ in range(80)}
    generator.manual_seed(3)
    drawn = []

    def draw():
        for _ in range(20):
            drawn.append(tuple(hominy.rand(5, generator=generator).tolist()))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(drawn) == alone and len(drawn) == 80


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
