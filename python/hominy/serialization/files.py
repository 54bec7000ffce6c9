"""What the formats share: the error, the rename at the end of writing, zip archives read with suspicion."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from ..creation import as_tensor
from ..dtypes import normalize_dtype
from ..tensor import Tensor

_LOCAL_HEADER = 30  # bytes of a member's header in a zip file, before its name
_SIGNATURE = b"PK\x03\x04"


class WeightsError(ValueError, pickle.UnpicklingError):
    """A file of weights that is damaged, or holds what it must not."""


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A temporary name beside `path`, renamed to it if all goes well and removed if not."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def named_arrays(obj: Any) -> dict[str, np.ndarray]:
    """A state dict as contiguous arrays of hominy's dtypes.

    Raises:
        TypeError: it is not a dictionary of tensors (or arrays) under strings.
    """
    if not isinstance(obj, Mapping):
        raise TypeError(
            f"[save] obj: expected a dictionary of tensors by name (state_dict()), got {type(obj).__name__}"
        )
    arrays = {}
    for name, value in obj.items():
        if not isinstance(name, str):
            raise TypeError(f"[save] obj: expected names that are strings, got {name!r}")
        if not isinstance(value, (Tensor, np.ndarray, np.generic)):
            raise TypeError(
                f"[save] {name}: expected a tensor or an array (other values go into a .pt file), "
                f"got {type(value).__name__}"
            )
        array = value._array if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(native(array.dtype), copy=False)
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
    return arrays


def native(dtype: np.dtype) -> np.dtype:
    """hominy's dtype of that kind, in this machine's byte order.

    Raises:
        TypeError: hominy has no such dtype.
    """
    return normalize_dtype(dtype if dtype.kind == "V" else dtype.newbyteorder("="))


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The arrays as tensors over the same memory."""
    return {name: as_tensor(booleans(array)) for name, array in arrays.items()}


def booleans(array: np.ndarray) -> np.ndarray:
    """The array itself, but bools that a file gives as bytes other than 0 and 1 become true."""
    return array.view(np.uint8) != 0 if array.dtype == np.bool_ else array


def file_size(file: IO[bytes]) -> int:
    """The size of an open file, in bytes."""
    return os.fstat(file.fileno()).st_size


def fill(file: IO[bytes], count: int) -> np.ndarray:
    """`count` bytes from the file's position, as an array that can be written to.

    `count` must have been compared with the file's size before: that much memory is asked for at once.
    """
    data = np.empty(count, np.uint8)
    view = data.data
    done = 0
    while done < count:
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise WeightsError(f"expected {count} bytes of data, got {done} before the file ended")
        done += got
    return data


class Archive:
    """The members of a zip file, whose claims about sizes are checked against the file's own size when it is opened.

    A compressed member may be larger than the file: `expansion` is how much larger all of them together may be.
    """

    def __init__(self, file: IO[bytes], expansion: float = 1.0):
        self.file = file
        size = file_size(file)
        try:
            self.zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error, MemoryError) as error:
            raise WeightsError(f"expected a zip archive, got {error}") from None
        self.members: dict[str, zipfile.ZipInfo] = {}
        end = packed = unpacked = 0
        for member in sorted(self.zip.infolist(), key=lambda member: member.header_offset):
            if member.filename in self.members:
                raise WeightsError(f"expected members of different names, got {member.filename!r} twice")
            if member.header_offset < end:
                raise WeightsError(f"expected members side by side, got {member.filename!r} over another one")
            if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
                raise WeightsError(f"expected one size for {member.filename!r}, got {member.file_size} and "
                                   f"{member.compress_size} bytes")  # fmt: skip
            if member.flag_bits & 1:
                raise WeightsError(f"expected members that are not encrypted, got {member.filename!r}")
            end = member.header_offset + _LOCAL_HEADER + member.compress_size
            packed += member.compress_size
            unpacked += member.file_size
            self.members[member.filename] = member
        if end > size or packed > size:
            raise WeightsError(f"expected members within the file's {size} bytes, got {max(end, packed)}")
        if unpacked > max(size * expansion, size):
            raise WeightsError(
                f"expected at most {max(size * expansion, size):.0f} bytes from a file of {size}, got {unpacked}"
            )

    def read(self, name: str) -> np.ndarray:
        """The bytes of a member that is stored uncompressed, in memory of their own."""
        member = self.members.get(name)
        if member is None:
            raise WeightsError(f"expected a member {name!r}, got none")
        if member.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"expected {name!r} to be stored uncompressed, got compression {member.compress_type}")
        # Not ZipFile.read: it copies twice and insists on checksums, which PyTorch can be told to leave out.
        self.file.seek(member.header_offset)
        header = self.file.read(_LOCAL_HEADER)
        if len(header) != _LOCAL_HEADER or header[:4] != _SIGNATURE:
            raise WeightsError(f"expected the header of {name!r} at byte {member.header_offset}, got something else")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        self.file.seek(member.header_offset + _LOCAL_HEADER + name_length + extra_length)
        return fill(self.file, member.file_size)
