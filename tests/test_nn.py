"""Modules: their names, state, hooks and text."""

import copy
import importlib
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
    assert block.to("cpu", hominy.float64).scale.dtype == hominy.float64
    assert block.to(hominy.zeros(1)).scale.dtype == hominy.float32
    assert block.to(device="cpu", dtype="float64").type(hominy.float32).cpu().scale.dtype == hominy.float32
    assert block.half().scale.dtype == hominy.float16 and block.float().scale is scale
    with pytest.raises(ValueError, match=r"device: expected one of None, 'cpu', got 'cuda'"):
        block.to(device="cuda")
    with pytest.raises(TypeError, match='expected "cpu" and one dtype'):
        block.to(hominy.float32, hominy.float64)


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


def both(torch, build, run):
    """What `run` returns of the same model in hominy and in PyTorch, with the same weights and inputs."""
    ours, theirs = build(hominy.nn, hominy), build(torch.nn, torch)
    ours.load_state_dict(theirs.state_dict())
    return run(ours, hominy), run(theirs, torch)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.torch
def test_backward_hooks_are_torchs(torch, wanted):
    x = np.random.default_rng(2).standard_normal((3, 4)).astype("float32")

    def build(nn, framework):
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))

    def run(model, framework):
        seen = []

        def keep(*tuples):
            seen.append([None if g is None else g.detach().numpy().copy() for grads in tuples for g in grads])

        model[0].register_full_backward_hook(lambda module, inputs, outputs: keep(inputs, outputs))
        model[1].register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
        model[2].register_full_backward_pre_hook(lambda module, outputs: keep(outputs))
        first = model[2].register_full_backward_hook(lambda module, inputs, outputs: keep(inputs))
        model[2].register_full_backward_hook(lambda module, inputs, outputs: seen.append("before"), prepend=True)
        leaf = framework.tensor(x, requires_grad=wanted)
        (model(leaf) ** 2).sum().backward()
        first.remove()
        (model(leaf) ** 2).sum().backward()
        return seen, model[0].weight.grad.numpy()

    (ours, gradient), (theirs, expected) = both(torch, build, run)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert type(mine) is type(other)
        for a, b in zip(mine, other, strict=True):
            assert (a is None) == (b is None)
            if isinstance(a, np.ndarray):
                close(a, b, 64 * EPS * (1 + np.abs(b)))
    close(gradient, expected, 64 * EPS * (1 + np.abs(expected)))


def test_backward_hooks_pass_other_values_and_no_grad():
    class Pair(nn.Module):
        def forward(self, x, factor, flag=None):
            return {"list": [x * factor, x, 3]}["list"]

    pair, seen = Pair(), []
    pair.register_full_backward_hook(lambda module, inputs, outputs: seen.append((inputs, outputs)))
    x = hominy.ones(2, requires_grad=True)
    y, z, three = pair(x, 2.0, flag="kept")
    assert three == 3 and type(pair(x, 2.0)) is list
    (y + z).sum().backward()
    ((of_x, of_factor), (of_y, of_z, of_three)), = seen  # fmt: skip
    assert of_factor is None and of_three is None and of_x.tolist() == [3.0, 3.0]
    assert of_y.tolist() == of_z.tolist() == [1.0, 1.0] and x.grad.tolist() == [3.0, 3.0]
    with hominy.no_grad():
        assert not pair(x, 2.0)[0].requires_grad
    wrong = nn.Identity()
    wrong.register_full_backward_hook(lambda module, inputs, outputs: (None, None))
    with pytest.raises(RuntimeError, match=r"\[backward hook\] result: expected None or 1 gradients, got 2"):
        wrong(x).sum().backward()


def test_a_hook_is_removed_at_the_end_of_its_block():
    linear, calls = nn.Linear(1, 1), []
    with linear.register_forward_hook(lambda *arguments: calls.append(1)) as handle:
        linear(hominy.ones(1))
    linear(hominy.ones(1))
    handle.remove()
    assert calls == [1]
    assert type(handle) is type(hominy.ones(1, requires_grad=True).register_hook(print))


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
    assert repr(block.load_state_dict(block.state_dict())) == "<All keys matched successfully>"
    assert "unexpected_keys=['stranger']" in repr(result)
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
    "CELU(0.5)": None,
    "SELU()": None,
    "SELU(inplace=True)": None,
    "PReLU(3)": None,
    "RReLU()": None,
    "RReLU(0.1, 0.2, True)": None,
    "Mish()": None,
    "LogSigmoid()": None,
    "Softsign()": None,
    "Tanhshrink()": None,
    "Hardshrink()": None,
    "Softshrink(0.3)": None,
    "Threshold(0.1, 20.0)": None,
    "Hardsigmoid()": None,
    "Hardswish()": None,
    "GLU()": None,
    "Softmin(1)": None,
    "Softmax2d()": None,
    "LayerNorm((3, 4))": None,
    "LayerNorm(4, bias=False)": None,
    "RMSNorm(4)": None,
    "GroupNorm(2, 4)": None,
    "BatchNorm1d(3)": None,
    "BatchNorm2d(3, momentum=None)": None,
    "BatchNorm3d(3, affine=False)": None,
    "InstanceNorm1d(3)": None,
    "InstanceNorm2d(3, affine=True)": None,
    "InstanceNorm3d(3, track_running_stats=True)": None,
    "Embedding(5, 3)": None,
    "Embedding(5, 3, -1, 2.0, 1.0, True)": None,
    "EmbeddingBag(5, 3)": None,
    "EmbeddingBag(5, 3, mode='sum', padding_idx=2, max_norm=1.0)": None,
    "Dropout()": None,
    "Dropout1d(0.25)": None,
    "Dropout2d()": None,
    "Dropout3d()": None,
    "AlphaDropout(inplace=True)": None,
    "FeatureAlphaDropout()": None,
    "HuberLoss()": None,
    "KLDivLoss()": None,
    "TripletMarginLoss()": None,
    "PairwiseDistance()": None,
    "CosineSimilarity()": None,
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
    assert model.pop() is c and len(model) == 2
    model += [c]
    assert list(model + nn.Sequential(b)) == [*model, b]
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


def test_set_submodule():
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.Tanh())
    model.set_submodule("0.0", nn.Identity())
    assert isinstance(model[0][0], nn.Identity) and not list(model.parameters())
    with pytest.raises(AttributeError, match="target: expected the path of a submodule"):
        model.set_submodule("2.0", nn.Identity())


def test_parameter_list():
    values = nn.ParameterList([hominy.ones(2), nn.Parameter(hominy.zeros(3)), "text"])
    assert [name for name, _ in values.named_parameters()] == ["0", "1"] == list(values.state_dict())
    assert isinstance(values[0], nn.Parameter) and values[-1] == "text" and len(values) == 3
    values += [hominy.ones(1)]
    values[2] = hominy.ones(4)
    assert [tuple(value.shape) for value in values] == [(2,), (3,), (4,), (1,)]
    assert len(values[1:3]) == 2 and values[1] in values
    last = values.pop()
    assert tuple(last.shape) == (1,) and len(values) == 3 and tuple(values.pop(0).shape) == (2,)
    assert list(values.state_dict()) == ["0", "1"] and tuple(values[0].shape) == (3,)
    for index in (2, -3):
        with pytest.raises(IndexError, match=r"\[ParameterList\] index: expected an index of 2 parameters"):
            values[index]
    assert len(copy.deepcopy(values)) == 2 and values.append(3) is values


def test_parameter_dict():
    values = nn.ParameterDict({"a": hominy.ones(2), "b": nn.Parameter(hominy.zeros(3))})
    values["number"] = 4
    assert list(values) == ["a", "b", "number"] and len(values) == 3 and "a" in values
    assert [name for name, _ in values.named_parameters()] == ["a", "b"]
    assert values.get("c", 1) == 1 and values.setdefault("c", 5) == 5 and values.pop("c") == 5
    assert tuple(values.pop("a").shape) == (2,) and list(values.state_dict()) == ["b"]
    with pytest.raises(KeyError, match="expected one of 'b', 'number', got 'a'"):
        values["a"]
    for name in ("training", "x.y", "keys"):
        with pytest.raises(KeyError, match="name"):
            values[name] = hominy.ones(1)
    values.clear()
    assert not len(values) and not values.items()


# ---- summary ---------------------------------------------------------------------------------------------------------


def test_summary():
    model = nn.Sequential(nn.Linear(6, 1000), nn.BatchNorm1d(1000), nn.Sequential(nn.ReLU(), nn.Linear(1000, 2)))
    model[2][1].bias.requires_grad_(False)
    before = model[1].running_mean.numpy().copy()
    table = nn.summary(model, (3, 6))
    assert [layer.path for layer in table.layers] == [name for name, _ in model.named_modules()]
    assert [layer.output_shape for layer in table.layers] == [(3, 2), (3, 1000), (3, 1000), (3, 2), (3, 1000), (3, 2)]
    assert table.parameters == sum(p.numel() for p in model.parameters()) == 11002 and table.trainable == 11000
    assert table.buffers == 2001 and table.bytes == 4 * (11002 + 2000) + 8
    lines = str(table).split("\n")
    assert len({len(line) for line in lines[:9]}) == 1, "the columns do not align"
    assert lines[0].split() == ["layer", "output", "shape", "parameters"] and set(lines[1]) == {"-"}
    assert lines[3].split() == ["0:", "Linear", "(3,", "1000)", "7,000"]
    assert "11,002 parameters, 11,000 of them trainable; 2,001 elements in buffers" in lines
    assert np.array_equal(model[1].running_mean.numpy(), before) and model[1].training
    assert model[1]._hooks is None or not model[1]._hooks.after
    assert nn.summary(model).layers[0].output_shape is None
    assert nn.summary(model, example=hominy.ones(5, 6)).layers[0].output_shape == (5, 2)


def test_summary_of_shared_layers_and_several_inputs():
    block = Block()
    assert nn.summary(block).parameters == 3 + 12 + 6
    bilinear = nn.Bilinear(2, 3, 4)
    for table in (nn.summary(bilinear, [(5, 2), (5, 3)]),
                  nn.summary(bilinear, example=(hominy.ones(5, 2), hominy.ones(5, 3)))):  # fmt: skip
        assert table.layers[0].output_shape == (5, 4)
    with pytest.raises(TypeError, match=r"\[summary\] example: expected input_size or example, got both"):
        nn.summary(bilinear, (1,), example=1)
    with pytest.raises(TypeError, match=r"\[summary\] model: expected a hominy.nn.Module"):
        nn.summary(print)
    with pytest.raises(ValueError, match="linear"):
        nn.summary(nn.Linear(2, 3), (1, 7))
