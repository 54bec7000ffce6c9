"""Layers against PyTorch and NumPy: linear ones, activations, normalisation, embeddings, dropout."""

import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import nn
from hominy.nn import functional as F
from test_nn import close


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


def test_linear_starts_as_torchs():
    hominy.manual_seed(3)
    linear = nn.Linear(64, 400)
    bound = 1.0 / math.sqrt(64)
    for values in (linear.weight.detach().numpy(), linear.bias.detach().numpy()):
        assert np.abs(values).max() <= bound
        n = values.size
        # The mean of n uniforms has deviation bound / sqrt(3 n), the largest of them misses the bound by bound / n:
        # six deviations and 30 times that leave a chance of 1e-9 to fail, and the seed makes it none.
        assert abs(values.mean()) < 6 * bound / math.sqrt(3 * n)
        assert np.abs(values).max() > bound * (1 - 30 / n)
    assert nn.Linear(3, 4, bias=False).bias is None
    assert nn.Linear(3, 4, dtype=hominy.float64).weight.dtype == hominy.float64


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "3", None])
def test_sizes_are_positive_integers(bad):
    with pytest.raises((TypeError, ValueError), match=r"\[Linear\] in_features: expected a positive integer, got "):
        nn.Linear(bad, 2)
    with pytest.raises((TypeError, ValueError), match=r"\[Linear\] out_features: expected a positive integer, got "):
        nn.Linear(2, bad)
    with pytest.raises((TypeError, ValueError), match=r"\[Bilinear\] in2_features: expected a positive integer, got "):
        nn.Bilinear(2, bad, 2)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("GELU('erf')", r"\[GELU\] approximate: expected one of 'none', 'tanh', got 'erf'"),
        ("LeakyReLU(float('nan'))", r"\[LeakyReLU\] negative_slope: expected a finite number, got nan"),
        ("Hardtanh(1.0, 1.0)", r"\[Hardtanh\] max_val: expected a number above min_val=1.0, got 1.0"),
        ("Softplus(beta='x')", r"\[Softplus\] beta: expected a finite number, got 'x'"),
        ("MSELoss('avg')", r"\[MSELoss\] reduction: expected one of 'mean', 'sum', 'none', got 'avg'"),
        ("CrossEntropyLoss(label_smoothing=1.5)", r"\[CrossEntropyLoss\] label_smoothing: expected a number in"),
        ("CrossEntropyLoss(ignore_index=0.5)", r"\[CrossEntropyLoss\] ignore_index: expected an integer"),
        ("Unflatten(1, (-1, -1))", r"\[Unflatten\] unflattened_size: expected .* at most one"),
        ("Parameter([1.0])", r"\[Parameter\] data: expected a hominy.Tensor, got 'list'"),
    ],
)
def test_settings_are_checked(text, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        eval(text, vars(nn))


def test_flatten_and_unflatten():
    x = hominy.zeros(2, 3, 4, 5)
    assert tuple(nn.Flatten()(x).shape) == (2, 60)
    assert tuple(nn.Flatten(0, 1)(x).shape) == (6, 4, 5)
    assert tuple(nn.Unflatten(1, (3, -1))(nn.Flatten()(x)).shape) == (2, 3, 20)
    assert tuple(nn.Unflatten(-1, (1, 5))(x).shape) == (2, 3, 4, 1, 5)
    with pytest.raises(IndexError, match=r"\[Unflatten\] input"):
        nn.Unflatten(4, (1,))(x)


ACTIVATIONS = ["ReLU()", "ReLU6()", "LeakyReLU()", "LeakyReLU(0.3)", "ELU(0.5)", "SiLU()", "GELU()", "GELU('tanh')",
               "Tanh()", "Sigmoid()", "Softplus()", "Softplus(2.0, 3.0)", "Hardtanh(-0.5, 0.7)", "Softmax(1)",
               "Softmax(dim=0)", "LogSoftmax(1)", "Identity()", "CELU(0.5)", "SELU()", "PReLU()", "PReLU(33, 0.1)",
               "RReLU().eval()", "Mish()", "LogSigmoid()", "Softsign()", "Tanhshrink()", "Hardshrink(0.7)",
               "Softshrink(0.7)", "Threshold(0.3, 20.0)", "Hardswish()", "Softmin(0)"]  # fmt: skip


@pytest.mark.parametrize("text", ACTIVATIONS)
@pytest.mark.torch
def test_activations_are_torchs(text, torch):
    x = (3 * np.random.default_rng(1).standard_normal((4, 33))).astype("float64")
    gradient = np.random.default_rng(2).standard_normal(x.shape)
    ours, theirs = hominy.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = eval(text, vars(nn)).double()(ours), eval(text, vars(torch.nn)).double()(theirs)
    y.backward(hominy.from_numpy(gradient))
    z.backward(torch.from_numpy(gradient))
    # Each is a few operations of at most 4 eps on numbers of size |x| + 1; rows of 33 are summed in the softmaxes, and
    # their gradients multiply that sum by the output.
    bound = 64 * np.finfo(np.float64).eps * (np.abs(x) + 1)
    close(y.detach().numpy(), z.detach().numpy(), bound)
    close(ours.grad.numpy(), theirs.grad.numpy(), bound * (np.abs(gradient).sum(axis=1, keepdims=True) + 1))


KINKS = {
    "Hardshrink(0.5)": [-0.5, 0.0, 0.5], "Softshrink(0.5)": [-0.5, 0.0, 0.5], "Softshrink(0.0)": [-1.0, 0.0, 1.0],
    "Hardsigmoid()": [-3.0, 0.0, 3.0], "Hardswish()": [-3.0, 0.0, 3.0], "Hardtanh(-1.0, 2.0)": [-1.0, 0.0, 2.0],
    "ReLU6()": [0.0, 6.0], "ReLU()": [0.0, -0.0], "LeakyReLU(0.1)": [0.0, -0.0], "ELU(0.7)": [0.0, -0.0],
    "CELU(0.5)": [0.0, -0.0], "SELU()": [0.0, -0.0], "PReLU()": [0.0, -0.0], "Threshold(0.25, 2.0)": [0.25, -1.0],
    "Softplus(2.0, 3.0)": [1.5, 0.0], "RReLU().eval()": [0.0, -0.0], "Softsign()": [0.0, -0.0],
    # Smooth ones, at ordinary places.
    "Mish()": [-3.0, 0.5, 2.0], "LogSigmoid()": [-30.0, 0.0, 2.0], "Tanhshrink()": [-1.0, 0.5, 3.0],
    "GLU(0)": [-1.0, 2.0, 0.5, 1.0], "Softmin(0)": [-1.0, 0.5], "GELU()": [-1.0, 2.0], "SiLU()": [-1.0, 2.0],
}  # fmt: skip


@pytest.mark.parametrize("text", KINKS)
@pytest.mark.torch
def test_gradients_at_kinks_are_torchs(text, torch):
    """On the kinks and one number to either side: result, gradient, and gradient of the gradient."""
    kinks = np.asarray(KINKS[text])
    x = np.concatenate([kinks, np.nextafter(kinks, 9), np.nextafter(kinks, -9)])
    found = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        leaf = framework.tensor(x, requires_grad=True)
        y = eval(text, vars(modules)).double()(leaf)
        (gradient,) = framework.autograd.grad((y * y).sum() * 0.5 + y.sum(), leaf, create_graph=True)
        found.append([y.detach().numpy(), gradient.detach().numpy()])
        # PyTorch lacks one of hardsigmoid, and takes slope 1 for prelu's at 0, where its gradient has the weight.
        if text not in ("Hardsigmoid()", "PReLU()"):
            found[-1].append(framework.autograd.grad(gradient.sum(), leaf)[0].numpy())
    # 1/6 in single precision is PyTorch's; one step from 3, 3 + x rounds.
    bound = 1e-7 if "Hardsigmoid" in text else 64 * np.finfo(np.float64).eps * (1 + np.abs(x).max() ** 2)
    for order, (ours, theirs) in enumerate(zip(*found, strict=True)):
        kept = slice(0, len(kinks)) if text in ("Hardsigmoid()", "Hardswish()") else slice(None)
        close(ours[kept], theirs[kept], bound), order


def test_activations_keep_nan_and_take_inplace():
    x = hominy.tensor([math.nan, -4.0, 4.0])
    for text in ACTIVATIONS:
        if "max" not in text and "min" not in text and "33" not in text:
            assert math.isnan(eval(text, vars(nn))(x)[0].item()), text
    for name in ("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "rrelu", "hardtanh", "hardswish", "hardsigmoid",
                 "silu", "mish"):  # fmt: skip
        assert getattr(F, name)(x, inplace=True) is not x and x[1].item() == -4.0


def test_glu_and_softmax2d():
    x = hominy.from_numpy(np.random.default_rng(3).standard_normal((2, 6, 3)))
    a, b = x[:, :3], x[:, 3:]
    assert np.array_equal(nn.GLU(1)(x).numpy(), (a * b.sigmoid()).numpy())
    with pytest.raises(ValueError, match=r"\[glu\] input: expected an even size along dim -1, got shape \(2, 6, 3\)"):
        nn.GLU()(x)
    close(nn.Softmax2d()(x).numpy().sum(0), 1.0, 1e-15)
    with pytest.raises(ValueError, match=r"\[Softmax2d\] input: expected shape"):
        nn.Softmax2d()(x[0])


def test_prelu_of_channels():
    weight = hominy.tensor([0.5, 0.25])
    x = hominy.ones(1, 2, 2, 1) * -4.0
    assert F.prelu(x, weight).tolist() == [[[[-2.0], [-2.0]], [[-1.0], [-1.0]]]]
    assert F.prelu(hominy.tensor(-2.0), hominy.tensor([0.5])).shape == ()
    with pytest.raises(ValueError, match=r"\[prelu\] weight: expected shape \(1,\) or \(3,\), got \(2,\)"):
        F.prelu(hominy.ones(2, 3), weight)


def test_random_activations():
    hominy.manual_seed(1)
    x = hominy.full((20000,), -1.0, dtype=hominy.float64)
    y = -nn.RReLU(0.2, 0.6)(x).numpy()
    assert y.min() >= 0.2 and y.max() < 0.6
    assert abs(y.mean() - 0.4) < 6 * 0.4 / math.sqrt(12 * y.size)
    logits = hominy.tensor([[0.0, 1.0, -1.0]], requires_grad=True)
    rows = hominy.ones(20000, 1) * logits
    hard = F.gumbel_softmax(rows, hard=True)
    assert set(np.unique(hard.detach().numpy().round(5))) <= {0.0, 1.0}
    chance = F.softmax(logits, 1).detach().numpy()[0]
    assert (np.abs(hard.detach().numpy().mean(0) - chance) < 6 * np.sqrt(chance * (1 - chance) / 20000)).all()
    (hard * hominy.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert np.abs(logits.grad.numpy()).min() > 0
    soft = F.gumbel_softmax(rows.detach(), tau=0.5, dim=0).numpy()
    close(soft.sum(0), 1.0, 1e-3)


def test_functional_names_are_the_operators():
    from hominy.nn import functional

    for name in ("relu", "gelu", "softmax", "linear", "bilinear", "cross_entropy", "mse_loss", "l1_loss", "nll_loss",
                 "binary_cross_entropy", "binary_cross_entropy_with_logits", "leaky_relu", "elu", "silu", "softplus",
                 "hardtanh", "relu6", "log_softmax", "tanh", "sigmoid"):  # fmt: skip
        assert callable(getattr(functional, name)), name


# ---- normalisation ---------------------------------------------------------------------------------------------------

NORMS = [
    ("BatchNorm1d(6)", (5, 6)), ("BatchNorm1d(6, 0.1, None)", (5, 6, 4)), ("BatchNorm2d(6, 0.1, 0.3)", (5, 6, 4, 3)),
    ("BatchNorm3d(6, affine=False)", (2, 6, 2, 3, 2)), ("BatchNorm1d(6, track_running_stats=False)", (5, 6)),
    ("BatchNorm2d(6, bias=False)", (3, 6, 2, 2)), ("InstanceNorm1d(6, track_running_stats=True)", (3, 6, 5)),
    ("InstanceNorm2d(6, affine=True)", (3, 6, 4, 3)), ("InstanceNorm2d(6)", (6, 4, 3)),
    ("InstanceNorm3d(6, affine=True, track_running_stats=True)", (2, 6, 3, 2, 2)), ("LayerNorm((5, 6))", (5, 6)),
    ("RMSNorm((5, 6))", (5, 6)), ("LayerNorm(6)", (2, 5, 6)), ("LayerNorm((5, 6), bias=False)", (2, 5, 6)),
    ("LayerNorm(6, 0.1, False)", (5, 6)), ("RMSNorm(6)", (3, 6)), ("RMSNorm((5, 6), 1e-3)", (2, 5, 6)),
    ("GroupNorm(3, 6)", (4, 6, 5)), ("GroupNorm(1, 6, affine=False)", (4, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shape"), NORMS)
@pytest.mark.torch
def test_norms_are_torchs(text, shape, torch):
    """Three batches in training and one in evaluation mode: results, gradients, state."""
    rng = np.random.default_rng(8)
    theirs = eval(text, vars(torch.nn)).double()
    for parameter in theirs.parameters():
        parameter.data = torch.from_numpy(rng.uniform(0.5, 1.5, tuple(parameter.shape)))
    ours = eval(text, vars(nn)).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for step in range(4):
        x = rng.standard_normal(shape) * 2 + 1
        weights = rng.standard_normal(shape)
        found = []
        for framework, module in ((hominy, ours), (torch, theirs)):
            module.train(step < 3)
            leaf = framework.tensor(x, requires_grad=True)
            module.zero_grad()
            y = module(leaf)
            (y * framework.from_numpy(weights)).sum().backward()
            found.append([y, leaf.grad, *(p.grad for p in module.parameters()), *module.state_dict().values()])
        for mine, other in zip(*found, strict=True):
            other = other.detach().numpy()
            # Sums over at most 60 elements of size 10, in float64.
            close(mine.detach().numpy(), other, 1e3 * np.finfo(np.float64).eps * (1 + np.abs(other).max()))
    for module in (ours, theirs):
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
        module.reset_parameters()
    for key, value in theirs.state_dict().items():
        assert np.array_equal(ours.state_dict()[key].numpy(), value.numpy()), key


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda: nn.BatchNorm1d(3)(hominy.zeros(2, 3, 4, 5)), r"\[BatchNorm1d\] input: expected 2 .* or 3 dimensions"),
        (lambda: nn.BatchNorm2d(3)(hominy.zeros(2, 3)), r"\[BatchNorm2d\] input: expected 4 dimensions, got \(2, 3\)"),
        (lambda: nn.BatchNorm1d(3)(hominy.zeros(2, 4)), r"\[batch_norm\]"),
        (lambda: nn.BatchNorm1d(3)(hominy.zeros(1, 3)), r"\[batch_norm\] input: expected more than 1 value"),
        (
            lambda: nn.InstanceNorm1d(3, affine=True)(hominy.zeros(2, 4, 5)),
            r"\[InstanceNorm1d\] input: expected 3 c",
        ),
        (lambda: nn.InstanceNorm2d(3)(hominy.zeros(2, 3)), r"\[InstanceNorm2d\] input: expected 3 .* or 4 dimensions"),
        (lambda: nn.LayerNorm(4)(hominy.zeros(2, 3)), r"\[layer_norm\]"),
        (lambda: nn.LayerNorm((4, 0.5)), r"\[LayerNorm\] normalized_shape: expected a positive integer, got 0.5"),
        (lambda: nn.GroupNorm(2, 3), r"\[GroupNorm\] num_channels: expected a multiple of num_groups=2, got 3"),
        (lambda: nn.RMSNorm(4, eps=-1.0), r"\[RMSNorm\] eps: expected a finite number of 0 or more, got -1.0"),
        (lambda: nn.BatchNorm1d(3, device="cuda"), r"\[BatchNorm1d\] device: expected one of None, 'cpu'"),
        (lambda: nn.Dropout(1.5), r"\[Dropout\] p: expected a number in \[0, 1\], got 1.5"),
        (
            lambda: nn.Embedding(3, 2, padding_idx=3),
            r"\[Embedding\] padding_idx: expected an integer in \[-3, 3\), got 3",
        ),
        (
            lambda: nn.Embedding.from_pretrained(hominy.zeros(3)),
            r"\[Embedding\] embeddings: .*2 dimensions, got \(3,\)",
        ),
        (lambda: nn.EmbeddingBag(3, 2, mode="min"), r"\[EmbeddingBag\] mode: expected one of 'sum', 'mean', 'max'"),
        (lambda: nn.RReLU(0.5, 0.25), r"\[RReLU\] upper: expected a number not below lower=0.5, got 0.25"),
        (lambda: F.celu(hominy.zeros(1), -1.0), r"\[celu\] alpha: expected a number above 0, got -1.0"),
        (lambda: F.softshrink(hominy.zeros(1), -1.0), r"\[softshrink\] lambd: expected a number of 0 or more"),
        (lambda: F.hardtanh(hominy.zeros(1), 1.0, -1.0), r"\[hardtanh\] max_val: expected a number not below"),
    ],
)
def test_layers_refuse(call, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        call()


# ---- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"padding_idx": -2}, {"max_norm": 1.0}, {"max_norm": 0.5, "norm_type": 1.0}, {"scale_grad_by_freq": True}],
    ids=str,
)
@pytest.mark.torch
def test_embedding_is_torchs(settings, torch):
    rng = np.random.default_rng(9)
    table, rows = rng.standard_normal((7, 3)), rng.integers(0, 7, (4, 5))
    found = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        layer = modules.Embedding.from_pretrained(framework.tensor(table), freeze=False, **settings)
        y = layer(framework.from_numpy(rows))
        (y * y).sum().backward()
        found.append([value.detach().numpy() for value in (y, layer.weight.grad, layer.weight)])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 64 * np.finfo(np.float64).eps * (1 + np.abs(theirs)))


def test_embedding_starts_normal_with_zero_padding():
    hominy.manual_seed(2)
    layer = nn.Embedding(2000, 5, padding_idx=-1)
    values = layer.weight.detach().numpy()
    assert layer.padding_idx == 1999 and not values[-1].any() and abs(values[:-1].std() - 1) < 0.05
    frozen = nn.Embedding.from_pretrained(hominy.ones(3, 2), True, 0)
    assert not frozen.weight.requires_grad and frozen.padding_idx == 0
    for wrong in (2000, -1):
        with pytest.raises(IndexError, match=str(wrong)):
            layer(hominy.tensor([0, wrong]))


BAGS = {
    "matrix": ((np.asarray([[1, 2, 4, 5], [4, 3, 2, 6]]),), {}),
    "offsets": ((np.asarray([1, 2, 4, 5, 4, 3, 2, 6]), np.asarray([0, 4, 4, 7])), {}),
    "last offset": ((np.asarray([1, 2, 4, 5]), np.asarray([0, 3, 4])), {"include_last_offset": True}),
    "padding": ((np.asarray([[1, 2, 2, 5], [2, 2, 2, 2]]),), {"padding_idx": 2}),
    "norm": ((np.asarray([[1, 2, 2, 5], [0, 2, 2, 2]]),), {"max_norm": 1.0}),
}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("name", BAGS)
@pytest.mark.torch
def test_embedding_bag_is_torchs(name, mode, torch):
    arguments, settings = BAGS[name]
    table = np.random.default_rng(10).standard_normal((7, 3))
    found = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        layer = modules.EmbeddingBag.from_pretrained(framework.tensor(table), freeze=False, mode=mode, **settings)
        y = layer(*map(framework.from_numpy, arguments))
        (y * y).sum().backward()
        found.append([value.detach().numpy() for value in (y, layer.weight.grad, layer.weight)])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 64 * np.finfo(np.float64).eps * (1 + np.abs(theirs)))


@pytest.mark.torch
def test_weights_of_samples_in_bags(torch):
    rng = np.random.default_rng(11)
    table, rows, weights = rng.standard_normal((7, 3)), rng.integers(0, 7, (2, 4)), rng.standard_normal((2, 4))
    found = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        layer = modules.EmbeddingBag.from_pretrained(framework.tensor(table), freeze=False, mode="sum")
        factors = framework.tensor(weights, requires_grad=True)
        y = layer(framework.from_numpy(rows), per_sample_weights=factors)
        (y * y).sum().backward()
        found.append([value.detach().numpy() for value in (y, layer.weight.grad, factors.grad)])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 256 * np.finfo(np.float64).eps * (1 + np.abs(theirs)))


# ---- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Dropout", (200, 300)),
        ("Dropout1d", (200, 300, 2)),
        ("Dropout2d", (200, 300, 2, 1)),
        ("Dropout3d", (200, 300, 1, 2, 1)),
    ],
)
def test_dropout(name, shape):
    hominy.manual_seed(12)
    layer, x = getattr(nn, name)(0.3), hominy.ones(*shape, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    values = y.detach().numpy()
    assert np.array_equal(values, x.grad.numpy()), "the gradient passes where the value does"
    rows = values.reshape(200, 300, -1)
    assert (rows == rows[..., :1]).all(), "a channel is dropped as a whole"
    kept = rows[..., 0] != 0
    assert np.allclose(rows[kept], 1 / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 6 * math.sqrt(0.3 * 0.7 / kept.size)
    hominy.manual_seed(12)
    assert np.array_equal(layer(x).detach().numpy(), values) and not np.array_equal(layer(x).detach().numpy(), values)
    assert np.array_equal(layer.eval()(x).detach().numpy(), np.ones(shape))
    assert not getattr(nn, name)(1.0)(x).detach().numpy().any()


@pytest.mark.parametrize("name", ["AlphaDropout", "FeatureAlphaDropout"])
def test_alpha_dropout_keeps_mean_and_variance(name):
    hominy.manual_seed(13)
    x = hominy.randn(400, 500, 1)
    y = getattr(nn, name)(0.2)(x).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    values, times = np.unique(y, return_counts=True)
    assert abs(times.max() / y.size - 0.2) < 6 * math.sqrt(0.2 * 0.8 / y.size), "what is dropped has one value"
    assert values[times.argmax()] < -1
    assert np.array_equal(getattr(nn, name)(0.2).eval()(x).numpy(), x.numpy())
