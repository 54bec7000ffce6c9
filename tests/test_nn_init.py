"""Initialisation of weights, and what one does to the parameters of a whole model."""

import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import nn
from test_nn import EPS, close


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


def assert_moments(values, mean, std):
    """Mean and deviation of independent values, within six of their own deviations (normal or flatter tails)."""
    n = values.size
    assert abs(values.mean() - mean) < 6 * std / math.sqrt(n)
    assert abs(values.std() - std) < 6 * std / math.sqrt(n)


def test_init_moments():
    hominy.manual_seed(11)
    init, tensor = nn.init, hominy.empty(60, 40, 5)  # fan_in 200, fan_out 300
    for fill, mean, std in (
        (lambda: init.uniform_(tensor, -1, 3), 1.0, 4 / math.sqrt(12)),
        (lambda: init.normal_(tensor, 2.0, 0.5), 2.0, 0.5),
        (lambda: init.xavier_uniform_(tensor), 0.0, math.sqrt(2 / 500)),
        (lambda: init.xavier_normal_(tensor, 2.0), 0.0, 2 * math.sqrt(2 / 500)),
        (lambda: init.kaiming_uniform_(tensor, nonlinearity="relu"), 0.0, math.sqrt(2 / 200)),
        (lambda: init.kaiming_normal_(tensor, 1.0, mode="fan_out"), 0.0, math.sqrt(1 / 300)),
    ):
        assert fill() is tensor
        assert_moments(tensor.numpy(), mean, std)


@pytest.mark.parametrize("interval", [(-2.0, 2.0), (-0.1, 0.1), (3.0, 4.0), (-9.0, -6.0), (-1e6, 1e6), (1.0, 1e6)])
def test_truncated_normals_follow_their_distribution(interval):
    """Kolmogorov's distance to the exact distribution: above 2.5/sqrt(n) with a chance of 1e-5."""
    hominy.manual_seed(12)
    low, high = interval
    n = 20_000
    values = np.sort(nn.init.trunc_normal_(hominy.empty(n, dtype=hominy.float64), 0.5, 2.0,
                                           0.5 + 2 * low, 0.5 + 2 * high).numpy())  # fmt: skip
    assert values[0] >= 0.5 + 2 * low and values[-1] <= 0.5 + 2 * high
    sign = -1.0 if low > 0 else 1.0  # the lower tail keeps its digits
    tail = [0.5 * math.erfc(-sign * x / math.sqrt(2)) for x in (low, high, *((values - 0.5) / 2))]
    expected = (np.array(tail[2:]) - tail[0]) / (tail[1] - tail[0])
    assert np.abs(expected - (np.arange(n) + 0.5) / n).max() < 2.5 / math.sqrt(n)


def test_fixed_inits():
    init = nn.init
    assert init.constant_(hominy.empty(3), 4.0).numpy().tolist() == [4.0] * 3
    assert init.zeros_(hominy.empty(2)).numpy().tolist() == [0.0] * 2
    assert init.ones_(nn.Parameter(hominy.empty(2))).detach().numpy().tolist() == [1.0] * 2
    assert np.array_equal(init.eye_(hominy.empty(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 2, 4), (1, 1)])
def test_orthogonal(shape):
    q = nn.init.orthogonal_(hominy.empty(*shape, dtype=hominy.float64), gain=2.0).numpy().reshape(shape[0], -1)
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    close(small, 4 * np.eye(len(small)), 4 * 32 * max(q.shape) * np.finfo(np.float64).eps)


def test_init_repeats_with_the_seed():
    hominy.manual_seed(5)
    first = nn.Linear(5, 7).state_dict()
    hominy.manual_seed(5)
    for name, value in nn.Linear(5, 7).state_dict().items():
        assert np.array_equal(first[name].numpy(), value.numpy())


@pytest.mark.parametrize(("shape", "groups"), [((4, 4, 3), 1), ((5, 3, 3, 3), 1), ((6, 2, 1, 2, 5), 3), ((4, 8, 2), 2)])
@pytest.mark.torch
def test_dirac_is_torchs(shape, groups, torch):
    ours, theirs = nn.init.dirac_(hominy.empty(*shape), groups), torch.nn.init.dirac_(torch.empty(*shape), groups)
    assert np.array_equal(ours.numpy(), theirs.numpy())


def test_sparse():
    hominy.manual_seed(4)
    values = nn.init.sparse_(hominy.empty(40, 50), 0.33, std=2.0).numpy()
    assert ((values == 0).sum(axis=0) == 14).all()  # ceil(0.33 * 40) in each column
    assert_moments(values[values != 0], 0.0, 2.0)
    assert not np.array_equal(values[:, 0] == 0, values[:, 1] == 0)


@pytest.mark.torch
def test_gains_are_torchs(torch):
    for name, param in [("linear", None), ("conv2d", None), ("sigmoid", None), ("tanh", None), ("relu", None),
                        ("leaky_relu", None), ("leaky_relu", 0.3), ("selu", None)]:  # fmt: skip
        assert nn.init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda i, t: i.normal_(t, 0.0, -1.0), r"\[normal_\] std: expected a finite number of 0 or more, got -1.0"),
        (lambda i, t: i.uniform_(t, 1.0, 0.0), r"\[uniform_\] b: expected a number not below a=1.0, got 0.0"),
        (lambda i, t: i.uniform_(t, 0.0, math.inf), r"\[uniform_\] b: expected a finite number, got inf"),
        (lambda i, t: i.trunc_normal_(t, 0, 1, 2, 1), r"\[trunc_normal_\] a, b, std: expected a < b"),
        (lambda i, t: i.xavier_uniform_(t), r"\[xavier_uniform_\] tensor: expected 2 dimensions or more"),
        (lambda i, t: i.kaiming_normal_(t, mode="fan"), r"\[kaiming_normal_\] mode: expected one of"),
        (lambda i, t: i.calculate_gain("mish"), r"\[calculate_gain\] nonlinearity: expected one of"),
        (lambda i, t: i.eye_(t), r"\[eye_\] tensor: expected 2 dimensions, got \(3,\)"),
        (lambda i, t: i.dirac_(t), r"\[dirac_\] tensor: expected 3 to 5 dimensions, got \(3,\)"),
        (lambda i, t: i.dirac_(hominy.zeros(3, 1, 1), 2), r"\[dirac_\] groups: expected a divisor of 3, got 2"),
        (lambda i, t: i.sparse_(t, 0.5), r"\[sparse_\] tensor: expected 2 dimensions, got \(3,\)"),
        (lambda i, t: i.sparse_(hominy.zeros(2, 2), 1.5), r"\[sparse_\] sparsity: expected a number in \[0, 1\]"),
        (lambda i, t: i.orthogonal_(t), r"\[orthogonal_\] tensor: expected 2 dimensions or more"),
    ],
)
def test_init_checks_arguments(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call(nn.init, hominy.zeros(3))


# ---- nn.utils --------------------------------------------------------------------------------------------------------


def with_gradients(*arrays):
    parameters = [nn.Parameter(hominy.zeros(*np.shape(array))) for array in arrays]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.grad = hominy.from_numpy(np.array(array, "float32"))
    return [*parameters, nn.Parameter(hominy.zeros(2))]  # the last has no gradient


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(norm_type):
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal((4, 5)).astype("float32"), rng.standard_normal(7).astype("float32")]
    norm = np.linalg.norm(np.concatenate([array.ravel() for array in arrays]).astype("float64"), norm_type)
    parameters = with_gradients(*arrays)
    close(nn.utils.clip_grad_norm_(parameters, norm / 2, norm_type).item(), norm, 32 * EPS * norm)
    for parameter, array in zip(parameters, arrays, strict=False):
        close(parameter.grad.numpy(), array / 2, np.abs(array) * (32 * EPS + 1e-6 / norm))
    parameters = with_gradients(*arrays)
    nn.utils.clip_grad_norm_(iter(parameters), norm * 2, norm_type)
    assert np.array_equal(parameters[0].grad.numpy(), arrays[0])


def test_clip_grad_norm_of_nothing_and_of_nan():
    assert nn.utils.clip_grad_norm_([nn.Parameter(hominy.zeros(2))], 1.0).item() == 0.0
    parameters = with_gradients([1.0, math.nan])
    with pytest.raises(RuntimeError, match=r"\[clip_grad_norm_\] parameters: expected values of a finite norm"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[0].grad.numpy()[0] == 1.0
    assert math.isnan(nn.utils.clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(parameters[0].grad.numpy()).all()
    for bad in (math.nan, -1.0, "x"):
        with pytest.raises((TypeError, ValueError), match=r"\[clip_grad_norm_\] max_norm"):
            nn.utils.clip_grad_norm_(parameters, bad)


def test_the_parts_of_clip_grad_norm():
    parameters = with_gradients([3.0, 0.0], [0.0, 4.0])
    gradients = [parameter.grad for parameter in parameters[:2]]
    total = nn.utils.get_total_norm(gradients)
    assert total.item() == 5.0 and nn.utils.get_total_norm(gradients[0], math.inf).item() == 3.0
    nn.utils.clip_grads_with_norm_(parameters, 10.0, total)
    assert gradients[0].tolist() == [3.0, 0.0]
    nn.utils.clip_grads_with_norm_(parameters, 1.0, total)
    close(gradients[1].numpy(), [0.0, 0.8], 1e-6)
    with pytest.raises(RuntimeError, match=r"\[get_total_norm\] tensors: expected values of a finite norm, got inf"):
        nn.utils.get_total_norm([hominy.tensor([math.inf])], error_if_nonfinite=True)
    with pytest.raises(ValueError, match=r"\[get_total_norm\] norm_type: expected a number above 0"):
        nn.utils.get_total_norm(gradients, 0.0)


def test_clip_grad_value():
    parameters = with_gradients([-3.0, 0.5, 3.0])
    nn.utils.clip_grad_value_(parameters, 1.0)
    assert parameters[0].grad.numpy().tolist() == [-1.0, 0.5, 1.0]


def test_parameters_to_vector_and_back():
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(source.parameters())
    assert tuple(vector.shape) == (8,)
    nn.utils.vector_to_parameters(vector, target.parameters())
    assert np.array_equal(target.weight.detach().numpy(), source.weight.detach().numpy())
    with pytest.raises(ValueError, match=r"vec: expected shape \(8,\), got \(7,\)"):
        nn.utils.vector_to_parameters(vector[1:], target.parameters())
