"""How a backend is chosen, what a refusal says, and that a named backend never falls back."""

import hominy
import numpy as np
import pytest
from conftest import NATIVE, NUMBA
from hominy import backends
from hominy.backends import Declined


def test_automatic_choice():
    assert backends.current_backend() == ("native" if NATIVE else "numba" if NUMBA else "reference")
    assert backends.available("reference") == ""
    if not NATIVE:
        assert "_native" in backends.available("native")


def test_use_backend_at_once_and_for_a_block():
    first = backends.current_backend()
    with hominy.use_backend("reference"):
        assert backends.current_backend() == "reference"
        assert hominy.tensor([1.0, 2.0]).exp().shape == (2,)
    assert backends.current_backend() == first
    hominy.use_backend("reference")
    assert backends.current_backend() == "reference"
    hominy.use_backend(None)
    assert backends.current_backend() == first
    with pytest.raises(ValueError, match="expected one of native, numba, reference, got 'cuda'"):
        hominy.use_backend("cuda")
    with pytest.raises(RuntimeError), hominy.use_backend("reference"):
        raise RuntimeError
    assert backends.current_backend() == first


@pytest.mark.extra("numba")
def test_a_named_backend_does_not_fall_back():
    with (
        hominy.use_backend("numba"),
        pytest.raises(ValueError, match=r"\[exp\] backend 'numba' declines: NumPy's own loop is as fast"),
    ):
        hominy.tensor([1.0]).exp()
    with hominy.use_backend("numba"):
        assert hominy.tensor([0.0]).sigmoid().item() == 0.5


@pytest.mark.native
def test_what_native_declines_goes_to_the_reference():
    assert (hominy.tensor([1, 2]) + hominy.tensor([3, 4])).tolist() == [4, 6]
    assert (hominy.tensor([[1, 2]]) @ hominy.tensor([[3], [4]])).item() == 11
    with hominy.use_backend("native"), pytest.raises(ValueError, match="declines"):
        hominy.tensor([1, 2]) + hominy.tensor([3, 4])


def test_explain():
    a = np.ones((2, 2), np.float32)
    text = backends.explain("matmul", a, a)
    assert [line.split()[0] for line in text.splitlines()] == ["native", "numba", "reference"]
    assert sum("computes it" in line for line in text.splitlines()) == 1
    integers = np.ones((2, 2), np.int64)
    text = backends.explain("matmul", integers, integers)
    assert "computes it" in text.splitlines()[2]
    if NATIVE:
        assert "declines: native" in text.splitlines()[0]
    with hominy.use_backend("reference"):
        assert "'reference' was named" in backends.explain("exp", hominy.ones(2))


def test_declined_is_a_reason():
    assert isinstance(Declined("because"), str) and Declined("because") == "because"


def test_every_public_operator_is_a_kernel_too():
    for name in hominy.kernels.__all__:
        assert callable(getattr(hominy.kernels, name)), name
    x = np.asarray([-1.0, 2.0], np.float32)
    assert type(hominy.kernels.relu(x)) is np.ndarray
    with pytest.raises(AttributeError, match="no kernel 'nonsense'"):
        _ = hominy.kernels.nonsense
