"""Weights in files: the three formats, PyTorch's files both ways, and files that mean harm."""

import contextlib
import importlib
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict

import hominy
import numpy as np
import pytest
from conftest import optional
from hominy import nn
from hominy.serialization import WeightsError, load, save

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


def state(*names):
    return {name: hominy.tensor(np.arange(6).reshape(2, 3) % 5, dtype=name) for name in names}


def same(ours, theirs):
    """The same shape, dtype and bits; `theirs` may be PyTorch's."""
    name = str(theirs.dtype).removeprefix("torch.")
    assert str(ours.dtype) == name and tuple(ours.shape) == tuple(theirs.shape)
    ours, theirs = (tensor.detach().double().numpy() for tensor in (ours, theirs))
    assert np.array_equal(ours, theirs)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)
        self.register_buffer("steps", hominy.tensor(7))


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["npz", "safetensors", "pt", "PTH"])
def test_every_dtype_comes_back(extension, tmp_path):
    if extension == "safetensors":
        optional("safetensors")
    optional("ml_dtypes")
    path = tmp_path / f"weights.{extension}"
    written = state(*DTYPES)
    written |= {"a.scalar": hominy.tensor(2.5), "empty": hominy.zeros(0, 3), "file": hominy.ones(2)}
    written["ä/.."] = hominy.ones(1)
    written["strided"] = hominy.arange(24).reshape(4, 6)[1:, ::2].t()
    save(written, path)
    read = load(str(path))
    assert sorted(read) == sorted(written) and os.listdir(tmp_path) == [path.name]
    for name, tensor in written.items():
        assert type(read[name]) is hominy.Tensor
        same(read[name], tensor)
        read[name].fill_(1)  # its memory is its own


@pytest.mark.parametrize("extension", ["npz", "pt"])
def test_a_module_comes_back(extension, tmp_path):
    model, other = Net(), Net()
    save(model.state_dict(), tmp_path / f"net.{extension}")
    other.load_state_dict(load(tmp_path / f"net.{extension}"))
    for name, tensor in model.state_dict().items():
        same(other.state_dict()[name], tensor)


@pytest.mark.parametrize("extension", ["npz", "pt"])
def test_the_same_weights_are_the_same_bytes(extension, tmp_path):
    for name in "ab":
        save(state("float32", "int64"), tmp_path / f"{name}.{extension}")
    assert (tmp_path / f"a.{extension}").read_bytes() == (tmp_path / f"b.{extension}").read_bytes()


def test_numpy_reads_and_writes_npz(tmp_path):
    save(state("float32", "int8"), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as read:
        assert read["int8"].dtype == np.int8 and read["float32"].tolist() == [[0, 1, 2], [3, 4, 0]]
    fortran, big = np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(3, dtype=">f4")
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "b.npz", fortran=fortran, big=big, zeros=np.zeros(5000, "f4"))
        read = load(tmp_path / "b.npz")
        assert read["fortran"].numpy().tolist() == fortran.tolist() and read["big"].numpy().tolist() == [0, 1, 2]
        assert read["big"].dtype == np.float32 and tuple(read["zeros"].shape) == (5000,)


def test_containers_in_a_pytorch_file(tmp_path):
    shared = []
    value = {
        "numbers": [1, -3, 2**31, -(2**70), 2.5, float("inf"), True, None], "text": "ä\n", "bytes": b"\x00\xff",
        3: (1, (2,), ()), "ordered": OrderedDict(b=1, a=hominy.ones(2)), "dtype": hominy.float32,
        "array": np.arange(3), "numpy": np.float64(0.5), "shared": [shared, shared],
        "parameter": nn.Parameter(hominy.ones(2)),
    }  # fmt: skip
    save(value, tmp_path / "a.pt")
    read = load(tmp_path / "a.pt")
    for name in ("numbers", "text", "bytes", 3, "dtype", "numpy"):
        assert read[name] == value[name] and type(read[name]) in (type(value[name]), float, np.dtype)
    assert type(read["ordered"]) is OrderedDict and list(read["ordered"]) == ["b", "a"]
    assert read["shared"][0] is read["shared"][1]
    assert type(read["parameter"]) is nn.Parameter and read["parameter"].requires_grad
    same(read["array"], hominy.arange(3))


def test_shared_memory_stays_shared_and_slices_stay_small(tmp_path):
    base = hominy.arange(12, dtype="float32").reshape(3, 4)
    save({"tied": base, "again": base, "turned": base.t(), "row": base[1]}, tmp_path / "a.pt")
    for _ in range(2):  # also when what was read is written once more
        read = load(tmp_path / "a.pt")
        read["row"].fill_(-1)
        assert read["tied"].numpy()[1].tolist() == [-1] * 4 == read["turned"].numpy()[:, 1].tolist()
        assert read["again"].numpy()[1, 0] == -1
        save(read, tmp_path / "a.pt")
    large = hominy.zeros(100000)
    save({"few": large[10:20], "sparse": large[::1000]}, tmp_path / "b.pt")
    assert (tmp_path / "b.pt").stat().st_size < 20000


def test_a_failed_save_leaves_the_old_file(tmp_path):
    for extension, bad, error in [
        ("pt", {"a": object()}, TypeError),
        ("npz", {"a": 3}, TypeError),
        ("npz", {1: hominy.ones(1)}, TypeError),
        ("npz", [hominy.ones(1)], TypeError),
        ("npz", {"a": np.array([object()])}, TypeError),
        ("pt", {"a": np.array(["x"])}, TypeError),
    ]:
        path = tmp_path / f"a.{extension}"
        save({"a": hominy.ones(2)}, path)
        before = path.read_bytes()
        with pytest.raises(error, match=r"\[save\]|\[dtype\]"):
            save(bad, path)
        assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.pt"]
    nested = []
    for _ in range(100000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested less deeply"):
        save(nested, tmp_path / "a.pt")


def test_paths_are_checked(tmp_path):
    for use in (lambda path: save({}, path), load):
        with pytest.raises(ValueError, match=r"path: expected a name that ends in .safetensors, .npz or .pt"):
            use(tmp_path / "weights.h5")
        with pytest.raises(TypeError, match="path: expected a string or a path, got 3"):
            use(3)
    for extension in ("npz", "pt", "safetensors"):
        if extension == "safetensors":
            optional("safetensors")
        with pytest.raises(FileNotFoundError):
            load(tmp_path / f"absent.{extension}")


# ---- PyTorch's files -------------------------------------------------------------------------------------------------

FORMATS = [{}, {"_use_new_zipfile_serialization": False}]


@pytest.mark.torch
@pytest.mark.parametrize("settings", FORMATS, ids=["zip", "pickles"])
def test_torch_writes_hominy_reads(settings, torch, tmp_path):
    optional("ml_dtypes")
    base = torch.arange(24.0).reshape(4, 6)
    value = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in DTYPES}
    value |= {
        "view": base[1:, ::2], "turned": base.t(), "expanded": torch.ones(1).expand(3, 4), "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    others = {"size": torch.Size([1, 2]), "dtype": torch.bfloat16, "device": torch.device("cuda", 1),
              "bytes": b"\xff\0", "list": [1, 2.5, None, ("x", 2**70)]}  # fmt: skip
    torch.save((value, others), tmp_path / "a.pt", **settings)
    read, plain = load(tmp_path / "a.pt")
    for name, tensor in value.items():
        same(read[name], tensor)
        assert read[name].stride() == tensor.stride() or name in ("empty", "expanded")
    assert type(read["parameter"]) is nn.Parameter
    read["view"].fill_(-1)
    assert read["turned"].numpy()[0, 1] == -1
    assert plain == {"size": (1, 2), "dtype": hominy.bfloat16, "device": "cuda:1", "bytes": b"\xff\0",
                     "list": [1, 2.5, None, ("x", 2**70)]}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("settings", FORMATS, ids=["zip", "pickles"])
def test_models_go_to_hominy_and_back(settings, torch, tmp_path):
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    ours = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    torch.save(theirs.state_dict(), tmp_path / "a.pt", **settings)
    read = load(tmp_path / "a.pt")
    ours.load_state_dict(read)
    save(ours.state_dict(), tmp_path / "b.pt")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert list(back) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(back[name], tensor)
    save(read, tmp_path / "c.pt")
    assert torch.load(tmp_path / "c.pt", weights_only=True)._metadata == theirs.state_dict()._metadata

    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "d.pt", **settings)
    save(load(tmp_path / "d.pt"), tmp_path / "e.pt")
    back = torch.load(tmp_path / "e.pt", weights_only=True)
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict(back)


@pytest.mark.torch
@pytest.mark.parametrize("mapped", [False, True])
def test_hominy_writes_torch_reads(mapped, torch, tmp_path):
    optional("ml_dtypes")
    base = hominy.arange(12, dtype="float32").reshape(3, 4)
    tensors = state(*DTYPES) | {"tied": base, "turned": base.t(), "empty": hominy.zeros(0, 2), "s": hominy.tensor(1.5)}
    value = {
        "tensors": tensors, "parameter": nn.Parameter(hominy.ones(2)), "list": [1, -(2**40), 2.5, "ä", None, (3,)],
        "bytes": b"\xff\0", "dtype": hominy.float64, "ordered": OrderedDict(a=1),
    }  # fmt: skip
    save(value, tmp_path / "a.pt")
    read = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mapped)
    for name, tensor in tensors.items():
        same(tensor, read["tensors"][name])
    read["tensors"]["tied"][0, 1] = 9
    assert read["tensors"]["turned"][1, 0] == 9
    assert type(read["parameter"]) is torch.nn.Parameter and read["parameter"].requires_grad
    for name in ("list", "bytes", "ordered"):
        assert read[name] == value[name]
    assert read["dtype"] is torch.float64
    pickled = zipfile.ZipFile(tmp_path / "a.pt").read("archive/data.pkl")
    assert pickled.startswith(b"\x80\x02")


@pytest.mark.torch
def test_big_endian_and_uncompressed_checksums(torch, tmp_path):
    from torch.serialization import LoadEndianness  # noqa: F401  (the switch that torch itself has for such files)

    values = np.arange(5, dtype=">f4")
    write_zip(tmp_path / "a.pt", tensor_pickle("FloatStorage", 5, 0, (5,), (1,)), values.tobytes(), byteorder=b"big")
    assert load(tmp_path / "a.pt").numpy().tolist() == [0, 1, 2, 3, 4]
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.arange(5), tmp_path / "b.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load(tmp_path / "b.pt").numpy().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.torch
def test_the_tar_format_of_old(torch, tmp_path):
    path = tmp_path / "a.pt"
    write_tar(path)
    read = load(path)
    assert read["w"].numpy().tolist() == [[1, 2], [4, 5]] and read["n"] == 3
    theirs = torch.load(path, weights_only=False)  # our own file; it shows that the test writes what PyTorch means
    same(read["w"], theirs["w"])


def write_tar(path, sizes=(2, 2), strides=(3, 1), offset=1, count=6):
    class Persistent(pickle.Pickler):
        def persistent_id(self, obj):
            return "12" if obj is MARK else None

    MARK = object()
    members = {"storages": io.BytesIO(), "tensors": io.BytesIO(), "pickle": io.BytesIO()}
    for value in (1, (11, "cpu", Named("torch", "FloatStorage"))):
        members["storages"].write(Named.pickled(value))
    members["storages"].write(struct.pack("<q", count) + np.arange(6, dtype="<f4").tobytes() + pickle.dumps([], 2))
    for value in (1, (12, 11, Named("torch", "FloatTensor"))):
        members["tensors"].write(Named.pickled(value))
    members["tensors"].write(struct.pack("<ii", len(sizes), 0) + struct.pack("<5q", *sizes, *strides, offset))
    Persistent(members["pickle"], 2).dump({"w": MARK, "n": 3})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = data.tell(), 1.5
            data.seek(0)
            archive.addfile(member, data)


# ---- files that mean harm --------------------------------------------------------------------------------------------


class Named:
    """Stands for module.name in a pickle made here, whether or not there is such a thing."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def bytes(self):
        return f"c{self.module}\n{self.name}\n".encode()

    @staticmethod
    def pickled(value):
        """A pickle of protocol 2 of nested tuples, numbers, strings and names."""
        return b"\x80\x02" + Named.program(value) + b"."

    @staticmethod
    def program(value):
        if isinstance(value, Named):
            return value.bytes()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(Named.program, value)) + b"t"
        return pickle.dumps(value, 2)[2:-1]


def tensor_pickle(storage, count, offset, size, stride, key="0", rebuild="_rebuild_tensor_v2", requires_grad=False):
    identifier = Named.program(("storage", Named("torch", storage), key, "cpu", count)) + b"Q"
    rest = b"".join(map(Named.program, (offset, size, stride, requires_grad))) + b"ccollections\nOrderedDict\n)R"
    return b"\x80\x02" + Named("torch._utils", rebuild).bytes() + b"(" + identifier + rest + b"tR."


def write_zip(path, program, *storages, byteorder=b"little", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in enumerate(storages):
            archive.writestr(f"archive/data/{key}", data)
    return path


def refused(path, pattern, limit=1 << 20):
    """Loading raises, both kinds of error at once, without asking for much memory."""
    with pytest.raises(WeightsError):  # what a process's first load imports is not the file's doing
        load(path)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=pattern) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, pickle.UnpicklingError)
    assert str(caught.value).startswith(f"[load] {path.name}: expected")


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_names_are_refused_and_nothing_runs(protocol, tmp_path):
    mark = tmp_path / "harm"
    program = pickle.dumps({"weight": Harm(mark)}, protocol)
    refused(write_zip(tmp_path / "a.pt", program), r"got the name (posix|nt)\.system, which is not imported")
    (tmp_path / "b.pt").write_bytes(program)
    refused(tmp_path / "b.pt", r"got the name (posix|nt)\.system")
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    (tmp_path / "c.pt").write_bytes(magic + pickle.dumps({}, 2) + program)
    refused(tmp_path / "c.pt", r"got the name (posix|nt)\.system")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("program", "pattern"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "the name builtins.eval"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.", "the name builtins.exec"),
        (b"ctorch.storage\n_load_from_bytes\n.", "the name torch.storage._load_from_bytes"),
        (b"ctorch\nnn.Linear\n.", "the name torch.nn.Linear"),
        (b"(S'x'\nios\nsystem\n.", "got INST"),
        (b"(cos\nsystem\nS'x'\no.", "the name os.system"),
        (b"\x82\x01.", "EXT1"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
        (b"ctorch\nFloatStorage\n)R.", "calls of what rebuilds tensors alone"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n]R.", "calls of what rebuilds tensors alone"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "malformed"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NI0\n)))NtR.", "a tensor's storage, got NoneType"),
        (b"ccollections\nOrderedDict\n)R}(S'update'\nI1\nub.", "no attributes but a state dict's _metadata"),
        (b"](S'a'\nI1\nu.", "items of a dictionary, got some of list"),
        (b"}I1\na.", "items of a list, got some of dict"),
        (b"}(]I1\nu.", "keys that are strings or numbers, got list"),
        (b"}((((tttI1\nu.", "keys that are strings or numbers, got tuple"),
        (b"}I1\nb.", "no attributes"),
        (b"I1\nQ.", "malformed"),
        (b"h\x07.", "malformed"),
        (b"t.", "malformed"),
        (b"\x86.", "malformed"),
        (b"0.", "malformed"),
        (b".", "malformed"),
        (b"I1\nI2\n.", "malformed"),
        (b"I1\n", "a length within the file"),
        (b"\xff.", "malformed"),
        (b"", "a length within the file"),
        (b"B\xff\xff\xff\x7fabc.", "a length within the file"),
        (b"\x8e" + b"\xff" * 7 + b"\x7fabc.", "a length within the file"),
        (b"\x8b\xff\xff\xff\x7fabc.", "a length within the file"),
        (b"I" + b"9" * 5000 + b"\n.", "malformed"),
    ],
)
def test_programs_that_do_more_than_build_data(program, pattern, tmp_path):
    refused(write_zip(tmp_path / "a.pt", program), pattern)


def test_a_memo_index_takes_no_memory(tmp_path):
    path = write_zip(tmp_path / "a.pt", b"]r\xff\xff\xff\x7f\x95" + b"\xff" * 8 + b".")  # and a frame of 2^64 bytes
    tracemalloc.start()
    assert load(path) == [] and tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        (("FloatStorage", 4, 0, (5,), (1,)), r"within a storage of 4, got sizes \(5,\)"),
        (("FloatStorage", 4, 2, (2,), (2,)), "within a storage of 4"),
        (("FloatStorage", 4, 4, (1,), (1,)), "within a storage of 4"),
        (("FloatStorage", 4, 0, (2, 2), (1 << 62, 1)), "within a storage of 4"),
        (("FloatStorage", 4, 0, (1 << 62,), (0,)), "a tensor that can be addressed"),
        (("FloatStorage", 4, 0, (0, 1 << 62, 1 << 62), (0, 0, 0)), "a tensor that can be addressed"),
        (("FloatStorage", 4, 0, (1,) * 65, (0,) * 65), "at most 64, got 65"),
        (("FloatStorage", 4, 0, (2, 2), (1,)), "as many strides as sizes"),
        (("FloatStorage", 4, -1, (1,), (1,)), "integers of 0 or more"),
        (("FloatStorage", 4, 0, (-1,), (1,)), "integers of 0 or more"),
        (("FloatStorage", 4, 0, (2,), (-1,)), "integers of 0 or more"),
        (("FloatStorage", 4, 0, (True,), (1,)), "integers of 0 or more"),
        (("FloatStorage", 4, 0, (1.0,), (1,)), "integers of 0 or more"),
        (("FloatStorage", 4, 0, [1], [1]), "integers of 0 or more"),
        (("FloatStorage", 5, 0, (5,), (1,)), "at most 16 bytes in storage"),
        (("DoubleStorage", 4, 0, (4,), (1,)), "at most 16 bytes in storage"),
        (("FloatStorage", 1 << 61, 0, (1,), (1,)), "at most 16 bytes in storage"),
        (("FloatStorage", -1, 0, (1,), (1,)), "expected a storage"),
        (("ComplexFloatStorage", 2, 0, (1,), (1,)), "the name torch.ComplexFloatStorage"),
        (("FloatStorage", 4, 0, (4,), (1,), "7"), "at most 0 bytes in storage archive/data/7"),
        (("FloatStorage", 4, 0, (4,), (1,), "../../data.pkl"), "at most 0 bytes"),
        (("FloatStorage", 4, 0, (4,), (1,), "0", "_rebuild_sparse_tensor"), "the name torch._utils._rebuild_sparse"),
        (("IntStorage", 4, 0, (4,), (1,), "0", "_rebuild_tensor_v2", True), "floating-point tensor that requires grad"),
    ],
)
def test_tensors_stay_within_their_storages(settings, pattern, tmp_path):
    refused(write_zip(tmp_path / "a.pt", tensor_pickle(*settings), bytes(16)), pattern)


def test_one_storage_has_one_dtype(tmp_path):
    first, second = (tensor_pickle(kind, 4, 0, (4,), (1,))[2:-1] for kind in ("FloatStorage", "IntStorage"))
    path = write_zip(tmp_path / "a.pt", b"\x80\x02(" + first + second + b"t.", bytes(16))
    refused(path, "to be one of 4 float32")


def test_odd_bools_become_true(tmp_path):
    path = write_zip(tmp_path / "a.pt", tensor_pickle("BoolStorage", 3, 0, (3,), (1,)), b"\x00\x01\x07")
    assert load(path).numpy().view(np.uint8).tolist() == [0, 1, 1]


def patched(path, at, data):
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


def test_zip_archives_that_lie(tmp_path):
    program = tensor_pickle("FloatStorage", 4, 0, (4,), (1,))
    path = write_zip(tmp_path / "compressed.pt", program, bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)
    refused(path, "at most .* bytes from a file of|stored uncompressed")
    path = write_zip(tmp_path / "small.pt", b"N." * 50, compression=zipfile.ZIP_DEFLATED)
    refused(path, "stored uncompressed|at most")
    content = write_zip(tmp_path / "whole.pt", program, bytes(4000)).read_bytes()
    for length in (0, 3, 30, 200, 2000, len(content) - 30, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        refused(tmp_path / "cut.pt", "expected")
    entry = content.rindex(b"PK\x01\x02")  # the directory's last entry: data/0
    for field, value, pattern in [
        (20, struct.pack("<II", 0x7FFFFFFF, 0x7FFFFFFF), "within the file's"),
        (24, struct.pack("<I", 0x7FFFFFFF), "expected one size for 'archive/data/0'"),
        (42, struct.pack("<I", 0), "expected members side by side|of different"),
        (42, struct.pack("<I", 1 << 30), "within the file's"),
        (8, struct.pack("<H", 1), "not encrypted"),
    ]:
        (tmp_path / "lie.pt").write_bytes(content)
        refused(patched(tmp_path / "lie.pt", entry + field, value), pattern)
    header = content.rindex(b"PK\x03\x04")
    (tmp_path / "header.pt").write_bytes(content)
    refused(patched(tmp_path / "header.pt", header, b"XX"), "the header of 'archive/data/0'")
    end = content.rindex(b"PK\x05\x06")
    for field, value in ((12, b"\xff\xff\xff\x7f"), (16, b"\xff\xff\xff\x7f"), (8, b"\xff\xff\xff\xff")):
        (tmp_path / "end.pt").write_bytes(content)
        patched(tmp_path / "end.pt", end + field, value)
        with contextlib.suppress(WeightsError):  # a count that nobody reads may be anything
            load(tmp_path / "end.pt")
    with zipfile.ZipFile(tmp_path / "none.pt", "w") as archive:
        archive.writestr("archive/other", b"")
    refused(tmp_path / "none.pt", "one data.pkl in the archive, got 0")
    refused(write_zip(tmp_path / "order.pt", program, bytes(16), byteorder=b"middle"), "byte order little or big")


def legacy(program, *storages, keys=("0",), little=True):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": little}]
    content = b"".join(pickle.dumps(part, 2) for part in parts) + program + pickle.dumps(list(keys), 2)
    order = "<" if little else ">"
    return content + b"".join(struct.pack(order + "q", count) + data for count, data in storages)


def legacy_tensor(count=4, view=None, size=(4,)):
    identifier = Named.program(("storage", Named("torch", "FloatStorage"), "0", "cpu", count, view)) + b"Q"
    rest = b"".join(map(Named.program, (0, size, (1,)))) + b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02" + Named("torch._utils", "_rebuild_tensor_v2").bytes() + b"(" + identifier + rest + b"tR."


def test_pickles_one_after_another(tmp_path):
    path = tmp_path / "a.pt"
    values = np.arange(4, dtype="<f4").tobytes()
    path.write_bytes(legacy(legacy_tensor(), (4, values)))
    assert load(path).numpy().tolist() == [0, 1, 2, 3]
    path.write_bytes(legacy(legacy_tensor(view=("9", 1, 2), size=(2,)), (4, values)))
    assert load(path).numpy().tolist() == [1, 2]
    path.write_bytes(legacy(legacy_tensor(), (4, np.arange(4, dtype=">f4").tobytes()), little=False))
    assert load(path).numpy().tolist() == [0, 1, 2, 3]
    for content, pattern in [
        (legacy(legacy_tensor(), (4, values[:-1])), "expected 16 bytes of data, got 15"),
        (legacy(legacy_tensor(), (5, values)), "expected 4 elements in storage 0, got 5"),
        (legacy(legacy_tensor(), (-1, values)), "expected 4 elements in storage 0, got -1"),
        (legacy(legacy_tensor(1 << 40), (1 << 40, values)), "at most"),
        (legacy(legacy_tensor(view=("9", 3, 2)), (4, values)), "a view within 4 elements"),
        (legacy(legacy_tensor(), (4, values), keys=("0", "1")), "the keys of the storages"),
        (legacy(legacy_tensor(), (4, values), keys=("0", "0")), "the keys of the storages"),
        (legacy(legacy_tensor(), keys=()), "the keys of the storages"),
        (legacy(legacy_tensor())[:40], "expected"),
        (b"", "expected"),
        (pickle.dumps(5, 2), "PyTorch's magic number"),
        (pickle.dumps([1, 2], 2), "PyTorch's magic number"),
        (b"\x89HDF\r\n", "expected"),
    ]:
        path.write_bytes(content)
        refused(path, pattern)


def test_tar_archives_that_lie(tmp_path):
    path = tmp_path / "a.pt"
    for settings, pattern in [
        ({"count": 1 << 60}, "at most"),
        ({"count": -1}, "at most"),
        ({"offset": 4}, "within a storage of 6"),
        ({"strides": (-1, 1)}, "integers of 0 or more"),
    ]:
        write_tar(path, **settings)
        refused(path, pattern)
    write_tar(path)
    content = path.read_bytes()
    header = content.index(b"storages\0")
    path.write_bytes(content)
    refused(patched(path, header + 124, b"77777777777\0"), "a member of the tar archive within the file")
    path.write_bytes(content)
    refused(patched(path, header + 124, b"zzz"), "expected")
    path.write_bytes(content[:1024])
    refused(path, "expected")


def test_npz_that_means_harm(tmp_path):
    path, mark = tmp_path / "a.npz", tmp_path / "harm"
    np.savez(path, a=np.array([Harm(mark)], dtype=object))
    refused(path, r"got Python objects \(object\), which are never loaded")
    assert not mark.exists()
    np.savez(path, a=np.zeros(2, dtype=[("x", "O"), ("y", "f4")]))
    refused(path, "Python objects")
    np.savez(path, a=np.array(["text"]))
    refused(path, "expected numbers in 'a.npy'")
    np.savez(path, a=np.zeros(2, dtype="c8"))
    refused(path, "expected numbers in 'a.npy'")

    def npy(shape, data=b"\0" * 16, descr="<f4", version=b"\x01\x00", length=None, fortran=False):
        header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
        size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header) if length is None else length)
        return b"\x93NUMPY" + version + size + header + data

    for content, pattern in [
        (npy("(4611686018427387904,)"), r"16 bytes in 'a.npy', got shape \(4611686018427387904,\)"),
        (npy("(4294967296, 4294967296, 4)"), "16 bytes in 'a.npy'"),
        (npy("(-2, -2)"), "16 bytes"),
        (npy("(4.0,)"), "expected the header"),
        (npy("(5,)"), "16 bytes"),
        (npy("(3,)"), "16 bytes"),
        (npy("(0, 4611686018427387904, 4)", b""), "expected an array"),
        (npy("(4,)", descr="|V4"), "expected numbers"),
        (npy("(4,)", version=b"\x03\x00"), "version"),
        (npy("(4,)", version=b"\x02\x00", length=0xFFFFFFFF), "expected the header"),
        (npy("__import__('os').system('true')"), "expected the header"),
        (npy("(" * 5000 + ")" * 5000), "expected the header"),
        (b"\x93NUMPY", "expected the header"),
        (b"", "expected the header"),
    ]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
        refused(path, pattern)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"")
    refused(path, r"expected arrays \(.npy\) alone, got 'a.txt'")
    path.write_bytes(b"not a zip archive")
    refused(path, "expected a zip archive")


def test_zip_bombs(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 24,)})
        archive.writestr("a.npy", header.getvalue() + bytes(1 << 26))
    refused(path, "bytes from a file of")
    content = path.read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    refused(patched(path, entry + 24, struct.pack("<I", 1 << 20)), "expected")  # smaller, then, than it is
    with zipfile.ZipFile(path, "w") as archive:  # many members over one another
        for number in range(50):
            archive.writestr(f"{number}.npy", b"\0" * 1000)
        for member in archive.infolist():
            member.header_offset = 0
    refused(path, "side by side")


def test_safetensors_that_lie(tmp_path):
    optional("safetensors")
    path = tmp_path / "a.safetensors"

    def file(header, data=b"\0" * 16, length=None):
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    one = b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}}'
    for content in [
        b"", b"\xff" * 8, file(b"{}", length=2**63), file(b"{}", length=100), file(b"{"), file(b"[1]"),
        file(one % (b"5", 0, 16)), file(one % (b"4611686018427387904", 0, 16)), file(one % (b"4", 0, 1 << 40)),
        file(one % (b"4", 8, 24)), file(one % (b"-4", 0, 16)), file(one % (b"4294967296,4294967296,4", 0, 16)),
        file((one % (b"4", 0, 16)).replace(b"F32", b"XYZ")), file((one % (b"2", 0, 16)).replace(b"F32", b"C64")),
        file(b'{"a":' * 100000),
    ]:  # fmt: skip
        path.write_bytes(content)
        refused(path, "expected")


def test_random_damage_is_an_error_or_other_numbers(tmp_path, rng):
    """Whatever bytes are changed, loading gives tensors or a WeightsError."""
    paths = [tmp_path / "a.pt", tmp_path / "b.npz", tmp_path / "c.pt", tmp_path / "d.pt"]
    for path in paths[:2]:
        save(state("float32", "int64", "bool"), path)
    paths[2].write_bytes(legacy(legacy_tensor(), (4, bytes(16))))
    write_tar(paths[3])
    for path in paths:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            damaged = content.copy()
            where = rng.integers(0, len(content), rng.integers(1, 6))
            damaged[where] = rng.integers(0, 256, len(where))
            path.write_bytes(damaged[: rng.integers(len(content) // 2, len(content) * 2)].tobytes())
            with contextlib.suppress(WeightsError):
                load(path)
