"""Deckers et al., Table 4: how many spikes the neurons of each network of Table 1 emit."""

from typing import TYPE_CHECKING

from . import deckers_table1
from .engine.command.view import View, facts
from .engine.results.runs import RunStore
from .engine.results.tables import Sheet, measured, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "lif"


def _baseline(rows: list[dict]) -> float | None:
    return next((row["spikes_per_neuron"]["mean"] for row in rows if row["key"] == BASELINE), None)


def tabulate(view: View, runs: list[dict], store: RunStore) -> Sheet:
    rows = measured(view.of, runs)
    lif, paper_lif = _baseline(rows), next(row.paper["spikes"] for row in view.of.rows if row.key == BASELINE)
    cells = []
    for row in rows:
        paper, ours = row["paper"].get("spikes"), row["spikes_per_neuron"]
        cells.append(
            [
                row["name"],
                "-" if paper is None else f"{paper:g}",
                "-" if paper is None else f"{paper / paper_lif:.2f}",
                spread(ours, 2),
                f"{ours['mean'] / lif:.2f}" if lif else "-",
                str(row["runs"]),
            ]
        )
    data = runs[0]["data"]["name"]
    headings = ["network", "paper, SHD: spikes/neuron", "of LIF's", f"{data}: spikes/neuron", "of LIF's", "seeds"]
    remarks = [
        f"Paper: {view.source}; mean over 10 runs. Its text: adaptation does not raise the number of spikes "
        "significantly, synaptic delays do.",
        f"Ours: spikes during a test sample, mean over the hidden neurons and the {runs[0]['data']['samples']['test']} "
        f"test samples of {data}, at the epoch that protocol {runs[0]['settings']['protocol']} chose. ± is the standard "
        "deviation over seeds (n - 1).",
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts(runs, rows))


def draw(view: View, facts: dict) -> "Figure":
    """Bars of ours beside the paper's, every seed a point."""
    import matplotlib.pyplot as plt

    from .engine.results import plots, styles

    rows, looks = facts["rows"], styles.of_rows(view.of)
    figure, axes = plt.subplots(figsize=(1.5 * len(rows) + 1.5, 4), layout="constrained")
    for x, row in enumerate(rows):
        axes.bar(x - 0.2, row["paper"].get("spikes", 0), 0.4, color="lightgray", label="paper, SHD" if not x else None)
        axes.bar(x + 0.2, row["spikes_per_neuron"]["mean"], 0.4, color=looks[row["key"]].colour, alpha=0.6)
        values = row["spikes_per_neuron"]["values"]
        axes.plot([x + 0.2] * len(values), values, "o", color="black", ms=3)
    axes.plot([], [], "o", color="black", ms=3, label=f"ours (coloured): each seed and mean, {facts['data']['name']}")
    axes.set_xticks(range(len(rows)), [plots.short_lines(row["name"]) for row in rows], fontsize="small")
    axes.set(ylabel="spikes per hidden neuron and sample", title=view.title)
    plots.legend_below(figure, axes)
    return figure


RECIPE = View(
    name="deckers_table4",
    title="Spikes per neuron: Deckers et al., Table 4",
    source="Deckers et al. (2023), section A.2, Table 4",
    of=deckers_table1.RECIPE,
    networks=deckers_table1.PUBLISHED,
    tabulate=tabulate,
    draw=draw,
)
