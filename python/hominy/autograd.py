"""The tape: what tensors share, what an operator is, what it leaves behind, and the walk back.

Four classes and one loop. A `Storage` is memory with a version. A `TensorBase` is an array over a storage, with its
place in the graph. An `Operator` is a forward function of arrays plus one gradient rule an argument, and calling it
leaves a `Node` whose `Edge`s say, for each argument, where its gradient goes and by which rule. `backward` and `grad`
walk the nodes, youngest first.

This file is plain Python that Cython also compiles (`autograd.pxd` gives the classes their C layout), so it is at once
the fast path and the text to read. It knows no operator: sums of gradients and their shapes go through tensor methods.
"""

from __future__ import annotations

import heapq
import itertools
from types import MethodType
from typing import Any

import numpy as np

from .backends import Declined
from .backends import direct as _direct
from .grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled  # noqa: F401
from .grad_mode import tape as _mode

_sequence = itertools.count()


class Storage:
    """Memory that one or more tensors view.

    `owner` keeps the memory alive and says what it is (a NumPy array on the CPU); `version` counts in-place writes, so
    that a backward pass notices when a value it kept has changed; `viewed` is set once a second tensor looks at it.
    """

    __slots__ = ("owner", "version", "viewed")

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.version = 0
        self.viewed = False


class TensorBase:
    """The fields of a tensor. `hominy.Tensor` adds the methods."""

    __slots__ = (
        "__weakref__", "_array", "_grad", "_grad_fn", "_hooks", "_output", "_requires_grad", "_retains", "_storage",
        "_view",
    )  # fmt: skip

    def __init__(self, array: Any, storage: Any = None, requires_grad: bool = False) -> None:
        self._array = array
        self._storage = Storage(array) if storage is None else storage
        self._view = False
        self._grad_fn: Any = None
        self._output = 0
        self._requires_grad = requires_grad
        self._grad: Any = None
        self._hooks: Any = None
        self._retains = False


_tensor_type: Any = TensorBase


def set_tensor_type(cls: Any) -> None:
    """Name the class of the tensors that operators return (called once, by tensor.py)."""
    global _tensor_type
    _tensor_type = cls


def wrap(array: Any, storage: Any = None) -> Any:
    """A new tensor outside any graph over `array`: a view of `storage`, or of a storage of its own."""
    # Past __init__, whose argument parsing would be a third of a small operator's time.
    tensor: TensorBase = _tensor_type.__new__(_tensor_type)
    if storage is None:
        storage = Storage.__new__(Storage)
        storage.owner = array
        storage.version = 0
        storage.viewed = False
    tensor._array = array
    tensor._storage = storage
    tensor._view = False
    tensor._grad_fn = None
    tensor._output = 0
    tensor._requires_grad = False
    tensor._grad = None
    tensor._hooks = None
    tensor._retains = False
    return tensor


class Edge:
    """Where an argument's gradient goes, and how it is computed from the output's.

    `target` is the node that made the argument (its output number `index`), or the argument itself when it is a leaf.
    `rule(grad, *saved)` gives the gradient; it may have a broadcast shape, which is summed back to `shape`. An edge
    without a rule takes result number `place` of its node's joint rule.
    """

    __slots__ = ("dtype", "index", "place", "rule", "saved", "shape", "target", "versions")

    def __init__(self, argument: TensorBase, place: int) -> None:
        if argument._grad_fn is None:
            self.target = argument
            self.index = 0
        else:
            self.target = argument._grad_fn
            self.index = argument._output
        array = argument._array
        self.shape = array.shape
        self.dtype = array.dtype
        self.place = place
        self.rule: Any = None
        self.saved: Any = None
        self.versions: Any = None


class SavedOutput:
    """An operator's own result, kept by its node without the reference cycle that keeping the tensor would make."""

    __slots__ = ("array", "index", "storage")

    def __init__(self, array: Any, storage: Any, index: int) -> None:
        self.array = array
        self.storage = storage
        self.index = index

    def tensor(self, node: Any) -> Any:
        output = wrap(self.array, self.storage)
        output._grad_fn = node
        output._output = self.index
        output._requires_grad = True
        return output


class Node:
    """One operator call on the tape. Sequence numbers grow, and a node is always younger than what it read: walking
    nodes youngest first is therefore a topological order, and needs no counting of dependencies."""

    __slots__ = (
        "__weakref__", "edges", "hooks", "joint", "metas", "name", "released", "saved", "sequence", "versions",
    )  # fmt: skip

    def __init__(self, name: str, metas: Any) -> None:
        self.name = name
        self.metas = metas  # (shape, dtype) of each output, None for one that is absent
        # All gradients in one call: joint(grad, needs, *saved), or joint(grad) of a custom function, which keeps by
        # itself what it needs (saved is None).
        self.joint: Any = None
        self.saved: Any = None
        self.versions: Any = None
        self.edges: list[Any] = []
        self.hooks: Any = None  # {output number: {key: function}}
        self.released = False
        self.sequence = next(_sequence)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes this one hands gradients to, as PyTorch's attribute of that name; a leaf shows as itself."""
        return tuple((edge.target, edge.index) for edge in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name}Backward>"

    def release(self) -> None:
        """Drop what was kept for the gradient; a second walk through this node raises."""
        self.released = True
        self.joint = None
        self.saved = None
        edge: Edge
        for edge in self.edges:
            edge.saved = None
            edge.rule = None

    def unpack(self, saved: Any, versions: Any) -> list[Any]:
        """What a rule asked to keep, checked against later in-place writes."""
        values = []
        for value, version in zip(saved, versions, strict=True):
            if version >= 0:
                if value is None:
                    raise RuntimeError(_SECOND_WALK)
                current = value.storage.version if isinstance(value, SavedOutput) else value._storage.version
                if current != version:
                    raise RuntimeError(
                        f"[{self.name}] a tensor needed for its gradient was modified in place: it is at version "
                        f"{current}, expected version {version}; use an out-of-place operation, or clone it first"
                    )
                if isinstance(value, SavedOutput):
                    value = value.tensor(self)
            values.append(value)
        return values


_SECOND_WALK = (
    "the graph was already walked and its saved values freed; pass retain_graph=True to the first backward() or grad() "
    "to walk it again"
)

# What a gradient rule may ask for, by the name of its parameter.
_ARGUMENT, _SHAPE, _OUTPUT, _INDEX = 0, 1, 2, 3


class Operator:
    """A differentiable function of tensors.

    `forward` takes and returns NumPy arrays (or tuples of them); its parameters are the operator's, PyTorch's names
    first, and NumPy's `axis`/`keepdims` are accepted for `dim`/`keepdim`. Calling the operator unwraps tensors, runs
    `forward`, wraps the result and, if anything asks for a gradient, records a node.

    Gradient rules come one an argument:

        multiply.gradient(input=lambda grad, other: grad * other, other=lambda grad, input: grad * input)

    A rule's first parameter is the gradient of the output (a tuple where `forward` returns one); the others name what
    it needs: an argument of `forward`, `output` (or `output_1`, the second of several), `shape_of_<argument>` (which
    keeps no memory alive), or `index` (the place within a list argument). Only what the needed rules ask for is kept.
    Rules are written with operators, so gradients of gradients work.

    Where the gradients share work or are one kernel, `joint_gradient` gives all of them by one rule.

    `direct` names a compiled kernel that takes `forward`'s arguments as they are: it is called first, `forward` only
    when it declines them.
    """

    def __init__(self, forward: Any, view: bool = False, direct: str = "") -> None:
        code = forward.__code__
        self.forward = forward
        self.view = view
        self.direct = direct
        self.name = forward.__name__.rstrip("_")
        self.parameters = tuple(p for p in code.co_varnames[: code.co_argcount] if p != "out")
        self.count = len(self.parameters)
        self.has_out = self.count != code.co_argcount
        defaults = forward.__defaults__ or ()
        if self.has_out:
            defaults = defaults[:-1]
        self.defaults = defaults
        self.rules: dict[int, Any] = {}  # argument -> (rule, wants); with a joint rule (None, ())
        self.joint: Any = None  # (rule, wants, for each want the bits of the gradients that it serves)
        self.__name__ = self.name
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward
        self.__module__ = forward.__module__

    def gradient(self, **rules: Any) -> None:
        """Give the rule of each differentiable argument, by name."""
        for argument, rule in rules.items():
            self.rules[self.parameters.index(argument)] = (rule, self._wants(rule, 1))

    def joint_gradient(self, arguments: str, rule: Any, **serves: str) -> None:
        """Give one rule for all of `arguments` (names in a row, separated by spaces).

        rule(grad, needs, ...) returns a gradient, or None, for each of them; bit i of `needs` says whether that of
        number i is wanted. `serves`: the arguments whose gradients something kept is for; it is not kept, and comes as
        None, where none of those is wanted.
        """
        names = arguments.split()
        for name in names:
            self.rules[self.parameters.index(name)] = (None, ())
        code = rule.__code__
        bits = []
        for want in code.co_varnames[2 : code.co_argcount]:
            served = serves.get(want, arguments).split()
            bits.append(sum(1 << names.index(name) for name in served))
        self.joint = (rule, self._wants(rule, 2), tuple(bits))

    def _wants(self, rule: Any, first: int) -> tuple[tuple[int, int], ...]:
        """What `rule`'s parameters from number `first` on ask for."""
        code = rule.__code__
        wants = []
        for name in code.co_varnames[first : code.co_argcount]:
            if name in self.parameters:
                wants.append((_ARGUMENT, self.parameters.index(name)))
            elif name == "output":
                wants.append((_OUTPUT, -1))
            elif name.startswith("output_"):
                wants.append((_OUTPUT, int(name[7:])))
            elif name == "index":
                wants.append((_INDEX, 0))
            else:
                wants.append((_SHAPE, self.parameters.index(name.removeprefix("shape_of_"))))
        return tuple(wants)

    def __repr__(self) -> str:
        return f"<operator {self.name}({', '.join(self.parameters)})>"

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else MethodType(self, instance)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments in `forward`'s order, defaults filled in."""
        missing = self.count - len(args)
        if not kwargs and 0 <= missing <= len(self.defaults):
            return args + self.defaults[len(self.defaults) - missing :]
        if len(args) > self.count:
            raise TypeError(f"[{self.name}] expected at most {self.count} arguments, got {len(args)}")
        values = list(args) + [_MISSING] * (self.count - len(args))
        for name, value in kwargs.items():
            name = _NUMPY_NAMES.get(name, name) if name not in self.parameters else name
            if name not in self.parameters:
                raise TypeError(
                    f"[{self.name}] unexpected argument {name!r}; its arguments are {', '.join(self.parameters)}"
                )
            position = self.parameters.index(name)
            if values[position] is not _MISSING:
                raise TypeError(f"[{self.name}] {name}: given twice, by position and by name or by two names")
            values[position] = value
        first_default = self.count - len(self.defaults)
        for position in range(len(args), self.count):
            if values[position] is _MISSING:
                if position < first_default:
                    raise TypeError(f"[{self.name}] {self.parameters[position]}: a required argument is missing")
                values[position] = self.defaults[position - first_default]
        return tuple(values)

    def arrays(self, *args: Any, **kwargs: Any) -> Any:
        """The operator on NumPy arrays: no tensors, no tape."""
        out = kwargs.pop("out", None) if kwargs and self.has_out else None
        if kwargs or len(args) != self.count:
            args = self.bind(args, kwargs)
        if out is not None:
            return self.forward(*args, out=out)
        kernel = _direct.get(self.direct)
        if kernel is None or type(result := kernel(*args)) is Declined:
            result = self.forward(*args)
        return result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != self.count:
            args = self.bind(args, kwargs)
        arrays = []
        tracked = False
        for argument in args:
            if isinstance(argument, TensorBase):
                tensor: TensorBase = argument
                arrays.append(tensor._array)
                if tensor._requires_grad:
                    tracked = True
            elif isinstance(argument, (list, tuple)):
                tracked = _unwrap_list(argument, arrays) or tracked
            else:
                arrays.append(argument)
        kernel = _direct.get(self.direct)
        if kernel is None or type(result := kernel(*arrays)) is Declined:
            result = self.forward(*arrays)
        if type(result) is tuple:
            outputs: Any = tuple([None if array is None else wrap(array) for array in result])
            if self.view:
                for output in outputs:
                    _mark_view(output, args[0])
        else:
            outputs = wrap(result)
            if self.view and isinstance(args[0], TensorBase):
                _mark_view(outputs, args[0])
        if tracked and _mode.recording and self.rules:
            self.record(args, outputs)
        return outputs

    def record(self, args: Any, outputs: Any) -> None:
        """Leave a node behind that leads from `outputs` back to `args`."""
        several = type(outputs) is tuple
        listed = outputs if several else (outputs,)
        for output in listed:
            if output is not None and output._array.dtype.kind in "fV":  # V: bfloat16 under ml_dtypes
                break
        else:
            return
        metas = [None if output is None else (output._array.shape, output._array.dtype) for output in listed]
        node = Node(self.name, metas)
        needs = 0
        for place, (position, (rule, wants)) in enumerate(self.rules.items()):
            argument = args[position]
            if isinstance(argument, TensorBase):
                tensor: TensorBase = argument
                if tensor._requires_grad:
                    needs |= 1 << place
                    edge = Edge(tensor, place)
                    if rule is not None:
                        edge.rule = rule
                        edge.saved, edge.versions = self.keep(wants, args, outputs, 0)
                    node.edges.append(edge)
            elif isinstance(argument, (list, tuple)):
                for index, item in enumerate(argument):
                    if isinstance(item, TensorBase) and item._requires_grad:
                        edge = Edge(item, place)
                        edge.rule = rule
                        edge.saved, edge.versions = self.keep(wants, args, outputs, index)
                        node.edges.append(edge)
        if not node.edges:
            return
        if self.joint is not None:
            rule, wants, serves = self.joint
            node.joint = rule
            node.saved, node.versions = self.keep(wants, args, outputs, 0)
            for place, bits in enumerate(serves):
                if not bits & needs:
                    node.saved[place] = None
                    node.versions[place] = -1
        for index, output in enumerate(listed):
            if output is not None and output._array.dtype.kind in "fV":
                output._grad_fn = node
                output._output = index
                output._requires_grad = True

    def keep(self, wants: Any, args: Any, outputs: Any, index: Any) -> tuple[list[Any], list[int]]:
        """What a rule `wants`, and the version of each (-1 for what cannot be overwritten)."""
        saved = []
        versions = []
        for kind, position in wants:
            version = -1
            if kind == _ARGUMENT:
                value = args[position]
                if isinstance(value, TensorBase):
                    kept: TensorBase = value
                    version = kept._storage.version
            elif kind == _OUTPUT:
                if position >= 0:
                    value = None if outputs[position] is None else outputs[position].detach()
                elif type(outputs) is tuple:
                    value = tuple([None if output is None else output.detach() for output in outputs])
                else:
                    value = SavedOutput(outputs._array, outputs._storage, 0)
                    version = outputs._storage.version
            elif kind == _SHAPE:
                value = args[position]
                if isinstance(value, TensorBase):
                    value = value._array.shape
                elif isinstance(value, (list, tuple)):
                    value = [item._array.shape for item in value]
                else:
                    value = np.shape(value)
            else:
                value = index
            saved.append(value)
            versions.append(version)
        return saved, versions

    def in_place(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """`target` overwritten by the result, as PyTorch's `name_` methods; gradients stay right or it raises."""
        values = (target, *args)
        if kwargs or len(values) != self.count:
            values = self.bind(values, kwargs)
        tracked = False
        for argument in values:
            if isinstance(argument, TensorBase) and argument._requires_grad:
                tracked = True
        tracked = tracked and _mode.recording
        if tracked:
            check_in_place(self.name + "_", target)
        arrays = [value._array if isinstance(value, TensorBase) else value for value in values]
        kernel = _direct.get(self.direct)
        if kernel is None or type(kernel(*arrays, target._array)) is Declined:
            self.forward(*arrays, out=target._array)
        bump(target)
        if tracked and self.rules:
            shadow = wrap(target._array, target._storage)
            before = _before_write(target)
            self.record([before if value is target else value for value in values], shadow)
            before._storage.version += 1
            target._grad_fn = shadow._grad_fn
            target._output = 0
            target._requires_grad = shadow._requires_grad
        return target


_MISSING = object()
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "b": "other"}


def _before_write(target: TensorBase) -> Any:
    """What `target` was before an in-place write: its place in the graph, over a storage whose version will not match,
    since the value itself is gone (a rule that kept it raises when it is walked)."""
    before = wrap(target._array, Storage(None))
    before._grad_fn = target._grad_fn
    before._output = target._output
    before._requires_grad = target._requires_grad
    return before


def _unwrap_list(argument: Any, arrays: list[Any]) -> bool:
    """Append a list argument with its tensors unwrapped; does any of them ask for a gradient?"""
    tracked = False
    items = []
    for item in argument:
        if isinstance(item, TensorBase):
            items.append(item._array)
            tracked = tracked or item._requires_grad
        else:
            items.append(item)
    arrays.append(type(argument)(items) if type(argument) in (list, tuple) else items)
    return tracked


def _mark_view(output: TensorBase, base: Any) -> None:
    """`output` looks at `base`'s memory, unless `forward` had to copy."""
    array = output._array
    owner = array.base
    if (owner is not None and (owner is base._array or owner is base._array.base)) or array is base._array:
        output._storage = base._storage
        output._view = True
        base._storage.viewed = True


def bump(target: TensorBase) -> None:
    """Note an in-place write to `target`'s memory."""
    target._storage.version += 1


def check_in_place(name: str, target: TensorBase) -> None:
    """Raise where an in-place write that the tape should see cannot be recorded truthfully."""
    if target._requires_grad and target._grad_fn is None:
        raise RuntimeError(
            f"[{name}] a leaf that requires grad cannot be modified in place while the tape is running; "
            "use hominy.no_grad()"
        )
    if target._view or target._storage.viewed:
        raise RuntimeError(
            f"[{name}] this tensor shares memory with a view, whose gradient an in-place operation would falsify; "
            "use the out-of-place form, or clone() first"
        )


def _deliver(
    pending: dict[Any, Any], heap: list[Any], leaves: dict[int, Any], target: Any, index: Any, grad: Any
) -> None:
    """Add `grad` to what waits for `target`: a node's output number `index`, or a leaf."""
    if isinstance(target, Node):
        slots = pending.get(target)
        if slots is None:
            slots = [None] * len(target.metas)
            pending[target] = slots
            heapq.heappush(heap, (-target.sequence, target))
        held = slots[index]
        slots[index] = grad if held is None else held + grad
    else:
        key = id(target)
        entry = leaves.get(key)
        leaves[key] = (target, grad if entry is None else entry[1] + grad)


def _run_hooks(hooks: Any, grad: Any) -> Any:
    for hook in list(hooks.values()):
        replaced = hook(grad)
        if replaced is not None:
            grad = replaced
    return grad


def _useful_nodes(roots: list[Any], wanted_nodes: Any, wanted_leaves: Any) -> set[Any]:
    """The nodes from which a wanted node or leaf is reached."""
    found: dict[Any, Any] = {}
    stack = [node for node in roots if node is not None]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found[node] = True
        stack.extend(edge.target for edge in node.edges if isinstance(edge.target, Node))
    useful = set()
    for node in sorted(found, key=lambda node: node.sequence):
        for edge in node.edges:
            target = edge.target
            if target in useful or target in wanted_nodes if isinstance(target, Node) else id(target) in wanted_leaves:
                useful.add(node)
                break
    return useful


def _walk(tensors: Any, gradients: Any, retain_graph: bool, create_graph: bool, inputs: Any) -> Any:
    """Send `gradients` of `tensors` back through the graph.

    Returns ({id: (leaf, gradient)}, {(node, output number): gradient}), the second for those of `inputs` that are not
    leaves. With `inputs`, only the nodes that lead to them are walked.
    """
    pending: dict[Any, Any] = {}
    heap: list[Any] = []
    leaves: dict[int, Any] = {}
    captured: dict[Any, Any] = {}
    wanted_nodes: dict[Any, Any] = {}
    wanted_leaves: set[int] = set()
    useful: Any = None
    if inputs is not None:
        for tensor in inputs:
            if tensor._grad_fn is None:
                wanted_leaves.add(id(tensor))
            else:
                wanted_nodes.setdefault(tensor._grad_fn, set()).add(tensor._output)
        useful = _useful_nodes([tensor._grad_fn for tensor in tensors], wanted_nodes, wanted_leaves)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        target = tensor if tensor._grad_fn is None else tensor._grad_fn
        _deliver(pending, heap, leaves, target, tensor._output, gradient)
    previous = _mode.recording
    _mode.recording = create_graph
    try:
        while heap:
            _, node = heapq.heappop(heap)
            _walk_node(node, pending.pop(node), pending, heap, leaves, captured, wanted_nodes, wanted_leaves, useful)
            if not retain_graph and (useful is None or node in useful):
                node.release()
    finally:
        _mode.recording = previous
    return leaves, captured


def _walk_node(
    node: Node, slots: Any, pending: Any, heap: Any, leaves: Any, captured: Any, wanted_nodes: Any, wanted_leaves: Any,
    useful: Any,
) -> None:  # fmt: skip
    if node.hooks is not None:
        for index, hooks in node.hooks.items():
            if slots[index] is not None:
                slots[index] = _run_hooks(hooks, slots[index])
    if useful is not None:
        for index in wanted_nodes.get(node, ()):
            captured[node, index] = slots[index]
        if node not in useful:
            return
    if node.released:
        raise RuntimeError(f"[{node.name}] {_SECOND_WALK}")
    if len(slots) == 1:
        grad = slots[0]
    elif node.joint is not None and node.saved is not None:
        grad = tuple(slots)  # a joint rule knows which of its results were used
    else:
        grad = tuple([
            wrap(np.zeros(meta[0], meta[1])) if slot is None and meta is not None else slot
            for slot, meta in zip(slots, node.metas, strict=True)
        ])  # fmt: skip
    edge: Edge
    edges = node.edges
    if useful is not None:
        edges = [
            edge for edge in edges
            if (edge.target in useful or edge.target in wanted_nodes if isinstance(edge.target, Node)
                else id(edge.target) in wanted_leaves)
        ]  # fmt: skip
    results = None
    if node.joint is not None and node.saved is None:
        results = node.joint(grad)
    elif node.joint is not None:
        needs = 0
        for edge in edges:
            needs |= 1 << edge.place
        results = node.joint(grad, needs, *node.unpack(node.saved, node.versions))
    for edge in edges:
        target = edge.target
        result = edge.rule(grad, *node.unpack(edge.saved, edge.versions)) if results is None else results[edge.place]
        if result is None:
            continue
        produced: TensorBase = result
        array = produced._array
        if array.shape != edge.shape:
            result = result.sum_to_size(edge.shape)
        if array.dtype != edge.dtype:
            result = result.to(edge.dtype)
        _deliver(pending, heap, leaves, target, edge.index, result)


def _starting_gradients(name: str, tensors: Any, gradients: Any) -> list[Any]:
    """The gradients a walk starts from, checked; 1 for a scalar that was given none."""
    if gradients is None:
        gradients = [None] * len(tensors)
    if len(gradients) != len(tensors):
        raise ValueError(f"[{name}] gradients: expected one for each of {len(tensors)} tensors, got {len(gradients)}")
    started = []
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if not isinstance(tensor, TensorBase):
            raise TypeError(f"[{name}] tensors: expected tensors, got {type(tensor).__name__}")
        if not tensor._requires_grad:
            raise RuntimeError(f"[{name}] this tensor does not require grad and has no history to walk back through")
        array = tensor._array
        if gradient is None:
            if array.size != 1:
                raise RuntimeError(
                    f"[{name}] a gradient is created only for a tensor of one element, got shape {array.shape}; "
                    "pass gradient="
                )
            gradient = wrap(np.array(1, array.dtype).reshape(array.shape))
        elif not isinstance(gradient, TensorBase):
            gradient = wrap(np.asarray(gradient, array.dtype))
        if gradient._array.shape != array.shape:
            raise ValueError(f"[{name}] gradient: expected shape {array.shape}, got {gradient._array.shape}")
        started.append(gradient)
    return started


def _aslist(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, TensorBase) else list(tensors)


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    inputs: Any = None,
) -> None:  # fmt: skip
    """Add to `.grad` of every leaf (or of `inputs` alone) the gradient of `tensors`, weighted by `grad_tensors`.

    As `torch.autograd.backward`: a tensor of one element needs no weight; the graph is freed unless `retain_graph` (or
    `create_graph`, which also records the walk itself, so that gradients of gradients can be taken).

    Raises:
        RuntimeError: a tensor has no history, or a value kept for the gradient was overwritten or freed.
        ValueError: a weight has another shape than its tensor.
    """
    tensors = _aslist(tensors)
    gradients = _starting_gradients("backward", tensors, None if grad_tensors is None else _aslist(grad_tensors))
    wanted = None if inputs is None else _aslist(inputs)
    leaves, captured = _walk(
        tensors, gradients, create_graph if retain_graph is None else retain_graph, create_graph, wanted
    )
    # A leaf takes over a gradient that nobody else holds; shared ones are copied, so that leaves never share memory.
    held = {id(gradient._storage) for gradient in gradients}
    for leaf, gradient in leaves.values():
        if wanted is None or any(leaf is tensor for tensor in wanted):
            _accumulate(leaf, gradient, create_graph, held)
    if wanted is not None:
        for tensor in wanted:
            if tensor._grad_fn is not None:
                gradient = captured.get((tensor._grad_fn, tensor._output))
                if gradient is not None:
                    _accumulate(tensor, gradient, create_graph, held)


def _accumulate(leaf: TensorBase, gradient: TensorBase, create_graph: Any, held: set[int]) -> None:
    if leaf._hooks is not None and leaf._grad_fn is None:
        gradient = _run_hooks(leaf._hooks, gradient)
    existing = leaf._grad
    if existing is not None:
        if create_graph or existing._requires_grad:
            leaf._grad = existing + gradient
            return
        add = _direct.get("add")  # past the operator: nothing is recorded, and shapes are equal
        if add is None or type(add(existing._array, gradient._array, existing._array)) is Declined:
            existing.add_(gradient)
        else:
            existing._storage.version += 1
        return
    array = gradient._array
    if not create_graph:
        key = id(gradient._storage)
        if key in held or array.strides != leaf._array.strides or not array.flags.writeable or gradient._view:
            copied = np.empty_like(leaf._array)
            copied[...] = array
            gradient = wrap(copied)
        else:
            held.add(key)
            if gradient._requires_grad:
                gradient = wrap(array)
    leaf._grad = gradient


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of `outputs` with respect to `inputs`, as `torch.autograd.grad`; no `.grad` is touched.

    Raises:
        RuntimeError: an input does not require grad, or is not part of the graph and `allow_unused` is False.
    """
    outputs, inputs = _aslist(outputs), _aslist(inputs)
    gradients = _starting_gradients("grad", outputs, None if grad_outputs is None else _aslist(grad_outputs))
    for position, tensor in enumerate(inputs):
        if not tensor._requires_grad:
            raise RuntimeError(f"[grad] inputs: number {position} does not require grad")
    leaves, captured = _walk(
        outputs, gradients, create_graph if retain_graph is None else retain_graph, create_graph, inputs
    )
    results = []
    for position, tensor in enumerate(inputs):
        if tensor._grad_fn is None:
            entry = leaves.get(id(tensor))
            result = None if entry is None else entry[1]
            if result is not None and tensor._hooks is not None:
                result = _run_hooks(tensor._hooks, result)
        else:
            result = captured.get((tensor._grad_fn, tensor._output))
        if result is None and not allow_unused:
            raise RuntimeError(
                f"[grad] inputs: number {position} was not used to compute the outputs; "
                "pass allow_unused=True to get None"
            )
        results.append(result)
    return tuple(results)


def __getattr__(name: str) -> Any:
    """What lives in files of its own, imported when first asked for: PyTorch spells it in this module."""
    if name == "Function":
        from .function import Function

        return Function
    if name in ("gradcheck", "gradgradcheck"):
        import importlib

        return getattr(importlib.import_module(".gradcheck", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
