"""Modules that hold modules (Sequential, ModuleList, ModuleDict) and modules that hold parameters (ParameterList,
ParameterDict)."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ..tensor import Tensor
from ..utils.arguments import wrong
from .module import MODULE, Module
from .parameter import Parameter

S = TypeVar("S", bound="_ModuleSequence")


class _ModuleSequence(Module):
    """The list's behaviour that Sequential and ModuleList share: children named "0", "1", ..."""

    def _names(self) -> list[str]:
        return [name for name, kind in self._registry.items() if kind == MODULE]

    def _name(self, index: int) -> str:
        names = self._names()
        try:
            return names[operator.index(index)]
        except IndexError:
            raise IndexError(wrong(type(self).__name__, "index", f"an index of {len(names)} modules", index)) from None

    def _renumber(self, modules: list[Module]) -> None:
        for name in self._names():
            delattr(self, name)
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter([self.__dict__[name] for name in self._names()])

    def __contains__(self, module: object) -> bool:
        return any(child is module for child in self)

    @overload
    def __getitem__(self: S, index: slice) -> S: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._like({name: self.__dict__[name] for name in self._names()[index]})
        return self.__dict__[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def append(self: S, module: Module) -> S:
        """Add `module` at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Append each of `modules`; returns self."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: S, index: int, module: Module) -> S:
        """Put `module` before position `index`, as a list does; returns self."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take out and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self: S, modules: Iterable[Module]) -> S:
        return self.extend(modules)

    def _like(self: S, modules: dict[str, Module]) -> S:
        raise NotImplementedError


class Sequential(_ModuleSequence):
    """Modules called one after another: `Sequential(Linear(784, 256), ReLU(), Linear(256, 10))`.

    Takes modules, or one mapping of names to modules. A slice is a Sequential of the same modules.
    """

    def __init__(self, *modules: Any):
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        for name, module in named.items() if named is not None else enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"[Sequential] {name}: expected a hominy.nn.Module, got {type(module).__name__}")
            self.add_module(str(name), module)

    def forward(self, input: Tensor) -> Tensor:
        values = self.__dict__
        for name, kind in self._registry.items():
            if kind == MODULE:
                input = values[name](input)
        return input

    def _like(self, modules: dict[str, Module]) -> Sequential:
        return type(self)(modules)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)


class ModuleList(_ModuleSequence):
    """A list of modules, registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self.extend(modules or ())

    def _like(self, modules: dict[str, Module]) -> ModuleList:
        return type(self)(modules.values())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def _child_reprs(self) -> list[tuple[str, str]]:
        """Runs of equal modules as one line, as PyTorch prints them: (0-2): 3 x Linear(...)."""
        runs: list[tuple[int, int, str]] = []  # first, last, text
        for index, (_, text) in enumerate(super()._child_reprs()):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], index, text)
            else:
                runs.append((index, index, text))
        return [
            (str(first), text) if first == last else (f"{first}-{last}", f"{last - first + 1} x {text}")
            for first, last, text in runs
        ]


class ModuleDict(Module):
    """Modules by name, in the order of insertion; it has no forward of its own.

    The names may be any without a dot that are not attributes of the class, since they become attributes.
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        self.update(modules or {})

    def keys(self) -> list[str]:
        return [name for name, kind in self._registry.items() if kind == MODULE]

    def values(self) -> list[Any]:
        return [self.__dict__[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self.__dict__[name]) for name in self.keys()]

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(wrong("ModuleDict", "name", "one of " + ", ".join(map(repr, self.keys())), name))
        return self.__dict__[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def pop(self, name: str) -> Any:
        """Take out and return the module `name`."""
        module = self[name]
        delattr(self, name)
        return module

    def clear(self) -> None:
        """Take out every module."""
        for name in self.keys():
            delattr(self, name)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace the modules of a mapping, or of (name, module) pairs."""
        for name, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self.add_module(name, module)


def _parameter(value: Any) -> Any:
    """A tensor as a parameter; anything else, which the containers hold too, as it is."""
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _value_text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"Object of type: {type(value).__name__}"
    size = "x".join(map(str, value.shape))
    return f"Parameter containing: [{value.dtype} of size {size}]"


class ParameterList(Module):
    """A list of parameters, registered as "0", "1", ...; tensors become parameters, and other values are kept as they
    are. It has no forward of its own."""

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self._size = 0
        self.extend(values or ())

    def _name(self, index: int) -> str:
        place = operator.index(index)
        if not -self._size <= place < self._size:
            raise IndexError(wrong("ParameterList", "index", f"an index of {self._size} parameters", index))
        return str(place % self._size)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self.__dict__[str(place)] for place in range(self._size)])

    def __contains__(self, value: object) -> bool:
        return any(own is value for own in self)

    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self.__dict__[self._name(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._name(index), _parameter(value))

    def append(self, value: Any) -> ParameterList:
        """Add `value` at the end; returns self."""
        self._size += 1
        self[-1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Append each of `values`; returns self."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def pop(self, index: int = -1) -> Any:
        """Take out and return the value at `index`."""
        values = list(self)
        value = values.pop(index)
        for place in range(self._size):
            delattr(self, str(place))
        self._size = 0
        self.extend(values)
        return value

    def _child_reprs(self) -> list[tuple[str, str]]:
        return [(str(place), _value_text(value)) for place, value in enumerate(self)]


class ParameterDict(Module):
    """Parameters by name, in the order of insertion; tensors become parameters, and other values are kept as they are.
    It has no forward of its own.

    The names may be any without a dot that are not attributes of the class, since they become attributes.
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None):
        super().__init__()
        self._keys: dict[str, None] = {}
        self.update(parameters or {})

    def keys(self) -> list[str]:
        return list(self._keys)

    def values(self) -> list[Any]:
        return [self.__dict__[name] for name in self._keys]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self.__dict__[name]) for name in self._keys]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of that name, or `default`."""
        return self.__dict__[name] if name in self._keys else default

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __getitem__(self, name: str) -> Any:
        if name not in self._keys:
            raise KeyError(wrong("ParameterDict", "name", "one of " + ", ".join(map(repr, self._keys)), name))
        return self.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._keys:
            self._check_name(name)
        setattr(self, name, _parameter(value))
        self._keys[name] = None

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of that name, which is `default` from now on where there was none."""
        if name not in self._keys:
            self[name] = default
        return self[name]

    def pop(self, name: str) -> Any:
        """Take out and return the value of that name."""
        value = self[name]
        del self._keys[name]
        delattr(self, name)
        return value

    def clear(self) -> None:
        """Take out every value."""
        for name in self.keys():
            self.pop(name)

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace the values of a mapping, or of (name, value) pairs."""
        pairs = parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters
        for name, value in pairs:
            self[name] = value

    def _child_reprs(self) -> list[tuple[str, str]]:
        return [(name, _value_text(value)) for name, value in self.items()]
