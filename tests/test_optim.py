"""Optimizers: trajectories against PyTorch, groups, state and its dictionaries, and what bad settings raise."""

import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import nn, optim


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


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
]


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


@pytest.mark.torch
def test_defaults_are_torchs(torch):
    for name in ("SGD", "Adam", "AdamW"):
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
    for make in (lambda p: optim.SGD(p, 0.05, momentum=0.9), lambda p: optim.Adam(p, 0.1, amsgrad=True)):
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
    for make in (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: optim.Adam(p, 0.1)):
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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.1, "fast", None])
@pytest.mark.parametrize(
    ("name", "setting"),
    [("SGD", "lr"), ("SGD", "momentum"), ("SGD", "weight_decay"), ("Adam", "lr"), ("Adam", "eps"),
     ("Adam", "weight_decay"), ("AdamW", "lr"), ("AdamW", "weight_decay")],
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
    with pytest.raises((TypeError, ValueError), match=r"\[AdamW\] betas.*: expected "):
        optim.AdamW([nn.Parameter(hominy.zeros(1))], betas=bad)


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
