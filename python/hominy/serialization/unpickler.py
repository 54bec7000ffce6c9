"""A reader of pickles that hold data alone.

A pickle is a program for a small stack machine. This one knows the instructions that build numbers, strings, lists,
tuples and dictionaries; a name is looked up in a table that its caller gives, never imported, and only functions of
that table are called. Python's own unpickler with a restricted `find_class` would do for the names, but asks for as
much memory as a length or a memo index of the file says.

The instructions: `pickletools` of the standard library, which also takes them apart here.
"""

from __future__ import annotations

import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

from .files import WeightsError

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
        "BINBYTES8",
    )
)  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {"LIST": list, "TUPLE": tuple, "DICT": lambda items: _pairs(items)}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = frozenset(("PUT", "BINPUT", "LONG_BINPUT")), frozenset(("GET", "BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError, RecursionError)


class Function:
    """A name of the table that the pickle may call: `call(*arguments)`."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call


class Bounded:
    """A file as `pickletools` reads it: a length is compared with what is left before any memory is asked for."""

    def __init__(self, file: IO[bytes], end: int):
        self.file, self.end = file, end

    def read(self, count: int) -> bytes:
        if count > self.end - self.file.tell():
            raise WeightsError(f"expected a length within the file, got {count} bytes")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(self.end - self.file.tell())

    def tell(self) -> int:
        return self.file.tell()


def unpickle(
    file: IO[bytes], end: int, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The object of the pickle at the file's position, which ends before byte `end`.

    Args:
        names: "module.name" -> what it stands for; a `Function` may be called.
        persistent: from a persistent identifier to its object.

    Raises:
        WeightsError: the pickle is malformed, names something else, or does more than build data.
    """
    try:
        return _run(Bounded(file, end), names, persistent)
    except WeightsError:
        raise
    except _MALFORMED as error:
        raise WeightsError(f"expected a pickle of tensors and containers, got a malformed one: {error}") from None


def _run(file: Bounded, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def from_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for instruction, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
        name = instruction.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _GET:
            stack.append(memo[int(argument)])  # type: ignore[arg-type]
        elif name in _PUT:
            memo[int(argument)] = stack[-1]  # type: ignore[arg-type]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise IndexError("a tuple of more than there is")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _FROM_MARK:
            items = from_mark()
            stack.append(_FROM_MARK[name](items))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _store(stack[-1], {_key(key): value})
        elif name == "SETITEMS":
            items = from_mark()
            _store(stack[-1], _pairs(items))
        elif name == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif name == "APPENDS":
            items = from_mark()
            _list(stack[-1]).extend(items)
        elif name == "GLOBAL":
            stack.append(_named(names, str(argument).replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(names, f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            if type(function) is not Function or type(arguments) is not tuple:
                raise WeightsError(f"expected calls of what rebuilds tensors alone, got one of {function!r}")
            stack.append(function.call(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            _set_state(stack[-1], state)
        elif name in ("BINPERSID", "PERSID"):
            identifier = stack.pop() if name == "BINPERSID" else argument
            if persistent is None:
                raise WeightsError(f"expected no outside objects here, got {identifier!r}")
            stack.append(persistent(identifier))
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            from_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in _IGNORED:
            raise WeightsError(f"expected instructions that build data, got {name}")
    (result,) = stack
    return result


def _named(names: Mapping[str, Any], name: str) -> Any:
    name = name.replace("__builtin__.", "builtins.", 1)
    if name not in names:
        raise WeightsError(
            f"expected tensors, containers, numbers and strings alone, got the name {name[:200]}, which is not imported"
        )
    return names[name]


def _key(key: Any) -> Any:
    """A dictionary's key: hashing anything deeper could take exponential time."""
    for part in key if type(key) is tuple else (key,):
        if type(part) not in (str, int, float, bool, bytes, type(None)):
            raise WeightsError(f"expected keys that are strings or numbers, got {type(part).__name__}")
    return key


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _store(target: Any, items: dict[Any, Any]) -> None:
    if type(target) not in (dict, OrderedDict):
        raise WeightsError(f"expected items of a dictionary, got some of {type(target).__name__}")
    target.update(items)


def _list(target: Any) -> list[Any]:
    if type(target) is not list:
        raise WeightsError(f"expected items of a list, got some of {type(target).__name__}")
    return target


def _set_state(target: Any, state: Any) -> None:
    """An ordered dictionary may carry `_metadata`, as PyTorch's state dicts do; nothing else has attributes."""
    if type(target) is not OrderedDict or type(state) is not dict or not set(state) <= {"_metadata"}:
        raise WeightsError(f"expected no attributes but a state dict's _metadata, got some of {type(target).__name__}")
    for metadata in state.values():
        target._metadata = metadata  # type: ignore[attr-defined]


def ordered_dict(*arguments: Any) -> OrderedDict[Any, Any]:
    """OrderedDict() or OrderedDict([[key, value], ...]), the two forms that pickles have."""
    made: OrderedDict[Any, Any] = OrderedDict()
    if arguments:
        (pairs,) = arguments
        for key, value in _list(pairs):
            made[_key(key)] = value
    return made
