"""Losses against PyTorch: values, gradients, gradients of gradients, and what they refuse."""

import importlib
import math

import hominy
import numpy as np
import pytest
from hominy import nn
from hominy.nn import functional as F
from test_nn import close


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


LOSSES = ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.torch
def test_elementwise_losses_are_torchs(name, reduction, torch):
    rng = np.random.default_rng(3)
    x, target = rng.uniform(0.01, 0.99, (5, 7)), rng.uniform(0, 1, (5, 7))
    ours, theirs = hominy.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss = getattr(nn, name)(reduction=reduction)(ours, hominy.from_numpy(target))
    other = getattr(torch.nn, name)(reduction=reduction)(theirs, torch.from_numpy(target))
    (loss * loss).sum().backward()
    (other * other).sum().backward()
    eps = np.finfo(np.float64).eps
    # 35 terms of at most |log 0.01| < 5 each, gradients of at most 1/0.01, products of the two.
    close(loss.detach().numpy(), other.detach().numpy(), 35 * 5 * 8 * eps)
    close(ours.grad.numpy(), theirs.grad.numpy(), 35 * 5 * 100 * 16 * eps)


@pytest.mark.torch
def test_weights_of_binary_losses(torch):
    rng = np.random.default_rng(4)
    x, target, weight = rng.standard_normal((5, 7)), rng.uniform(0, 1, (5, 7)), rng.uniform(0, 2, 7)
    ours = nn.BCEWithLogitsLoss(weight=hominy.from_numpy(weight), pos_weight=hominy.from_numpy(weight + 1))
    theirs = torch.nn.BCEWithLogitsLoss(weight=torch.from_numpy(weight), pos_weight=torch.from_numpy(weight + 1))
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "pos_weight"]
    result = ours(hominy.from_numpy(x), hominy.from_numpy(target)).item()
    # Sums of 35 terms of size at most (|x| + 1) * 2 * 3.
    bound = 35 * 16 * np.finfo(np.float64).eps * (np.abs(x).max() + 1) * 6
    close(result, theirs(torch.from_numpy(x), torch.from_numpy(target)).item(), bound)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", [{}, {"weight": True}, {"label_smoothing": 0.1}, {"ignore_index": 2},
                                      {"weight": True, "label_smoothing": 0.3, "ignore_index": 0}])  # fmt: skip
@pytest.mark.torch
def test_cross_entropy_is_torchs(settings, reduction, torch):
    rng = np.random.default_rng(5)
    x, target, weight = rng.standard_normal((9, 4)), rng.integers(0, 4, 9), rng.uniform(0.5, 2, 4)
    gradients = []
    for framework, modules in ((hominy, nn), (torch, torch.nn)):
        arguments = {**settings, "reduction": reduction}
        if "weight" in settings:
            arguments["weight"] = framework.from_numpy(weight)
        logits = framework.tensor(x, requires_grad=True)
        loss = modules.CrossEntropyLoss(**arguments)(logits, framework.from_numpy(target))
        loss.sum().backward()
        arguments.pop("label_smoothing", None)
        same = modules.NLLLoss(**arguments)(modules.LogSoftmax(1)(logits), framework.from_numpy(target))
        gradients.append((loss.detach().numpy(), same.detach().numpy(), logits.grad.numpy()))
    # Sums of 9 rows; each row's loss is at most 2 * (log 4 + 2 max|x|), each gradient at most 2, with a few roundings.
    bound = 64 * np.finfo(np.float64).eps * 9 * 2 * (2 + 2 * np.abs(x).max())
    for ours, theirs in zip(*gradients, strict=True):
        close(ours, theirs, bound)


# ---- every loss: values, gradients and gradients of gradients --------------------------------------------------------


def draws(*shapes, low=-2.0, high=2.0, seed=6):
    rng = np.random.default_rng(seed)
    return [rng.uniform(low, high, shape) for shape in shapes]


SIGNS = np.where(np.random.default_rng(7).random((4, 5)) < 0.5, -1.0, 1.0)
CLASSES = np.asarray([4, 0, 2, 2])
LISTS = np.asarray([[3, 0, -1, 1, 2], [4, -1, -1, -1, -1], [0, 1, 2, 3, 4], [-1, 0, 0, 0, 0]])
W = np.asarray([0.5, 1.0, 2.0, 1.5, 0.25])
X, Y, Z = draws((4, 5), (4, 5), (4, 5))
P, Q = draws((4, 5), (4, 5), low=0.05, high=0.95)

# (name, settings, inputs that are differentiated, inputs that are not)
EVERY = [
    ("mse_loss", {}, (X, Y), ()),
    ("mse_loss", {"weight": P}, (X, Y), ()),
    ("l1_loss", {}, (X, Y), ()),
    ("l1_loss", {"weight": P}, (X, Y), ()),
    ("smooth_l1_loss", {"beta": 0.7}, (X, Y), ()),
    ("smooth_l1_loss", {"beta": 0.0}, (X, Y), ()),
    ("huber_loss", {"delta": 0.7}, (X, Y), ()),
    ("huber_loss", {"delta": 0.7, "weight": P}, (X, Y), ()),
    ("kl_div", {}, (X, P), ()),
    ("kl_div", {"log_target": True}, (X, Y), ()),
    ("poisson_nll_loss", {}, (X,), (3 * P,)),
    ("poisson_nll_loss", {"log_input": False, "full": True}, (P,), (3 * P,)),
    ("gaussian_nll_loss", {"full": True}, (X, Y, P), ()),
    ("gaussian_nll_loss", {}, (X, Y, P[:, :1]), ()),
    ("gaussian_nll_loss", {}, (X, Y, P[:, 0]), ()),
    ("gaussian_nll_loss", {"eps": 0.5}, (X, Y, P), ()),
    ("hinge_embedding_loss", {"margin": 0.5}, (X,), (SIGNS,)),
    ("margin_ranking_loss", {"margin": 0.3}, (X, Y), (SIGNS,)),
    ("cosine_embedding_loss", {"margin": 0.1}, (X, Y), (SIGNS[:, 0],)),
    ("triplet_margin_loss", {}, (X, Y, Z), ()),
    ("triplet_margin_loss", {"p": 1.5, "swap": True, "margin": 2.0}, (X, Y, Z), ()),
    ("triplet_margin_with_distance_loss", {"margin": 3.0}, (X, Y, Z), ()),
    ("soft_margin_loss", {}, (X,), (SIGNS,)),
    ("multilabel_soft_margin_loss", {"weight": W}, (X,), ((SIGNS + 1) / 2,)),
    ("multi_margin_loss", {"margin": 0.5}, (X,), (CLASSES,)),
    ("multi_margin_loss", {"p": 2, "weight": W}, (X,), (CLASSES,)),
    ("multilabel_margin_loss", {}, (X,), (LISTS,)),
    ("binary_cross_entropy", {"weight": W}, (P,), (Q,)),
    ("binary_cross_entropy_with_logits", {"pos_weight": W}, (X,), (Q,)),
    ("cross_entropy", {"weight": W, "label_smoothing": 0.2, "ignore_index": 0}, (X,), (CLASSES,)),
    ("nll_loss", {"weight": W, "ignore_index": 2}, (X,), (CLASSES,)),
]


ONCE = {"multi_margin_loss", "multilabel_margin_loss"}  # which PyTorch differentiates no further


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "settings", "inputs", "others"), EVERY, ids=lambda x: x if type(x) is str else "")
@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
@pytest.mark.torch
def test_losses_are_torchs(name, settings, inputs, others, reduction, torch):
    found = []
    for framework, functional in ((hominy, F), (torch, torch.nn.functional)):
        leaves = [framework.tensor(x, requires_grad=True) for x in inputs]
        keywords = {k: framework.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        fixed = [framework.from_numpy(x) for x in others]
        loss = getattr(functional, name)(*leaves, *fixed, reduction=reduction, **keywords)
        gradients = framework.autograd.grad((loss * loss).sum(), leaves, create_graph=True)
        second = ()
        if name not in ONCE:
            total = sum((gradient * gradient).sum() for gradient in gradients)
            second = framework.autograd.grad(total, leaves, allow_unused=True)
        found.append([y.detach().numpy() for y in (loss, *gradients, *(g for g in second if g is not None))])
    # 20 terms a sum, each a few functions of numbers below 20 in magnitude (1 / 0.05), differentiated twice. PyTorch's
    # second derivative of binary cross entropy adds 1e-12 to probabilities, where the first limits their product to it.
    relative = 1e-9 if name == "binary_cross_entropy" else 1e4 * np.finfo(np.float64).eps
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, relative * (1 + np.abs(theirs)).max())


@pytest.mark.torch
def test_modules_of_losses_are_the_functions(torch):
    x, y, z = (hominy.from_numpy(value) for value in (X, Y, Z))
    assert nn.PairwiseDistance(keepdim=True)(x, y).shape == (4, 1)
    assert nn.CosineSimilarity(dim=0)(x, y).shape == (5,)
    manhattan = nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: (a - b).abs().sum(-1), margin=4.0)
    theirs = torch.nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: (a - b).abs().sum(-1), margin=4.0)(
        *map(torch.from_numpy, (X, Y, Z))
    )
    close(manhattan(x, y, z).item(), theirs.item(), 1e-14)
    ours = nn.TripletMarginLoss(0.5, 3.0, swap=True)(x, y, z).item()
    close(ours, torch.nn.TripletMarginLoss(0.5, 3.0, swap=True)(*map(torch.from_numpy, (X, Y, Z))).item(), 1e-14)
    close(
        nn.KLDivLoss(reduction="batchmean")(x, hominy.from_numpy(P)).item(),
        torch.nn.KLDivLoss(reduction="batchmean")(torch.from_numpy(X), torch.from_numpy(P)).item(),
        1e-14,
    )


@pytest.mark.torch
def test_kinks_of_losses_are_torchs(torch):
    """At |d| = beta, at d = 0, at a margin: first and second derivatives."""
    d = np.asarray([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])
    zero, one = np.zeros(6), np.ones(6)
    for name, arguments, settings in (
        ("smooth_l1_loss", (zero,), {}),
        ("huber_loss", (zero,), {"delta": 2.0}),
        ("l1_loss", (zero,), {}),
        ("hinge_embedding_loss", (-one,), {}),
        ("margin_ranking_loss", (zero, one), {"margin": 1.0}),
        ("soft_margin_loss", (one,), {}),
        ("kl_div", (np.asarray([0.0, 1.0, 0.5, 0.0, 2.0, 0.0]),), {"reduction": "sum"}),
    ):
        found = []
        for framework, functional in ((hominy, F), (torch, torch.nn.functional)):
            x = framework.tensor(d, requires_grad=True)
            loss = getattr(functional, name)(x, *map(framework.from_numpy, arguments), **settings)
            (gradient,) = framework.autograd.grad(loss, x, create_graph=True)
            second = framework.tensor(zero)
            if gradient.requires_grad:
                (second,) = framework.autograd.grad((gradient * gradient).sum(), x, allow_unused=True)
            found.append(
                (gradient.detach().numpy(), zero if second is None else (second + framework.from_numpy(zero)).numpy())
            )
        for order, ours, theirs in zip(("first", "second"), *found, strict=True):
            assert np.allclose(ours, theirs, rtol=1e-14), (name, order, ours, theirs)


@pytest.mark.parametrize("factor", [1.0, 30.0, 700.0])
def test_logits_far_out(factor):
    """log(1 + e^-x) has no absolute threshold beyond which it is cut off: float64 keeps its digits."""
    x = hominy.tensor(np.asarray([-1.0, 1.0]) * factor, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, hominy.ones(2, dtype=hominy.float64), reduction="none")
    expected = [math.log1p(math.exp(-factor)) + factor, math.log1p(math.exp(-factor))]
    assert np.allclose(loss.detach().numpy(), expected, rtol=1e-15, atol=0)
    assert np.allclose(F.logsigmoid(x).detach().numpy(), [-value for value in expected], rtol=1e-15, atol=0)
    assert np.allclose(F.soft_margin_loss(x, hominy.ones(2, dtype=hominy.float64), "none").detach().numpy(), expected)


# ---- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, 0.5, math.inf])
@pytest.mark.torch
def test_norms_and_their_gradient_of_nothing(p, torch):
    x = np.vstack([X[:2], np.zeros((1, 5))])
    found = []
    for framework, functional in ((hominy, F), (torch, torch.nn.functional)):
        leaf = framework.tensor(x, requires_grad=True)
        distance = functional.pairwise_distance(leaf, framework.from_numpy(0 * x), p, eps=0.0)
        length = functional.normalize(leaf, p, dim=-1)
        (gradient,) = framework.autograd.grad([distance, length], leaf, [0 * distance + 1, 0 * length + 0.5])
        found.append([y.detach().numpy() for y in (distance, length, gradient)])
    for ours, theirs in zip(*found, strict=True):
        rows = slice(None) if p >= 1.0 else slice(2)  # of a zero vector, the gradient of p < 1 is infinite or 0
        close(ours[rows], theirs[rows], 1e3 * np.finfo(np.float64).eps * (1 + np.abs(theirs[rows])))


def test_one_hot():
    assert F.one_hot(hominy.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(hominy.tensor([[1], [0]]), 2).shape == (2, 1, 2)
    assert F.one_hot(hominy.tensor([2, 0]), 4).dtype == hominy.int64
    assert F.one_hot(hominy.zeros(0, dtype=hominy.int64), 3).shape == (0, 3)


# ---- what they refuse ------------------------------------------------------------------------------------------------

T = hominy.from_numpy
REFUSED = [
    (IndexError, r"\[one_hot\] tensor: expected classes in \[0, 3\), got 7", lambda: F.one_hot(T(CLASSES + 3), 3)),
    (IndexError, r"\[one_hot\] tensor: expected classes in \[0, 5\), got -1", lambda: F.one_hot(T(LISTS[1]), 5)),
    (TypeError, r"\[one_hot\] tensor: expected class indices", lambda: F.one_hot(T(X))),
    (IndexError, r"\[nll_loss\] target: expected classes in \[0, 5\), got 9", lambda: F.nll_loss(T(X), T(CLASSES + 5))),
    (
        IndexError,
        r"\[cross_entropy\] target: expected .*\[0, 5\).*, got -3",
        lambda: F.cross_entropy(T(X), T(CLASSES - 3)),
    ),
    (
        IndexError,
        r"\[multi_margin_loss\] target: expected classes in \[0, 5\), got 5",
        lambda: F.multi_margin_loss(T(X), T(CLASSES + 1)),
    ),
    (
        IndexError,
        r"\[multilabel_margin_loss\] target: expected classes in \[0, 5\), got 5",
        lambda: F.multilabel_margin_loss(T(X), T(LISTS + 1)),
    ),
    (ValueError, r"\[huber_loss\] delta: expected a number above 0", lambda: F.huber_loss(T(X), T(Y), delta=0.0)),
    (ValueError, r"\[mse_loss\] target: expected shape \(4, 5\), got \(4,\)", lambda: F.mse_loss(T(X), T(Y[:, 0]))),
    (ValueError, r"\[mse_loss\] reduction: expected one of", lambda: F.mse_loss(T(X), T(Y), "avg")),
    (ValueError, r"\[l1_loss\] weight: expected shape \(4, 5\)", lambda: F.l1_loss(T(X), T(Y), weight=T(W))),
    (ValueError, r"\[kl_div\] reduction: .*batchmean", lambda: F.kl_div(T(X), T(P), "batch")),
    (ValueError, r"\[gaussian_nll_loss\] var: .*0 or more", lambda: F.gaussian_nll_loss(T(X), T(Y), T(X))),
    (ValueError, r"\[gaussian_nll_loss\] var: expected shape", lambda: F.gaussian_nll_loss(T(X), T(Y), T(P[:2]))),
    (ValueError, r"\[triplet_margin_loss\] margin", lambda: F.triplet_margin_loss(T(X), T(Y), T(Z), margin=0.0)),
    (ValueError, r"\[multi_margin_loss\] p: expected 1 or 2", lambda: F.multi_margin_loss(T(X), T(CLASSES), p=3)),
    (ValueError, r"\[pairwise_distance\] p: expected", lambda: F.pairwise_distance(T(X), T(Y), p=-1.0)),
    (ValueError, r"\[cosine_similarity\] x2: expected a shape", lambda: F.cosine_similarity(T(X), T(Y[:3]))),
    (ValueError, r"\[cosine_embedding_loss\] target", lambda: F.cosine_embedding_loss(T(X), T(Y), T(SIGNS))),
    (TypeError, r"\[soft_margin_loss\] target: expected a tensor", lambda: F.soft_margin_loss(T(X), 3)),
    (ValueError, r"\[KLDivLoss\] reduction: expected one of", lambda: nn.KLDivLoss("avg")),
    (ValueError, r"\[HuberLoss\] delta", lambda: nn.HuberLoss(delta=0.0)),
    (ValueError, r"\[MultiMarginLoss\] p: expected 1 or 2", lambda: nn.MultiMarginLoss(p=3)),
]


@pytest.mark.parametrize(("error", "pattern", "call"), REFUSED, ids=[pattern for _, pattern, _ in REFUSED])
def test_bad_arguments(error, pattern, call):
    with pytest.raises(error, match=pattern):
        call()


def test_losses_of_nothing():
    empty = hominy.zeros(0, 5)
    assert F.mse_loss(empty, empty, "sum").item() == 0.0 and F.soft_margin_loss(empty, empty, "none").shape == (0, 5)
    assert math.isnan(F.huber_loss(empty, empty).item())
    assert F.multi_margin_loss(empty, hominy.zeros(0, dtype=hominy.int64), reduction="none").shape == (0,)
