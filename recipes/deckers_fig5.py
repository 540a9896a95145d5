"""Deckers et al., Fig. 5: the accuracy of every seed of every network of Table 1."""

from typing import TYPE_CHECKING

from . import deckers_table1
from .engine.command.view import View, facts
from .engine.results.runs import RunStore
from .engine.results.tables import Sheet, measured, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tabulate(view: View, runs: list[dict], store: RunStore) -> Sheet:
    rows = measured(view.of, runs)
    cells = []
    for row in rows:
        values = sorted(zip(row["seeds"], row["test"]["values"], strict=True))
        paper = row["paper"]
        cells.append(
            [
                row["name"],
                f"{paper['mean']:.2f} / {paper['max']:.2f}" if "mean" in paper else "-",
                spread(row["test"], 1),
                f"{min(row['test']['values']):.1f} ... {row['test']['max']:.1f}",
                ", ".join(f"{seed}: {value:.1f}" for seed, value in values),
            ]
        )
    data = runs[0]["data"]["name"]
    headings = ["network", "paper, SHD: mean / max (%)", f"{data}: mean ± std (%)", "range (%)", "seed: accuracy (%)"]
    remarks = [
        f"Paper: {view.source}; 10 seeds, best epoch on the test set. The figure's points are not given as numbers.",
        f"Ours: test accuracy on {data} at the epoch that protocol {runs[0]['settings']['protocol']} chose.",
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts(runs, rows))


def draw(view: View, facts: dict) -> "Figure":
    """A box over the seeds of each network, every seed a point."""
    import matplotlib.pyplot as plt

    from .engine.results import plots, styles

    rows, looks = facts["rows"], styles.of_rows(view.of)
    figure, axes = plt.subplots(figsize=(1.5 * len(rows) + 1.5, 4.5), layout="constrained")
    for x, row in enumerate(rows):
        of, colour = row["test"]["values"], looks[row["key"]].colour
        axes.boxplot(of, positions=[x], widths=0.5, showfliers=False, medianprops={"color": colour})
        aside = [0.08 * (i - (len(of) - 1) / 2) for i in range(len(of))]
        axes.plot([x + d for d in aside], of, "o", color=colour, ms=4, alpha=0.7)
        for what, marker in (("mean", "s"), ("max", "^")):
            if what in row["paper"]:
                label = f"paper: {what}, SHD" if x == 0 else None
                axes.plot(x + 0.35, row["paper"][what], marker, color="tab:gray", mfc="none", label=label)
    axes.set_xticks(range(len(rows)), [plots.short_lines(row["name"]) for row in rows], fontsize="small")
    data, protocol = facts["data"]["name"], facts["settings"]["protocol"]
    axes.set(ylabel=f"test accuracy (%), {data}, protocol {protocol}", title=view.title)
    axes.grid(axis="y", alpha=0.3)
    plots.legend_below(figure, axes)
    return figure


RECIPE = View(
    name="deckers_fig5",
    title="Every seed of every network: Deckers et al., Fig. 5",
    source="Deckers et al. (2023), section A.4, Fig. 5",
    of=deckers_table1.RECIPE,
    networks=deckers_table1.PUBLISHED,
    tabulate=tabulate,
    draw=draw,
)
