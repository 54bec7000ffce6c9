"""Learning-rate schedules, under PyTorch's names, arguments and recurrences; their state dictionaries are PyTorch's.

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        train(...)
        schedule.step()

A schedule writes "lr" (some "momentum" or "betas" too) into the optimizer's groups when it is made and at each
`step()`. t below is `last_epoch`, the number of steps taken since; lr_0 is a group's first rate, its "initial_lr".

What PyTorch only warns of (a step of the schedule before the optimizer's first) passes in silence here. Rates are
numbers, not tensors.
"""

from __future__ import annotations

import math
import types
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..utils.arguments import choice, integer, number, wrong
from .optimizer import Optimizer

Factor = Callable[[int], float]


class LRScheduler:
    """Base class: a subclass defines `get_lr()`, the groups' rates at step `last_epoch`.

    Args:
        last_epoch: -1 to begin; else the step to go on from, with groups that have an "initial_lr".
    """

    every = "epoch"  # what one step() belongs to, for `hominy.fit`: "epoch" or "batch"
    _is_initial = False
    _own: tuple[str, ...] = ("optimizer",)  # attributes that the state dictionary leaves out

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer = self._optimizer(optimizer)
        last_epoch = integer(type(self).__name__, "last_epoch", last_epoch, lowest=-1)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    wrong(type(self).__name__, "optimizer", f'an "initial_lr" in group {index} to go on from', "none")
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _optimizer(self, optimizer: Any) -> Optimizer:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                wrong(type(self).__name__, "optimizer", "a hominy.optim.Optimizer", type(optimizer).__name__)
            )
        return optimizer

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The groups' rates at step `last_epoch`, from those of the step before where the schedule is a recurrence."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The groups' rates that the last step wrote."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, or to step `epoch`, and write its rates into the groups."""
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            closed_form = getattr(self, "_get_closed_form_lr", self.get_lr)
            values = closed_form()
        self._write(values)

    def _write(self, values: list[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = value
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, under PyTorch's keys. (Functions are not saved; of callable objects, their
        attributes are.)"""
        return {name: value for name, value in self.__dict__.items() if name not in self._own}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, of this class or of PyTorch's; attributes that this schedule does not
        have are passed over. Rates are the optimizer's state: load that too."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                wrong(f"{type(self).__name__}.load_state_dict", "state_dict", "a dictionary", type(state_dict).__name__)
            )
        own = self.state_dict()
        self.__dict__.update({name: value for name, value in state_dict.items() if name in own})


class _ByFunction(LRScheduler):
    """A schedule by one function, or by one for each group."""

    _own = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1):
        where, groups = type(self).__name__, len(self._optimizer(optimizer).param_groups)
        functions: list[Any] = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * groups
        if len(functions) != groups:
            raise ValueError(wrong(where, "lr_lambda", f"{groups} functions, one for each group", len(functions)))
        for function in functions:
            if not callable(function):
                raise TypeError(wrong(where, "lr_lambda", "functions of the step", function))
        self.lr_lambdas: list[Factor] = functions
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lr_lambdas": [_attributes(function) for function in self.lr_lambdas]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                function.__dict__.update(attributes)


def _attributes(function: Any) -> dict[str, Any] | None:
    return None if function is None or isinstance(function, types.FunctionType) else dict(function.__dict__)


class LambdaLR(_ByFunction):
    """lr = lr_0 * lr_lambda(t)."""

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(_ByFunction):
    """lr is multiplied by lr_lambda(t) at each step after the first."""

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        return [rate * f(self.last_epoch) for rate, f in zip(self._rates(), self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """lr = lr_0 * gamma^floor(t / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size = integer("StepLR", "step_size", step_size)
        self.gamma = number("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return self._rates()
        return [rate * self.gamma for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """lr = lr_0 * gamma^(number of milestones up to t)."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones = Counter(integer("MultiStepLR", "milestones", at, lowest=0) for at in milestones)
        self.gamma = number("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch not in self.milestones:
            return self._rates()
        return [rate * self.gamma ** self.milestones[self.last_epoch] for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        passed = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return [base * self.gamma**passed for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """lr = lr_0 * factor for the first `total_iters` steps, then lr_0."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1):
        self.factor = _share("ConstantLR", "factor", factor)
        self.total_iters = integer("ConstantLR", "total_iters", total_iters, lowest=0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self._rates()]
        if self.last_epoch != self.total_iters:
            return self._rates()
        return [rate * (1.0 / self.factor) for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        rest = (self.last_epoch >= self.total_iters) * (1 - self.factor)
        return [base * (self.factor + rest) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """lr = lr_0 times a factor that goes evenly from start_factor to end_factor in `total_iters` steps: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        self.start_factor = _share("LinearLR", "start_factor", start_factor)
        if self.start_factor == 0.0:
            raise ValueError(wrong("LinearLR", "start_factor", "a number above 0 and at most 1", start_factor))
        self.end_factor = _share("LinearLR", "end_factor", end_factor)
        self.total_iters = integer("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self._rates()]
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        rise = self.end_factor - self.start_factor
        grown = 1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)
        return [rate * grown for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        done = min(self.total_iters, self.last_epoch)
        factor = self.start_factor + (self.end_factor - self.start_factor) * done / self.total_iters
        return [base * factor for base in self.base_lrs]


def _share(where: str, argument: str, value: Any) -> float:
    result = number(where, argument, value, low=0.0)
    if result > 1.0:
        raise ValueError(wrong(where, argument, "a number of 0 to 1", value))
    return result


class ExponentialLR(LRScheduler):
    """lr = lr_0 * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = number("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._rates() if self._is_initial else [rate * self.gamma for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """lr = lr_0 * (1 - min(t, total_iters) / total_iters)^power."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters = integer("PolynomialLR", "total_iters", total_iters)
        self.power = number("PolynomialLR", "power", power)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        left = 1.0 - self.last_epoch / self.total_iters
        factor = (left / (1.0 - (self.last_epoch - 1) / self.total_iters)) ** self.power
        return [rate * factor for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2.

    Loshchilov and Hutter, 2016 (SGDR), without its restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max = integer("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, period, low = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return self._rates()
        if self._step_count == 1 and t > 0:
            return self._get_closed_form_lr()
        if (t - 1 - period) % (2 * period) == 0:  # from the bottom, where the ratio below has no denominator
            rise = (1 - math.cos(math.pi / period)) / 2
            return [rate + (base - low) * rise for rate, base in zip(self._rates(), self.base_lrs, strict=True)]
        ratio = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        return [ratio * (rate - low) + low for rate in self._rates()]

    def _get_closed_form_lr(self) -> list[float]:
        height = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr = eta_min + (lr_0 - eta_min) (1 + cos(pi T_cur / T_i)) / 2, T_cur steps after the last restart, where a period
    is T_i steps long: T_0 the first, then T_mult times the one before.

    Loshchilov and Hutter, 2016 (SGDR). `step` also takes a fractional epoch: `step(epoch + batch / batches)`.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        where = "CosineAnnealingWarmRestarts"
        self.T_0 = self.T_i = integer(where, "T_0", T_0)
        self.T_mult = integer(where, "T_mult", T_mult)
        self.eta_min = number(where, "eta_min", eta_min)
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = number("CosineAnnealingWarmRestarts", "epoch", epoch, low=0.0)
            if epoch < self.T_0:
                self.T_cur, self.T_i = epoch, self.T_0
            elif self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
                self.T_i = self.T_0 * self.T_mult**n
        self.last_epoch = math.floor(epoch)
        self._write(self.get_lr())


def _for_each_group(where: str, name: str, optimizer: Optimizer, value: Any) -> list[float]:
    groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        raise ValueError(wrong(where, name, f"a number, or {groups} of them, one for each group", value))
    return [number(where, name, each, low=0.0) for each in values]


class _Cycling(LRScheduler):
    """A schedule of each batch that moves the momentum, or beta1, against the rate."""

    every = "batch"

    def _begin_momentum(
        self, base_momentum: Any, max_momentum: Any, last_epoch: int
    ) -> tuple[list[float], list[float]]:
        where, defaults = type(self).__name__, self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                wrong(where, "cycle_momentum", "False with an optimizer that has neither momentum nor betas", True)
            )
        self.use_beta1 = "betas" in defaults
        base = _for_each_group(where, "base_momentum", self.optimizer, base_momentum)
        highest = _for_each_group(where, "max_momentum", self.optimizer, max_momentum)
        if last_epoch == -1:
            for low, high, group in zip(base, highest, self.optimizer.param_groups, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low
        return base, highest

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_Cycling):
    """lr goes up and down between base_lr and max_lr in straight lines, step_size_up steps up and step_size_down (None:
    as many) down; with `cycle_momentum` the momentum (of optimizers with betas, beta1) goes the other way.

    mode: the height is kept ("triangular"), halved in each cycle ("triangular2"), or multiplied by gamma^t
    ("exp_range"); or scale_fn of the cycle's number or of t, as scale_mode ("cycle", "iterations") says. To be stepped
    after each batch. Smith, 2015.
    """

    _own = ("optimizer", "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ):
        self.optimizer = self._optimizer(optimizer)
        base_lrs = _for_each_group("CyclicLR", "base_lr", optimizer, base_lr)
        self.max_lrs = _for_each_group("CyclicLR", "max_lr", optimizer, max_lr)
        up = float(integer("CyclicLR", "step_size_up", step_size_up))
        down = up if step_size_down is None else float(integer("CyclicLR", "step_size_down", step_size_down))
        self.total_size, self.step_ratio = up + down, up / (up + down)
        if scale_fn is None:
            choice("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.mode, self.gamma = mode, number("CyclicLR", "gamma", gamma)
        self._scale_fn_custom = scale_fn
        self.scale_mode = choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations"))
        self.cycle_momentum = cycle_momentum
        if last_epoch == -1:
            for rate, group in zip(base_lrs, optimizer.param_groups, strict=True):
                group["lr"] = rate
        if cycle_momentum:
            self.base_momentums, self.max_momentums = self._begin_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, given its number, or of step x."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 0.5 ** (x - 1)
        return 1.0 if self.mode == "triangular" else self.gamma**x

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            limits = zip(self.base_momentums, self.max_momentums, self.optimizer.param_groups, strict=True)
            for low, high, group in limits:
                self._set_momentum(group, high - (high - low) * height * scale)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_scale_fn_custom": _attributes(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_scale_fn_custom"})
        attributes = state_dict.get("_scale_fn_custom")
        if attributes is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(attributes)


class OneCycleLR(_Cycling):
    """lr goes from max_lr / div_factor up to max_lr in the first pct_start of total_steps (or epochs *
    steps_per_epoch), then down to 1 / final_div_factor of where it began; with three_phase first back to where it began
    in as many steps. By half a cosine or in straight lines, as anneal_strategy ("cos", "linear") says; with
    `cycle_momentum` the momentum (of optimizers with betas, beta1) goes from max_momentum to base_momentum and back.

    To be stepped after each batch; a step past the last is a ValueError. Smith and Topin, 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        where, self.optimizer = "OneCycleLR", self._optimizer(optimizer)
        if total_steps is not None:
            self.total_steps = integer(where, "total_steps", total_steps)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = integer(where, "epochs", epochs) * integer(where, "steps_per_epoch", steps_per_epoch)
        else:
            raise ValueError(wrong(where, "total_steps", "a number of steps, or epochs and steps_per_epoch", None))
        share = _share(where, "pct_start", pct_start) * self.total_steps
        self._anneal_func_type = choice(where, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if number(where, name, value, low=0.0) == 0.0:
                raise ValueError(wrong(where, name, "a number above 0", value))
        up = share - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum"
        if three_phase:
            back = 2 * share - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"
            last = self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"
            phases: list[tuple[Any, ...]] = [up, back, last]
        else:
            phases = [up, (self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        names = "end_step", "start_lr", "end_lr", "start_momentum", "end_momentum"
        self._schedule_phases = [dict(zip(names, phase, strict=True)) for phase in phases]
        highest = _for_each_group(where, "max_lr", optimizer, max_lr)
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._begin_momentum(base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for rate, group in zip(highest, optimizer.param_groups, strict=True):
                group["initial_lr"] = rate / div_factor
                group["max_lr"] = rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, share: float) -> float:
        if self._anneal_func_type == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(wrong("OneCycleLR", "step", f"at most {self.total_steps} steps", self.last_epoch))
        start = 0.0
        for phase in self._schedule_phases:
            if self.last_epoch <= phase["end_step"] or phase is self._schedule_phases[-1]:
                break
            start = phase["end_step"]
        length = phase["end_step"] - start
        share = (self.last_epoch - start) / length if length else 1.0  # a run of one step is at its end
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                momentum = self._between(group[phase["start_momentum"]], group[phase["end_momentum"]], share)
                self._set_momentum(group, momentum)
        return [
            self._between(group[phase["start_lr"]], group[phase["end_lr"]], share)
            for group in self.optimizer.param_groups
        ]


class _Combined(LRScheduler):
    """A schedule made of others over the same optimizer."""

    _own = ("optimizer", "_schedulers")

    @property
    def every(self) -> str:  # type: ignore[override]
        """ "batch" if that is what one of the schedules is stepped after."""
        return "batch" if any(scheduler.every == "batch" for scheduler in self._schedulers) else "epoch"

    def _take(self, optimizer: Any, schedulers: Sequence[LRScheduler]) -> None:
        where = type(self).__name__
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError(wrong(where, "schedulers", "at least one", "none"))
        self.optimizer = self._optimizer(self._schedulers[0].optimizer if optimizer is None else optimizer)
        for scheduler in self._schedulers:
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                raise TypeError(wrong(where, "schedulers", "schedules that need no metric", type(scheduler).__name__))
            if scheduler.optimizer is not self.optimizer:
                raise ValueError(wrong(where, "schedulers", "schedules of one optimizer", "several optimizers"))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


class SequentialLR(_Combined):
    """One schedule after the other: the i-th from milestones[i - 1] on, beginning there at its own step 0.

    Warm-up, then cosine: SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), CosineAnnealingLR(o, 95)], milestones=[5]).
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ):
        self._take(optimizer, schedulers)
        self._milestones = [integer("SequentialLR", "milestones", at, lowest=0) for at in milestones]
        if len(self._milestones) != len(self._schedulers) - 1:
            expected = f"{len(self._schedulers) - 1} steps, one fewer than schedulers"
            raise ValueError(wrong("SequentialLR", "milestones", expected, list(milestones)))
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:  # as if only the first had ever been made
            group["lr"] = group["initial_lr"]
        _undo(self._schedulers)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        if epoch is not None:
            raise TypeError(wrong("SequentialLR.step", "epoch", "nothing", epoch))
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(schedulers: Sequence[LRScheduler]) -> None:
    """Take back the step that each schedule, or each within it, took when it was made."""
    for scheduler in schedulers:
        if isinstance(scheduler, _Combined):
            _undo(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1


class ChainedScheduler(_Combined):
    """All schedules at each step, one on the rates that the one before has written."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        self._take(optimizer, schedulers)
        self._last_lr = self._rates()

    def step(self, epoch: int | None = None) -> None:
        if epoch is not None:
            raise TypeError(wrong("ChainedScheduler.step", "epoch", "nothing", epoch))
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


class ReduceLROnPlateau(LRScheduler):
    """lr is multiplied by `factor`, down to min_lr, when the metric given to `step` has not become better (lower for
    mode "min", higher for "max") for more than `patience` steps; then `cooldown` steps count for nothing.

    Better than the best is better by `threshold`: of it, for threshold_mode "rel", or outright, for "abs". A change of
    lr of at most eps is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ):
        where = "ReduceLROnPlateau"
        self.optimizer = self._optimizer(optimizer)
        self.factor = number(where, "factor", factor, low=0.0, below=1.0)
        self.mode = choice(where, "mode", mode, ("min", "max"))
        self.threshold_mode = choice(where, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.threshold = number(where, "threshold", threshold)
        self.patience = integer(where, "patience", patience, lowest=0)
        self.cooldown = integer(where, "cooldown", cooldown, lowest=0)
        self.default_min_lr: Any = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = _for_each_group(where, "min_lr", optimizer, min_lr)
        self.eps = number(where, "eps", eps, low=0.0)
        self.last_epoch = 0
        self._last_lr = self._rates()
        self.best = self.mode_worse = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take this step's metric into account: a number, or a tensor of one element."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(wrong("ReduceLROnPlateau", "min_lr", f"{len(groups)} numbers", self.min_lrs))
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, lowest in zip(groups, self.min_lrs, strict=True):
            reduced = max(group["lr"] * self.factor, lowest)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced

    @property
    def in_cooldown(self) -> bool:
        """Whether steps count for nothing yet after the last reduction."""
        return self.cooldown_counter > 0

    def _is_better(self, a: float, best: float) -> bool:
        margin = self.threshold if self.mode == "max" else -self.threshold
        limit = best * (1.0 + margin) if self.threshold_mode == "rel" else best + margin
        return a > limit if self.mode == "max" else a < limit
