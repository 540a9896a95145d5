"""Pictures of a table's runs."""

import os
import statistics
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # files; and a backend that does not exist would end the import
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..files import atomic
from .tables import summarise


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG whole or not at all."""
    with atomic.replacing(path) as part:
        figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return path


def write(recipe, runs: list[dict], out: Path) -> list[Path]:
    """``NAME_FIGURE.png`` in ``out`` for each of the recipe's figures."""
    drawings = {name: globals()[name] for name in recipe.figures}
    return [save(draw(recipe, runs), Path(out) / f"{recipe.name}_{name}.png") for name, draw in drawings.items()]


def accuracy(recipe, runs: list[dict]) -> Figure:
    """Test accuracy of every seed beside the paper's mean and maximum."""
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    rows = summarise(recipe, runs)
    labelled = set()
    figure, axes = plt.subplots(figsize=(1.6 * len(rows) + 1, 4.8), layout="constrained")
    for x, row in enumerate(rows):
        paper = f"paper: {{}}, {recipe.paper_data}"
        for what, marker in (("mean", "s"), ("max", "^")):
            if what in row["paper"]:
                face = "tab:gray" if what == "mean" else "none"
                label = None if what in labelled else paper.format(what)
                labelled.add(what)
                axes.plot(x - 0.2, row["paper"][what], marker, color="tab:gray", mfc=face, label=label)
        if row["runs"]:
            values = row["test"]["values"]
            spread = [0.06 * (i - (len(values) - 1) / 2) for i in range(len(values))]
            axes.plot([x + 0.15 + d for d in spread], values, "o", color="tab:blue", alpha=0.6, ms=5)
            axes.hlines(row["test"]["mean"], x + 0.0, x + 0.3, color="tab:blue")
    axes.plot([], [], "o-", color="tab:blue", label=f"ours: each seed and mean, {data}, protocol {protocol}")
    axes.set_xticks(
        range(len(rows)), [row["name"].replace("Synaptic delay ", "Synaptic delay\n").replace(", ", ",\n") for row in rows]
    )
    axes.set(ylabel="test accuracy (%)", title=recipe.title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def bars(recipe, runs: list[dict]) -> Figure:
    """Bars of mean test accuracy with every seed, one panel for each group of rows: rows named "group: variant"."""
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    groups: dict[str, list[dict]] = {}
    for row in summarise(recipe, runs):
        groups.setdefault(row["name"].partition(": ")[0], []).append(row)
    figure, panels = plt.subplots(
        1, len(groups), figsize=(4.5 * len(groups), 4.5), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (group, rows) in zip(panels[0], groups.items(), strict=True):
        for x, row in enumerate(rows):
            if row["runs"]:
                values = row["test"]["values"]
                axes.bar(x, row["test"]["mean"], yerr=row["test"]["std"], color=f"C{x}", alpha=0.6, capsize=4)
                axes.plot([x] * len(values), values, "o", color="black", ms=3)
        names = [row["name"].partition(": ")[2].replace(", ", ",\n") for row in rows]
        axes.set_xticks(range(len(rows)), names, rotation=45, ha="right")
        axes.set_title(group)
        axes.grid(axis="y", alpha=0.3)
    panels[0][0].set_ylabel(f"test accuracy (%), {data}, protocol {protocol}")
    return figure


def learning_curves(recipe, runs: list[dict]) -> Figure:
    """Accuracy after every epoch: each seed thin, the mean thick. A run that stopped early keeps its last accuracy in the
    mean."""
    sets = [name for name in ("train", "valid", "test") if f"{name}_accuracy" in runs[0]["history"][0]]
    figure, grid = plt.subplots(
        1, len(sets), figsize=(4.5 * len(sets), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(grid[0], sets, strict=True):
        for number, row in enumerate(recipe.rows):
            curves = [[e[f"{name}_accuracy"] for e in run["history"]] for run in runs if run["network"] == row.key]
            if not curves:
                continue
            for curve in curves:
                axes.plot(range(1, len(curve) + 1), curve, color=f"C{number}", alpha=0.25, lw=0.8)
            axes.plot(range(1, max(map(len, curves)) + 1), _means(curves), color=f"C{number}", label=row.name)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel(f"accuracy (%), {runs[0]['data']['name']}")
    grid[0][-1].legend(fontsize="small")
    return figure


def _means(curves: list[list[float]]) -> list[float]:
    """Of every epoch, over curves of any lengths, each of which goes on at its last value."""
    longest = max(map(len, curves))
    return [statistics.mean(curve[min(epoch, len(curve) - 1)] for curve in curves) for epoch in range(longest)]


def accuracy_over_hidden(recipe, runs: list[dict]) -> Figure:
    """Test accuracy against the number of hidden neurons: a curve for every other setting, each seed a point."""
    curves: dict[str, dict[int, list[float]]] = {}
    for row in summarise(recipe, runs):
        if row["runs"]:
            hidden = next(r.settings["hidden"] for r in recipe.rows if r.key == row["key"])
            name = row["name"].replace(f"{hidden} hidden, ", "")
            curves.setdefault(name, {})[hidden] = row["test"]["values"]
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    for number, (name, points) in enumerate(curves.items()):
        sizes = sorted(points)
        means = [statistics.mean(points[size]) for size in sizes]
        spreads = [statistics.stdev(points[size]) if len(points[size]) > 1 else 0.0 for size in sizes]
        axes.errorbar(sizes, means, spreads, fmt="o-", capsize=3, color=f"C{number}", label=name)
        for size in sizes:
            axes.plot([size] * len(points[size]), points[size], ".", color=f"C{number}", alpha=0.4)
    axes.set(
        xlabel="hidden neurons (per layer)", ylabel=f"test accuracy (%), {runs[0]['data']['name']}", title=recipe.title
    )
    sizes = sorted({size for points in curves.values() for size in points})
    if sizes[-1] >= 8 * sizes[0]:  # 64, 128, ... 1024
        axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
