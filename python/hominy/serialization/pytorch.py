"""PyTorch's files, read and written without PyTorch.

All three formats hold one pickle of the object, in which a tensor is a call of `torch._utils._rebuild_tensor_v2` with
its storage (a persistent identifier), offset, sizes and strides, and the storages' bytes:

- since 1.6, a zip archive: `data.pkl`, `data/<key>` for each storage, `byteorder`
  (https://github.com/pytorch/pytorch/blob/main/torch/serialization.py);
- before it, pickles one after another (magic number, version, system, object, keys of the storages), then each storage
  as its number of elements and their bytes;
- 0.1, a tar archive of `storages`, `tensors` and `pickle`.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from ..autograd import Storage
from ..dtypes import bfloat16, normalize_dtype
from ..tensor import Tensor
from .files import Archive, WeightsError, booleans, file_size, fill
from .pickler import write
from .unpickler import Function, ordered_dict, unpickle

__all__ = ["read", "write"]

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_LITTLE = sys.byteorder == "little"
_BLOCK = 512  # bytes of a block of a tar archive


class StorageType:
    """`torch.FloatStorage` and its like in a pickle: the dtype of a storage."""

    def __init__(self, dtype: str):
        self.dtype = dtype


class LoadedStorage:
    """Memory of one dtype, and the `Storage` by which tensors over it know each other."""

    def __init__(self, array: np.ndarray, shared: Storage | None = None):
        self.array = array
        self.shared = Storage(array) if shared is None else shared

    def part(self, offset: int, count: int) -> LoadedStorage:
        """Elements offset to offset + count, over the same memory."""
        if not (_natural(offset) and _natural(count) and offset + count <= len(self.array)):
            raise WeightsError(f"expected a view within {len(self.array)} elements, got {count} from {offset}")
        return LoadedStorage(self.array[offset : offset + count], self.shared)


def read(path: str) -> Any:
    """The object that the file holds."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _read_zip(Archive(file))
        if start[257:262] == b"ustar":
            try:
                return _read_tar(file)
            except WeightsError:
                raise
            except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
                raise WeightsError(f"expected a tar archive as PyTorch 0.1 wrote it, got {error!r}") from None
        return _read_pickles(file)


# ---- the three formats -----------------------------------------------------------------------------------------------


def _read_zip(archive: Archive) -> Any:
    pickles = [name for name in archive.members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"expected one data.pkl in the archive, got {len(pickles)}")
    folder = pickles[0].removesuffix("data.pkl")
    order = bytes(archive.read(folder + "byteorder")) if folder + "byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise WeightsError(f"expected the byte order little or big, got {order[:20]!r}")

    def storage(dtype: str, key: Any, count: int) -> LoadedStorage:
        name = f"{folder}data/{key}"
        _check_size(name, dtype, count, archive.members[name].file_size if name in archive.members else 0)
        return LoadedStorage(_elements(archive.read(name), dtype, count, order == b"little"))

    program = archive.read(pickles[0])
    return unpickle(io.BytesIO(program.data), len(program), NAMES, Storages(storage))


def _read_pickles(file: IO[bytes]) -> Any:
    size = file_size(file)
    for expected, what in ((_MAGIC, "magic number"), (_VERSION, "version")):
        found = unpickle(file, size, {})
        if type(found) is not int or found != expected:
            raise WeightsError(f"expected PyTorch's {what} at the start of the file, got {str(found)[:40]}")
    system = unpickle(file, size, {})
    little = bool(system.get("little_endian", True)) if type(system) is dict else True
    asked = 0

    def storage(dtype: str, key: Any, count: int) -> LoadedStorage:
        nonlocal asked
        asked += _check_size(key, dtype, count, size - asked)
        return LoadedStorage(np.empty(count, normalize_dtype(dtype)))  # filled when the object has been read

    storages = Storages(storage)
    result = unpickle(file, size, NAMES, storages)
    keys = unpickle(file, size, {})
    if type(keys) is not list or {str(key) for key in keys} != set(storages.found) or len(set(keys)) != len(keys):
        raise WeightsError("expected the keys of the storages that the object uses, got others")
    for key in keys:
        array = storages.found[str(key)].array
        count = _unpack(file, "<q" if little else ">q")[0]
        if count != len(array):
            raise WeightsError(f"expected {len(array)} elements in storage {key}, got {count}")
        array[...] = _elements(fill(file, array.nbytes), array.dtype, count, little)
    return result


def _read_tar(file: IO[bytes]) -> Any:
    members = _tar_members(file)
    for name in ("storages", "tensors", "pickle"):
        if name not in members:
            raise WeightsError(f"expected a member {name!r} of the tar archive, got {', '.join(sorted(members))[:100]}")
    objects: dict[int, Any] = {}

    def identified(identifier: Any) -> Any:
        return objects[int(identifier)]

    start, end = members["storages"]
    file.seek(start)
    for _ in range(_count(unpickle(file, end, {}))):
        key, _, kind = unpickle(file, end, NAMES)
        (count,) = _unpack(file, "<q")
        nbytes = _check_size(key, kind.dtype, count, end - file.tell())
        objects[_count(key)] = LoadedStorage(_elements(fill(file, nbytes), kind.dtype, count, True))
    for key, root, offset, count in unpickle(file, end, {}):
        objects[_count(key)] = objects[_count(root)].part(offset, count)
    start, end = members["tensors"]
    file.seek(start)
    for _ in range(_count(unpickle(file, end, {}))):
        key, storage, _ = unpickle(file, end, NAMES)
        dimensions = _unpack(file, "<ii")[0]
        if not 0 <= dimensions <= 64:
            raise WeightsError(f"expected a tensor of at most 64 dimensions, got {dimensions}")
        size, stride = _unpack(file, f"<{dimensions}q"), _unpack(file, f"<{dimensions}q")
        objects[_count(key)] = _tensor(objects[_count(storage)], _unpack(file, "<q")[0], size, stride)
    start, end = members["pickle"]
    file.seek(start)
    return unpickle(file, end, NAMES, identified)


def _tar_members(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """{name: (first byte, byte after the last)} of the regular files of a tar archive."""
    size = file_size(file)
    members = {}
    position = 0
    while position + _BLOCK <= size:
        file.seek(position)
        header = file.read(_BLOCK)
        if not header.strip(b"\0"):
            break
        length = int(header[124:136].strip(b" \0") or b"0", 8)
        position += _BLOCK
        if not 0 <= length <= size - position:
            raise WeightsError(f"expected a member of the tar archive within the file, got {length} bytes")
        if header[156:157] in (b"0", b"\0"):
            members[header[:100].rstrip(b"\0").decode("latin1").removeprefix("./")] = (position, position + length)
        position += -(-length // _BLOCK) * _BLOCK
    return members


# ---- storages and tensors --------------------------------------------------------------------------------------------


class Storages:
    """The persistent identifiers of a pickle: ("storage", type, key, device, number of elements[, view])."""

    def __init__(self, make: Callable[[str, Any, int], LoadedStorage]):
        self.make = make
        self.found: dict[str, LoadedStorage] = {}
        self.views: dict[str, LoadedStorage] = {}

    def __call__(self, identifier: Any) -> LoadedStorage:
        tag, kind, key, _, count, *view = identifier
        if tag not in ("storage", b"storage") or type(kind) is not StorageType or not _natural(count):
            raise WeightsError(f"expected a storage, got the outside object {str(identifier)[:100]}")
        key = str(key)
        if key not in self.found:
            self.found[key] = self.make(kind.dtype, key, count)
        storage = self.found[key]
        if storage.array.dtype != normalize_dtype(kind.dtype) or len(storage.array) != count:
            raise WeightsError(f"expected storage {key} to be one of {len(storage.array)} {storage.array.dtype}, "
                               f"got {count} {kind.dtype}")  # fmt: skip
        if view and view[0] is not None:
            view_key, offset, length = view[0]
            if str(view_key) not in self.views:
                self.views[str(view_key)] = storage.part(offset, length)
            return self.views[str(view_key)]
        return storage


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _count(value: Any) -> int:
    if not _natural(value):
        raise WeightsError(f"expected a number of objects, got {str(value)[:40]}")
    return value


def _unpack(file: IO[bytes], layout: str) -> tuple[int, ...]:
    data = file.read(struct.calcsize(layout))
    if len(data) != struct.calcsize(layout):
        raise WeightsError("expected more data, got the end of the file")
    return struct.unpack(layout, data)


def _check_size(name: Any, dtype: str, count: int, available: int) -> int:
    """The bytes of `count` elements, if there are as many.

    The dtype need not be there for it: bfloat16 is asked for only when a storage of it is believed.
    """
    nbytes = count * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    if not 0 <= nbytes <= available:
        raise WeightsError(f"expected at most {available} bytes in storage {name}, got {count} elements of {dtype}")
    return nbytes


def _elements(data: np.ndarray, dtype: Any, count: int, little: bool) -> np.ndarray:
    """Bytes as `count` elements in this machine's order."""
    dtype = normalize_dtype(dtype)
    data = data[: count * dtype.itemsize]
    if little != _LITTLE and dtype.itemsize > 1:
        data = data.view(f"u{dtype.itemsize}").byteswap()
    return booleans(data.view(dtype))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor over `storage`; every element must lie in it."""
    if type(storage) is not LoadedStorage:
        raise WeightsError(f"expected a tensor's storage, got {type(storage).__name__}")
    array, itemsize = storage.array, storage.array.dtype.itemsize
    if not (_natural(offset) and type(size) is tuple and type(stride) is tuple and all(map(_natural, size + stride))):
        raise WeightsError(
            f"expected integers of 0 or more as offset, sizes and strides, got {offset}, {size}, {stride}"
        )
    if len(size) != len(stride) or len(size) > 64:
        raise WeightsError(f"expected as many strides as sizes, at most 64, got {len(size)} and {len(stride)}")
    if math.prod(length or 1 for length in size) * itemsize >= 1 << 62:
        raise WeightsError(f"expected a tensor that can be addressed, got sizes {size}")
    if 0 in size:
        return Tensor(np.empty(size, array.dtype))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if last >= len(array):
        raise WeightsError(
            f"expected elements within a storage of {len(array)}, got sizes {size} and strides {stride} from {offset}"
        )
    steps = [step * itemsize if length > 1 else itemsize for length, step in zip(size, stride, strict=True)]
    try:
        view: np.ndarray = np.ndarray(size, array.dtype, array.view(np.uint8).data, offset * itemsize, steps)
    except ValueError as error:
        raise WeightsError(f"expected sizes that NumPy allows, got {size}: {error}") from None
    storage.shared.viewed = True
    return Tensor(view, storage.shared)


# ---- the names that a pickle may use ---------------------------------------------------------------------------------


def _no_hooks(hooks: Any) -> None:
    if hooks:
        raise WeightsError(f"expected a tensor without hooks, got {type(hooks).__name__}")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    return _tensor(storage, offset, size, stride)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    _no_hooks(hooks)
    if metadata:
        raise WeightsError(f"expected a tensor without metadata, got {str(metadata)[:100]}")
    made = _tensor(storage, offset, size, stride)
    return _recording(made) if requires_grad else made


def _recording(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise WeightsError(f"expected a floating-point tensor that requires grad, got {tensor.dtype}")
    return tensor.requires_grad_()


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    from ..nn.parameter import Parameter

    _no_hooks(hooks)
    if not isinstance(data, Tensor):
        raise WeightsError(f"expected a parameter's tensor, got {type(data).__name__}")
    if requires_grad:
        _recording(data)
    return Parameter(data, requires_grad=bool(requires_grad))


def _size(*arguments: Any) -> tuple[int, ...]:
    (sizes,) = arguments or ((),)
    if type(sizes) not in (tuple, list) or not all(map(_natural, sizes)):
        raise WeightsError(f"expected sizes in torch.Size, got {str(sizes)[:100]}")
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or not (index is None or _natural(index)):
        raise WeightsError(f"expected the name of a device, got {str(kind)[:100]}")
    return kind if index is None else f"{kind}:{index}"


def _encoded(text: Any, encoding: Any = "utf-8") -> bytes:
    """What Python 3 writes for bytes in pickles that Python 2 can read."""
    if type(text) is not str or encoding not in ("latin1", "utf-8"):
        raise WeightsError("expected bytes in latin1, got another encoding")
    return text.encode(encoding)


NAMES: dict[str, Any] = {
    "collections.OrderedDict": Function(ordered_dict),
    "torch._utils._rebuild_tensor": Function(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_rebuild_tensor_v2),
    "torch._utils._rebuild_parameter": Function(_rebuild_parameter),
    "torch.Size": Function(_size),
    "torch.device": Function(_device),
    "_codecs.encode": Function(_encoded),
    **{f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()},
    **{f"torch.storage.{name}": StorageType(dtype) for name, dtype in STORAGES.items()},
    **{f"torch.{name.replace('Storage', 'Tensor')}": StorageType(dtype) for name, dtype in STORAGES.items()},  # 0.1
    **{f"torch.{name}": np.dtype(name) for name in STORAGES.values() if name != "bfloat16"},
}
with contextlib.suppress(ImportError):
    NAMES["torch.bfloat16"] = bfloat16()
