"""Writing PyTorch's zip format: the pickle, instruction by instruction, and the archive around it.

`torch.load(path, weights_only=True)`, PyTorch's default, reads what is written here.
"""

from __future__ import annotations

import ctypes
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dtypes import normalize_dtype
from ..tensor import Tensor
from .files import native

ALIGNMENT = 64  # of a storage's first byte in the archive, as PyTorch has it, so that it can be mapped
_STORAGES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
    "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool",
}  # fmt: skip
_LARGE = 1 << 30


class Record:
    """The memory that some tensors of one array share: from the first byte that one of them uses to the last."""

    def __init__(self, key: int, dtype: np.dtype, owner: np.ndarray):
        self.key, self.dtype, self.owner = key, dtype, owner
        self.start, self.end, self.used, self.odd = sys.maxsize, 0, 0, False

    def add(self, array: np.ndarray) -> None:
        start, end = _extent(array)
        self.odd |= bool(self.used) and (start - self.start) % array.itemsize != 0
        self.start, self.end, self.used = min(self.start, start), max(self.end, end), self.used + array.nbytes

    def scattered(self) -> bool:
        """Whether the tensors leave gaps: then each is written by itself, and the rest stays out of the file."""
        return self.odd or self.used < self.end - self.start


def _extent(array: np.ndarray) -> tuple[int, int]:
    """The addresses of the first byte and of the byte after the last, of an array without negative strides."""
    start = array.__array_interface__["data"][0]
    last = sum((length - 1) * step for length, step in zip(array.shape, array.strides, strict=True))
    return start, start + last + array.itemsize


class Pickler:
    """One pass over an object: the first finds out which memory is shared, the second writes with what it found."""

    def __init__(self, shared: dict[Any, Record] | None = None):
        self.shared = shared
        self.found: dict[Any, Record] = {}
        self.data: list[Any] = []  # the bytes of each record, in the order of the keys
        self.keys: dict[Any, int] = {}
        self.out = bytearray()
        self.memo: dict[int, int] = {}
        self.kept: list[Any] = []  # what the memo knows by identity must live as long

    def dumps(self, obj: Any) -> bytes:
        self.out += b"\x80\x02"  # protocol 2
        self.write(obj)
        self.out += b"."
        return bytes(self.out)

    def write(self, obj: Any) -> None:
        if obj is None:
            self.out += b"N"
        elif isinstance(obj, (bool, np.bool_)):
            self.out += b"\x88" if obj else b"\x89"
        elif isinstance(obj, int):
            self._integer(obj)
        elif isinstance(obj, float):
            self.out += b"G" + struct.pack(">d", obj)
        elif isinstance(obj, str):
            text = obj.encode("utf-8", "surrogatepass")
            self.out += b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(obj, bytes):
            self._global("_codecs", "encode")
            self._tuple((obj.decode("latin1"), "latin1"))
            self.out += b"R"
        elif isinstance(obj, np.dtype):
            self._global("torch", str(normalize_dtype(obj)))
        elif isinstance(obj, np.generic):
            self.write(obj.item())
        elif id(obj) in self.memo:
            self.out += b"j" + struct.pack("<I", self.memo[id(obj)])
        elif isinstance(obj, (Tensor, np.ndarray)):
            self._tensor(obj)
            self._memoize(obj)
        elif isinstance(obj, tuple):
            self._tuple(obj)
            self._memoize(obj)
        elif isinstance(obj, list):
            self.out += b"]"
            self._memoize(obj)
            self.out += b"("
            for item in obj:
                self.write(item)
            self.out += b"e"
        elif isinstance(obj, Mapping):
            self._mapping(obj)
        else:
            raise TypeError(
                "[save] obj: expected tensors, arrays, numbers, strings, dtypes and None in dictionaries, lists and "
                f"tuples, got {type(obj).__name__}"
            )

    def _integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            digits = pickle.encode_long(value)
            if len(digits) > 255:
                raise ValueError("[save] obj: expected integers of at most 255 bytes, got a longer one")
            self.out += b"\x8a" + bytes([len(digits)]) + digits

    def _global(self, module: str, name: str) -> None:
        self.out += f"c{module}\n{name}\n".encode()

    def _tuple(self, items: Any) -> None:
        self.out += b"("
        for item in items:
            self.write(item)
        self.out += b"t"

    def _memoize(self, obj: Any) -> None:
        self.memo[id(obj)] = len(self.memo)
        self.kept.append(obj)
        self.out += b"r" + struct.pack("<I", self.memo[id(obj)])

    def _mapping(self, obj: Mapping[Any, Any]) -> None:
        if isinstance(obj, OrderedDict):
            self._ordered_dict()
        else:
            self.out += b"}"
        self._memoize(obj)
        self.out += b"("
        for key, value in obj.items():
            self.write(key)
            self.write(value)
        self.out += b"u"
        metadata = getattr(obj, "_metadata", None)
        if isinstance(obj, OrderedDict) and isinstance(metadata, Mapping):
            self.write({"_metadata": metadata})
            self.out += b"b"

    def _ordered_dict(self) -> None:
        self._global("collections", "OrderedDict")
        self.out += b")R"

    def _tensor(self, obj: Any) -> None:
        from ..nn.parameter import Parameter

        requires_grad = isinstance(obj, Tensor) and obj.requires_grad
        array = obj._array if isinstance(obj, Tensor) else obj
        array = array.astype(native(array.dtype), copy=False)
        if any(step < 0 or step % array.itemsize for step in array.strides):
            array = array.copy()
        key, count, offset, array = self._record(array)
        parameter = isinstance(obj, Parameter)
        if parameter:
            self._global("torch._utils", "_rebuild_parameter")
            self.out += b"("
        self._global("torch._utils", "_rebuild_tensor_v2")
        self.out += b"(("
        self.write("storage")
        self._global("torch", _STORAGES[str(array.dtype)] + "Storage")
        for item in (str(key), "cpu", count):
            self.write(item)
        self.out += b"tQ"
        self.write(offset)
        self._tuple(array.shape)
        self._tuple(tuple(step // array.itemsize for step in array.strides))
        self.write(requires_grad and not parameter)
        self._ordered_dict()
        self.out += b"tR"
        if parameter:
            self.write(requires_grad)
            self._ordered_dict()
            self.out += b"tR"

    def _record(self, array: np.ndarray) -> tuple[int, int, int, np.ndarray]:
        """The record that holds the array: its key, its number of elements, the array's place in it, the array."""
        owner = array
        base = array.base
        while base is not None:  # through whatever stands between two arrays: a memoryview, a strided view's helper
            owner = base if isinstance(base, np.ndarray) else owner
            base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        name = id(owner), str(array.dtype)
        self.kept.append(array)
        if self.shared is None:
            if array.size:
                self.found.setdefault(name, Record(0, array.dtype, owner)).add(array)
            return 0, array.size, 0, array
        record = self.shared.get(name)
        if record is None or not array.size or record.scattered():
            array = np.ascontiguousarray(array).reshape(array.shape)
            self.data.append(array.reshape(-1).view(np.uint8).data)
            return len(self.data) - 1, array.size, 0, array
        if name not in self.keys:
            self.keys[name] = len(self.data)
            # The extent lies within memory that `owner` keeps alive.
            self.data.append(memoryview((ctypes.c_char * (record.end - record.start)).from_address(record.start)))
        offset = (_extent(array)[0] - record.start) // array.itemsize
        return self.keys[name], (record.end - record.start) // array.itemsize, offset, array


def write(obj: Any, path: str) -> None:
    """Write `obj` in PyTorch's zip format; the same object gives the same bytes."""
    try:
        survey = Pickler()
        survey.dumps(obj)
        pickler = Pickler(survey.found)
        program = pickler.dumps(obj)
    except RecursionError:
        raise ValueError("[save] obj: expected containers nested less deeply") from None
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, "data.pkl", program)
        _member(archive, ".format_version", b"1")
        _member(archive, ".storage_alignment", str(ALIGNMENT).encode())
        _member(archive, "byteorder", sys.byteorder.encode())
        for key, data in enumerate(pickler.data):
            _member(archive, f"data/{key}", data)
        _member(archive, "version", b"3\n")


def _member(archive: zipfile.ZipFile, name: str, data: Any) -> None:
    """Add a member that is stored as it is, its first byte aligned by an extra field of the header."""
    member = zipfile.ZipInfo("archive/" + name, (1980, 1, 1, 0, 0, 0))
    large = len(data) > _LARGE
    assert archive.fp is not None
    start = archive.fp.tell() + 30 + len(member.filename) + 20 * large + 4
    padding = -start % ALIGNMENT
    member.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(member, "w", force_zip64=large) as file:
        file.write(data)
