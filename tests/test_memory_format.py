"""Memory formats: PyTorch's answers about strides and contiguity, and networks that stay channels-last throughout."""

import copy
import pickle

import hominy
import numpy as np
import pytest
from hominy import nn

FORMATS = ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format")
SHAPES = [(2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 3, 4, 5), (1, 1, 1, 1), (2, 3, 4, 1), (2, 0, 4, 5),
          (0, 3, 4, 5), (2, 3, 2, 3, 4), (2, 1, 2, 3, 4), (3, 4), (4,), ()]  # fmt: skip


def result(function, *arguments, **keywords):
    """What a call gives, or that it raises."""
    try:
        return function(*arguments, **keywords)
    except (RuntimeError, ValueError, TypeError):
        return "raises"


def strides(tensor):
    """Strides of the dimensions that have any: NumPy's for a size of 1 mean nothing."""
    if isinstance(tensor, str) or 0 in tensor.shape:
        return tensor if isinstance(tensor, str) else tuple(tensor.shape)
    return tuple(step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)


def layouts(torch, shape):
    """Pairs of equal tensors (hominy's, PyTorch's) of that shape in various orders."""
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    orders = [tuple(range(len(shape))), tuple(reversed(range(len(shape))))]
    if len(shape) > 3:
        orders += [(0, *range(2, len(shape)), 1), (0, len(shape) - 1, *range(1, len(shape) - 1))]
    for order in orders:
        places = sorted(range(len(order)), key=order.__getitem__)
        stored = array.transpose(order).copy().transpose(places)
        yield hominy.from_numpy(stored), torch.from_numpy(stored)
    if len(shape) > 3:
        wide = np.concatenate([array, array], 2)
        yield hominy.from_numpy(wide)[:, :, ::2], torch.from_numpy(wide)[:, :, ::2]


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
def test_pytorchs_answers(shape):
    import torch

    for ours, theirs in layouts(torch, shape):
        for name in FORMATS:
            of_ours, of_theirs = {"memory_format": getattr(hominy, name)}, {"memory_format": getattr(torch, name)}
            if 0 not in shape:  # NumPy has no strides of its own there
                assert result(ours.is_contiguous, **of_ours) == result(theirs.is_contiguous, **of_theirs)
            for method in ("contiguous", "clone", "to", "double"):
                same = "contiguous" if (method, name) == ("to", "contiguous_format") else method  # stated in to()
                got = result(getattr(ours, method), **of_ours)
                want = result(getattr(theirs, same), **of_theirs)
                assert strides(got) == strides(want), (method, name)
                if want != "raises":
                    assert np.array_equal(got.numpy(), ours.numpy()) and str(want.dtype).endswith(str(got.dtype))
            for function in ("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"):
                got = result(getattr(hominy, function), ours, **of_ours)
                assert strides(got) == strides(result(getattr(torch, function), theirs, **of_theirs)), (function, name)
            got = result(hominy.full_like, ours, 3, **of_ours)
            assert strides(got) == strides(result(torch.full_like, theirs, 3, **of_theirs))
            got = result(hominy.empty, shape, **of_ours)
            assert strides(got) == strides(result(torch.empty, shape, **of_theirs))


@pytest.mark.torch
def test_modules_convert_what_pytorch_converts():
    import torch

    def model(library):
        module = library.nn.Module()
        for name, shape in (("a", (4, 3, 3, 3)), ("b", (4, 3, 2, 3, 3)), ("c", (4, 3)), ("d", (4, 1, 3, 3))):
            module.register_parameter(name, library.nn.Parameter(library.ones(shape)))
        module.register_buffer("e", library.ones((2, 3, 4, 5)))
        module.register_buffer("f", library.ones((2, 3, 4, 5), dtype=library.int64))
        module.a.grad = library.ones((4, 3, 3, 3))
        return module

    ours, theirs = model(hominy), model(torch)
    held = ours.a
    assert ours.to(memory_format=hominy.channels_last) is ours and ours.a is held
    with pytest.raises(RuntimeError):
        theirs.to(memory_format=torch.channels_last)  # it refuses the 5-d parameter, which hominy leaves alone
    del theirs.b
    theirs.to(memory_format=torch.channels_last)
    for name in "acdef":
        if name != "f":
            assert strides(getattr(ours, name)) == strides(getattr(theirs, name)), name
    assert strides(ours.a.grad) == strides(theirs.a.grad) == (27, 1, 9, 3)
    assert strides(ours.b) == (54, 18, 9, 3, 1)
    ours.to(hominy.float64, memory_format=hominy.channels_last_3d)
    assert strides(ours.b) == (54, 1, 27, 9, 3) and ours.a.dtype == ours.a.grad.dtype == "float64"
    assert strides(ours.a) == (27, 1, 9, 3)
    ours.to(memory_format=hominy.contiguous_format)
    assert all(parameter.is_contiguous() for parameter in ours.parameters())


def test_what_is_laid_out_already_is_not_copied():
    x = hominy.randn(2, 3, 4, 5)
    y = x.to(memory_format=hominy.channels_last)
    assert y.to(memory_format=hominy.channels_last) is y and y.contiguous(
        memory_format=hominy.channels_last
    )._array is (y._array)
    assert y.to(memory_format=hominy.channels_last, copy=True).data_ptr() != y.data_ptr()
    assert x.to(memory_format=hominy.preserve_format) is x and x.contiguous()._array is x._array
    one = hominy.randn(2, 1, 4, 5)
    assert one.to(memory_format=hominy.channels_last) is one


def test_copies_keep_the_format():
    x = hominy.randn(2, 3, 4, 5).to(memory_format=hominy.channels_last)
    for y in (x.clone(), copy.deepcopy(x), x.to(hominy.float64), x.double(), hominy.zeros_like(x), -x, x + 1):
        assert y.is_contiguous(memory_format=hominy.channels_last) and not y.is_contiguous()
    assert np.array_equal(pickle.loads(pickle.dumps(x)).numpy(), x.numpy())
    assert hominy.full((2, 3, 4, 5), 1.0).is_contiguous()
    assert pickle.loads(pickle.dumps(hominy.channels_last)) is hominy.channels_last


def test_gradients_pass_conversions():
    x = hominy.randn(2, 3, 4, 5, requires_grad=True)
    weight = hominy.randn(2, 3, 4, 5).numpy()
    for convert in (
        lambda x: x.to(memory_format=hominy.channels_last),
        lambda x: x.contiguous(memory_format=hominy.channels_last),
        lambda x: x.clone(memory_format=hominy.channels_last),
        lambda x: x.to(hominy.float64, memory_format=hominy.channels_last),
    ):
        x.grad = None
        y = convert(x)
        assert y.requires_grad and y.is_contiguous(memory_format=hominy.channels_last)
        (y * hominy.from_numpy(weight)).sum().backward()
        assert np.array_equal(x.grad.numpy(), weight) and x.grad.stride() == x.stride()


def test_refusals():
    x = hominy.zeros(2, 3)
    with pytest.raises(
        ValueError, match=r"\[contiguous\] memory_format: expected 4 dimensions for hominy.channels_last"
    ):
        x.contiguous(memory_format=hominy.channels_last)
    with pytest.raises(ValueError, match=r"\[contiguous\] memory_format: expected one that is an order"):
        x.t().contiguous(memory_format=hominy.preserve_format)
    for call in (x.clone, x.to, x.contiguous, x.is_contiguous, lambda **k: hominy.zeros_like(x, **k)):
        with pytest.raises(TypeError, match=r"memory_format: expected hominy.channels_last"):
            call(memory_format="channels_last")
    with pytest.raises(TypeError, match="memory_format"):
        nn.Linear(2, 3).to(memory_format=1)


# ---- operators -------------------------------------------------------------------------------------------------------


def functions():
    """Operators on (N, C, H, W) that keep their input's order."""
    F = nn.functional
    channel = hominy.randn(1, 6, 1, 1)
    yield "add a channel's number", lambda x: x + channel
    yield "multiply by itself", lambda x: x * x
    yield "add a residual", lambda x: F.relu(x) + x
    yield "relu6", lambda x: F.relu6(x)
    yield "clamp", lambda x: x.clamp(-1, 1)
    yield "sigmoid", lambda x: x.sigmoid()
    yield "where", lambda x: hominy.where(x > 0, x, x * 0.1)
    yield "dropout", lambda x: F.dropout(x, 0.5)
    yield "softmax of channels", lambda x: F.softmax(x, 1)
    yield "batch_norm", lambda x: F.batch_norm(x, None, None, training=True)
    yield "batch_norm, fixed", lambda x: F.batch_norm(x, hominy.zeros(6), hominy.ones(6))
    yield "group_norm", lambda x: F.group_norm(x, 2)
    yield "instance_norm", lambda x: F.instance_norm(x)
    yield "cat of channels", lambda x: hominy.cat([x, x * 2], 1)
    yield "cat of pictures", lambda x: hominy.cat([x, x * 2])
    yield "pad", lambda x: F.pad(x, (1, 2, 0, 1))
    yield "mean over places, kept", lambda x: x - x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("name,function", list(functions()), ids=lambda value: value if isinstance(value, str) else "")
def test_operators_keep_the_format(name, function):
    x = hominy.randn(4, 6, 5, 7).to(memory_format=hominy.channels_last).requires_grad_()
    y = function(x)
    assert y.is_contiguous(memory_format=hominy.channels_last), y.stride()
    y.square().sum().backward()
    assert x.grad.is_contiguous(memory_format=hominy.channels_last), x.grad.stride()


# ---- networks --------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """One of each kind of layer that pictures pass, with a residual, a concatenation and a way up."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.pools = nn.ModuleList([nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1)])
        self.block = nn.Sequential(
            nn.Conv2d(16, 16, 1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 16, 3, padding=1, groups=4),
        )  # fmt: skip
        self.drop = nn.Dropout(0.2)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(8, 5, 3, padding="same", padding_mode="reflect")

    def forward(self, x):
        x = self.stem(x)
        x = hominy.cat([pool(x) for pool in self.pools], 1)
        out = self.block(x)
        out += x
        return self.head(self.enlarge(self.up(self.drop(out))))


def layouts_within(model, x):
    """What every layer's output, and its gradient, lies in; the result and the gradients of input and weights."""
    seen = []

    def note(module, inputs, output):
        name = f"{type(module).__name__} {tuple(output.shape)}"
        seen.append((name, output.is_contiguous(), output.is_contiguous(memory_format=hominy.channels_last)))
        output.register_hook(lambda grad: after(name, grad))

    def after(name, grad):
        flags = (grad.is_contiguous(), grad.is_contiguous(memory_format=hominy.channels_last))
        seen.append((f"gradient of {name}", *flags))

    handles = [module.register_forward_hook(note) for module in model.modules() if not list(module.children())]
    hominy.manual_seed(1)
    y = model(x)
    gradient = hominy.from_numpy(np.random.default_rng(2).standard_normal(y.shape))
    y.backward(gradient if x.is_contiguous() else gradient.to(memory_format=hominy.channels_last))
    for handle in handles:
        handle.remove()
    return seen, y, [x.grad, *(parameter.grad for parameter in model.parameters())]


# Of what is concatenated: views of the whole gradient, with gaps.
PARTS = ("gradient of MaxPool2d (2, 8, 6, 4)", "gradient of AvgPool2d (2, 8, 6, 4)")


def test_a_network_keeps_the_format_and_computes_the_same():
    hominy.manual_seed(0)
    model = Network().double()
    model.drop.p = 0.0  # a draw is an element's by its place in memory
    x = hominy.randn(2, 3, 21, 13, dtype=hominy.float64)
    seen, want, gradients = layouts_within(model, x.clone().requires_grad_())
    assert not [name for name, plain, _ in seen if not plain and name not in PARTS]
    model.drop.p = 0.2
    model.zero_grad()
    model.to(memory_format=hominy.channels_last)
    assert model.head.weight.is_contiguous(memory_format=hominy.channels_last)
    last = x.to(memory_format=hominy.channels_last)
    seen, _, _ = layouts_within(model, last.clone().requires_grad_())
    assert not [name for name, _, channels_last in seen if not channels_last and name not in PARTS]
    model.drop.p = 0.0
    model.zero_grad()
    for buffer in (model.stem[1], model.block[4]):
        buffer.reset_running_stats()
    _, got, of_last = layouts_within(model, last.clone().requires_grad_())
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-10, atol=1e-10)
    parameters = [x, *model.parameters()]
    for a, b, parameter in zip(of_last, gradients, parameters, strict=True):
        scale = np.abs(b.numpy()).max() + 1.0  # before a norm a bias has none: its terms, of order 1, cancel
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-12 * scale)
        if parameter.dim() == 4:
            assert a.is_contiguous(memory_format=hominy.channels_last)
