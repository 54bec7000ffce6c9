"""Learning-rate schedules: whole runs against PyTorch's, state dictionaries both ways, and what bad arguments raise."""

import importlib
import inspect
import json
import math

import hominy
import numpy as np
import pytest
from hominy import nn, optim
from hominy.optim import lr_scheduler

STEPS = 40
ROUNDING = 8 * np.finfo(np.float64).eps


@pytest.fixture
def torch():
    return importlib.import_module("torch")


class Decay:
    """A schedule with state of its own: an object, not a function."""

    def __init__(self):
        self.calls = 0

    def __call__(self, step):
        self.calls += 1
        return 0.9**step


def sequential(s, o):
    parts = [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 10, 0.001), s.ExponentialLR(o, 0.9)]
    return s.SequentialLR(o, parts, [5, 15])


def nested(s, o):
    inner = s.SequentialLR(o, [s.ConstantLR(o, 0.5, 2), s.StepLR(o, 3)], [4])
    return s.SequentialLR(o, [inner, s.PolynomialLR(o, 12, 2.0)], [10])


SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 1 / (t + 1)),
    "lambda, each group": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (t + 1)]),
    "lambda, object": lambda s, o: s.LambdaLR(o, Decay()),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda t: 0.95 if t % 2 else 1.01),
    "step": lambda s, o: s.StepLR(o, 7, 0.5),
    "multistep": lambda s, o: s.MultiStepLR(o, [3, 3, 11, 30], 0.3),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 6),
    "linear": lambda s, o: s.LinearLR(o, 0.2, 0.9, 13),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "polynomial": lambda s, o: s.PolynomialLR(o, 17, 1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 9, 0.004),
    "cosine, one period": lambda s, o: s.CosineAnnealingLR(o, STEPS),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 6, eta_min=0.001),
    "restarts, longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 2),
    "one cycle": lambda s, o: s.OneCycleLR(o, [0.5, 0.1], total_steps=STEPS + 1),
    "one cycle, linear, three phases": lambda s, o: s.OneCycleLR(
        o, 0.5, epochs=6, steps_per_epoch=7, pct_start=0.25, anneal_strategy="linear", three_phase=True
    ),
    "one cycle, no momentum": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=STEPS + 1, cycle_momentum=False),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, [0.2, 0.1], 5, 3),
    "cyclic, triangular2": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 5, mode="triangular2"),
    "cyclic, exponential": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 5, mode="exp_range", gamma=0.97),
    "cyclic, function": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 5, scale_fn=lambda x: 1 / x, cycle_momentum=False),
    "sequential": sequential,
    "sequential, nested": nested,
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9)]),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


class Run:
    """An optimizer with two groups and its schedule, of either library."""

    def __init__(self, module, name, optimizer="SGD"):
        zeros, parameter = module.zeros, module.nn.Parameter
        groups = [{"params": [parameter(zeros(2))]}, {"params": [parameter(zeros(1))], "lr": 0.02}]
        settings = {"momentum": 0.9} if optimizer == "SGD" else {}
        self.optimizer = getattr(module.optim, optimizer)(groups, lr=0.1, **settings)
        self.schedule = SCHEDULES[name](module.optim.lr_scheduler, self.optimizer)

    def numbers(self):
        groups = self.optimizer.param_groups
        return [group["lr"] for group in groups] + [group.get("momentum", group.get("betas")) for group in groups]

    def run(self, steps):
        """The rates and momenta before each of `steps` steps."""
        rows = []
        for _ in range(steps):
            rows.append(np.hstack(self.numbers()))
            assert self.schedule.get_last_lr() == [group["lr"] for group in self.optimizer.param_groups]
            self.optimizer.step()
            self.schedule.step()
        return np.array(rows)


def same(ours, theirs):
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) <= ROUNDING * np.abs(theirs)).all(), ours - theirs


@pytest.mark.filterwarnings("ignore")
@every_schedule
@pytest.mark.torch
def test_runs_are_torchs(name, torch):
    for optimizer in ("SGD", "Adam"):
        same(Run(hominy, name, optimizer).run(STEPS), Run(torch, name, optimizer).run(STEPS))


@every_schedule
def test_a_run_goes_on_from_its_state(name):
    whole = Run(hominy, name).run(STEPS)
    first, second = Run(hominy, name), Run(hominy, name)
    same(first.run(13), whole[:13])
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.schedule.load_state_dict(first.schedule.state_dict())
    assert np.array_equal(second.run(STEPS - 13), whole[13:])


@pytest.mark.filterwarnings("ignore")
@every_schedule
@pytest.mark.torch
def test_a_run_goes_on_from_torchs_state_and_torchs_from_ours(name, torch):
    whole = Run(torch, name).run(STEPS)
    for one, other in ((hominy, torch), (torch, hominy)):
        first, second = Run(one, name), Run(other, name)
        first.run(13)
        for group, saved in zip(second.optimizer.param_groups, first.optimizer.param_groups, strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})
        second.schedule.load_state_dict(first.schedule.state_dict())
        same(second.run(STEPS - 13), whole[13:])


@pytest.mark.filterwarnings("ignore")
@every_schedule
@pytest.mark.torch
def test_state_has_torchs_keys(name, torch):
    passing = {"_get_lr_called_within_step"}
    ours, theirs = (set(Run(module, name).schedule.state_dict()) for module in (hominy, torch))
    assert ours - {"default_min_lr"} <= theirs and theirs - passing <= ours


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.torch
def test_plateaus_are_torchs(mode, threshold_mode, torch):
    metrics = np.abs(np.random.default_rng(5).standard_normal(60)).tolist()
    metrics[50:53] = [math.nan, math.inf, -math.inf]
    rates = []
    for module in (hominy, torch):
        run = Run(module, "step")
        make = module.optim.lr_scheduler.ReduceLROnPlateau
        settings = {"mode": mode, "factor": 0.5, "patience": 2, "threshold": 0.01, "threshold_mode": threshold_mode,
                    "cooldown": 1, "min_lr": [1e-3, 1e-4]}  # fmt: skip
        schedule = make(run.optimizer, **settings)
        rows = []
        for count, metric in enumerate(metrics):
            if count == 20:
                again = make(run.optimizer, **settings)
                again.load_state_dict(schedule.state_dict())
                schedule = again
            schedule.step(module.tensor(metric))
            rows.append(schedule.get_last_lr())
        rates.append(np.array(rows))
    same(*rates)
    assert rates[0][-1][0] < 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.torch
def test_step_to_an_epoch(torch):
    """Closed forms; fractional epochs between restarts."""
    for name in ("step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine"):
        ours, theirs = Run(hominy, name), Run(torch, name)
        for epoch in (3, 11, 6, 40, 0):
            ours.schedule.step(epoch)
            theirs.schedule.step(epoch)
            same(np.hstack(ours.numbers()), np.hstack(theirs.numbers()))
    for name in ("restarts", "restarts, longer"):
        ours, theirs = Run(hominy, name), Run(torch, name)
        for epoch in (0.5, 3.75, 6.25, 20.5, 29.0):
            ours.schedule.step(epoch)
            theirs.schedule.step(epoch)
            same(np.hstack(ours.numbers()), np.hstack(theirs.numbers()))
        with pytest.raises(ValueError, match="epoch: expected a finite number of 0 or more, got -1"):
            ours.schedule.step(-1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.torch
def test_last_epoch_goes_on(torch):
    for make in (
        lambda s, o, last: s.StepLR(o, 4, 0.5, last_epoch=last),
        lambda s, o, last: s.CosineAnnealingLR(o, 20, last_epoch=last),
        lambda s, o, last: s.LambdaLR(o, lambda t: 0.9**t, last_epoch=last),
        lambda s, o, last: s.OneCycleLR(o, 0.3, total_steps=30, last_epoch=last),
    ):
        rows = []
        for module in (hominy, torch):
            run = Run(module, "step")
            make(module.optim.lr_scheduler, run.optimizer, -1)
            for group in run.optimizer.param_groups:
                group["lr"] = 0.07
            schedule = make(module.optim.lr_scheduler, run.optimizer, 6)
            for _ in range(5):
                rows.append(schedule.get_last_lr())
                schedule.step()
        same(np.array(rows[:5]), np.array(rows[5:]))
    with pytest.raises(KeyError, match=r"\[StepLR\] optimizer: expected an \"initial_lr\" in group 0"):
        lr_scheduler.StepLR(optim.SGD([nn.Parameter(hominy.zeros(1))]), 3, last_epoch=2)


@pytest.mark.torch
def test_arguments_and_defaults_are_torchs(torch):
    for name, ours in vars(lr_scheduler).items():
        theirs = getattr(torch.optim.lr_scheduler, name, None)
        if inspect.isclass(ours) and issubclass(ours, lr_scheduler.LRScheduler) and theirs is not None:
            given, expected = (
                [(p.name, p.default) for p in inspect.signature(each).parameters.values()] for each in (ours, theirs)
            )
            assert given == expected, name


def test_state_is_plain():
    """It can be written as JSON where no function is part of it."""
    for name in ("step", "cosine", "one cycle", "restarts"):
        assert json.loads(json.dumps(Run(hominy, name).schedule.state_dict()))["last_epoch"] == 0


def test_objects_keep_their_state():
    first, second = Run(hominy, "lambda, object"), Run(hominy, "lambda, object")
    first.run(6)
    second.schedule.load_state_dict(first.schedule.state_dict())
    assert second.schedule.lr_lambdas[0].calls == first.schedule.lr_lambdas[0].calls > 6


def test_a_rate_in_the_optimizers_step():
    """What is written is what the next step reads."""
    parameter = nn.Parameter(hominy.zeros(1))
    optimizer = optim.SGD([parameter], lr=1.0)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        parameter.grad = hominy.ones(1)
        optimizer.step()
        schedule.step()
    assert parameter.item() == -1.75


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda o: lr_scheduler.StepLR("sgd", 3), r"\[StepLR\] optimizer: expected a hominy.optim.Optimizer"),
        (lambda o: lr_scheduler.StepLR(o, 0), r"\[StepLR\] step_size: expected a positive integer, got 0"),
        (lambda o: lr_scheduler.StepLR(o, 3, math.nan), r"\[StepLR\] gamma: expected a finite number, got nan"),
        (lambda o: lr_scheduler.MultiStepLR(o, [1.5]), r"\[MultiStepLR\] milestones: expected an integer"),
        (lambda o: lr_scheduler.LinearLR(o, 0), r"\[LinearLR\] start_factor: expected a number above 0"),
        (lambda o: lr_scheduler.LinearLR(o, 1.5), r"\[LinearLR\] start_factor: expected a number of 0 to 1, got 1.5"),
        (lambda o: lr_scheduler.ConstantLR(o, 1.5), r"\[ConstantLR\] factor: expected a number of 0 to 1, got 1.5"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), r"\[CosineAnnealingLR\] T_max: expected a positive integer"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 0), r"T_mult: expected a positive integer, got 0"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs, abs]), r"\[LambdaLR\] lr_lambda: expected 1 functions, .*, got 2"),
        (lambda o: lr_scheduler.LambdaLR(o, 0.9), r"\[LambdaLR\] lr_lambda: expected functions of the step, got 0.9"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), r"\[OneCycleLR\] total_steps: expected a number of steps"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 9, anneal_strategy="x"), r"anneal_strategy: expected one of 'cos'"),
        (lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.2], 9), r"max_lr: expected a number, or 1 of them"),
        (lambda o: lr_scheduler.OneCycleLR(optim.Adagrad([nn.Parameter(hominy.zeros(1))]), 0.1, 9),
         r"\[OneCycleLR\] cycle_momentum: expected False"),
        (lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), r"\[CyclicLR\] mode: expected one of"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "down"), r"mode: expected one of 'min', 'max', got 'down'"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), r"factor: expected a finite number of 0 or more and"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), r"\[SequentialLR\] schedulers: expected at least one"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 3)], [4]),
         r"\[SequentialLR\] milestones: expected 0 steps, one fewer than schedulers, got \[4\]"),
        (lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(o)]),
         r"\[ChainedScheduler\] schedulers: expected schedules that need no metric"),
        (lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.StepLR(o, 3), lr_scheduler.StepLR(optim.SGD([nn.Parameter(hominy.zeros(1))]), 3)]),
         r"\[ChainedScheduler\] schedulers: expected schedules of one optimizer"),
        (lambda o: lr_scheduler.StepLR(o, 3).load_state_dict([]), r"state_dict: expected a dictionary, got 'list'"),
    ],
)  # fmt: skip
def test_bad_arguments(make, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        make(optim.SGD([nn.Parameter(hominy.zeros(1))], momentum=0.9))


def test_one_cycle_ends():
    run = Run(hominy, "one cycle")
    run.run(STEPS + 1)
    with pytest.raises(ValueError, match=rf"\[OneCycleLR\] step: expected at most {STEPS + 1} steps, got {STEPS + 2}"):
        run.schedule.step()
