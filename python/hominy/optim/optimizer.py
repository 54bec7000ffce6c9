"""Optimizer: parameter groups, state and their dictionaries. The arithmetic of a step is one kernel call a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..autograd import enable_grad, no_grad
from ..creation import zeros_like
from ..tensor import Tensor
from ..utils.arguments import number, wrong


class Optimizer:
    """Base class of optimizers.

    Attributes:
        param_groups: list of dictionaries, each with "params", a list of tensors, and the settings they share. Settings
            may be changed between steps; that is how a schedule works.
        state: {parameter: dictionary of what the optimizer keeps for it}.

    A subclass passes its settings' defaults, checks those of a group in `_check`, and defines `_update`.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(
                wrong(
                    type(self).__name__,
                    "params",
                    "an iterable of tensors or of groups (dictionaries)",
                    type(params).__name__,
                )
            )
        groups = list(params)
        if not groups:
            raise ValueError(wrong(type(self).__name__, "params", "at least one parameter", "none"))
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group: {"params": tensors, setting: value, ...}; settings it leaves out take the defaults."""
        where = type(self).__name__
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(wrong(where, "param_group", 'a dictionary with "params"', param_group))
        group = {**self.defaults, **param_group}
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError(wrong(where, "params", "an ordered collection of tensors", type(params).__name__))
        group["params"] = params = [params] if isinstance(params, Tensor) else list(params)
        taken = {id(parameter) for other in self.param_groups for parameter in other["params"]}
        for parameter in params:
            if not isinstance(parameter, Tensor):
                raise TypeError(wrong(where, "params", "tensors", type(parameter).__name__))
            if not parameter.is_leaf:
                raise ValueError(wrong(where, "params", "leaf tensors", "the result of an operation"))
            if not parameter.is_floating_point():
                raise TypeError(wrong(where, "params", "floating-point tensors", parameter.dtype))
            if id(parameter) in taken:
                raise ValueError(wrong(where, "params", "each parameter once", "one that appears again"))
            taken.add(id(parameter))
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        """Raise where a setting of `group` is out of range."""

    def _check_not_negative(self, group: dict[str, Any], *names: str) -> None:
        for name in names:
            group[name] = number(type(self).__name__, name, group[name], low=0.0)

    def _check_betas(self, group: dict[str, Any]) -> None:
        where, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(wrong(where, "betas", "two numbers", betas))
        group["betas"] = tuple(number(where, f"betas[{i}]", beta, low=0.0, below=1.0) for i, beta in enumerate(betas))

    def _states(self, parameters: list[Tensor], *names: str, **scalars: Any) -> list[dict[str, Any]]:
        """The states of `parameters`; a tensor that one does not have yet is filled with zeros."""
        states = []
        for parameter in parameters:
            state = self.state[parameter]
            for name, value in scalars.items():
                state.setdefault(name, value)
            for name in names:
                if state.get(name) is None:
                    state[name] = zeros_like(parameter)
            states.append(state)
        return states

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Step those parameters of `group` that have gradients."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad = parameter.grad.detach().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: evaluates the model and returns the loss; called first, with gradients enabled.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Gathered anew each step: that takes some 50 ns a parameter, and a list kept from the last step could be
            # wrong whenever a gradient appears or goes, a parameter is frozen, or a state dict is loaded.
            parameters, gradients = [], []
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None:
                    parameters.append(parameter)
                    gradients.append(gradient)
            if parameters:
                self._update(group, parameters, gradients)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: dictionary}, "param_groups": [...]}, parameters numbered in order, as PyTorch's.

        The tensors are the optimizer's own, not copies.
        """
        index = {
            id(parameter): i
            for i, parameter in enumerate(parameter for group in self.param_groups for parameter in group["params"])
        }
        return {
            "state": {index[id(parameter)]: dict(state) for parameter, state in self.state.items()},
            "param_groups": [
                {**group, "params": [index[id(parameter)] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over settings and state, copied, of an optimizer of the same class over parameters of the same shapes.

        All is checked before anything changes.

        Raises:
            ValueError: the numbers of groups or parameters differ, a state's shape is not its parameter's, or a setting
                is out of range.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise TypeError(
                wrong(where, "state_dict", 'a dictionary with "state" and "param_groups"', type(state_dict).__name__)
            )
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in state_dict["param_groups"]]
        if sizes != saved_sizes:
            raise ValueError(wrong(where, "param_groups", f"groups of {sizes} parameters", saved_sizes))
        groups: list[dict[str, Any]] = []
        parameters: dict[Any, Tensor] = {}
        for own, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            groups.append({**own, **saved, "params": own["params"]})
            self._check(groups[-1])
            parameters.update(zip(saved["params"], own["params"], strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for index, saved in state_dict["state"].items():
            if index not in parameters:
                raise ValueError(wrong(where, "state", f"indices of {len(parameters)} parameters", index))
            parameter = parameters[index]
            state[parameter] = {name: self._loaded(where, name, value, parameter) for name, value in saved.items()}
        self.state, self.param_groups = state, groups

    def _loaded(self, where: str, name: str, value: Any, parameter: Tensor) -> Any:
        """A state's value as this optimizer keeps it: step counts as int, tensors copied, in the parameter's dtype."""
        if name == "step":
            return int(value)
        if name == "mu_product":
            return float(value)
        if not isinstance(value, Tensor):
            return value
        if tuple(value.shape) != tuple(parameter.shape):
            raise ValueError(wrong(where, name, f"shape {tuple(parameter.shape)}", tuple(value.shape)))
        with no_grad():
            return parameter.detach().clone().copy_(value)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def at(key: Any, keys: list[Any], *columns: list[Any]) -> tuple[list[Any], ...]:
    """Of each column the entries where `keys` equals `key`; the columns themselves where all of them do."""
    if keys.count(key) == len(keys):
        return columns
    return tuple([entry for entry, other in zip(column, keys, strict=True) if other == key] for column in columns)


def implementation_flags(where: str, flags: Mapping[str, Any]) -> None:
    """Check the arguments by which PyTorch chooses among its implementations of a step. One is here, fused:
    `foreach` and `fused` make no difference, `capturable` and `differentiable` are refused."""
    for name, value in flags.items():
        if name not in ("foreach", "fused", "capturable", "differentiable"):
            raise TypeError(f"{where}() got an unexpected keyword argument {name!r}")
        if name in ("capturable", "differentiable") and value:
            raise ValueError(wrong(where, name, "False", value))
