"""What the compiled extension holds and needs: kernels of one ISA level that no other level can pick up, no vendor's
library, no changed floating-point mode; and the switches HOMINY_ISA."""

import re
import shutil
import subprocess
from pathlib import Path

import hominy
import numpy as np
import pytest
from conftest import LEVELS
from test_threads import python

pytestmark = pytest.mark.native
SOURCES = Path(__file__).parent.parent / "csrc"


def extension():
    from hominy import _native

    return _native.__file__


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) absent")
def test_the_extension_exports_its_module_alone():
    symbols = run("readelf", "--dyn-syms", "--wide", extension())
    defined = [
        line.split()[-1]
        for line in symbols.splitlines()
        if re.search(r"\b(GLOBAL|WEAK)\b", line) and " UND " not in line
    ]
    ours = [name for name in defined if "hominy" in name or not name.startswith("_Z")]
    allowed = re.compile(
        r"PyInit__native|hominy_get_kernels|hominy_get_kernels_for|_init|_fini|_edata|_end|__bss_start|pybind11"
    )
    assert "PyInit__native" in defined
    assert not [name for name in ours if not allowed.match(name) and "pybind11" not in name], ours


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) absent")
def test_the_extension_needs_no_vendors_library():
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", extension()))
    assert needed, "not an ELF file?"
    allowed = re.compile(r"lib(stdc\+\+|m|gcc_s|c|pthread|dl|rt)\.so|ld-linux|libpython")
    assert not [name for name in needed if not allowed.match(name)], needed


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) absent")
def test_the_stack_is_not_executable():
    (line,) = [line for line in run("readelf", "-lW", extension()).splitlines() if "GNU_STACK" in line]
    assert "RWE" not in line


def compiler():
    return shutil.which("g++") or shutil.which("c++")


FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    "neon": [],
}


def flags_of(level):
    """As csrc/sources.cmake gives them."""
    text = (SOURCES / "sources.cmake").read_text()
    (found,) = re.findall(rf"set\(HOMINY_FLAGS_{level}([^)]*)\)", text)
    return found.split()


@pytest.mark.skipif(
    compiler() is None or shutil.which("nm") is None, reason="no C++ compiler or nm to build and read an object with"
)
@pytest.mark.skipif(not SOURCES.is_dir(), reason="the C++ sources are not beside the tests")
@pytest.mark.native
@pytest.mark.parametrize("level", LEVELS)
def test_kernels_of_a_level_stay_in_their_namespace(level, tmp_path):
    """Whatever a kernel unit defines for the linker to see must lie in `hominy::<level>`: a weak symbol outside it (a
    template of the standard library, an inline function) could be merged with another level's, and a machine without
    AVX would run AVX code."""
    assert flags_of(level) == FLAGS[level]
    outside = {}
    for source in sorted(SOURCES.glob("cpu/*.cpp")):
        if source.stem in ("isa_select", "memory_pool", "parallel_for"):
            continue
        target = tmp_path / f"{source.stem}.o"
        run(
            compiler(),
            "-std=c++17",
            "-O0",  # emits more than any other level, and compiles sooner
            "-fno-exceptions",
            "-fno-rtti",
            "-fvisibility=hidden",
            "-fvisibility-inlines-hidden",
            "-fPIC",
            *flags_of(level),
            f"-DHOMINY_LEVEL={level}",
            f"-I{SOURCES}/include",
            f"-I{SOURCES}/cpu",
            "-c",
            str(source),
            "-o",
            str(target),
        )
        for line in run("nm", "-C", str(target)).splitlines():
            kind, name = re.match(r"[0-9a-f ]{16} (\S) (.*)", line).groups()
            # T, D, B, R: global; W, V, u: weak or unique; lower-case t, d, b, r are local to the unit.
            if (kind in "TDBRWVu") and not re.match(
                rf"(?:(?:vtable|guard variable|typeinfo) for )?.*hominy::{level}::", name
            ):
                shared = (
                    name.startswith(("hominy::parallel_for<", "void hominy::parallel_for<"))
                    and f"hominy::{level}::" in name
                )
                if not shared and not name.startswith("DW.ref"):
                    outside.setdefault(source.name, []).append(f"{kind} {name}")
    assert not outside, outside


def test_importing_changes_no_floating_point_mode():
    code, out, err = python(
        """
        import numpy as np
        tiny = np.float32(2.0 ** -140)
        def survives():
            halves = np.full(64, tiny) * np.float32(0.5)
            return bool((halves == np.float32(2.0 ** -141)).all()) and 2.0 ** -1070 * 0.5 == 2.0 ** -1071
        before = survives()
        import hominy, hominy.nn
        from hominy import _native
        results = [before, survives()]
        for level, runs in _native.isa_levels().items():
            if runs:
                _native.select_isa(level)
                hominy.kernels.matmul(np.ones((200, 200), np.float32), np.ones((200, 200), np.float32))
                results.append(survives())
        import threading
        thread = threading.Thread(target=lambda: results.append(survives()))
        thread.start(); thread.join()
        print(all(results))
        """
    )
    assert code == 0 and out == "True\n", (out, err)


def test_isa_from_the_environment():
    show = "import hominy; from hominy import _native; print(_native.isa())"
    for level in LEVELS:
        assert python(show, HOMINY_ISA=level)[1] == f"{level}\n"
    assert python(show, HOMINY_ISA="")[1] == f"{LEVELS[0]}\n"
    for wrong in ("sse9", "AVX2", "baseline "):
        code, out, err = python(show, HOMINY_ISA=wrong)
        assert code != 0 and "HOMINY_ISA" in err and f"'{wrong}'" in err and "baseline" in err, (code, out, err)


def test_select_isa_checks_its_argument():
    from hominy import _native

    for wrong in ("", "nonsense", "avx1024"):
        with pytest.raises(ValueError, match="HOMINY_ISA: expected one of"):
            _native.select_isa(wrong)
    assert _native.isa() == LEVELS[0]
    for level in LEVELS:
        _native.select_isa(level)
        assert _native.isa() == level
        np.testing.assert_array_equal(hominy.kernels.add(np.ones(3, np.float32), 1.0), [2, 2, 2])
