"""Optimizers: trajectories against PyTorch, groups, state and its dictionaries, and what bad settings raise."""

import functools
import importlib
import inspect
import math

import hominy
import numpy as np
import pytest
from hominy import nn, optim


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent. Its step counts and NAdam's mu_product are of the
    default dtype."""
    module = importlib.import_module("torch")
    default = module.get_default_dtype()
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(default)


EPS = float(np.finfo(np.float64).eps)
SHAPES = [(3, 4), (4,), (), (17, 5)]
ALL = (True,) * len(SHAPES)
STEPS = 12

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.5, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "maximize": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "betas": (0.4, 0.9), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.3}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "centered": True}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.1}),
    (
        "Adagrad",
        {"lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True},
    ),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
]
NAMES = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")


class Twin:
    """The same parameters in hominy and in PyTorch, given the same gradients."""

    def __init__(self, torch, name, settings, split=False):
        rng = np.random.default_rng(0)
        values = [np.asarray(rng.standard_normal(shape)) for shape in SHAPES]
        self.rng, self.torch = rng, torch
        self.ours = [nn.Parameter(hominy.from_numpy(value.copy())) for value in values]
        self.theirs = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in values]
        self.optimizers = []
        for parameters, module in ((self.ours, optim), (self.theirs, torch.optim)):
            groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.02}] if split else parameters
            self.optimizers.append(getattr(module, name)(groups, **settings))

    def step(self, present=ALL):
        for ours, theirs, has_gradient in zip(self.ours, self.theirs, present, strict=True):
            gradient = np.asarray(self.rng.standard_normal(tuple(ours.shape)))
            ours.grad = hominy.from_numpy(gradient) if has_gradient else None
            theirs.grad = self.torch.from_numpy(gradient.copy()) if has_gradient else None
        for optimizer in self.optimizers:
            optimizer.step()

    def check(self):
        """A step is some ten operations on numbers of size at most 4 plus the values', so it errs by 64 eps of that;
        steps add up, and those after it carry an error on without enlarging it much (every step here shrinks or moves
        values by less than 1)."""
        for ours, theirs in zip(self.ours, self.theirs, strict=True):
            expected = theirs.detach().numpy()
            bound = STEPS * 64 * EPS * (4 + np.abs(expected))
            assert (np.abs(ours.detach().numpy() - expected) <= bound).all()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.torch
def test_trajectories_are_torchs(name, settings, torch):
    twin = Twin(torch, name, settings)
    for _ in range(STEPS):
        twin.step()
    twin.check()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.torch
def test_gradients_that_come_and_go(name, settings, torch):
    """Each parameter has its own step count and its own first step."""
    twin = Twin(torch, name, settings, split=True)
    for step in range(STEPS):
        twin.step([step % 3 != 1, step >= 4, True, step % 2 == 0])
    twin.check()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.torch
def test_state_goes_to_torch_and_back(name, settings, torch):
    """PyTorch's state dict continues here as it does there."""
    first, second = Twin(torch, name, settings), Twin(torch, name, settings)
    for _ in range(3):
        first.step()
    second.rng = first.rng
    with hominy.no_grad(), torch.no_grad():
        for ours, theirs, source in zip(second.ours, second.theirs, first.theirs, strict=True):
            ours.copy_(hominy.from_numpy(source.detach().numpy().copy()))
            theirs.copy_(source)
    saved = first.optimizers[1].state_dict()
    second.optimizers[1].load_state_dict(saved)
    for state in saved["state"].values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and key != "step":
                state[key] = hominy.from_numpy(value.numpy())
    second.optimizers[0].load_state_dict(saved)
    for _ in range(3):
        second.step()
    second.check()


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.torch
def test_state_has_torchs_keys(name, settings, torch):
    """A state dict of ours is one of PyTorch's: it goes on from it."""
    first, second = Twin(torch, name, settings), Twin(torch, name, settings)
    for _ in range(3):
        first.step()
    saved, theirs = (optimizer.state_dict() for optimizer in first.optimizers)
    assert {i: set(state) for i, state in saved["state"].items()} == {
        i: {key for key, value in state.items() if value is not None} for i, state in theirs["state"].items()
    }
    assert set(saved["param_groups"][0]) <= set(theirs["param_groups"][0])
    for state in saved["state"].values():
        for key, value in state.items():
            state[key] = torch.from_numpy(value.numpy().copy()) if isinstance(value, hominy.Tensor) else value
    for group in saved["param_groups"]:
        group.update({key: value for key, value in theirs["param_groups"][0].items() if key not in group})
    second.rng = first.rng
    with torch.no_grad():
        for ours, parameter, source in zip(second.ours, second.theirs, first.ours, strict=True):
            ours.detach().copy_(source.detach())
            parameter.copy_(torch.from_numpy(source.detach().numpy().copy()))
    second.optimizers[0].load_state_dict(first.optimizers[0].state_dict())
    second.optimizers[1].load_state_dict(saved)
    for _ in range(3):
        second.step()
    second.check()


@pytest.mark.torch
def test_defaults_are_torchs(torch):
    for name in NAMES:
        ours = getattr(optim, name)([nn.Parameter(hominy.zeros(1))]).defaults
        theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(1))]).defaults
        assert ours == {key: theirs[key] for key in ours}


def quadratic(optimizer, parameter, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        ((parameter - 3.0) ** 2).sum().backward()
        optimizer.step()
    return parameter.detach().numpy().copy()


def test_state_dict_continues_bit_for_bit():
    for make in (
        lambda p: optim.SGD(p, 0.05, momentum=0.9),
        lambda p: optim.Adam(p, 0.1, amsgrad=True),
        lambda p: optim.NAdam(p, 0.1),
        lambda p: optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, 0.1, initial_accumulator_value=0.1),
        lambda p: optim.Adadelta(p),
    ):
        straight = nn.Parameter(hominy.zeros(5))
        quadratic(make([straight]), straight, 4)
        continued = nn.Parameter(hominy.zeros(5))
        first = make([continued])
        quadratic(first, continued, 2)
        second = make([continued])
        second.load_state_dict(first.state_dict())
        quadratic(second, continued, 2)
        assert np.array_equal(straight.detach().numpy(), continued.detach().numpy())
        kept = [value for state in first.state.values() for value in state.values() if isinstance(value, hominy.Tensor)]
        own = [value for state in second.state.values() for value in state.values() if isinstance(value, hominy.Tensor)]
        assert kept and not any(np.shares_memory(a.numpy(), b.numpy()) for a, b in zip(kept, own, strict=True))


def test_load_state_dict_checks_before_it_changes_anything():
    parameter = nn.Parameter(hominy.zeros(5))
    optimizer = optim.Adam([parameter], 0.1)
    quadratic(optimizer, parameter, 1)
    saved = optimizer.state_dict()
    group = saved["param_groups"][0]
    for broken, pattern in [
        ({"state": {}, "param_groups": []}, r"param_groups: expected groups of \[1\] parameters, got \[\]"),
        ({"state": {7: {}}, "param_groups": [group]}, r"state: expected indices of 1 parameters, got 7"),
        ({"state": {0: {"step": 1, "exp_avg": hominy.zeros(4)}}, "param_groups": [group]}, r"exp_avg: expected shape"),
        ({"state": {}, "param_groups": [{**group, "lr": math.nan}]}, r"\[Adam\] lr: expected a finite number"),
        ([], r"state_dict: expected a dictionary"),
    ]:
        with pytest.raises((TypeError, ValueError), match=pattern):
            optimizer.load_state_dict(broken)
        assert optimizer.state[parameter]["step"] == 1 and optimizer.param_groups[0]["lr"] == 0.1


def test_settings_may_change_between_steps():
    """A schedule writes lr into the group."""
    parameter = nn.Parameter(hominy.zeros(1))
    optimizer = optim.SGD([parameter], 1.0)
    for rate in (1.0, 0.5):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = hominy.ones(1)
        optimizer.step()
    assert parameter.item() == -1.5


def test_a_bad_setting_between_steps_writes_nothing():
    for name in NAMES:
        make = functools.partial(getattr(optim, name), lr=0.1)
        parameter = nn.Parameter(hominy.zeros(1))
        optimizer = make([parameter])
        parameter.grad = hominy.ones(1)
        optimizer.param_groups[0]["lr"] = math.nan
        with pytest.raises(ValueError, match=r"(?i)(lr|learning_rate).*expected.*nan"):
            optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        fresh = nn.Parameter(hominy.zeros(1))
        fresh.grad = hominy.ones(1)
        make([fresh]).step()
        assert parameter.item() == fresh.item()


def test_zero_grad():
    parameter = nn.Parameter(hominy.zeros(2))
    optimizer = optim.SGD([parameter], 0.1)
    parameter.grad = hominy.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad.numpy().tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert parameter.grad is None
    optimizer.step()
    assert parameter.detach().numpy().tolist() == [0.0, 0.0]


def test_closure_runs_with_gradients():
    parameter = nn.Parameter(hominy.zeros(1))
    optimizer = optim.SGD([parameter], 0.25)

    def closure():
        optimizer.zero_grad()
        loss = ((parameter - 3.0) ** 2).sum()
        loss.backward()
        return loss

    with hominy.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert parameter.item() == 1.5


def test_a_step_is_seen_by_the_tape():
    """Backward through values that a step has overwritten raises, as for any write in place."""
    parameter = nn.Parameter(hominy.ones(2))
    loss = (parameter * parameter).sum()
    loss.backward(retain_graph=True)
    optim.SGD([parameter], 0.1).step()
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_integers_and_non_leaves_are_refused():
    parameter = nn.Parameter(hominy.zeros(2))
    for params, error, pattern in [
        ([], ValueError, "expected at least one parameter, got 'none'"),
        (parameter, TypeError, "expected an iterable of tensors"),
        ([parameter, parameter], ValueError, "expected each parameter once"),
        ([{"params": [parameter]}, {"params": parameter}], ValueError, "expected each parameter once"),
        ([parameter * 2], ValueError, "expected leaf tensors"),
        ([hominy.tensor([1, 2])], TypeError, "expected floating-point tensors"),
        ([3.0], TypeError, "expected tensors, got 'float'"),
        ([{"lr": 1.0}], TypeError, 'expected a dictionary with "params"'),
        ([{"params": {parameter}}], TypeError, "expected an ordered collection"),
    ]:
        with pytest.raises(error, match=r"\[SGD\] param\w*: " + pattern):
            optim.SGD(params)


def optim_settings(name):
    return inspect.signature(getattr(optim, name)).parameters


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.1, "fast", None])
@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name in NAMES for setting in ("lr", "weight_decay", "eps", "momentum", "momentum_decay",
     "alpha", "rho", "lr_decay", "initial_accumulator_value") if setting in optim_settings(name)],
)  # fmt: skip
def test_settings_are_finite_and_not_negative(name, setting, bad):
    parameter = nn.Parameter(hominy.zeros(1))
    pattern = rf"\[{name}\] {setting}: expected a finite number of 0 or more, got "
    with pytest.raises((TypeError, ValueError), match=pattern):
        getattr(optim, name)([parameter], **{setting: bad})
    with pytest.raises((TypeError, ValueError), match=pattern):
        getattr(optim, name)([{"params": [parameter], setting: bad}])


@pytest.mark.parametrize("bad", [(0.9,), 0.9, (0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9), ("x", 0.9)])
def test_betas_are_two_numbers_below_one(bad):
    for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax"):
        with pytest.raises((TypeError, ValueError), match=rf"\[{name}\] betas.*: expected "):
            getattr(optim, name)([nn.Parameter(hominy.zeros(1))], betas=bad)


def test_nesterov_needs_momentum():
    for settings in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match=r"\[SGD\] nesterov: expected a momentum above 0 and no dampening"):
            optim.SGD([nn.Parameter(hominy.zeros(1))], nesterov=True, **settings)
    with pytest.raises(ValueError, match=r"\[SGD\] dampening: expected a finite number, got nan"):
        optim.SGD([nn.Parameter(hominy.zeros(1))], dampening=math.nan)


def test_zero_is_a_learning_rate():
    parameter = nn.Parameter(hominy.ones(1))
    parameter.grad = hominy.ones(1)
    optim.SGD([parameter], lr=0.0).step()
    assert parameter.item() == 1.0


@pytest.mark.torch
def test_repr_is_torchs(torch):
    parameters = [nn.Parameter(hominy.zeros(1))]
    text = repr(optim.SGD(parameters, lr=0.1, momentum=0.5))
    assert text.startswith("SGD (\nParameter Group 0\n") and "    lr: 0.1\n" in text and "    momentum: 0.5\n" in text


def test_rho_is_at_most_one():
    with pytest.raises(ValueError, match=r"\[Adadelta\] rho: expected a number of 0 to 1, got 1.5"):
        optim.Adadelta([nn.Parameter(hominy.zeros(1))], rho=1.5)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_choice_of_implementation(name):
    """foreach and fused ask for what is always done here; what no step here can do is refused."""
    make = functools.partial(getattr(optim, name), [nn.Parameter(hominy.zeros(1))])
    assert set(make(foreach=True, fused=True, capturable=False).defaults) == set(make().defaults)
    with pytest.raises(ValueError, match=rf"\[{name}\] differentiable: expected False, got True"):
        make(differentiable=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        make(learning_rate=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_descends(name):
    """x^2 + 10 y^2 from (1, 1), float32; and groups, one frozen by a rate of 0."""
    moving, frozen = nn.Parameter(hominy.ones(2)), nn.Parameter(hominy.ones(2))
    rate = {"Adadelta": 10.0, "SGD": 0.02}.get(name, 0.1)
    optimizer = getattr(optim, name)([{"params": [moving]}, {"params": [frozen], "lr": 0.0}], lr=rate)
    scale = hominy.tensor([1.0, 10.0])
    for _ in range(200):
        optimizer.zero_grad()
        (scale * (moving * moving + frozen * frozen)).sum().backward()
        optimizer.step()
    assert (scale * moving * moving).sum().item() < 0.2
    assert frozen.detach().numpy().tolist() == [1.0, 1.0]


def test_a_centered_variance_is_never_negative():
    """The same gradient at every step: its variance goes to 0, and rounding may not take it below."""
    for dtype in (hominy.float32, hominy.float64):
        parameter = nn.Parameter(hominy.full((1000,), 0.0, dtype=dtype))
        optimizer = optim.RMSprop([parameter], centered=True, alpha=0.5)
        gradient = hominy.from_numpy(np.linspace(0.1, 1, 1000).astype(dtype))
        for _ in range(100):
            parameter.grad = gradient
            optimizer.step()
        assert np.isfinite(parameter.detach().numpy()).all()
