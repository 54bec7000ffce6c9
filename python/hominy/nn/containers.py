"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ..tensor import Tensor
from ..utils.arguments import wrong
from .module import MODULE, Module

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


class ModuleList(_ModuleSequence):
    """A list of modules, registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self.extend(modules or ())

    def _like(self, modules: dict[str, Module]) -> ModuleList:
        return type(self)(modules.values())

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def pop(self, index: int = -1) -> Module:
        """Take out and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

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
