"""Module, the base of every layer and model: a tree of named parameters, buffers and child modules.

Where a value lives: parameters, buffers and children lie in the instance's own `__dict__`, where Python finds
`self.weight` by itself in some 10 ns (PyTorch keeps them in three side dictionaries behind `__getattr__`, some 300 ns a
read). `_registry` holds only their names and kinds, in the order of assignment, so there is one copy of every value and
nothing can go stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..autograd import no_grad
from ..creation import from_numpy
from ..dtypes import category, float16, float32, float64, normalize_dtype
from ..memory_format import ORDERS, checked, preserve_format
from ..tensor import RemovableHandle, Tensor
from ..utils.arguments import choice, wrong
from .backward_hooks import BackwardWatch
from .parameter import Parameter

PARAMETER, BUFFER, UNSAVED_BUFFER, MODULE = "parameter", "buffer", "buffer that is not saved", "module"
BUFFERS = (BUFFER, UNSAVED_BUFFER)
M = TypeVar("M", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Hooks:
    """The hooks of one module: number -> (function, whether it takes keyword arguments too)."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.after: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.before_backward: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.after_backward: dict[int, tuple[Callable[..., Any], bool]] = {}


def _forward_missing(self: Module, *inputs: Any, **keywords: Any) -> Any:
    raise NotImplementedError(f"[{type(self).__name__}] forward: expected a method of the subclass, got none")


class Module:
    """Base class of layers and models, with the meaning that PyTorch's `torch.nn.Module` has.

    A subclass calls `super().__init__()`, assigns parameters, buffers (`register_buffer`) and other modules to itself,
    and defines `forward`; calling the module calls `forward` and the hooks around it.

        class Regression(nn.Module):
            def __init__(self, inputs, outputs):
                super().__init__()
                self.linear = nn.Linear(inputs, outputs)

            def forward(self, x):  # (N, inputs) -> (N, outputs)
                return self.linear(x)
    """

    training: bool
    forward: Callable[..., Any] = _forward_missing  # a variable, so that a subclass may give it any signature
    _registry: dict[str, str]
    _hooks: Hooks | None = None

    def __init__(self) -> None:
        self.__dict__["_registry"] = {}
        self.__dict__["training"] = True

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        if self._hooks is None:
            return self.forward(*inputs, **keywords)
        return self._call_with_hooks(self._hooks, inputs, keywords)

    # ---- attributes -------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        kind = PARAMETER if isinstance(value, Parameter) else MODULE if isinstance(value, Module) else None
        registry = self.__dict__.get("_registry")
        if registry is None:
            if kind:
                raise AttributeError(
                    f"[{type(self).__name__}] {name}: expected super().__init__() to be called before "
                    f"a {kind} is assigned, got an assignment before it"
                )
        elif not kind:
            known = registry.get(name)
            if known and value is not None and not (known in BUFFERS and isinstance(value, Tensor)):
                what = {PARAMETER: "a hominy.nn.Parameter", MODULE: "a hominy.nn.Module"}.get(known, "a hominy.Tensor")
                raise TypeError(
                    f"[{type(self).__name__}] {name}: expected {what} or None, since it is registered as "
                    f"a {known}, got {type(value).__name__}"
                )
        object.__setattr__(self, name, value)
        if (
            kind and registry is not None and registry.get(name) != kind and name in self.__dict__
        ):  # a property's setter keeps its own books
            registry.pop(name, None)
            registry[name] = kind

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._registry.pop(name, None)

    def _check_name(self, name: str) -> None:
        """That `name` can become the name of a parameter, buffer or module."""
        where = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(wrong(where, "name", "a string", name))
        if not name or "." in name:
            raise KeyError(wrong(where, "name", "a name without a dot", name))
        if hasattr(self, name) and name not in self._registry:
            raise KeyError(wrong(where, "name", "a name that is not an attribute yet", name))

    def _register(self, name: str, value: Any, kind: str, expected: type) -> None:
        """Store `value` (or None, to be filled later) as this module's `name`; a name is taken only once."""
        where = type(self).__name__
        if "_registry" not in self.__dict__:
            raise AttributeError(f"[{where}] {name}: expected super().__init__() to be called first, got {kind} before")
        self._check_name(name)
        if value is not None and not isinstance(value, expected):
            raise TypeError(f"[{where}] {name}: expected a {expected.__name__} or None, got {type(value).__name__}")
        if self._registry.get(name) != kind:
            self._registry.pop(name, None)
            self._registry[name] = kind
        self.__dict__[name] = value

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name, without a value and outside the state dict."""
        self._register(name, param, PARAMETER, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not learnt (a running mean); the state dict holds it if `persistent`."""
        self._register(name, tensor, BUFFER if persistent else UNSAVED_BUFFER, Tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module by name: `setattr` with checks of the name."""
        self._register(name, module, MODULE, Module)

    register_module = add_module

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, `"encoder.0"`; the empty path is the module itself."""
        module: Any = self
        for name in target.split(".") if target else ():
            if module._registry.get(name) != MODULE:
                raise AttributeError(wrong(type(self).__name__, "target", "the path of a submodule", target))
            module = module.__dict__[name]
        return module

    def set_submodule(self, target: str, module: Module) -> None:
        """Put `module` at a dotted path, in place of what is there."""
        path, _, name = target.rpartition(".")
        setattr(self.get_submodule(path), name, module)

    def _get(self, target: str, kinds: tuple[str, ...]) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if module._registry.get(name) not in kinds:
            raise AttributeError(wrong(type(self).__name__, "target", f"the path of a {kinds[0]}", target))
        return module.__dict__[name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path, `"encoder.0.weight"`."""
        return self._get(target, (PARAMETER,))

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        return self._get(target, BUFFERS)

    # ---- walks ------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the immediate children, each module once."""
        seen = set()
        for name, kind in self._registry.items():
            if kind == MODULE:
                module = self.__dict__[name]
                if module is not None and id(module) not in seen:
                    seen.add(id(module))
                    yield name, module

    def children(self) -> Iterator[Module]:
        """The immediate children, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, parents first; a module used twice comes once."""
        seen = set() if memo is None else memo
        if id(self) in seen:
            return
        if remove_duplicate:
            seen.add(id(self))
        yield prefix, self
        values = self.__dict__
        for name, kind in self._registry.items():
            if kind == MODULE and values[name] is not None:
                yield from values[name].named_modules(seen, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _named_tensors(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else ((prefix, self),)
        for path, module in modules:
            values = module.__dict__
            for name, kind in module._registry.items():
                if kind in kinds:
                    value = values[name]
                    if value is None or id(value) in seen:
                        continue
                    if remove_duplicate:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of this module and, if `recurse`, of all below it; a shared parameter comes once."""
        return self._named_tensors((PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters("", recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer) of this module and, if `recurse`, of all below it."""
        return self._named_tensors(BUFFERS, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        return (buffer for _, buffer in self.named_buffers("", recurse))

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every module below this one, then on this one (to initialise weights, say)."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- modes ------------------------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set training mode (or evaluation mode) here and below."""
        if not isinstance(mode, bool):
            raise ValueError(wrong(f"{type(self).__name__}.train", "mode", "a bool", mode))
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: M) -> M:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Let every parameter record gradients, or freeze them all."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach().zero_()

    def to(
        self: M,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> M:
        """Cast the floating-point parameters and buffers, in place: `to(hominy.float64)`, `to("cpu", hominy.float64)`,
        or `to(tensor)` for that tensor's dtype. The device is "cpu", which changes nothing.

        The parameters stay the same objects, so an optimizer that holds them goes on working. Integer and bool buffers
        keep their dtype. With `memory_format` 4-d parameters and buffers are laid out channels last (5-d ones by
        channels_last_3d), or in C order by contiguous_format.
        """
        where = f"{type(self).__name__}.to"
        for value in args:
            if isinstance(value, Tensor):
                dtype = value.dtype
            elif value is None or (isinstance(value, str) and value == "cpu"):
                continue
            elif dtype is None:
                dtype = value
            else:
                raise TypeError(wrong(where, "device, dtype", '"cpu" and one dtype', args))
        choice(where, "device", device, (None, "cpu"))
        if dtype is None and checked(where, memory_format) in (None, preserve_format):
            return self
        dtype = None if dtype is None else normalize_dtype(dtype)
        if dtype is not None and category(dtype) != 2:
            raise TypeError(wrong(where, "dtype", "a floating-point dtype", str(dtype)))
        for module in self.modules():
            for name, kind in module._registry.items():
                value = module.__dict__[name]
                if kind == MODULE or value is None or not value.is_floating_point():
                    continue
                converted = _converted(value.detach(), dtype, memory_format)
                if converted._array is value._array:
                    continue
                if kind == PARAMETER:
                    gradient, value.grad = value.grad, None
                    value.data = converted
                    if gradient is not None:
                        value.grad = _converted(gradient.detach(), dtype, memory_format)
                else:
                    module.__dict__[name] = converted
        return self

    def float(self: M) -> M:
        """Cast floating-point parameters and buffers to float32."""
        return self.to(float32)

    def double(self: M) -> M:
        """Cast floating-point parameters and buffers to float64."""
        return self.to(float64)

    def half(self: M) -> M:
        """Cast floating-point parameters and buffers to float16, a storage type: layers compute in float32 or more."""
        return self.to(float16)

    def bfloat16(self: M) -> M:
        """Cast floating-point parameters and buffers to bfloat16, a storage type (needs the ml_dtypes package)."""
        return self.to("bfloat16")

    def type(self: M, dst_type: Any) -> M:
        """Cast floating-point parameters and buffers to `dst_type`."""
        return self.to(dtype=dst_type)

    def cpu(self: M) -> M:
        """The module itself: it is on the CPU."""
        return self

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, inputs)` before each forward; what it returns, if not None, replaces the inputs.

        With `with_kwargs` it is `hook(module, inputs, keywords)` and returns None or (inputs, keywords).
        """
        return self._register_hook("before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, inputs, output)` after each forward; what it returns, if not None, replaces the output.

        With `with_kwargs` it is `hook(module, inputs, keywords, output)`.
        """
        return self._register_hook("after", hook, prepend, with_kwargs)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of forward's outputs are known, a tuple with None where
        there is none; what it returns, if not None, replaces them."""
        return self._register_hook("before_backward", hook, prepend, False)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of forward's positional inputs are known,
        tuples with None where there is none; what it returns, if not None, replaces those of the inputs.

        Where no input requires grad, it is called once the outputs' gradients are known, with None for the inputs.
        """
        return self._register_hook("after_backward", hook, prepend, False)

    def _register_hook(self, moment: str, hook: Any, prepend: bool, with_kwargs: bool) -> RemovableHandle:
        if not callable(hook):
            raise TypeError(wrong(type(self).__name__, "hook", "a function", hook))
        if self._hooks is None:
            self._hooks = Hooks()
        hooks = getattr(self._hooks, moment)
        earlier = dict(hooks)
        handle = RemovableHandle(hooks, (hook, with_kwargs))
        if prepend:
            for key in earlier:  # behind the new one, in their order
                hooks[key] = hooks.pop(key)
        return handle

    def _call_with_hooks(self, hooks: Hooks, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        for hook, with_kwargs in list(hooks.before.values()):
            result = hook(self, inputs, keywords) if with_kwargs else hook(self, inputs)
            if result is None:
                continue
            if not with_kwargs:
                inputs = result if isinstance(result, tuple) else (result,)
            elif isinstance(result, tuple) and len(result) == 2:
                inputs, keywords = result
            else:
                raise RuntimeError(wrong("forward pre-hook", "result", "None or (inputs, keywords)", result))
        watch = BackwardWatch(self, hooks) if hooks.before_backward or hooks.after_backward else None
        if watch is not None:
            inputs = watch.inputs(inputs)
        output = self.forward(*inputs, **keywords)
        for hook, with_kwargs in list(hooks.after.values()):
            result = hook(self, inputs, keywords, output) if with_kwargs else hook(self, inputs, output)
            if result is not None:
                output = result
        return output if watch is None else watch.outputs(output)

    # ---- state ------------------------------------------------------------------------------------------------------

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Module, str, Tensor]]:
        """(path, owner, name, tensor) of all that is saved; shared tensors come under each of their paths."""
        for kinds in ((PARAMETER,), (BUFFER,)):
            for name, kind in self._registry.items():
                if kind in kinds and self.__dict__[name] is not None:
                    yield prefix + name, self, name, self.__dict__[name]
        for name, kind in self._registry.items():
            if kind == MODULE and self.__dict__[name] is not None:
                yield from self.__dict__[name]._named_state(f"{prefix}{name}.")

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """{path: tensor} of all parameters and persistent buffers, in PyTorch's order.

        The tensors share memory with the module's and are detached from the graph, unless `keep_vars`.
        """
        state = {} if destination is None else destination
        for path, _, _, tensor in self._named_state(prefix):
            state[path] = tensor if keep_vars else tensor.detach()
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy tensors (or NumPy arrays) into the parameters and buffers of the same paths, cast to their dtypes.

        All is checked before anything is written: after an error the module is as it was.

        Args:
            strict: raise where a path is missing or unexpected; else only report it.
            assign: take the tensors themselves, in their dtype, instead of copying their values.

        Returns:
            (missing_keys, unexpected_keys)

        Raises:
            RuntimeError: it lists the missing and unexpected paths and the shapes that do not match.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(wrong(where, "state_dict", "a mapping of paths to tensors", type(state_dict).__name__))
        own = {path: (owner, name, tensor) for path, owner, name, tensor in self._named_state()}
        missing = [path for path in own if path not in state_dict]
        unexpected = [path for path in state_dict if path not in own]
        problems = []
        if strict and unexpected:
            problems.append("unexpected keys: " + ", ".join(map(repr, unexpected)))
        if strict and missing:
            problems.append("missing keys: " + ", ".join(map(repr, missing)))
        loaded = {}
        for path, (_, _, tensor) in own.items():
            if path in state_dict:
                try:
                    value = loaded[path] = _as_tensor(state_dict[path])
                except TypeError as error:
                    problems.append(f"{path}: expected a tensor or an array, got {error}")
                    continue
                if tuple(value.shape) != tuple(tensor.shape):
                    problems.append(f"{path}: expected shape {tuple(tensor.shape)}, got {tuple(value.shape)}")
        if problems:
            raise RuntimeError(
                f"[{where}] state_dict: expected the paths and shapes of this module, got"
                + "".join(f"\n    {problem}" for problem in problems)
            )
        with no_grad():
            for path, value in loaded.items():
                owner, name, tensor = own[path]
                if not assign:
                    tensor.copy_(value)
                elif isinstance(tensor, Parameter):
                    setattr(
                        owner,
                        name,
                        value if isinstance(value, Parameter) else Parameter(value, requires_grad=tensor.requires_grad),
                    )
                else:
                    owner.__dict__[name] = value
        return IncompatibleKeys(missing, unexpected)

    # ---- text -------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets of the layer's `repr`."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def _child_reprs(self) -> list[tuple[str, str]]:
        return [(name, repr(self.__dict__[name])) for name, kind in self._registry.items() if kind == MODULE]

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {text}" for name, text in self._child_reprs()]
        if extra and "\n" not in extra and not children:
            return f"{self._get_name()}({extra})"
        lines = "\n".join(([extra] if extra else []) + children)
        return f"{self._get_name()}(" + ("\n  " + lines.replace("\n", "\n  ") + "\n" if lines else "") + ")"


def _converted(value: Tensor, dtype: Any, memory_format: Any) -> Tensor:
    """`value` cast and, where the format is of its number of dimensions, laid out."""
    ordered = value.dim() == len(ORDERS[memory_format]) if memory_format in ORDERS else value.dim() in (4, 5)
    return value.to(dtype, memory_format=memory_format if ordered else None)


def _as_tensor(value: Any) -> Tensor:
    """A tensor as it is; an array of any framework through NumPy, copied (it may be read-only)."""
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "detach"):  # another framework's parameter
        value = value.detach()
    if not hasattr(value, "__array__"):
        raise TypeError(type(value).__name__)
    return from_numpy(np.asarray(value).copy())
