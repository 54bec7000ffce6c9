"""From the JSON of `pytest bench --benchmark-json=FILE` to a table with ratios and spreads, and to charts.

A ratio is a peer's time over hominy's, taken round by round and then as the median with its middle half (25 to 75%):
above 1, hominy is faster. NumPy and ONNX Runtime stand beside hominy's arrays, PyTorch beside its tensors.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hominy.testing.paired import Quartiles, ratios

from .contenders import BESIDE, NAMES


@dataclass(frozen=True)
class Row:
    """One case at one size and thread count."""

    family: str
    case: str
    size: str
    dtype: str
    threads: int
    operations: float
    bytes: float
    cores_taken: float  # kept busy by other processes meanwhile
    times: dict[str, list[float]]  # contender -> seconds, by round
    errors: dict[str, float]  # contender -> largest error, in error bounds of the case

    @property
    def label(self) -> str:
        """Case and size; the size alone for a product."""
        return self.size if self.case == "matmul" else f"{self.case}, {self.size}"

    def ratio(self, peer: str) -> Quartiles | None:
        """How many times as long as hominy `peer` takes."""
        own = self.times.get(BESIDE[peer]) or self.times.get("arrays")
        return Quartiles.of(ratios(self.times[peer], own)) if own and peer in self.times else None

    def faster_peer(self) -> str | None:
        """The peer with the shortest median time."""
        peers = [peer for peer in BESIDE if peer in self.times]
        return min(peers, key=lambda peer: statistics.median(self.times[peer]), default=None)

    def rate(self, contender: str, amount: float) -> float:
        """`amount` a second."""
        return amount / statistics.median(self.times[contender])


@dataclass(frozen=True)
class Result:
    """One run of the suite."""

    rows: list[Row]
    about: dict[str, Any]

    def peak(self, threads: int) -> float:
        """Float32 operations a second (NaN where the run did not say)."""
        return float(self.about["ceilings"].get(str(threads), {}).get("fma_peak", math.nan))

    def bandwidth(self, threads: int) -> float:
        """Bytes a second."""
        return float(self.about["ceilings"].get(str(threads), {}).get("copy_bandwidth", math.nan))

    def families(self) -> dict[str, list[Row]]:
        """The rows of each family, in the order of the case table."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.family, []).append(row)
        return found


def load(path: str | pathlib.Path) -> Result:
    """Read one JSON file of pytest-benchmark."""
    with open(path) as file:
        content = json.load(file)
    if "hominy" not in content:
        raise ValueError(f"{path}: expected a result of `pytest bench`, got JSON without the key 'hominy'")
    rows: dict[str, Row] = {}
    for benchmark in content["benchmarks"]:
        facts = dict(benchmark["extra_info"])
        contender, error = facts.pop("contender"), facts.pop("error_in_bounds")
        row = rows.setdefault(benchmark["group"], Row(**facts, times={}, errors={}))
        row.times[contender] = benchmark["stats"]["data"]
        row.errors[contender] = error
    return Result(list(rows.values()), content["hominy"])


# --- the table --------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def _spread(quartiles: Quartiles | None) -> str:
    return f"{quartiles.median:5.2f} ({quartiles.low:.2f}-{quartiles.high:.2f})" if quartiles else ""


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%" if whole == whole else ""


def aligned(head: list[str], lines: Iterable[list[str]]) -> str:
    """Columns, the first flush left and the others flush right."""
    table = [head, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _table(result: Result, rows: list[Row]) -> str:
    peers = [peer for peer in BESIDE if any(peer in row.times for row in rows)]
    head = [f"{rows[0].family}, {rows[0].dtype}", "threads", "taken", "arrays", "tensors", "FMA peak", "copy rate"]
    lines = []
    for row in rows:
        cells = [row.label, str(row.threads), f"{row.cores_taken:.1f}"]
        for form in ("arrays", "tensors"):
            cells.append(duration(statistics.median(row.times[form])) if form in row.times else "")
        own = "arrays" if "arrays" in row.times else next(iter(row.times))
        cells.append(_share(row.rate(own, row.operations), result.peak(row.threads)))
        cells.append(_share(row.rate(own, row.bytes), result.bandwidth(row.threads)))
        cells += [_spread(row.ratio(peer)) for peer in peers]
        faster = row.faster_peer()
        ratio = row.ratio(faster) if faster else None
        cells.append(f"{ratio.median:.2f} {NAMES[faster]}" if faster and ratio else "")
        lines.append(cells)
    return aligned(head + [NAMES[peer] for peer in peers] + ["the faster peer"], lines)


def _summary(result: Result) -> str:
    head = ["beside the faster peer", "threads", "sizes", "geometric mean", "smallest", "", "largest error"]
    lines = []
    for family, rows in result.families().items():
        for threads in sorted({row.threads for row in rows}):
            found = []
            for row in rows:
                faster = row.faster_peer() if row.threads == threads else None
                ratio = row.ratio(faster) if faster else None
                if ratio:
                    found.append((ratio.median, row.label))
            if not found:
                continue
            worst = min(found)
            errors = [row.errors[form] for row in rows for form in ("arrays", "tensors") if form in row.errors]
            mean = statistics.geometric_mean([ratio for ratio, _ in found])
            cells = [family, str(threads), str(len(found)), f"{mean:.2f}", f"{worst[0]:.2f}", worst[1]]
            lines.append([*cells, f"{max(errors):.2f} of its bound"])
    return aligned(head, lines)


def table(result: Result) -> str:
    """The whole report in text."""
    about = result.about
    backend = about["backend"] + (f" ({about['isa']})" if about.get("isa") else "")
    parts = [f"{about['processor']}; backend {backend}; " + ", ".join(f"{k} {v}" for k, v in about["versions"].items())]
    for threads, ceilings in about["ceilings"].items():
        parts[0] += (
            f"\nthreads: {threads}: FMA peak {ceilings['fma_peak'] / 1e9:.0f} GFLOP/s ({ceilings['fma_peak_by']}), "
            f"copy {ceilings['copy_bandwidth'] / 1e9:.1f} GB/s, read and write"
        )
    parts[0] += "\nratios: the peer's time over hominy's, paired, median (25-75%); above 1 hominy is faster"
    parts[0] += "\ntaken: cores that other processes kept busy meanwhile; repeat the run where that is not near 0"
    parts += [_table(result, rows) for rows in result.families().values()]
    parts.append(_summary(result))
    return "\n\n".join(parts)


# --- the charts -------------------------------------------------------------------------------------------------------

COLOURS = {"arrays": "#e3a008", "tensors": "#e3a008", "numpy": "#3b6ea5", "torch": "#c8553d", "onnxruntime": "#6b7280"}
_INK, _GRID, _PAPER, _BETTER = "#23272f", "#e5e1d8", "#fdfcf9", "#fbf3dc"


def charts(result: Result, folder: pathlib.Path) -> list[pathlib.Path]:
    """Two PNG files a family: ratios to the peers, and shares of what the machine can do."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {
        "figure.facecolor": _PAPER, "axes.facecolor": _PAPER, "savefig.facecolor": _PAPER, "text.color": _INK,
        "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "font.size": 9, "axes.edgecolor": _GRID,
    }  # fmt: skip
    written = []
    with pyplot.rc_context(style):
        for family, rows in result.families().items():
            for kind, draw in (("ratio", _draw_ratios), ("ceiling", _draw_shares)):
                path = folder / f"{family.replace(' ', '-')}-{kind}.png"
                figure = _family_figure(pyplot, result, rows, draw)
                figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.25)
                pyplot.close(figure)
                written.append(path)
    return written


def _family_figure(pyplot: Any, result: Result, rows: list[Row], draw: Any) -> Any:
    """One panel a thread count, one line a case and size."""
    counts = sorted({row.threads for row in rows})
    labels = list(dict.fromkeys(row.label for row in rows))
    height = 0.27 * len(labels) + 1.6
    figure, panels = pyplot.subplots(
        1, len(counts), figsize=(3.2 + 4.0 * len(counts), height), sharey=True, squeeze=False, layout="constrained"
    )
    names: dict[str, Any] = {}
    for panel, threads in zip(panels[0], counts, strict=True):
        panel.set_ylim(len(labels) - 0.4, -0.6)
        panel.set_yticks(range(len(labels)), labels)
        panel.tick_params(length=0)
        panel.grid(axis="x", color=_GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.set_title(f"{threads} thread{'s' * (threads > 1)}", loc="left", fontsize=10, fontweight="bold")
        mine = {row.label: row for row in rows if row.threads == threads}
        names |= draw(panel, result, [(labels.index(label), row) for label, row in mine.items()])
    title = draw.__doc__.splitlines()[0].format(family=rows[0].family, dtype=rows[0].dtype)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def _draw_ratios(panel: Any, result: Result, rows: list[tuple[int, Row]]) -> dict[str, Any]:
    """{family}, {dtype}: how many times as long as hominy the others take

    Points are medians of paired rounds, bars their middle half.
    """
    handles, seen = {}, []
    for y, row in rows:
        for offset, peer in enumerate(BESIDE):
            ratio = row.ratio(peer)
            if ratio is None:
                continue
            place = y + 0.2 * (offset - 1)
            panel.plot([ratio.low, ratio.high], [place, place], color=COLOURS[peer], linewidth=3, alpha=0.35)
            (handles[NAMES[peer]],) = panel.plot(
                [ratio.median], [place], "o", color=COLOURS[peer], markersize=5, markeredgewidth=0
            )
            seen.append(ratio.median)
    panel.set_xscale("log", base=2)
    low, high = min([*seen, 0.9]) / 1.15, max([*seen, 1.2]) * 1.15
    panel.axvspan(1, high, color=_BETTER, zorder=0, linewidth=0)
    panel.axvline(1, color=COLOURS["arrays"], linewidth=1.6)
    panel.set_xlim(low, high)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.set_xlabel("slower than hominy to the right of 1")
    return handles


def _draw_shares(panel: Any, result: Result, rows: list[tuple[int, Row]]) -> dict[str, Any]:
    """{family}, {dtype}: share of what the machine was seen to do

    Of peak arithmetic for products, of the copy rate for everything else.
    """
    handles = {}
    products = all(row.family in ("matmul", "linear") for _, row in rows)
    for y, row in rows:
        ceiling = result.peak(row.threads) if products else result.bandwidth(row.threads)
        amount = row.operations if products else row.bytes
        shares = {name: 100 * row.rate(name, amount) / ceiling for name in row.times if name != "tensors"}
        panel.plot([min(shares.values()), max(shares.values())], [y, y], color=_GRID, linewidth=2, zorder=1)
        for name in sorted(shares, key=lambda name: name == "arrays"):  # hominy on top
            size = 8 if name == "arrays" else 5
            (handle,) = panel.plot([shares[name]], [y], "o", color=COLOURS[name], markersize=size, markeredgewidth=0)
            handles[NAMES[name].split(",")[0]] = handle
    panel.set_xlim(left=0)
    panel.axvline(100, color=_INK, linewidth=0.8, linestyle=":")
    panel.set_xlabel("% of peak float32 arithmetic" if products else "% of the rate of a large copy")
    return handles
