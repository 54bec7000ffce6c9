"""What the tests share: which backends and ISA levels this machine has, and continuous integration's three switches.

HOMINY_REQUIRE_NATIVE=1: a missing native module is a failure; HOMINY_REQUIRE_TORCH=1: so is a missing PyTorch;
HOMINY_REQUIRE_EXTRAS=1: so is a package of `hominy[test]`. Without them, tests that need what is absent are skipped and
say so.
"""

import importlib
import importlib.util
import os
import warnings

import numpy as np
import pytest
from hominy import backends
from hypothesis import HealthCheck, settings

# The same examples on every run; a failure is printed with what reproduces it.
settings.register_profile(
    "hominy",
    deadline=None,
    derandomize=True,
    max_examples=60,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("hominy")

NATIVE = not backends.available("native")
NUMBA = importlib.util.find_spec("numba") is not None
TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("expecttest") is not None


def required(name):
    return os.environ.get(f"HOMINY_REQUIRE_{name}") == "1"


def runnable_levels():
    """ISA levels that this build has and this machine runs, widest first."""
    if not NATIVE:
        return []
    from hominy import _native

    return [name for name, runs in _native.isa_levels().items() if runs]


LEVELS = runnable_levels()
# (backend, ISA level): everything that computes here.
COMPUTERS = [("native", level) for level in LEVELS] + [("numba", "")] * NUMBA + [("reference", "")]


def computer_name(computer):
    return computer[1] or computer[0]


def pytest_configure(config):
    config.addinivalue_line("markers", "native: needs the compiled kernels")
    config.addinivalue_line("markers", "torch: needs PyTorch")
    config.addinivalue_line("markers", "extra(name): needs this package of hominy[test]")


def pytest_runtest_setup(item):
    if not NATIVE and item.get_closest_marker("native"):
        missing("NATIVE", "native module absent")
    if not TORCH and item.get_closest_marker("torch"):
        missing("TORCH", "PyTorch (or expecttest) absent: pip install torch==2.13.0 expecttest")
    for marker in item.iter_markers("extra"):
        optional(*marker.args)


def optional(name):
    """The module of this name, of a package in hominy[test]."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own
            return importlib.import_module(name)
    except ImportError:
        missing("EXTRAS", f"{name} absent: pip install 'hominy[test]'")


def missing(switch, reason):
    if required(switch):
        pytest.fail(f"{reason}, and HOMINY_REQUIRE_{switch}=1")
    pytest.skip(reason)


@pytest.fixture
def rng():
    return np.random.default_rng(20240717)


@pytest.fixture(autouse=True)
def restored():
    """Threads, ISA level, backend and the tape's switch are as they were, whatever a test did to them."""
    import hominy

    threads = hominy.get_num_threads()
    yield
    hominy.use_backend(None)
    assert hominy.is_grad_enabled(), "the test left the tape switched off"
    if NATIVE:
        from hominy import _native

        hominy.set_num_threads(threads)
        if _native.isa() != LEVELS[0] and "HOMINY_ISA" not in os.environ:
            _native.select_isa(LEVELS[0])


@pytest.fixture(params=COMPUTERS, ids=computer_name)
def computer(request):
    """A function name -> function, for every backend and ISA level."""
    backend, level = request.param
    module = importlib.import_module(f"hominy.backends.{'numba_jit' if backend == 'numba' else backend}")
    if level:
        module.select_isa(level)

    def function(name):
        return getattr(module, name)

    function.backend, function.level = backend, level
    return function


@pytest.fixture(params=LEVELS or ["no level"])
def level(request):
    """Every ISA level in turn, selected."""
    if not NATIVE:
        missing("NATIVE", "native module absent")
    from hominy import _native

    _native.select_isa(request.param)
    return request.param
