"""Modules: their names, state, hooks and text; layers, losses and initialisation against PyTorch and NumPy."""

import copy
import importlib
import math
import pickle
from collections import OrderedDict

import hominy
import numpy as np
import pytest
from hominy import nn


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


EPS = float(np.finfo(np.float32).eps)


class Block(nn.Module):
    """A module with everything: parameters, buffers of both kinds, a child used twice, an empty slot."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(hominy.ones(3))
        self.register_buffer("count", hominy.zeros(2))
        self.register_buffer("scratch", hominy.zeros(1), persistent=False)
        self.register_parameter("absent", None)
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.last = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Tanh())

    def forward(self, x, factor=1.0):
        return self.last(self.again(self.first(x * self.scale))) * factor


def close(ours, theirs, bound):
    """|ours - theirs| <= bound, element by element; `bound` is an error bound, not a guess."""
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    assert (difference <= bound).all(), f"largest difference {difference.max()}, bound {np.max(bound)}"


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_names_come_in_the_order_of_assignment_and_shared_ones_once():
    block = Block()
    names = ["scale", "first.weight", "first.bias", "last.0.weight"]
    assert [name for name, _ in block.named_parameters()] == names
    assert [name for name, _ in block.named_buffers()] == ["count", "scratch"]
    assert [name for name, _ in block.named_modules()] == ["", "first", "last", "last.0", "last.1"]
    assert [name for name, _ in block.named_children()] == ["first", "last"]
    assert len(list(block.parameters())) == 4
    assert len(list(block.parameters(recurse=False))) == 1
    everything = [name for name, _ in block.named_parameters(remove_duplicate=False)]
    assert everything == ["scale", "first.weight", "first.bias", "again.weight", "again.bias", "last.0.weight"]


def test_attributes_are_found_by_path():
    block = Block()
    assert block.get_parameter("last.0.weight") is block.last[0].weight
    assert block.get_submodule("last.1") is block.last[1]
    assert block.get_submodule("") is block
    assert block.get_buffer("count") is block.count
    for getter, path in (
        ("parameter", "count"),
        ("parameter", "last.7.weight"),
        ("submodule", "scale"),
        ("buffer", "x"),
    ):
        with pytest.raises(AttributeError, match="target: expected the path"):
            getattr(block, "get_" + getter)(path)


def test_assignment_keeps_the_kind():
    block = Block()
    with pytest.raises(TypeError, match=r"\[Block\] scale: expected a hominy.nn.Parameter or None"):
        block.scale = hominy.ones(3)
    with pytest.raises(TypeError, match=r"\[Block\] first: expected a hominy.nn.Module or None"):
        block.first = 3
    block.count = hominy.ones(2)
    assert [name for name, _ in block.named_buffers()] == ["count", "scratch"]
    block.first = None
    assert [name for name, _ in block.named_children()] == ["again", "last"]
    block.scale = nn.Linear(2, 2)  # a parameter's name may become a module's
    assert "scale.weight" in block.state_dict()
    del block.scale
    assert not hasattr(block, "scale") and "scale.weight" not in block.state_dict()


def test_registration_checks_names():
    block = Block()
    with pytest.raises(KeyError, match="without a dot"):
        block.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="not an attribute yet"):
        block.register_buffer("forward", None)
    with pytest.raises(TypeError, match="expected a string"):
        block.add_module(3, nn.Identity())
    with pytest.raises(TypeError, match="expected a Parameter or None, got Tensor"):
        block.register_parameter("new", hominy.ones(2))


def test_assigning_before_init_names_the_mistake():
    class Early(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Early()


def test_no_forward_is_an_error():
    with pytest.raises(NotImplementedError, match=r"\[Module\] forward"):
        nn.Module()(1)


def test_modes_reach_every_module():
    block = Block()
    assert block.eval() is block
    assert not any(module.training for module in block.modules())
    assert block.train() is block
    assert all(module.training for module in block.modules())
    block.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in block.parameters())
    with pytest.raises(ValueError, match="mode: expected a bool"):
        block.train("yes")


def test_apply_visits_children_first():
    visited = []
    Block().apply(lambda module: visited.append(type(module).__name__))
    assert visited == ["Linear", "Linear", "Tanh", "Sequential", "Block"]


def test_zero_grad_drops_or_fills():
    linear = nn.Linear(2, 2)
    linear(hominy.ones(1, 2)).sum().backward()
    linear.zero_grad(set_to_none=False)
    assert np.array_equal(linear.weight.grad.numpy(), np.zeros((2, 2)))
    linear.zero_grad()
    assert linear.weight.grad is None


def test_to_casts_in_place():
    block = Block()
    scale = block.scale
    block.register_buffer("steps", hominy.tensor([1]))
    assert block.double() is block
    assert block.scale is scale and block.scale.dtype == hominy.float64
    assert block.count.dtype == hominy.float64 and block.steps.dtype == hominy.int64
    assert block.to(hominy.float32).last[0].weight.dtype == hominy.float32
    assert block(hominy.ones(1, 3)).dtype == hominy.float32
    assert block.to("cpu") is block
    with pytest.raises(TypeError, match="expected a floating-point dtype"):
        block.to(hominy.int64)


def test_copies_and_pickles_are_independent():
    block = Block()
    for other in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert other.first is other.again and isinstance(other.scale, nn.Parameter)
        assert list(other.state_dict()) == list(block.state_dict())
        with hominy.no_grad():
            other.scale.fill_(7.0)
        assert block.scale.detach().numpy().max() == 1.0


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_inputs_and_outputs():
    identity, calls = nn.Identity(), []
    before = identity.register_forward_pre_hook(lambda module, inputs: (calls.append("before"), (inputs[0] + 1,))[1])
    after = identity.register_forward_hook(lambda module, inputs, output: (calls.append("after"), output * 2)[1])
    identity.register_forward_hook(lambda module, inputs, output: calls.append("first"), prepend=True)
    assert identity(hominy.tensor(3.0)).item() == 8.0
    assert calls == ["before", "first", "after"]
    before.remove()
    before.remove()
    after.remove()
    assert identity(hominy.tensor(3.0)).item() == 3.0


def test_hooks_with_keywords():
    block = Block()
    x = hominy.ones(1, 3)
    block.register_forward_pre_hook(lambda module, inputs, keywords: (inputs, {"factor": 0.0}), with_kwargs=True)
    seen = {}
    block.register_forward_hook(lambda module, inputs, keywords, output: seen.update(keywords), with_kwargs=True)
    assert not block(x, factor=5.0).detach().numpy().any()
    assert seen == {"factor": 0.0}


# ---- state -----------------------------------------------------------------------------------------------------------


def test_state_dict_order_and_sharing():
    block = Block()
    state = block.state_dict()
    assert list(state) == [
        "scale",
        "count",
        "first.weight",
        "first.bias",
        "again.weight",
        "again.bias",
        "last.0.weight",
    ]
    assert not state["scale"].requires_grad
    with hominy.no_grad():
        block.scale.fill_(5.0)
    assert state["scale"].numpy()[0] == 5.0
    assert next(iter(block.state_dict(prefix="model."))) == "model.scale"


def test_load_state_dict_round_trip():
    source, target = Block(), Block()
    assert target.load_state_dict(source.state_dict()) == ([], [])
    for name, value in source.state_dict().items():
        assert np.array_equal(value.numpy(), target.state_dict()[name].numpy())
    arrays = {name: value.numpy() * 0 + 3.0 for name, value in source.state_dict().items()}
    target.load_state_dict(arrays)
    assert target.first.weight.detach().numpy().min() == 3.0 and target.first.weight.requires_grad


def test_load_state_dict_lists_every_problem_and_writes_nothing():
    block = Block()
    before = block.scale.detach().numpy().copy()
    state = block.state_dict()
    state["scale"] = hominy.zeros(3)
    state["first.weight"] = hominy.zeros(2, 3)
    state["stranger"] = hominy.zeros(1)
    del state["last.0.weight"]
    with pytest.raises(RuntimeError) as error:
        block.load_state_dict(state)
    for part in ("unexpected keys: 'stranger'", "missing keys: 'last.0.weight'",
                 "first.weight: expected shape (3, 3), got (2, 3)"):  # fmt: skip
        assert part in str(error.value)
    assert np.array_equal(block.scale.detach().numpy(), before)
    del state["first.weight"]
    result = block.load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["stranger"] and "last.0.weight" in result.missing_keys
    assert not block.scale.detach().numpy().any()


def test_load_state_dict_may_assign():
    linear, weight = nn.Linear(2, 1), hominy.zeros(1, 2, dtype=hominy.float64)
    linear.load_state_dict({"weight": weight, "bias": hominy.zeros(1)}, assign=True)
    assert isinstance(linear.weight, nn.Parameter) and linear.weight.dtype == hominy.float64
    with hominy.no_grad():
        linear.weight.fill_(2.0)
    assert weight.numpy()[0, 0] == 2.0


@pytest.mark.torch
def test_state_dict_carries_over_from_torch(torch):
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    ours = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    weights = [parameter.detach().numpy().astype("float64") for parameter in theirs.parameters()]
    size = np.abs(np.abs(x) @ np.abs(weights[0]).T + np.abs(weights[1])) @ np.abs(weights[2]).T + np.abs(weights[3])
    close(ours(hominy.from_numpy(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(), 16 * EPS * size)


# ---- text ------------------------------------------------------------------------------------------------------------

LAYERS = {
    "Linear(3, 4)": "Linear(in_features=3, out_features=4, bias=True)",
    "Linear(3, 4, bias=False)": None,
    "Bilinear(2, 3, 4)": None,
    "Identity()": "Identity()",
    "Flatten()": None,
    "Unflatten(1, (2, 3))": None,
    "ReLU()": None,
    "ReLU(inplace=True)": None,
    "ReLU6()": None,
    "LeakyReLU(0.1)": None,
    "ELU()": None,
    "SiLU()": None,
    "GELU()": None,
    "GELU('tanh')": None,
    "Tanh()": None,
    "Sigmoid()": None,
    "Softplus()": None,
    "Hardtanh()": None,
    "Softmax(dim=1)": None,
    "LogSoftmax(1)": None,
    "MSELoss()": None,
    "CrossEntropyLoss()": None,
    "Sequential()": None,
    "Sequential(Linear(1, 2), Sequential(Tanh(), Sigmoid()))": None,
    "ModuleList([Linear(1, 1), Linear(1, 1), Tanh(), Linear(1, 1)])": None,
    "ModuleDict({'a': Linear(1, 1), 'b': Tanh()})": None,
}


@pytest.mark.parametrize("text", LAYERS)
@pytest.mark.torch
def test_repr_is_torchs(text, torch):
    assert repr(eval(text, vars(nn))) == repr(eval(text, vars(torch.nn)))


def test_repr():
    assert repr(nn.Sequential(nn.Linear(3, 4), nn.ReLU())) == (
        "Sequential(\n  (0): Linear(in_features=3, out_features=4, bias=True)\n  (1): ReLU()\n)"
    )
    assert repr(nn.Parameter(hominy.ones(2))).startswith("Parameter containing:\n")


# ---- containers ------------------------------------------------------------------------------------------------------


def test_sequential_is_a_list():
    a, b, c = nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 3)
    model = nn.Sequential(a, b)
    assert model.append(c) is model and len(model) == 3 and list(model) == [a, b, c]
    assert model[0] is a and model[-1] is c and list(model[1:]) == [b, c]
    assert isinstance(model[:2], nn.Sequential) and c in model
    model[1] = nn.Sigmoid()
    assert isinstance(model[1], nn.Sigmoid)
    del model[0]
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    model.insert(0, a)
    assert model[0] is a and len(model) == 3
    for index in (3, -4):
        with pytest.raises(IndexError, match=r"\[Sequential\] index: expected an index of 3 modules"):
            model[index]
    with pytest.raises(TypeError, match=r"\[Sequential\] 1: expected a hominy.nn.Module, got str"):
        nn.Sequential(nn.Tanh(), "tanh")


def test_sequential_of_names():
    model = nn.Sequential(OrderedDict(first=nn.Linear(1, 1), last=nn.Tanh()))
    assert list(model.state_dict()) == ["first.weight", "first.bias"]
    assert model.last is model[1] and list(model[:1].state_dict()) == ["first.weight", "first.bias"]


def test_module_list():
    modules = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    modules += [nn.Tanh()]
    assert len(modules) == 4 and isinstance(modules.pop(), nn.Tanh) and len(modules) == 3
    assert len(modules + modules[:1]) == 4 and len(list(modules.parameters())) == 6


def test_module_dict():
    modules = nn.ModuleDict({"a": nn.Linear(1, 1)})
    modules["b"] = nn.Tanh()
    assert list(modules) == ["a", "b"] and "b" in modules and len(modules) == 2
    assert [name for name, _ in modules.items()] == ["a", "b"]
    assert isinstance(modules.pop("b"), nn.Tanh) and "b" not in modules
    with pytest.raises(KeyError, match="expected one of 'a', got 'c'"):
        modules["c"]
    modules.clear()
    assert not len(modules)


# ---- layers ----------------------------------------------------------------------------------------------------------


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
               "Softmax(dim=0)", "LogSoftmax(1)", "Identity()"]  # fmt: skip


@pytest.mark.parametrize("text", ACTIVATIONS)
@pytest.mark.torch
def test_activations_are_torchs(text, torch):
    x = (3 * np.random.default_rng(1).standard_normal((4, 33))).astype("float64")
    gradient = np.random.default_rng(2).standard_normal(x.shape)
    ours, theirs = hominy.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = eval(text, vars(nn))(ours), eval(text, vars(torch.nn))(theirs)
    y.backward(hominy.from_numpy(gradient))
    z.backward(torch.from_numpy(gradient))
    # Each is a few operations of at most 4 eps on numbers of size |x| + 1; rows of 33 are summed in the softmaxes, and
    # their gradients multiply that sum by the output.
    bound = 64 * np.finfo(np.float64).eps * (np.abs(x) + 1)
    close(y.detach().numpy(), z.detach().numpy(), bound)
    close(ours.grad.numpy(), theirs.grad.numpy(), bound * (np.abs(gradient).sum(axis=1, keepdims=True) + 1))


LOSSES = ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.torch
def test_elementwise_losses_are_torchs(name, reduction, torch):
    rng = np.random.default_rng(3)
    x, target = rng.uniform(0.01, 0.99, (5, 7)), rng.uniform(0, 1, (5, 7))
    ours, theirs = hominy.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss = getattr(nn, name)(reduction=reduction)(ours, hominy.from_numpy(target))
    other = getattr(torch.nn, name)(reduction=reduction)(theirs, torch.from_numpy(target))
    (loss * loss).sum().backward()
    (other * other).sum().backward()
    eps = np.finfo(np.float64).eps
    # 35 terms of at most |log 0.01| < 5 each, gradients of at most 1/0.01, products of the two.
    close(loss.detach().numpy(), other.detach().numpy(), 35 * 5 * 8 * eps)
    close(ours.grad.numpy(), theirs.grad.numpy(), 35 * 5 * 100 * 16 * eps)


@pytest.mark.torch
def test_weights_of_binary_losses(torch):
    rng = np.random.default_rng(4)
    x, target, weight = rng.standard_normal((5, 7)), rng.uniform(0, 1, (5, 7)), rng.uniform(0, 2, 7)
    ours = nn.BCEWithLogitsLoss(weight=hominy.from_numpy(weight), pos_weight=hominy.from_numpy(weight + 1))
    theirs = torch.nn.BCEWithLogitsLoss(weight=torch.from_numpy(weight), pos_weight=torch.from_numpy(weight + 1))
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "pos_weight"]
    result = ours(hominy.from_numpy(x), hominy.from_numpy(target)).item()
    # Sums of 35 terms of size at most (|x| + 1) * 2 * 3.
    bound = 35 * 16 * np.finfo(np.float64).eps * (np.abs(x).max() + 1) * 6
    close(result, theirs(torch.from_numpy(x), torch.from_numpy(target)).item(), bound)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", [{}, {"weight": True}, {"label_smoothing": 0.1}, {"ignore_index": 2},
                                      {"weight": True, "label_smoothing": 0.3, "ignore_index": 0}])  # fmt: skip
@pytest.mark.torch
def test_cross_entropy_is_torchs(settings, reduction, torch):
    rng = np.random.default_rng(5)
    x, target, weight = rng.standard_normal((9, 4)), rng.integers(0, 4, 9), rng.uniform(0.5, 2, 4)
    gradients = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        arguments = {**settings, "reduction": reduction}
        if "weight" in settings:
            arguments["weight"] = framework.from_numpy(weight)
        logits = framework.tensor(x, requires_grad=True)
        loss = modules.CrossEntropyLoss(**arguments)(logits, framework.from_numpy(target))
        loss.sum().backward()
        arguments.pop("label_smoothing", None)
        same = modules.NLLLoss(**arguments)(modules.LogSoftmax(1)(logits), framework.from_numpy(target))
        gradients.append((loss.detach().numpy(), same.detach().numpy(), logits.grad.numpy()))
    # Sums of 9 rows; each row's loss is at most 2 * (log 4 + 2 max|x|), each gradient at most 2, with a few roundings.
    bound = 64 * np.finfo(np.float64).eps * 9 * 2 * (2 + 2 * np.abs(x).max())
    for ours, theirs in zip(*gradients, strict=True):
        close(ours, theirs, bound)


def test_functional_names_are_the_operators():
    from hominy.nn import functional

    for name in ("relu", "gelu", "softmax", "linear", "bilinear", "cross_entropy", "mse_loss", "l1_loss", "nll_loss",
                 "binary_cross_entropy", "binary_cross_entropy_with_logits", "leaky_relu", "elu", "silu", "softplus",
                 "hardtanh", "relu6", "log_softmax", "tanh", "sigmoid"):  # fmt: skip
        assert callable(getattr(functional, name)), name


# ---- initialisation --------------------------------------------------------------------------------------------------


def assert_moments(values, mean, std):
    """Mean and deviation of independent values, within six of their own deviations (normal or flatter tails)."""
    n = values.size
    assert abs(values.mean() - mean) < 6 * std / math.sqrt(n)
    assert abs(values.std() - std) < 6 * std / math.sqrt(n)


def test_init_moments():
    hominy.manual_seed(11)
    init, tensor = nn.init, hominy.empty(60, 40, 5)  # fan_in 200, fan_out 300
    for fill, mean, std in (
        (lambda: init.uniform_(tensor, -1, 3), 1.0, 4 / math.sqrt(12)),
        (lambda: init.normal_(tensor, 2.0, 0.5), 2.0, 0.5),
        (lambda: init.xavier_uniform_(tensor), 0.0, math.sqrt(2 / 500)),
        (lambda: init.xavier_normal_(tensor, 2.0), 0.0, 2 * math.sqrt(2 / 500)),
        (lambda: init.kaiming_uniform_(tensor, nonlinearity="relu"), 0.0, math.sqrt(2 / 200)),
        (lambda: init.kaiming_normal_(tensor, 1.0, mode="fan_out"), 0.0, math.sqrt(1 / 300)),
    ):
        assert fill() is tensor
        assert_moments(tensor.numpy(), mean, std)


@pytest.mark.parametrize("interval", [(-2.0, 2.0), (-0.1, 0.1), (3.0, 4.0), (-9.0, -6.0), (-1e6, 1e6), (1.0, 1e6)])
def test_truncated_normals_follow_their_distribution(interval):
    """Kolmogorov's distance to the exact distribution: above 2.5/sqrt(n) with a chance of 1e-5."""
    hominy.manual_seed(12)
    low, high = interval
    n = 20_000
    values = np.sort(nn.init.trunc_normal_(hominy.empty(n, dtype=hominy.float64), 0.5, 2.0,
                                           0.5 + 2 * low, 0.5 + 2 * high).numpy())  # fmt: skip
    assert values[0] >= 0.5 + 2 * low and values[-1] <= 0.5 + 2 * high
    sign = -1.0 if low > 0 else 1.0  # the lower tail keeps its digits
    tail = [0.5 * math.erfc(-sign * x / math.sqrt(2)) for x in (low, high, *((values - 0.5) / 2))]
    expected = (np.array(tail[2:]) - tail[0]) / (tail[1] - tail[0])
    assert np.abs(expected - (np.arange(n) + 0.5) / n).max() < 2.5 / math.sqrt(n)


def test_fixed_inits():
    init = nn.init
    assert init.constant_(hominy.empty(3), 4.0).numpy().tolist() == [4.0] * 3
    assert init.zeros_(hominy.empty(2)).numpy().tolist() == [0.0] * 2
    assert init.ones_(nn.Parameter(hominy.empty(2))).detach().numpy().tolist() == [1.0] * 2
    assert np.array_equal(init.eye_(hominy.empty(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 2, 4), (1, 1)])
def test_orthogonal(shape):
    q = nn.init.orthogonal_(hominy.empty(*shape, dtype=hominy.float64), gain=2.0).numpy().reshape(shape[0], -1)
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    close(small, 4 * np.eye(len(small)), 4 * 32 * max(q.shape) * np.finfo(np.float64).eps)


def test_init_repeats_with_the_seed():
    hominy.manual_seed(5)
    first = nn.Linear(5, 7).state_dict()
    hominy.manual_seed(5)
    for name, value in nn.Linear(5, 7).state_dict().items():
        assert np.array_equal(first[name].numpy(), value.numpy())


@pytest.mark.torch
def test_gains_are_torchs(torch):
    for name, param in [("linear", None), ("conv2d", None), ("sigmoid", None), ("tanh", None), ("relu", None),
                        ("leaky_relu", None), ("leaky_relu", 0.3), ("selu", None)]:  # fmt: skip
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda i, t: i.normal_(t, 0.0, -1.0), r"\[normal_\] std: expected a finite number of 0 or more, got -1.0"),
        (lambda i, t: i.uniform_(t, 1.0, 0.0), r"\[uniform_\] b: expected a number not below a=1.0, got 0.0"),
        (lambda i, t: i.uniform_(t, 0.0, math.inf), r"\[uniform_\] b: expected a finite number, got inf"),
        (lambda i, t: i.trunc_normal_(t, 0, 1, 2, 1), r"\[trunc_normal_\] a, b, std: expected a < b"),
        (lambda i, t: i.xavier_uniform_(t), r"\[xavier_uniform_\] tensor: expected 2 dimensions or more"),
        (lambda i, t: i.kaiming_normal_(t, mode="fan"), r"\[kaiming_normal_\] mode: expected one of"),
        (lambda i, t: i.calculate_gain("mish"), r"\[calculate_gain\] nonlinearity: expected one of"),
        (lambda i, t: i.eye_(t), r"\[eye_\] tensor: expected 2 dimensions, got \(3,\)"),
        (lambda i, t: i.orthogonal_(t), r"\[orthogonal_\] tensor: expected 2 dimensions or more"),
    ],
)
def test_init_checks_arguments(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call(nn.init, hominy.zeros(3))


# ---- nn.utils --------------------------------------------------------------------------------------------------------


def with_gradients(*arrays):
    parameters = [nn.Parameter(hominy.zeros(*np.shape(array))) for array in arrays]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.grad = hominy.from_numpy(np.array(array, "float32"))
    return [*parameters, nn.Parameter(hominy.zeros(2))]  # the last has no gradient


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(norm_type):
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal((4, 5)).astype("float32"), rng.standard_normal(7).astype("float32")]
    norm = np.linalg.norm(np.concatenate([array.ravel() for array in arrays]).astype("float64"), norm_type)
    parameters = with_gradients(*arrays)
    close(nn.utils.clip_grad_norm_(parameters, norm / 2, norm_type).item(), norm, 32 * EPS * norm)
    for parameter, array in zip(parameters, arrays, strict=False):
        close(parameter.grad.numpy(), array / 2, np.abs(array) * (32 * EPS + 1e-6 / norm))
    parameters = with_gradients(*arrays)
    nn.utils.clip_grad_norm_(iter(parameters), norm * 2, norm_type)
    assert np.array_equal(parameters[0].grad.numpy(), arrays[0])


def test_clip_grad_norm_of_nothing_and_of_nan():
    assert nn.utils.clip_grad_norm_([nn.Parameter(hominy.zeros(2))], 1.0).item() == 0.0
    parameters = with_gradients([1.0, math.nan])
    with pytest.raises(RuntimeError, match=r"\[clip_grad_norm_\] parameters: expected gradients of a finite norm"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[0].grad.numpy()[0] == 1.0
    assert math.isnan(nn.utils.clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(parameters[0].grad.numpy()).all()
    for bad in (math.nan, -1.0, "x"):
        with pytest.raises((TypeError, ValueError), match=r"\[clip_grad_norm_\] max_norm"):
            nn.utils.clip_grad_norm_(parameters, bad)


def test_clip_grad_value():
    parameters = with_gradients([-3.0, 0.5, 3.0])
    nn.utils.clip_grad_value_(parameters, 1.0)
    assert parameters[0].grad.numpy().tolist() == [-1.0, 0.5, 1.0]


def test_parameters_to_vector_and_back():
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(source.parameters())
    assert tuple(vector.shape) == (8,)
    nn.utils.vector_to_parameters(vector, target.parameters())
    assert np.array_equal(target.weight.detach().numpy(), source.weight.detach().numpy())
    with pytest.raises(ValueError, match=r"vec: expected shape \(8,\), got \(7,\)"):
        nn.utils.vector_to_parameters(vector[1:], target.parameters())
