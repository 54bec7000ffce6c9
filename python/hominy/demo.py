"""`hominy demo`: learn to read handwritten digits, check and time the kernels beside NumPy, draw it all in one picture.

The digits are scikit-learn's: 1,797 pictures of 8x8 pixels, a quarter of which the network never sees in training.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import hominy
from hominy import backends, nn, optim
from hominy.testing import cases
from hominy.testing.paired import Quartiles, paired_times, ratios
from hominy.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from hominy import Tensor

_HELD_OUT = 450
_EPOCHS = 60
_REQUIRED = 0.97


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 if the network reads at least 97% of the digits it has not seen."""
    parser = argparse.ArgumentParser(prog="hominy demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="hominy_demo.png", metavar="PNG", help="the picture (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order (default: 0)")
    arguments = parser.parse_args(argv)
    missing = _missing_packages()
    if missing:
        print(f"hominy demo needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    threads = hominy.get_num_threads()
    print(f"hominy {hominy.__version__}, backend {backends.current_backend()}, threads: {threads}\n")
    lesson = learn(arguments.seed)
    print(
        f"{lesson.right.sum()} of {len(lesson.right)} unseen digits are right: test accuracy "
        f"{lesson.accuracy:.1%} after {lesson.seconds:.1f} s\n"
    )
    with one_thread():  # the picture too: t-SNE's threads took 20 s instead of 2 where a core was busy
        timings = list(compare_kernels())
        print(kernel_table(timings), flush=True)
        print(f"\nwrote {os.path.abspath(draw(lesson, timings, arguments.output))}")
    if lesson.accuracy < _REQUIRED:
        print(f"test accuracy is below {_REQUIRED:.0%}: something is wrong", file=sys.stderr)
        return 1
    return 0


def _missing_packages() -> list[str]:
    from importlib.util import find_spec

    packages = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    return [package for module, package in packages.items() if find_spec(module) is None]


# --- learning ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Lesson:
    """A trained network, how it came about and what it says."""

    model: Any
    images: np.ndarray  # (N, 8, 8), the held-out ones
    labels: np.ndarray  # (N,)
    scores: np.ndarray  # (N, 10) probabilities
    features: np.ndarray  # (N, 128), the last hidden layer
    losses: list[float]  # by epoch, on training batches
    accuracies: list[float]  # by epoch, held out
    trained_on: int
    seconds: float

    @property
    def predicted(self) -> np.ndarray:
        """(N,): the digit with the highest score."""
        return self.scores.argmax(1)

    @property
    def right(self) -> np.ndarray:
        """(N,): whether it is the true one."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """The share of held-out digits that is right."""
        return float(self.right.mean())


def learn(seed: int, epochs: int = _EPOCHS) -> Lesson:
    """Train a network of three linear layers by AdamW with a cosine schedule, on digits moved and turned a little."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(seed)
    hominy.manual_seed(seed)
    order = rng.permutation(len(digits.target))
    test, train = order[:_HELD_OUT], order[_HELD_OUT:]
    images = (digits.images / 16).astype("float32")
    labels = digits.target.astype("int64")
    loader: DataLoader = DataLoader(
        TensorDataset(hominy.from_numpy(images[train]), hominy.from_numpy(labels[train])),
        batch_size=64, shuffle=True, drop_last=True,
    )  # fmt: skip
    unseen = hominy.from_numpy(images[test].reshape(-1, 64))

    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

    losses, accuracies = [], []
    start = time.perf_counter()
    with _Progress(epochs) as progress:
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * epoch / epochs)) / 2
            total = 0.0
            for x, y in loader:
                optimizer.zero_grad()
                loss = criterion(model(jitter(x, rng)), y)
                loss.backward()
                optimizer.step()
                total += loss.item()
            with hominy.no_grad():
                predicted = model(unseen).argmax(dim=1).numpy()
            losses.append(total / len(loader))
            accuracies.append(float((predicted == labels[test]).mean()))
            progress.update(losses[-1], accuracies[-1])
    seconds = time.perf_counter() - start
    with hominy.no_grad():
        features = model[:-1](unseen)
        scores = nn.functional.softmax(model[-1](features), dim=1)
    return Lesson(
        model, images[test], labels[test], scores.numpy(), features.numpy(), losses, accuracies, len(train), seconds
    )


def jitter(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each picture (N, 8, 8) moved by up to half a pixel, turned and scaled a little, as a row (N, 64).

    Every new pixel is the bilinear mean of the four old ones around the place it comes from.
    """
    x = np.pad(images.numpy(), ((0, 0), (2, 3), (2, 3)))  # (N, 13, 13)
    n = len(x)
    angle, scale = rng.uniform(-0.15, 0.15, (n, 1, 1)), rng.uniform(0.925, 1.075, (n, 1, 1))
    down, along = np.mgrid[:8, :8] - 3.5
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    row = np.clip(cosine * down + sine * along + rng.uniform(5, 6, (n, 1, 1)), 0, 11)
    column = np.clip(cosine * along - sine * down + rng.uniform(5, 6, (n, 1, 1)), 0, 11)
    r, c, i = row.astype(int), column.astype(int), np.arange(n)[:, None, None]
    below, right = row - r, column - c
    upper = (1 - right) * x[i, r, c] + right * x[i, r, c + 1]
    lower = (1 - right) * x[i, r + 1, c] + right * x[i, r + 1, c + 1]
    return hominy.from_numpy(((1 - below) * upper + below * lower).astype("float32").reshape(n, 64))


class _Progress:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, epochs: int) -> None:
        from tqdm import tqdm

        self.live = sys.stderr.isatty()
        self.epochs = epochs
        self.done = 0
        self.bar = tqdm(total=epochs, unit="epoch", ncols=88, colour="#e3a008", disable=not self.live)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def update(self, loss: float, accuracy: float) -> None:
        """One epoch more."""
        self.done += 1
        self.bar.set_postfix_str(f"loss {loss:.3f}, unseen {accuracy:.1%}", refresh=False)
        self.bar.update()
        if not self.live and (self.done % 10 == 0 or self.done == self.epochs):
            print(
                f"epoch {self.done} of {self.epochs}: loss {loss:.3f}, unseen digits right {accuracy:.1%}", flush=True
            )


# --- kernels ----------------------------------------------------------------------------------------------------------

_MILLION = (1 << 20,)
_LAYERS = ((256, 784), (256,), (128, 256), (128,), (10, 128), (10,))
_KERNELS: tuple[tuple[str, str, Any], ...] = (
    ("matmul", "matmul, 64x64", ((64, 64), (64, 64), "")),
    ("matmul", "matmul, 512x512", ((512, 512), (512, 512), "")),
    ("matmul", "matmul, 8x1024 @ 1024x1024", ((8, 1024), (1024, 1024), "")),
    ("add", "a + b, a million", _MILLION),
    ("exp", "exp, a million", _MILLION),
    ("sigmoid", "sigmoid, a million", _MILLION),
    ("gelu_tanh", "gelu (tanh), a million", _MILLION),
    ("sum", "sum of rows, 1024x1024", ((1024, 1024), (1,))),
    ("softmax", "softmax, 1024x1000", ((1024, 1000), 1)),
    ("cross_entropy", "cross entropy, 1024x1000", (1024, 1000)),
    ("adamw", "AdamW step, 235,146 weights", _LAYERS),
)


@dataclasses.dataclass
class Timing:
    """One kernel beside the NumPy code that does the same."""

    label: str
    error: float  # the largest, in error bounds
    hominy: float  # seconds a call
    numpy: float
    ratio: Quartiles  # NumPy's time over hominy's


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for hominy, BLAS and OpenMP: ratios that do not depend on who else uses the machine."""
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    threads = hominy.get_num_threads()
    hominy.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        hominy.set_num_threads(threads)


def compare_kernels(rounds: int = 8) -> Iterator[Timing]:
    """Check each kernel against float64 and its error bound, then time it and NumPy in turn."""
    rng = np.random.default_rng(0)
    for name, label, size in _KERNELS:
        case = dataclasses.replace(cases.find(name), exact=None)
        arguments = case.arguments(rng, "float32", size)
        kernel, theirs = case.kernel, case.numpy
        assert theirs is not None
        before = tuple([x.copy() for x in a] if isinstance(a, list) else a for a in arguments)
        error = case.verify(case.results(lambda *a, k=kernel: backends.run(k, *a), arguments), before)
        times = paired_times(
            {
                "hominy": lambda k=kernel, a=arguments: backends.run(k, *a),  # type: ignore[misc]
                "numpy": lambda f=theirs, a=arguments: f(*a),  # type: ignore[misc]
            },
            rounds=rounds,
        )
        hominy_time, numpy_time = (statistics.median(times[name]) for name in ("hominy", "numpy"))
        yield Timing(label, error, hominy_time, numpy_time, Quartiles.of(ratios(times["numpy"], times["hominy"])))


def kernel_table(timings: list[Timing]) -> str:
    """The timings, aligned."""
    lines = [f"{'one thread each, float32':<28}{'error':>15}{'hominy':>10}{'NumPy':>10}   times as fast (25-75%)"]
    for timing in timings:
        lines.append(
            f"{timing.label:<28}{timing.error:>6.2f} of bound"
            f"{_duration(timing.hominy):>10}{_duration(timing.numpy):>10}"
            f"{timing.ratio.median:>8.2f} ({timing.ratio.low:.2f}-{timing.ratio.high:.2f})"
        )
    mean = statistics.geometric_mean([timing.ratio.median for timing in timings])
    return "\n".join([*lines, f"{'geometric mean':<63}{mean:>8.2f}"])


def _duration(seconds: float) -> str:
    for unit, scale in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


# --- the picture ------------------------------------------------------------------------------------------------------

_GOLD, _BLUE, _RED, _INK, _SOFT, _PAPER = "#e3a008", "#3b6ea5", "#c8553d", "#23272f", "#8b8577", "#fdfcf9"
_DIGITS = (
    "#3b6ea5", "#c8553d", "#4f8f5b", "#8a5fa8", "#e3a008", "#3f9c9c", "#d17a9c", "#7a6a4f", "#5b6bd1", "#8b8577",
)  # fmt: skip


def draw(lesson: Lesson, timings: list[Timing], path: str) -> str:
    """The picture: what was read, how it was learnt, what the network sees, its mistakes, and the kernels' speed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "figure.facecolor": _PAPER, "axes.facecolor": _PAPER, "savefig.facecolor": _PAPER, "text.color": _INK,
        "axes.labelcolor": _INK, "axes.edgecolor": "#d8d3c6", "xtick.color": _SOFT, "ytick.color": _SOFT,
        "font.size": 9.5, "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=(16.5, 10))
        figure.text(0.035, 0.955, "hominy reads handwriting", fontsize=23, fontweight="bold", va="center")
        figure.text(
            0.035, 0.918,
            f"A 64-256-128-10 network, {lesson.trained_on:,} pictures of 8x8 pixels, "
            f"{lesson.seconds:.1f} s of training: "
            f"{lesson.right.sum()} of {len(lesson.labels)} unseen digits are read right ({lesson.accuracy:.1%}).",
            fontsize=12, color=_SOFT, va="center",
        )  # fmt: skip
        left, top, bottom = 0.035, 0.86, 0.055
        wide = figure.add_gridspec(1, 1, left=left, right=0.40, top=top, bottom=bottom)
        _draw_map(figure.add_subplot(wide[0]), lesson)
        middle = figure.add_gridspec(2, 1, left=0.425, right=0.635, top=top, bottom=bottom, hspace=0.22)
        _draw_mistakes(figure.add_subplot(middle[0]), lesson)
        _draw_filters(figure.add_subplot(middle[1]), lesson)
        right = figure.add_gridspec(2, 1, left=0.69, right=0.975, top=top, bottom=bottom, hspace=0.22)
        _draw_learning(figure.add_subplot(right[0]), lesson)
        # A third of the width is for the labels of the bars.
        _draw_speed(figure.add_subplot(right[1].subgridspec(1, 2, width_ratios=(0.5, 1), wspace=0)[1]), timings)
        figure.savefig(path, dpi=120)
        pyplot.close(figure)
    return path


def _ink(image: np.ndarray, colour: str) -> np.ndarray:
    """(8, 8) brightness as (8, 8, 4): strokes of `colour` on transparent paper."""
    from matplotlib.colors import to_rgb

    return np.dstack([np.broadcast_to(to_rgb(colour), (8, 8, 3)), image])


def _canvas(axes: Any, title: str, width: float, height: float) -> None:
    """Bare axes in units of pictures, the origin at the top left."""
    axes.set(title=title, xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal", anchor="NW")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _draw_map(axes: Any, lesson: Lesson) -> None:
    """Every unseen digit on a grid, neighbours alike: t-SNE, then the cheapest assignment of its points to the grid."""
    from scipy.optimize import linear_sum_assignment  # scikit-learn brings SciPy
    from sklearn.manifold import TSNE

    columns, rows = 18, -(-len(lesson.labels) // 18)
    places = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(lesson.features)
    places = (places - places.min(0)) / (places.max(0) - places.min(0)) * (columns - 1, rows - 1)
    cells = np.mgrid[:columns, :rows].reshape(2, -1).T
    _, chosen = linear_sum_assignment(np.square(places[:, None] - cells).sum(-1))
    title = f"{len(lesson.labels)} unseen digits, as the last hidden layer sorts them"
    _canvas(axes, title, columns, rows)
    # One image for all: cells of 10x10 pixels, of which the digit takes the middle 8x8.
    mosaic = np.zeros((rows, 10, columns, 10, 4))
    for (x, y), image, said in zip(cells[chosen], lesson.images, lesson.predicted, strict=True):
        mosaic[y, 1:9, x, 1:9] = _ink(image, _DIGITS[said])
    axes.imshow(mosaic.reshape(rows * 10, columns * 10, 4), extent=(0, columns, rows, 0), interpolation="nearest")
    x, y = cells[chosen][~lesson.right].T + 0.5
    axes.plot(x, y, "o", markersize=23, mfc="none", mec=_INK, mew=1.6, clip_on=False)
    axes.text(0, rows + 0.45, "Coloured by what the network says; ringed where that is wrong.", color=_SOFT, va="top")


def _draw_speed(axes: Any, timings: list[Timing]) -> None:
    positions = range(len(timings))
    medians = [timing.ratio.median for timing in timings]
    colours = [_GOLD if median >= 1 else _BLUE for median in medians]
    # Bars grow from 1 to both sides: on a logarithmic axis twice as fast and half as fast are equally long.
    axes.barh(positions, [median - 1 for median in medians], left=1, color=colours, height=0.62)
    axes.set_xscale("log", base=2)
    low, high = min(0.5, *medians) / 1.15, max(2.0, *medians) * 1.5
    axes.set(title="Kernels: times as fast as NumPy", xlim=(low, high), ylim=(len(timings) - 0.4, -0.6))
    axes.set_yticks(positions, [timing.label for timing in timings], color=_INK)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(1, color=_INK, linewidth=1)
    axes.spines["left"].set_visible(False)
    for position, timing in zip(positions, timings, strict=True):
        beyond = max(timing.ratio.median, 1) * 1.06
        axes.text(beyond, position, f"{timing.ratio.median:.1f}", va="center", fontsize=9, color=_INK)


def _draw_mistakes(axes: Any, lesson: Lesson) -> None:
    wrong = np.flatnonzero(~lesson.right)
    columns, rows = 3, 2
    shown = min(len(wrong), columns * rows)
    title = f"All {shown} mistakes" if shown == len(wrong) else f"{shown} of {len(wrong)} mistakes"
    _canvas(axes, title if shown else "No mistakes", columns, rows * 1.5)
    # Shown bigger than in the map: some of them a person would not read either.
    for place, index in enumerate(wrong[:shown]):
        x, y = place % columns, place // columns * 1.5
        extent = (x + 0.1, x + 0.9, y + 0.9, y + 0.1)
        axes.imshow(_ink(lesson.images[index], _INK), extent=extent, interpolation="nearest")
        said = lesson.predicted[index]
        verdict = f"said {said} ({lesson.scores[index, said]:.0%})"
        axes.text(x + 0.5, y + 1.04, verdict, color=_RED, ha="center", va="center")
        axes.text(x + 0.5, y + 1.22, f"is {lesson.labels[index]}", color=_SOFT, ha="center", va="center")


def _draw_filters(axes: Any, lesson: Lesson) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    weight = next(lesson.model.parameters()).detach().numpy()
    strongest = np.argsort(-np.square(weight).sum(1))[:49].reshape(7, 7)
    colours = LinearSegmentedColormap.from_list("gold and blue", [_BLUE, _PAPER, _GOLD])
    _canvas(axes, "What the first layer looks for", 7, 7)
    for (row, column), unit in np.ndenumerate(strongest):
        filter_ = weight[unit].reshape(8, 8)
        limit = np.abs(filter_).max()
        axes.imshow(filter_, colours, vmin=-limit, vmax=limit, interpolation="bicubic",
                    extent=(column + 0.05, column + 0.95, row + 0.95, row + 0.05))  # fmt: skip


def _draw_learning(axes: Any, lesson: Lesson) -> None:
    epochs = np.arange(1, len(lesson.losses) + 1)
    errors = 100 * (1 - np.array(lesson.accuracies))
    axes.plot(epochs, errors, color=_GOLD, linewidth=2.4)
    axes.set(title="Unseen digits read wrong, % by epoch", xlim=(1, len(epochs)), ylim=(0, max(8.0, 1.3 * errors[-1])))
    axes.axhline(100 * (1 - _REQUIRED), color=_SOFT, linewidth=1, linestyle=":")
    axes.grid(axis="y", color="#ece8dd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.annotate(f"{errors[-1]:.1f}%", (epochs[-1], errors[-1]), (0, 8), textcoords="offset points", ha="right",
                  color=_INK, fontweight="bold", fontsize=11)  # fmt: skip
