"""Pictures of a table's runs. Their legends stand beside the axes, never over data."""

import math
import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # files; and a backend that does not exist would end the import
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ..errors import OptionError, one_line
from ..files import atomic
from . import redrawing, styles
from .tables import measured, summarise

FORMATS = (".png", ".pdf")


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``path`` and the same as PDF, each whole or not at all."""
    paths = [Path(path).with_suffix(suffix) for suffix in FORMATS]
    for target in paths:
        with atomic.replacing(target) as part:
            # no date: the same runs give the same file
            about = {"CreationDate": None} if target.suffix == ".pdf" else {}
            figure.savefig(part, format=target.suffix[1:], dpi=130, bbox_inches="tight", metadata=about)
            if target.suffix == ".png":
                _shrink(part)
    plt.close(figure)
    return paths


def _shrink(path: Path) -> None:
    """A PNG of 256 colours is a third as large, and looks the same."""
    from PIL import Image

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, format="png", optimize=True)


def write(recipe, runs: list[dict], out: Path) -> list[Path]:
    """``NAME_FIGURE.png`` and ``.pdf`` in ``out`` for each of the recipe's figures."""
    return _write(recipe, runs, recipe.figures, out)


def _write(recipe, runs: list[dict], figures: Iterable[str], out: Path) -> list[Path]:
    drawings = {name: globals()[name] for name in figures}
    return [
        path
        for name, draw in drawings.items()
        for path in save(draw(recipe, runs), Path(out) / f"{recipe.name}_{name}.png")
    ]


def rewrite(recipe, path: Path, out: Path) -> list[Path]:
    """Likewise, of the runs that a table's JSON ``path`` holds; no curves where it is of a version that kept none. Raises
    :class:`OptionError` for a file that is no such JSON."""
    facts = redrawing.read(recipe.name, path)
    try:
        figures = [name for name in recipe.figures if name != "learning_curves" or redrawing.has_curves(facts)]
        if missing := [name for name in recipe.figures if name not in figures]:
            print(f"{path}: of a version that kept no curves; {', '.join(missing)} not drawn", file=sys.stderr)
        return _write(recipe, redrawing.runs_in(facts), figures, out)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"--json {path}: not a table's JSON ({one_line(error, 100)})") from error


def legend_below(figure: Figure, *axes) -> None:
    """One legend for all of ``axes`` below the figure, in as many columns as fit; each label once."""
    handles = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        inches = 0.058 * max(map(len, handles)) + 0.5  # of a line of small print
        columns = max(1, min(len(handles), int(figure.get_size_inches()[0] / inches)))
        columns = math.ceil(len(handles) / math.ceil(len(handles) / columns))  # no orphans
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize="small", frameon=False)


def short_lines(name: str, width: int = 16) -> str:
    """A row's name under its place, in lines of about ``width`` letters."""
    lines = [""]
    for word in name.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def accuracy(recipe, runs: list[dict]) -> Figure:
    """Test accuracy of every seed beside the paper's mean and maximum."""
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    rows = [row for row in summarise(recipe, runs) if row["runs"] or row["paper"]]
    looks = styles.of_rows(recipe)
    figure, axes = plt.subplots(figsize=(max(4.8, 1.4 * len(rows) + 1), 4.8), layout="constrained")
    for x, row in enumerate(rows):
        for what, marker in (("mean", "s"), ("max", "^")):
            if what in row["paper"]:
                face = "tab:gray" if what == "mean" else "none"
                label = f"paper: {what}, {recipe.paper_data}"
                axes.plot(x - 0.2, row["paper"][what], marker, color="tab:gray", mfc=face, label=label)
        if row["runs"]:
            values, colour = row["test"]["values"], looks[row["key"]].colour
            spread = [0.06 * (i - (len(values) - 1) / 2) for i in range(len(values))]
            axes.plot([x + 0.15 + d for d in spread], values, "o", color=colour, alpha=0.6, ms=5)
            axes.hlines(row["test"]["mean"], x + 0.0, x + 0.3, color=colour)
    axes.plot([], [], "o-", color="black", label=f"ours: each seed and mean, {data}, protocol {protocol}")
    axes.set_xticks(range(len(rows)), [short_lines(row["name"]) for row in rows], fontsize="small")
    axes.set(ylabel="test accuracy (%)", title=recipe.title, xlim=(-0.6, len(rows) - 0.4))
    axes.grid(axis="y", alpha=0.3)
    legend_below(figure, axes)
    return figure


def bars(recipe, runs: list[dict]) -> Figure:
    """Bars of mean test accuracy with every seed, one panel for each group of rows: rows named "group: variant"."""
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    groups: dict[str, list[dict]] = {}
    for row in summarise(recipe, runs):
        groups.setdefault(_group(row["name"]), []).append(row)
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
        axes.set_xticks(range(len(rows)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_title(group)
        axes.grid(axis="y", alpha=0.3)
    panels[0][0].set_ylabel(f"test accuracy (%), {data}, protocol {protocol}")
    return figure


def _group(name: str) -> str:
    """Of a row named "group: variant"."""
    group, colon, _ = name.partition(": ")
    return group if colon else ""


def learning_curves(recipe, runs: list[dict]) -> Figure:
    """Accuracy after every epoch: each seed thin, the mean thick; a line of panels for each group of rows ("group:
    variant"). A run that stopped early keeps its last accuracy in the mean."""
    sets = [name for name in ("train", "valid", "test") if f"{name}_accuracy" in runs[0]["history"][0]]
    ran = {run["network"] for run in runs}
    rows = [row for row in recipe.rows if row.key in ran]
    groups = list(dict.fromkeys(_group(row.name) for row in rows))
    looks = styles.of_rows(recipe)
    figure, grid = plt.subplots(
        len(groups), len(sets), figsize=(4.5 * len(sets), 3.6 * len(groups) + 0.6), sharey=True, sharex=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row in rows:
        style = looks[row.key]
        for axes, name in zip(grid[groups.index(_group(row.name))], sets, strict=True):
            curves = [[e[f"{name}_accuracy"] for e in run["history"]] for run in runs if run["network"] == row.key]
            for curve in curves:
                axes.plot(range(1, len(curve) + 1), curve, color=style.colour, alpha=0.25, lw=0.8)
            axes.plot(
                range(1, max(map(len, curves)) + 1), _means(curves), color=style.colour, ls=style.line, label=row.name
            )
    for group, panels in zip(groups, grid, strict=True):
        for axes, name in zip(panels, sets, strict=True):
            axes.set_title(f"{group}, {name}" if group else name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(f"accuracy (%), {runs[0]['data']['name']}")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    legend_below(figure, *grid[:, 0])
    return figure


def _means(curves: list[list[float]]) -> list[float]:
    """Of every epoch, over curves of any lengths, each of which goes on at its last value."""
    longest = max(map(len, curves))
    return [statistics.mean(curve[min(epoch, len(curve) - 1)] for curve in curves) for epoch in range(longest)]


def accuracy_over_hidden(recipe, runs: list[dict]) -> Figure:
    """Test accuracy against the number of hidden neurons: a curve for every other setting, each seed a point, the paper's
    means as crosses."""
    hidden = {row.key: row.settings["hidden"] for row in recipe.rows}
    looks = styles.of_rows(recipe)
    curves: dict[str, list[dict]] = {}
    for row in measured(recipe, runs):
        curves.setdefault(row["name"].replace(f"{hidden[row['key']]} hidden, ", ""), []).append(row)
    figure, axes = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    for name, rows in curves.items():
        rows = sorted(rows, key=lambda row: hidden[row["key"]])
        sizes, style = [hidden[row["key"]] for row in rows], looks[rows[-1]["key"]]
        colour = _full(recipe, looks, rows[-1]["key"])
        means, spreads = [row["test"]["mean"] for row in rows], [row["test"]["std"] or 0.0 for row in rows]
        axes.errorbar(sizes, means, spreads, marker=style.marker, ls=style.line, capsize=3, color=colour, label=name)
        for size, row in zip(sizes, rows, strict=True):
            axes.plot([size] * row["runs"], row["test"]["values"], ".", color=colour, alpha=0.4)
        paper = [(size, row["paper"]["mean"]) for size, row in zip(sizes, rows, strict=True) if "mean" in row["paper"]]
        if paper:
            axes.plot(
                *zip(*paper, strict=True), "x", color=colour, ms=8, mew=1.8, label=f"paper, {recipe.paper_data}: {name}"
            )
    axes.set(
        xlabel="hidden neurons (per layer)", ylabel=f"test accuracy (%), {runs[0]['data']['name']}", title=recipe.title
    )
    sizes = sorted({hidden[row["key"]] for rows in curves.values() for row in rows})
    if sizes[-1] >= 8 * sizes[0]:  # 64, 128, ... 1024
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    return figure


def _full(recipe, looks: dict[str, styles.Style], key: str) -> tuple[float, float, float]:
    """The colour of an architecture, whichever of its sizes ran."""
    return looks[styles.largest(recipe, key)].colour
