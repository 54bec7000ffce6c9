"""gradcheck and gradgradcheck, in float64, of every operator that has a gradient rule; and of the losses made of them.

The cases with kernels come from `hominy.testing.cases`; the operators of the tape alone, and more argument patterns,
stand here. An operator with rules that no case covers fails `test_every_operator_with_rules_has_a_case`.
"""

import hominy
import numpy as np
import pytest
from hominy import ops
from hominy.autograd import gradcheck, gradgradcheck
from hominy.nn import functional as F
from hominy.ops import windows
from hominy.testing.cases import CASES, draw, tape

MASK = np.asarray([[True, False, True], [False, True, True]])
SPREAD = np.asarray([[0, 1, 2], [2, 0, 1]])
INDICES = np.asarray([[2, 0, 2], [1, 1, 0]])


def distinct(x):
    """Without ties, and far enough apart for a finite difference."""
    return np.asarray(np.argsort(np.argsort(x, axis=None)).reshape(x.shape), np.float64) + x * 0.01


def fused_arguments(x):
    padding = ((1, 0), (0, 0))
    arrays = x(1, 2, 4, 3), x(2, 1, 2, 2), x(2), x(1, 2, 4, 2)
    return (*arrays, (1, 1), padding, (1, 1), 2, "relu", "auto", True)


TAPE = [
    *(
        tape(name, lambda x: (x(2, 3, low=0.2, high=1.2),))
        for name in ("sin", "cos", "tan", "log2", "log10", "log", "sqrt")
    ),
    *(tape(name, lambda x: (x(2, 3, low=0.2, high=0.8),)) for name in ("floor", "ceil", "round", "trunc")),
    tape("pow", lambda x: (x(2, 3), 2), label="pow, squared"),
    tape("pow", lambda x: (x(2, 3), 3.0), label="pow, cubed"),
    tape("pow", lambda x: (x(2, 3), 0), label="pow, to the 0"),
    tape("pow", lambda x: (x(2, 3, low=0.5, high=2), 0.5), label="pow, root"),
    tape("pow", lambda x: (x(2, 3, low=0.5, high=2), -1), label="pow, reciprocal"),
    tape("pow", lambda x: (x(2, 3, low=0.5, high=2), -0.5), label="pow, reciprocal root"),
    tape("pow", lambda x: (2.5, x(2, 3)), 1, label="pow of a number"),
    tape("pow", lambda x: (0.0, x(2, 3, low=0.5, high=2)), 1, label="pow of zero"),
    tape("pow", lambda x: (x(2, 1, low=0.5, high=2), x(3)), 0, 1, label="pow, broadcast"),
    *(
        tape(name, lambda x: (x(2, 1), x(4, 1, 3)), 0, 1, label=f"{name}, broadcast")
        for name in ("add", "subtract", "multiply", "maximum", "minimum")
    ),
    tape("divide", lambda x: (x(2, 1), x(4, 1, 3, low=0.5, high=2)), 0, 1, label="divide, broadcast"),
    *(
        tape(name, lambda x: (x(2, 3, low=0.5, high=2), 1.5), label=f"{name} with a number")
        for name in ("add", "subtract", "multiply", "divide")
    ),
    *(
        tape(name, lambda x: (1.5, x(2, 3, low=0.5, high=2)), 1, label=f"a number {name}")
        for name in ("add", "subtract", "multiply", "divide")
    ),
    tape("remainder", lambda x: (x(2, 3, low=2.1, high=2.9), x(3, low=0.8, high=0.95)), 0, 1),
    tape("where", lambda x: (MASK, x(2, 3), x(3)), 1, 2, label="where, broadcast"),
    tape("where", lambda x: (MASK, x(2, 3), 0.0), 1, label="where with a number"),
    tape("clamp", lambda x: (x(2, 3, low=-3, high=3), -1.0, None), label="clamp below"),
    tape(
        "clamp",
        lambda x: (x(2, 3, low=-3, high=3), x(2, 3, low=-2, high=-1), x(3, low=1, high=2)),
        0,
        1,
        2,
        label="clamp, tensors",
    ),
    tape("hardtanh", lambda x: (x(2, 3, low=-3, high=3), -1.0, 1.5)),
    tape("reshape", lambda x: (x(2, 3), (3, -1))),
    tape("view", lambda x: (x(2, 3), (6,))),
    tape("permute", lambda x: (x(2, 3, 4), (2, 0, -2))),
    tape("transpose", lambda x: (x(2, 3, 4), 0, -1)),
    tape("t", lambda x: (x(2, 3),)),
    tape("matrix_transpose", lambda x: (x(2, 3, 4),)),
    tape("squeeze", lambda x: (x(2, 1, 3, 1),)),
    tape("squeeze", lambda x: (x(2, 1, 3, 1), 1), label="squeeze one"),
    tape("unsqueeze", lambda x: (x(2, 3), 1)),
    tape("flatten", lambda x: (x(2, 3, 2), 1)),
    tape("broadcast_to", lambda x: (x(2, 1), (4, 2, 3))),
    tape("expand", lambda x: (x(2, 1), (4, -1, 3))),
    tape("clone", lambda x: (x(2, 3),)),
    tape("contiguous", lambda x: (x(3, 2).T,)),
    tape("to", lambda x: (x(2, 3), np.dtype("float64"))),
    tape("cat", lambda x: ([x(2, 3), x(2, 1), x(2, 0)], 1)),
    tape("stack", lambda x: ([x(2, 3), x(2, 3)], 1)),
    tape("getitem", lambda x: (x(3, 4), (slice(1, None), slice(None, None, -2)))),
    tape("getitem", lambda x: (x(3, 4), (1, None, Ellipsis)), label="getitem, an integer"),
    tape("getitem", lambda x: (x(3, 4), np.asarray([2, 0, 2])), label="getitem, repeated rows"),
    tape("getitem", lambda x: (x(2, 3), MASK), label="getitem, a mask"),
    tape("accumulate_at", lambda x: ((3, 4), np.asarray([2, 0, 2]), x(3, 4)), 2),
    tape("setitem", lambda x: (x(3, 4), (slice(0, 2),), x(4)), 0, 2),
    tape("assign", lambda x: (x(3, 4), x(4)), 1),
    tape("place_along", lambda x: (x(2, 1), 1, INDICES[:, :1], 4)),
    tape("gather", lambda x: (x(2, 3), 1, INDICES)),
    tape("gather", lambda x: (x(3, 3), 0, INDICES), label="gather along 0"),
    tape("index_select", lambda x: (x(3, 4), 0, np.asarray([2, 0, 2]))),
    tape("mm", lambda x: (x(2, 3), x(3, 2)), 0, 1),
    tape("bmm", lambda x: (x(2, 2, 3), x(2, 3, 2)), 0, 1),
    tape("mv", lambda x: (x(2, 3), x(3)), 0, 1),
    tape("dot", lambda x: (x(3), x(3)), 0, 1),
    tape("addmm", lambda x: (x(2), x(3, 2), x(2, 2), 0.5, 2.0), 0, 1, 2),
    tape("linear", lambda x: (x(2, 2, 3), x(2, 3), x(2)), 0, 1, 2),
    tape("linear", lambda x: (x(2, 3), x(3)), 0, 1, label="linear, a vector as weight"),
    tape("layer_norm_over", lambda x: (x(3, 4), x(4), x(4), 1, 1e-5, False), 0, 1, 2),
    tape("layer_norm_over", lambda x: (x(3, 2, 2), x(2, 2), None, 2, 1e-3, True), 0, 1, label="rms norm"),
    tape("channel_norm", lambda x: (x(3, 2, 2), x(2), x(2), None, None, 0, 1e-5), 0, 1, 2, label="batch norm"),
    tape("channel_norm", lambda x: (x(2, 4, 3), x(4), None, None, None, 2, 1e-5), 0, 1, label="group norm"),
    tape(
        "channel_norm",
        lambda x: (x(3, 2), x(2), x(2), x(2), x(2, low=0.5, high=2), 0, 1e-5),
        0,
        1,
        2,
        label="batch norm, evaluation",
    ),
    tape("embedding_rows", lambda x: (x(4, 3), np.asarray([[0, 2], [2, 3]]), None, False), 0),
    tape("embedding_gradient", lambda x: (x(2, 2, 3), np.asarray([[0, 2], [2, 1]]), 4, 1, True), 0),
    tape("bag_extremes", lambda x: (distinct(x(5, 3)), np.asarray([0, 2, 2]), np.asarray([2, 0, 3])), 0),
    tape("dropout_of_seed", lambda x: (x(5, 3), 0.4, 7), 0),
    tape("cross_entropy_mean", lambda x: (x(4, 3), np.asarray([0, 2, 1, 2]), -100, 0.25), 0),
    tape("cross_entropy_mean", lambda x: (x(4, 3), np.asarray([0, 2, 1, 2]), 2, 0.0), 0, label="cross entropy of some"),
    tape("bilinear", lambda x: (x(2, 2), x(2, 3), x(2, 2, 3), x(2)), 0, 1, 2, 3),
    tape("sum_to_size", lambda x: (x(4, 2, 3), (2, 1))),
    tape("sum", lambda x: (x(2, 3),), label="sum of all"),
    tape("sum", lambda x: (x(2, 3, 2), (0, -1), True), label="sum, kept"),
    tape("mean", lambda x: (x(2, 3), 0), label="mean of one"),
    tape("prod", lambda x: (np.asarray([[0.0, 1.5, 2.0], [1.1, 0.0, 0.0]]), 1), label="prod with zeros"),
    tape("prod", lambda x: (np.asarray([[0.0, 1.5], [2.0, 0.7]]),), label="prod of all, with a zero"),
    tape("amax", lambda x: (distinct(x(2, 3)), 1), label="amax of one"),
    *(tape(name, lambda x: (distinct(x(2, 3)),), label=f"{name} of all") for name in ("max", "min")),
    *(tape(name, lambda x: (distinct(x(2, 3)), 1), label=f"{name} along 1") for name in ("max", "min")),
    tape("convolution_activation", fused_arguments, 0, 1, 2, 3),
    tape("_binary_cross_entropy", lambda x: (x(2, 3, low=0.1, high=0.9), x(2, 3, low=0.1, high=0.9)), 0, 1),
]


TAPE += [
    *(tape(name, lambda x: (x(2, 3, low=-0.9, high=0.9),)) for name in ("asin", "acos", "atanh", "erfinv")),
    *(
        tape(name, lambda x: (x(2, 3),))
        for name in ("atan", "sinh", "cosh", "asinh", "exp2", "erfc", "sinc", "deg2rad", "rad2deg", "nan_to_num")
    ),
    *(tape(name, lambda x: (x(2, 3, low=1.2, high=3.8),)) for name in ("acosh", "lgamma", "digamma", "root")),
    tape("lgamma", lambda x: (x(2, 3, low=-0.8, high=-0.2),), label="lgamma, negative"),
    tape("digamma", lambda x: (x(2, 3, low=-0.8, high=-0.2),), label="digamma, negative"),
    *(tape("polygamma", lambda x, n=n: (n, x(2, 3, low=0.6, high=3)), 1, label=f"polygamma {n}") for n in (0, 1, 2)),
    tape("frac", lambda x: (x(2, 3, low=0.2, high=0.8),)),
    *(
        tape(name, lambda x: (x(2, 1), x(2, 3)), 0, 1)
        for name in ("atan2", "hypot", "logaddexp", "logaddexp2", "fmax", "fmin")
    ),
    tape("fmod", lambda x: (x(2, 3, low=2.1, high=2.9), x(3, low=0.8, high=0.95)), 0, 1),
    tape("floor_divide", lambda x: (x(2, 3, low=2.1, high=2.9), x(3, low=0.8, high=0.95)), 0, 1),
    tape("xlogy", lambda x: (x(2, 3), x(3, low=0.2, high=2)), 0, 1),
    tape("copysign", lambda x: (x(2, 3, low=0.2), x(3))),
    tape("flip", lambda x: (x(2, 3), (0, -1))),
    tape("roll", lambda x: (x(2, 3), (1, -2), (0, 1))),
    tape("roll", lambda x: (x(2, 3), 2), label="roll, flattened"),
    tape("diagonal", lambda x: (x(3, 2, 4), 1, 0, 2)),
    tape("diagonal", lambda x: (x(3, 4), -1), label="diagonal below"),
    tape("tril", lambda x: (x(2, 3, 4), 1)),
    tape("triu", lambda x: (x(2, 3, 4), -1)),
    tape("constant_pad", lambda x: (x(2, 3), (1, 2, -1, 1), 0.5)),
    tape("cumsum", lambda x: (x(2, 3), 1)),
    tape("cumprod", lambda x: (x(2, 3, low=0.5), 0)),
    tape("cumprod", lambda x: (np.asarray([[0.0, 1.5, 2.0], [1.1, 0.0, 0.7]]), 1), label="cumprod with zeros"),
    tape("logcumsumexp", lambda x: (x(2, 3), 1)),
    tape("running_max", lambda x: (distinct(x(3, 4)), 1)),
    tape("running_min", lambda x: (distinct(x(3, 4)), 0)),
    tape("sorted_with_positions", lambda x: (distinct(x(3, 4)), 1, True, 3)),
    tape("sorted_with_positions", lambda x: (distinct(x(3, 4)), 0, False, None), label="sort"),
    tape("scatter_values", lambda x: (x(3, 3), 0, SPREAD, x(2, 3)), 0, 3),
    tape("scatter_values", lambda x: (x(3, 3), 0, SPREAD, x(3, 4), "add"), 0, 3, label="scatter, added"),
    tape("scatter_values", lambda x: (x(3, 3), 0, SPREAD, 1.5, "multiply"), label="scatter, multiplied"),
    tape("scatter_add", lambda x: (x(2, 3), 1, INDICES, x(2, 3)), 0, 3),
    tape("index_add_slices", lambda x: (x(3, 4), 0, np.asarray([2, 0, 2]), x(3, 4), 1.5), 0, 3),
    tape("index_copy", lambda x: (x(4, 3), 1, np.asarray([2, 0]), x(4, 2)), 0, 3),
    tape("index_fill", lambda x: (x(3, 4), 0, np.asarray([2, 0, 2]), x()), 0, 3),
    tape("logsumexp", lambda x: (x(2, 3, 2), (0, -1))),
    tape("logsumexp", lambda x: (x(2, 3), 1, True), label="logsumexp, kept"),
    tape("svdvals", lambda x: (x(2, 3, 4),), twice=False),
]

# Kernel 3, stride 2, padding 1; and two thirds of the size.
POOL_WINDOWS = windows.sliding((5, 4), (3, 2), (3, 3), (2, 2), (1, 1), (1, 1), "padded")
RESIZED = windows.interpolating((5, 4), (3, 7), "bilinear", (None, None), False)
POOLED = np.asarray([[[[5, 5], [5, 11], [16, 19]]]] * 2)

TAPE += [
    tape("resample", lambda x: (x(1, 2, 5, 4), POOL_WINDOWS)),
    tape("resample", lambda x: (x(1, 2, 5, 4), RESIZED), label="resample, bilinear"),
    tape("max_pool", lambda x: (distinct(x(2, 1, 5, 4)), POOL_WINDOWS, 8)),
    tape("max_pool", lambda x: (distinct(x(2, 1, 5, 4)), POOL_WINDOWS, 4), label="max_pool, narrow indices"),
    tape("max_pool_backward", lambda x: (x(2, 1, 3, 2), POOLED, POOL_WINDOWS.turned)),
    tape("gather_planes", lambda x: (x(2, 1, 5, 4), POOLED)),
    tape("scatter_planes", lambda x: (x(2, 1, 3, 2), POOLED, (5, 4), True)),
    tape("unfold_images", lambda x: (x(2, 1, 4, 3), (2, 2), (1, 1), (1, 0), (2, 1), (3, 2))),
    tape("fold_columns", lambda x: (x(2, 4, 6), (4, 3), (2, 2), (1, 1), (1, 0), (2, 1), (3, 2))),
]


def recurrent_arguments(x, gates, cell, lengths=None, both=False, extra=False):
    """Two steps of two rows of one unit: all fifteen tensors of `recurrent_layer`, and its settings."""

    def direction():
        return (x(gates, 2), x(gates, 1), x(gates), x(gates), *((x(1, 1), x(3, 1)) if extra else (None, None)))

    weights = (*direction(), *(direction() if both else (None,) * 6))
    states = x(1 + both, 2, 1), x(1 + both, 2, 1) if cell == "lstm" else None
    return (x(2, 2, 2), *states, *weights, lengths, cell, None, False, False, True)


TAPE += [
    tape("recurrent_layer", lambda x: recurrent_arguments(x, 4, "lstm", both=True, extra=True), *range(15)),
    tape(
        "recurrent_layer",
        lambda x: recurrent_arguments(x, 3, "gru", np.array([2, 1])),
        *(0, 1, 3, 4, 5, 6),
        label="recurrent_layer, gru with lengths",
    ),
    tape("recurrent_layer", lambda x: recurrent_arguments(x, 1, "rnn_tanh"), 0, 1, 3, 4, label="recurrent_layer, tanh"),
]


# What a kernel's operator is a function of, where not of its arguments as they stand: the second result of
# cross_entropy_rows and _mean is there for their gradients alone, whose rules know that it follows from the logits.
THROUGH = {
    "recurrent_layer": lambda operator, *arguments: hominy.cat(
        [result.flatten() for result in operator(*arguments)[:3] if result is not None]
    ),
    "max_pool": lambda operator, *arguments: operator(*arguments)[0],
    "layer_norm_over": lambda operator, *arguments: operator(*arguments)[0],
    "channel_norm": lambda operator, *arguments: operator(*arguments)[0],
    "bag_extremes": lambda operator, *arguments: operator(*arguments)[0],
    "cross_entropy_rows": lambda operator, *arguments: operator(*arguments)[0],
    "cross_entropy_mean": lambda operator, *arguments: operator(*arguments)[0],
    "cross_entropy_backward": lambda operator, grad, *rest: operator(
        grad, *rest[:-1], ops.REGISTRY["cross_entropy_rows"](*rest[:-1])[1].detach()
    ),
}


def of_tape(value):
    """Arguments as operators take them: arrays as tensors, in lists too."""
    if isinstance(value, np.ndarray):
        return hominy.from_numpy(value)
    if isinstance(value, list):
        return [of_tape(item) for item in value]
    return value


def prepared(case, size, seed=3):
    """(function of the differentiable tensors, those tensors)."""
    operator = ops.REGISTRY[case.operator]
    arguments = case.make(np.random.default_rng(seed), np.dtype("float64"), size)
    values = [of_tape(x) for x in (*arguments, *case.extra)]
    tensors = []
    for place in case.differentiable:
        for tensor in values[place] if isinstance(values[place], list) else [values[place]]:
            tensors.append(tensor.requires_grad_())

    def function(*given):
        given = list(given)
        filled = list(values)
        for place in case.differentiable:
            if isinstance(values[place], list):
                filled[place] = [given.pop(0) for _ in values[place]]
            else:
                filled[place] = given.pop(0)
        return THROUGH[case.operator](operator, *filled) if case.operator in THROUGH else operator(*filled)

    return function, tuple(tensors)


GRADED = [
    (case, size) for case in (*CASES, *TAPE) if case.operator and case.differentiable for size in case.gradient_sizes
]
every_gradient = pytest.mark.parametrize(("case", "size"), GRADED, ids=lambda x: str(x).replace(" ", ""))


def test_every_operator_with_rules_has_a_case():
    covered = {}
    for case, _ in GRADED:
        covered.setdefault(case.operator, set()).update(case.differentiable)
    for name, operator in ops.REGISTRY.items():
        assert set(operator.rules) <= covered.get(name, set()), (
            f"{name}: arguments {operator.parameters} lack a gradient case"
        )


@every_gradient
def test_gradcheck(case, size):
    function, tensors = prepared(case, size)
    assert gradcheck(function, tensors)


@every_gradient
def test_gradgradcheck(case, size):
    if not case.twice:
        pytest.skip(f"{case}: no second derivative")
    function, tensors = prepared(case, size)
    assert gradgradcheck(function, tensors)


def leaf(*shape, low=-2.0, high=2.0, seed=5):
    return hominy.from_numpy(draw(np.random.default_rng(seed), "float64", shape, low, high)).requires_grad_()


TARGET = hominy.tensor([2, 0, 1, 2])
IMAGE_TARGET = hominy.tensor(np.asarray([[[0, 1], [2, 1]], [[2, 2], [0, 1]]]))
PROBABILITIES = hominy.from_numpy(np.random.default_rng(0).dirichlet(np.ones(3), 4))
WEIGHT = hominy.from_numpy(np.asarray([0.5, 1.5, 2.0]))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (F.mse_loss, (leaf(2, 3), leaf(2, 3, seed=6))),
        (F.l1_loss, (leaf(2, 3), leaf(2, 3, seed=6))),
        (F.binary_cross_entropy, (leaf(2, 3, low=0.1, high=0.9), leaf(2, 3, low=0.1, high=0.9, seed=6))),
        (F.binary_cross_entropy_with_logits, (leaf(2, 3), leaf(2, 3, low=0.1, high=0.9, seed=6))),
        (lambda x, **kw: F.cross_entropy(x, TARGET, **kw), (leaf(4, 3),)),
        (lambda x, **kw: F.cross_entropy(x, TARGET, WEIGHT, 2, label_smoothing=0.25, **kw), (leaf(4, 3),)),
        (lambda x, **kw: F.cross_entropy(x, IMAGE_TARGET, WEIGHT, **kw), (leaf(2, 3, 2, 2),)),
        (lambda x, **kw: F.cross_entropy(x, PROBABILITIES, WEIGHT, label_smoothing=0.25, **kw), (leaf(4, 3),)),
        (lambda x, **kw: F.nll_loss(x, TARGET, WEIGHT, 0, **kw), (leaf(4, 3),)),
    ],
    ids=[
        "mse",
        "l1",
        "bce",
        "bce with logits",
        "cross entropy",
        "cross entropy, all options",
        "cross entropy of images",
        "cross entropy of probabilities",
        "nll",
    ],
)
def test_losses(loss, inputs, reduction):
    assert gradcheck(lambda *x: loss(*x, reduction=reduction), inputs)
    assert gradgradcheck(lambda *x: loss(*x, reduction=reduction), inputs)


def test_an_argument_used_twice():
    assert gradcheck(lambda x: x * x + x @ x.T.matmul(x), (leaf(3, 3),))
    assert gradgradcheck(lambda x: (x * x).sum() * x, (leaf(2, 2),))


def test_strided_and_misaligned_inputs():
    x = leaf(4, 6)
    strided = hominy.from_numpy(np.zeros((4, 6))[::2, ::-3]).requires_grad_()
    assert gradcheck(lambda a, b: a[::2, ::3].sigmoid() * b.cos(), (x, strided))


# ---- gradcheck itself ------------------------------------------------------------------------------------------------


class Wrong(hominy.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x * 2.01


class WrongTwice(hominy.autograd.Function):
    """Right once; its gradient forgets that it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.detach() * 2.0


def test_gradcheck_finds_a_wrong_gradient():
    with pytest.raises(
        RuntimeError, match=r"Jacobian mismatch for output 0 and input 0.*element \(0,\) by input element \(0,\)"
    ):
        gradcheck(Wrong.apply, (leaf(3, low=1, high=2),))
    assert not gradcheck(Wrong.apply, (leaf(3, low=1, high=2),), raise_exception=False)
    assert gradcheck(Wrong.apply, (leaf(3, low=1, high=2),), rtol=0.1)


def test_gradgradcheck_finds_a_wrong_second_gradient():
    assert gradcheck(WrongTwice.apply, (leaf(3, low=1, high=2),))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradgradcheck(WrongTwice.apply, (leaf(3, low=1, high=2),))


def test_gradcheck_finds_an_output_that_lost_its_history():
    with pytest.raises(RuntimeError, match="no history"):
        gradcheck(lambda x: (x * 2, x.detach() * 3), (leaf(3),))


def test_gradcheck_finds_a_function_that_is_not_deterministic():
    calls = []

    class Drifting(hominy.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            calls.append(1)
            return grad * (1.0 + 1e-9 * len(calls))

    with pytest.raises(RuntimeError, match="two walks"):
        gradcheck(Drifting.apply, (leaf(2),))
    assert gradcheck(Drifting.apply, (leaf(2),), nondet_tol=1e-6)


def test_gradcheck_refuses_what_it_cannot_check():
    with pytest.raises(ValueError, match="at least one tensor that requires grad"):
        gradcheck(lambda x: x, (hominy.ones(2),))
    with pytest.raises(TypeError, match=r"inputs\[0\]: expected dtype float64, got float32"):
        gradcheck(lambda x: x, (hominy.ones(2, requires_grad=True),))
    with pytest.raises(ValueError, match="expected a leaf"):
        gradcheck(lambda x: x, (leaf(2) * 2,))
    with pytest.raises(ValueError, match="memory of its own"):
        gradcheck(lambda x: x, (hominy.from_numpy(np.broadcast_to(np.ones(1), (3,))).requires_grad_(),))
    for option in ("check_forward_ad", "check_batched_grad", "fast_mode"):
        with pytest.raises(NotImplementedError, match=option):
            gradcheck(lambda x: x * 1.0, (leaf(2),), **{option: True})


def test_gradcheck_leaves_its_inputs_as_they_were():
    x = leaf(3)
    before = x.detach().numpy().copy()
    assert gradcheck(lambda x: x.exp(), (x,))
    assert x.grad is None
    np.testing.assert_array_equal(x.detach().numpy(), before)
