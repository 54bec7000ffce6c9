"""PyTorch as oracle: its own test samples (`op_db`), results and gradients, float32 and float64.

Every operator that hominy offers under a name of `op_db` takes part; a sample that hominy does not compute must be in
`UNSUPPORTED` with the reason, and the last test prints how many there are of each. An entry there that no sample needs
any more fails too.

Tolerances. Operators that select or move must agree to the last bit (their gradients add up where they broadcast: those
as the rest). Products must lie within (k + 8) u |A||B|, where
|A||B| is the same operator applied to absolute values, and likewise their gradients. For the rest the bound is mixed
forward and backward stability: the result is within 32 u of the exact function of inputs moved by 32 u. What moving
inputs does is measured on PyTorch in float64 with relative perturbations of random sign; 32 covers the square root of
the longest sum in a sample (625) and the few ulps of a function. Logarithms of softmax carry an absolute error besides
(csrc/cpu/softmax.hpp: 48 u and more), near 0 too.
"""

import math
import re
from collections import Counter

import hominy
import numpy as np
import pytest
from conftest import TORCH, missing, required
from hominy.nn import functional as F

if not TORCH:
    if not required("TORCH"):
        pytest.skip("PyTorch (or expecttest) absent: pip install torch==2.13.0 expecttest", allow_module_level=True)

    def test_torch_is_required():
        missing("TORCH", "PyTorch (or expecttest) absent")

    OPERATORS = []
else:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's test modules warn about their own dependencies
        from torch.testing._internal.common_methods_invocations import op_db
    OPERATORS = op_db

PRODUCTS = {
    "matmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    "addmm",
    "nn.functional.linear",
    "nn.functional.bilinear",
    "__rmatmul__",
}
EXACT = {
    "abs",
    "all",
    "any",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "broadcast_to",
    "cat",
    "ceil",
    "clamp",
    "clone",
    "contiguous",
    "eq",
    "expand",
    "flatten",
    "floor",
    "gather",
    "ge",
    "gt",
    "index_select",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "max",
    "maximum",
    "min",
    "minimum",
    "ne",
    "neg",
    "nn.functional.relu",
    "permute",
    "reshape",
    "round",
    "sign",
    "squeeze",
    "stack",
    "t",
    "to",
    "transpose",
    "trunc",
    "unsqueeze",
    "view",
    "where",
    "__getitem__",
}


def logits_terms(sample):
    """(1 - y) x and (1 + (p - 1) y) log(1 + e^-x) may cancel: the larger, times what multiplies the loss."""
    x, weights = sample.input, [1.0]
    for name in ("weight", "pos_weight"):
        value = sample.kwargs.get(name)
        weights.append(1.0 if value is None else 1.0 + float(value.detach().abs().max()))
    count = x.numel() if sample.kwargs.get("reduction") == "sum" else 1
    return float((x.detach().abs().max() if x.numel() else 0) + 1) * math.prod(weights) * count


# What a result's terms are as large as, where they cancel: the error is relative to them. Logarithms of a softmax: the
# largest element's is a difference of numbers around 1, with 48 u (csrc/cpu/softmax.hpp).
VALUE_TERMS = {
    "log_softmax": lambda sample: 2.0,
    "nn.functional.cross_entropy": lambda sample: 2.0,
    "nn.functional.binary_cross_entropy_with_logits": logits_terms,
}
# Likewise of gradients, from incoming gradient g and result y: as the kernels' headers state their bounds.
GRADIENT_TERMS = {
    "softmax": lambda sample, g, y: y * (g + np.sum(g * y, sample.args[0] if y.ndim else None, keepdims=True)),
    "tanh": lambda sample, g, y: g * (1 + y * y),
    "sigmoid": lambda sample, g, y: g * y * (1 + y),
    "expm1": lambda sample, g, y: g * (1 + np.abs(y)),
}
# The same name for something else.
OTHER_MEANING = {"equal": "hominy.equal is NumPy's, elementwise; torch.equal compares whole tensors"}

# operator: [(what the sample's description matches, why hominy does not compute it)]
UNSUPPORTED = {
    "add": [("alpha=", "no alpha")],
    "sub": [("alpha=", "no alpha")],
    "div trunc_rounding": [("rounding_mode", "no rounding_mode")],
    "div floor_rounding": [("rounding_mode", "no rounding_mode")],
    "round decimals_0": [("decimals", "no decimals")],
    "round decimals_3": [("decimals", "no decimals")],
    "round decimals_neg_3": [("decimals", "no decimals")],
    "softmax with_dtype": [("dtype=", "no dtype: cast first")],
    "log_softmax with_dtype": [("dtype=", "no dtype: cast first")],
    "prod": [("dtype=", "no dtype: cast first")],
    "max binary": [("", "max of two tensors is called maximum")],
    "min binary": [("", "min of two tensors is called minimum")],
    "sum_to_size": [(r", \d+$", "sizes come as one tuple")],
    "to": [("", "no device, no other tensor, no memory format: to(dtype)")],
    "gather": [(r"\[\], 0", "no 0-d input"), (r"\[5\], 0, uint8\[2, 0\]", "index has input's number of dimensions")],
    "index_select": [(r"\[\], 0", "no 0-d input")],
    "cat": [(r"\[0\]'.*\[5, 5\]", "no 1-d empty tensor among matrices (a relic of old versions)")],
}


def ours(name):
    """hominy's function of that op_db name, or None."""
    if name == "__getitem__":
        return hominy.Tensor.__getitem__
    if name.startswith("nn.functional."):
        return getattr(F, name.removeprefix("nn.functional."), None)
    if name == "where":  # the samples have the condition second
        return lambda input, condition, other: hominy.where(condition, input, other)
    return hominy.ops.public_operators().get(name)


TESTED = [op for op in OPERATORS if ours(op.name) is not None]
counts = Counter()
unsupported = Counter()


def mapped(value, leaf):
    """`value` with `leaf` applied to whatever is not a container."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([mapped(item, leaf) for item in value]) if type(value) in (list, tuple) else leaf(value)
    if isinstance(value, dict):
        return {key: mapped(item, leaf) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(item, leaf) for item in (value.start, value.stop, value.step)))
    return leaf(value)


def described(value):
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return re.sub(r"torch\.", "", repr(value))


def text_of(sample):
    parts = [mapped(sample.input, described), *(mapped(x, described) for x in sample.args)]
    return ", ".join(
        [*(str(part) for part in parts), *(f"{k}={mapped(v, described)}" for k, v in sample.kwargs.items())]
    )


class Run:
    """Results and gradients of one evaluation, as NumPy arrays."""

    def __init__(self, values, gradients):
        self.values, self.gradients = values, gradients

    def all(self):
        return [*self.values, *self.gradients]


def leaves_of(tree, kind):
    found = []
    mapped(tree, lambda x: found.append(x) if isinstance(x, kind) else None)
    return found


def weight_for(shape, number, dtype):
    """The gradient that flows into output `number`."""
    return np.asarray(np.random.default_rng(number).uniform(0.5, 1.5, shape), dtype)


def in_torch(op, sample, dtype, change=None, change_weights=None):
    """Evaluate with PyTorch, floats cast to `dtype` and passed through `change`, as the incoming gradients through
    `change_weights`."""

    def moved(x):
        if not isinstance(x, torch.Tensor):
            return (abs(x) if change is magnitude else x) if type(x) is float else x
        if not x.is_floating_point():
            return x
        data = x.detach().to(dtype)
        if change is not None:
            data = change(data)
        return data.requires_grad_(x.requires_grad)

    arguments = mapped([sample.input, *sample.args], moved)
    keywords = mapped(sample.kwargs, moved)
    result = op.op(*arguments, **keywords)
    outputs = list(leaves_of(list(result) if isinstance(result, tuple) else result, (torch.Tensor, bool)))
    outputs = [torch.tensor(y) if isinstance(y, bool) else y for y in outputs]
    tracked = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
    gradients = []
    inputs = [x for x in leaves_of([arguments, keywords], torch.Tensor) if x.requires_grad]
    if tracked and inputs:
        weights = [torch.from_numpy(weight_for(tuple(y.shape), i, np.float64)).to(y.dtype) for i, y in tracked]
        weights = [change_weights(w) for w in weights] if change_weights else weights
        found = torch.autograd.grad([y for _, y in tracked], inputs, weights, allow_unused=True)
        gradients = [None if g is None else g.detach().numpy() for g in found]
    return Run([y.detach().numpy() for y in outputs], gradients)


def magnitude(x):
    return x.abs()


def in_hominy(function, sample):
    def moved(x):
        if isinstance(x, torch.Tensor):
            return hominy.from_numpy(x.detach().numpy()).requires_grad_(x.requires_grad)
        if isinstance(x, torch.dtype):
            return str(x).removeprefix("torch.")
        return x

    arguments = mapped([sample.input, *sample.args], moved)
    keywords = mapped(sample.kwargs, moved)
    result = function(*arguments, **keywords)
    outputs = leaves_of(list(result) if isinstance(result, tuple) else result, hominy.Tensor)
    tracked = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
    inputs = [x for x in leaves_of([arguments, keywords], hominy.Tensor) if x.requires_grad]
    gradients = []
    if tracked and inputs:
        weights = [hominy.from_numpy(weight_for(y.shape, i, y.dtype)) for i, y in tracked]
        found = hominy.autograd.grad([y for _, y in tracked], inputs, weights, allow_unused=True)
        gradients = [None if g is None else g.numpy() for g in found]
    return Run([y.detach().numpy() for y in outputs], gradients)


def finite(x):
    return np.nan_to_num(np.abs(np.asarray(x, np.float64)), nan=0, posinf=0, neginf=0)


def product_bounds(op, sample, u):
    sizes = [size for x in leaves_of([sample.input, *sample.args, sample.kwargs], torch.Tensor) for size in x.shape]
    depth = max(sizes, default=1)
    if op.name == "nn.functional.bilinear":
        depth *= depth
    terms = in_torch(op, sample, torch.float64, magnitude)
    return [None if t is None else (depth + 8) * u * finite(t) for t in terms.all()]


def stability_bounds(op, sample, exact, u):
    """32 u (|y| + what moving each input by 1 does to y), and the terms that cancel."""
    step = 2.0**-30
    rng = np.random.default_rng(1)
    moves = [np.zeros_like(finite(x)) if x is not None else None for x in exact.all()]

    def shaken(x):
        signs = torch.from_numpy(rng.choice([-1.0, 1.0], tuple(x.shape)))
        return x * (1 + step * signs)

    for _ in range(4):
        moved = in_torch(op, sample, torch.float64, None if op.name in EXACT else shaken, shaken)
        for number, (was, now) in enumerate(zip(exact.all(), moved.all(), strict=True)):
            if was is not None and was.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    moves[number] = np.maximum(moves[number], finite(now - was) / step)
    if op.name in VALUE_TERMS:
        moves = [None if move is None else move + VALUE_TERMS[op.name](sample) for move in moves]
    if op.name in GRADIENT_TERMS and exact.gradients:
        y = exact.values[0]
        moves[-1] = moves[-1] + GRADIENT_TERMS[op.name](sample, weight_for(y.shape, 0, np.float64), y)
    smallest = 2.0**-149 if u > 2**-50 else 2.0**-1074
    return [
        None if x is None else 32 * (u * (finite(x) + move) + smallest)
        for x, move in zip(exact.all(), moves, strict=True)
    ]


def compare(op, sample, dtype, got):
    u = float(torch.finfo(dtype).eps) / 2
    same = in_torch(op, sample, dtype)
    assert len(got.values) == len(same.values), f"expected {len(same.values)} results, got {len(got.values)}"
    for mine, theirs in zip(got.values, same.values, strict=True):
        assert mine.shape == theirs.shape, f"expected shape {theirs.shape}, got {mine.shape}"
        assert mine.dtype == theirs.dtype, f"expected dtype {theirs.dtype}, got {mine.dtype}"
    assert len(got.gradients) == len(same.gradients), (
        f"expected {len(same.gradients)} gradients, got {len(got.gradients)}"
    )
    exact = in_torch(op, sample, torch.float64)
    bounds = product_bounds(op, sample, u) if op.name in PRODUCTS else stability_bounds(op, sample, exact, u)
    if op.name in EXACT:
        exact.values = same.values
        bounds[: len(exact.values)] = [0.0] * len(exact.values)
    names = [f"result {i}" for i in range(len(got.values))] + [f"gradient {i}" for i in range(len(got.gradients))]
    for name, mine, want, bound in zip(names, got.all(), exact.all(), bounds, strict=True):
        if mine is None or want is None:  # an unused input: None on one side may be zeros on the other
            other = want if mine is None else mine
            assert other is None or not other.any(), f"{name}: None on one side, {other} on the other"
            continue
        assert mine.shape == want.shape, f"{name}: expected shape {want.shape}, got {mine.shape}"
        if name.startswith("gradient"):
            assert mine.dtype.kind == "f"
        if mine.dtype.kind != "f":
            assert (mine == want).all(), f"{name}: expected {want}, got {mine}"
            continue
        hominy.testing.cases.assert_within(mine, want, bound, name)


def samples_of(op, dtype):
    torch.manual_seed(20240717)
    return list(op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd))


def full_name(op):
    return f"{op.name} {op.variant_test_name}".strip()


def expected_failure(op, text):
    for pattern, reason in UNSUPPORTED.get(full_name(op), ()):
        if re.search(pattern, text):
            return reason
    return None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", TESTED, ids=full_name)
def test_samples(op, dtype):
    wanted = getattr(torch, dtype)
    if wanted not in op.supported_dtypes("cpu"):
        wanted = torch.int64
        if dtype == "float32" or wanted not in op.supported_dtypes("cpu"):
            return  # bitwise operators: once, with integers
    function = ours(op.name)
    if op.name in OTHER_MEANING:
        counts[full_name(op)] += len(samples_of(op, wanted))
        unsupported[full_name(op), OTHER_MEANING[op.name]] += len(samples_of(op, wanted))
        return
    failures = []
    for sample in samples_of(op, wanted):
        text = text_of(sample)
        counts[full_name(op)] += 1
        reason = expected_failure(op, text)
        try:
            got = in_hominy(function, sample)
        except Exception as error:
            if reason is None:
                failures.append(f"({text}): {type(error).__name__}: {error}")
            else:
                unsupported[full_name(op), reason] += 1
            continue
        try:
            assert reason is None, f"computed, though listed as unsupported: {reason}"
            compare(op, sample, wanted if wanted.is_floating_point else torch.float64, got)
        except AssertionError as error:
            failures.append(f"({text}): {error}")
    assert not failures, f"{len(failures)} samples of {full_name(op)} fail:\n" + "\n".join(failures)


@pytest.mark.skipif(not TORCH, reason="PyTorch absent")
def test_every_product_operator_is_tested_without_exception():
    names = {op.name for op in TESTED}
    eight = PRODUCTS - {"__rmatmul__"}
    assert eight <= names
    assert not eight & {name.split()[0] for name in UNSUPPORTED}


@pytest.mark.skipif(not TORCH, reason="PyTorch absent")
def test_summary(capsys):
    """Prints the counts; every reason that is listed must still be needed."""
    if not counts:
        pytest.skip("run together with test_samples")
    with capsys.disabled():
        print(
            f"\nPyTorch samples: {sum(counts.values())} of {len(counts)} operators, "
            f"{sum(unsupported.values())} unsupported:"
        )
        for (name, reason), number in sorted(unsupported.items()):
            print(f"  {number:4d} of {counts[name]:4d}  {name}: {reason}")
    stale = [
        (name, reason)
        for name, entries in UNSUPPORTED.items()
        for _, reason in entries
        if name in counts and (name, reason) not in unsupported
    ]
    assert not stale, f"listed as unsupported, but no sample needs it: {stale}"
    assert math.isfinite(sum(counts.values()))
