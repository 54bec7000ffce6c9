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
CONVOLUTIONS = {f"nn.functional.conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)}
PRODUCTS |= CONVOLUTIONS
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
EXACT |= {
    "allclose", "argsort", "argwhere", "atleast_1d", "atleast_2d", "atleast_3d", "bincount", "block_diag",
    "broadcast_shapes", "broadcast_tensors", "bucketize", "cartesian_prod", "chunk", "clamp_max", "clamp_min",
    "column_stack", "combinations", "copysign", "count_nonzero", "cummax", "cummin", "diag", "diag_embed", "diagflat",
    "diagonal", "diagonal_scatter", "dsplit", "dstack", "equal", "expand_as", "eye", "fill", "flip", "fliplr",
    "flipud", "fmax", "fmin", "frac", "full", "full_like", "heaviside", "histc", "hsplit", "hstack", "index_copy",
    "index_fill", "isclose", "isin", "isneginf", "isposinf", "isreal", "item", "kthvalue", "masked_fill",
    "masked_scatter", "masked_select", "median", "meshgrid", "movedim", "msort", "nan_to_num", "nanmedian", "narrow",
    "new_full", "new_ones", "new_zeros", "nonzero", "ones", "ones_like", "positive", "ravel", "repeat",
    "repeat_interleave", "reshape_as", "roll", "rot90", "scalar_tensor", "searchsorted", "select", "select_scatter",
    "sgn", "signbit", "slice_scatter", "sort", "split", "split_with_sizes", "T", "H", "mT", "mH", "take",
    "take_along_dim", "tensor_split", "tile", "topk", "tril", "tril_indices", "triu", "triu_indices", "unbind",
    "unflatten", "unfold", "unique", "unique_consecutive", "view_as", "vsplit", "vstack", "zeros", "zeros_like",
    "nn.functional.pad",
}  # fmt: skip


def logits_terms(sample):
    """(1 - y) x and (1 + (p - 1) y) log(1 + e^-x) may cancel: the larger, times what multiplies the loss."""
    x, weights = sample.input, [1.0]
    for name in ("weight", "pos_weight"):
        value = sample.kwargs.get(name)
        weights.append(1.0 if value is None else 1.0 + float(value.detach().abs().max()))
    count = x.numel() if sample.kwargs.get("reduction") == "sum" else 1
    return float((x.detach().abs().max() if x.numel() else 0) + 1) * math.prod(weights) * count


def normalize_terms(sample, g, y):
    """(g - s sum(g y)) / length, with s the slope of the length: terms that cancel where one element has it all."""
    x = np.abs(sample.input.detach().numpy()).astype(np.float64)
    with np.errstate(all="ignore"):
        return finite(2 * g * np.abs(y) / x)


def standardized_terms(sample, g, y, rows):
    """w g / deviation in the gradient of the input, from which its mean and slope are taken: with few elements a row,
    they cancel. `rows` gives the input's elements by statistic."""
    x = sample.input.detach().double()
    x = rows(x) if x.numel() else x
    deviation = float((x.var(-1, correction=0) + sample.kwargs.get("eps", 1e-5)).sqrt().min()) if x.numel() else 1.0
    weights = [x for x in leaves_of([*sample.args, sample.kwargs], torch.Tensor) if x.requires_grad]
    largest = max((float(x.detach().abs().max()) for x in weights if x.numel()), default=0.0)
    return [np.max(g, initial=0.0) * (1 + largest) / deviation, *[np.sum(g * np.abs(y))] * len(weights)]


# PyTorch's trigamma function has five digits less than float64.
TRIGAMMA = 2.0**24

# What a result's terms are as large as, where they cancel: the error is relative to them. Logarithms of a softmax: the
# largest element's is a difference of numbers around 1, with 48 u (csrc/cpu/softmax.hpp).
VALUE_TERMS = {
    "linspace": lambda sample: max(abs(float(sample.input)), abs(float(sample.args[0]))),
    "polygamma": lambda sample: (
        TRIGAMMA * float(torch.polygamma(1, sample.input.detach()).abs().max()) if sample.args[0] == 1 else 0.0
    ),
    "log_softmax": lambda sample: 2.0,
    # Positions are rounded, and with them weights, whose sum cancels.
    **dict.fromkeys(
        ("nn.functional.interpolate", "nn.functional.upsample_bilinear"),
        lambda sample: float(sample.input.detach().abs().max()) if sample.input.numel() else 0.0,
    ),
    "nn.functional.cross_entropy": lambda sample: 2.0,
    "nn.functional.binary_cross_entropy_with_logits": logits_terms,
}
# Likewise of gradients, from incoming gradient g and result y: as the kernels' headers state their bounds. A list holds
# those of all gradients, else it is the last one's.
GRADIENT_TERMS = {
    "softmax": lambda sample, g, y: y * (g + np.sum(g * y, sample.args[0] if y.ndim else None, keepdims=True)),
    "nn.functional.softmin": lambda sample, g, y: (
        y * (g + np.sum(g * y, sample.args[0] if y.ndim else None, keepdims=True))
    ),
    # PyTorch multiplies by 1/6 in single precision, float64 too.
    "nn.functional.hardsigmoid": lambda sample, g, y: g * (2.0**24 if sample.input.dtype == torch.float64 else 1.0),
    "nn.functional.normalize": lambda sample, g, y: normalize_terms(sample, g, y),
    "nn.functional.poisson_nll_loss": lambda sample, g, y: [
        np.max(g) * (1 + sample.args[0].detach().abs().numpy() / (sample.input.detach().abs().numpy() + 1e-8)),
        0.0,
    ],
    "nn.functional.cosine_similarity": lambda sample, g, y: [
        4
        * np.max(g, initial=0)
        / np.maximum(finite(x.detach().norm(dim=sample.kwargs.get("dim", 1), keepdim=True)), 1e-8)
        for x in (sample.input, *sample.args)
    ],
    "nn.functional.layer_norm": lambda sample, g, y: standardized_terms(
        sample, g, y, lambda x: x.flatten(x.ndim - len(sample.args[0]))
    ),
    "nn.functional.rms_norm": lambda sample, g, y: standardized_terms(sample, g, y, lambda x: x.reshape(1, -1)),
    "nn.functional.group_norm": lambda sample, g, y: standardized_terms(
        sample, g, y, lambda x: x.reshape(len(x) * sample.args[0], -1)
    ),
    "nn.functional.batch_norm": lambda sample, g, y: standardized_terms(
        sample, g, y, lambda x: x.transpose(0, 1).flatten(1)
    ),
    "digamma": lambda sample, g, y: g * TRIGAMMA,
    "logcumsumexp": lambda sample, g, y: g * np.max(finite(y), initial=0),  # PyTorch's goes through logarithms
    "polygamma": lambda sample, g, y: (
        g * TRIGAMMA * finite(torch.polygamma(1, sample.input.detach())) if sample.args[0] == 0 else 0.0
    ),
    "tanh": lambda sample, g, y: g * (1 + y * y),
    "sigmoid": lambda sample, g, y: g * y * (1 + y),
    "expm1": lambda sample, g, y: g * (1 + np.abs(y)),
}
# The same name for something else.
OTHER_MEANING: dict[str, str] = {}

# Drawn from another generator: run, and not compared.
RANDOM = "random numbers of its own"

# operator: [(what the sample's description matches, why hominy does not compute it)]
UNSUPPORTED = {
    "nn.functional.normalize": [("p=(-1|0).0", "p above 0")],
    "nn.functional.pairwise_distance": [("p=-1", "p above 0")],
    "nn.functional.rrelu": [("training=True", RANDOM)],
    **{
        f"nn.functional.{name}": [(r"p=0\.5, training=True|^[^=]*$", RANDOM)]
        for name in ("dropout", "dropout2d", "dropout3d", "alpha_dropout")
    },
    "nn.functional.feature_alpha_dropout with_train": [(r"p=0\.5, training=True", RANDOM)],
    "nn.functional.batch_norm": [(r"^float\d+\[0\]", "an input has channels, even an empty one")],
}


CASTS = {"bool", "byte", "char", "double", "float", "half", "int", "long", "short"}
METHODS = {"item", "new_full", "new_ones", "new_zeros", "sum_to_size", "to"}
PROPERTIES = {"H", "T", "mH", "mT"}
CREATORS = {
    "arange", "eye", "full", "full_like", "linspace", "ones", "ones_like", "scalar_tensor", "zeros",
    "zeros_like",
}  # fmt: skip


def ours(name):
    """hominy's function of that op_db name, or None."""
    if name.startswith("__") or name in CASTS | METHODS:
        return getattr(hominy.Tensor, name, None)
    if name in PROPERTIES:
        return lambda x: getattr(x, name)
    if name.startswith("linalg."):
        return getattr(hominy.linalg, name.removeprefix("linalg."), None)
    if name in CREATORS:
        return getattr(hominy, name, None)
    if name in ("nn.functional.embedding", "nn.functional.embedding_bag"):  # the samples have the table first
        function = getattr(F, name.removeprefix("nn.functional."))
        return lambda weight, rows, **keywords: function(rows, weight, **keywords)
    if name.startswith("nn.functional."):
        return getattr(F, name.removeprefix("nn.functional."), None)
    if name == "where":  # the samples have the condition second
        return lambda input, condition, other: hominy.where(condition, input, other)
    if name == "polygamma":  # the samples have n second
        return lambda input, n: hominy.polygamma(n, input)
    if name in ("meshgrid", "block_diag"):  # a list, or one after another
        return lambda *tensors, **keywords: getattr(hominy, name)(*tensors, **keywords)
    if name == "logspace":  # 1600 samples of two operators that are tested
        return None
    return hominy.ops.public_functions().get(name)


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
    outputs = list(leaves_of(list(result) if isinstance(result, tuple) else result, (torch.Tensor, bool, int, float)))
    outputs = [y if isinstance(y, torch.Tensor) else torch.from_numpy(np.asarray(y)) for y in outputs]
    tracked = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
    gradients = []
    inputs = [x for x in leaves_of([arguments, keywords], torch.Tensor) if x.requires_grad]
    if tracked and inputs:
        weights = [torch.from_numpy(weight_for(tuple(y.shape), i, np.float64)).to(y.dtype) for i, y in tracked]
        weights = [change_weights(w) for w in weights] if change_weights else weights
        found = torch.autograd.grad([y for _, y in tracked], inputs, weights, allow_unused=True)
        gradients = [None if g is None else g.detach().numpy(force=True) for g in found]
    return Run([y.detach().numpy() for y in outputs], gradients)


def magnitude(x):
    return x.abs()


def in_hominy(function, sample, dtype):
    def moved(x):
        if isinstance(x, torch.Tensor):
            data = x.detach().to(dtype) if x.is_floating_point() else x.detach()
            return hominy.from_numpy(data.numpy()).requires_grad_(x.requires_grad)
        if isinstance(x, torch.dtype):
            return str(x).removeprefix("torch.")
        if isinstance(x, torch.memory_format):
            return getattr(hominy, str(x).removeprefix("torch."))
        if isinstance(x, torch.nn.PairwiseDistance):
            return hominy.nn.PairwiseDistance(x.norm, x.eps, x.keepdim)
        return x

    arguments = mapped([sample.input, *sample.args], moved)
    keywords = mapped(sample.kwargs, moved)
    result = function(*arguments, **keywords)
    outputs = leaves_of(list(result) if isinstance(result, tuple) else result, (hominy.Tensor, bool, int, float))
    outputs = [y if isinstance(y, hominy.Tensor) else hominy.from_numpy(np.asarray(y)) for y in outputs]
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
    if op.name in CONVOLUTIONS:  # of the result, of the gradients of the input and of the weight, at most
        depth = max(sample.args[0].numel(), sample.input.numel(), in_torch(op, sample, torch.float64).values[0].size)
    terms = in_torch(op, sample, torch.float64, magnitude)
    return [None if t is None else (depth + 8) * u * finite(t) for t in terms.all()]


def stability_bounds(op, sample, exact, u, moving):
    """32 u (|y| + what moving inputs by 1 does to y), and the terms that cancel; unless `moving`, 32 u |y| alone."""
    step = 2.0**-30
    smallest = 2.0**-149 if u > 2**-50 else 2.0**-1074
    if not moving:
        return [None if x is None else 32 * (u * finite(x) + smallest) for x in exact.all()]
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
        terms = GRADIENT_TERMS[op.name](sample, weight_for(y.shape, 0, np.float64), y)
        for place, term in (
            zip(range(-len(exact.gradients), 0), terms, strict=True) if isinstance(terms, list) else [(-1, terms)]
        ):
            moves[place] = moves[place] + term
    if hasattr(op, "terms"):
        moves = [None if x is None else move + op.terms(x) for x, move in zip(exact.all(), moves, strict=True)]
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
    exact = in_torch(op, sample, torch.float64) if dtype != torch.float64 or op.name in EXACT else same
    if op.name in EXACT:
        exact.values = same.values
    if op.name in PRODUCTS:
        check(op, got, exact, product_bounds(op, sample, u))
        return
    try:  # most samples need nothing moved, which takes four more evaluations
        check(op, got, exact, stability_bounds(op, sample, exact, u, False))
    except AssertionError:
        check(op, got, exact, stability_bounds(op, sample, exact, u, True))


def check(op, got, exact, bounds):
    """Raise an AssertionError unless results and gradients lie within the bounds; those of EXACT are equal."""
    if op.name in EXACT:
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
    return list(op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd and dtype.is_floating_point))


def full_name(op):
    return f"{op.name} {op.variant_test_name}".strip()


def expected_failure(op, text):
    for pattern, reason in UNSUPPORTED.get(full_name(op), ()):
        if re.search(pattern, text):
            return reason
    return None


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of what it will change
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", TESTED, ids=full_name)
@pytest.mark.filterwarnings("ignore:reduction. 'mean'", "ignore:dropout2d")  # what PyTorch means to change
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
            got = in_hominy(function, sample, wanted if wanted.is_floating_point else torch.float64)
        except Exception as error:
            if reason is None:
                failures.append(f"({text}): {type(error).__name__}: {error}")
            else:
                unsupported[full_name(op), reason] += 1
            continue
        if reason == RANDOM:
            unsupported[full_name(op), reason] += 1
            continue
        try:
            assert reason is None, f"computed, though listed as unsupported: {reason}"
            compare(op, sample, wanted if wanted.is_floating_point else torch.float64, got)
        except AssertionError as error:
            failures.append(f"({text}): {error}")
    assert not failures, f"{len(failures)} samples of {full_name(op)} fail:\n" + "\n".join(failures)


@pytest.mark.torch
def test_every_product_operator_is_tested_without_exception():
    names = {op.name for op in TESTED}
    eight = PRODUCTS - {"__rmatmul__"}
    assert eight <= names
    assert not eight & {name.split()[0] for name in UNSUPPORTED}


@pytest.mark.torch
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
