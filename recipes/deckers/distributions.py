"""What a trained network of Deckers et al. has learned: its neurons' parameters and its delays, one distribution each."""

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snn_delay_plugins.parameters import ADLIF_PRESETS

from ..engine.command.view import View, best_run, damaged, facts, weights, which
from ..engine.errors import OptionError
from ..engine.results.runs import RunStore
from ..engine.results.tables import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE = 0.01  # of an interval: nearer than that to a bound counts as at the bound
BINS = 20


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Values of one kind within the interval ``low`` ... ``high`` that they are clipped to."""

    name: str
    values: Tensor
    low: float
    high: float

    def summary(self) -> dict[str, float]:
        """Moments, quartiles, the shares at the bounds, and the Kolmogorov-Smirnov distance from the uniform
        distribution over the interval (0: evenly spread; 1: all at one bound)."""
        values = self.values.double().flatten()
        edge = EDGE * (self.high - self.low)
        quartiles = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
        return {
            "count": len(values),
            "mean": values.mean().item(),
            "std": values.std().item() if len(values) > 1 else 0.0,
            "quartiles": quartiles,
            "at_low": (values <= self.low + edge).double().mean().item(),
            "at_high": (values >= self.high - edge).double().mean().item(),
            "distance_from_uniform": self._distance_from_uniform(values),
        }

    def histogram(self) -> list[int]:
        """How many values lie in each of :data:`BINS` equal parts of the interval."""
        return torch.histc(self.values.float().flatten(), BINS, self.low, self.high).int().tolist()

    def _distance_from_uniform(self, values: Tensor) -> float:
        expected = ((values.sort().values - self.low) / (self.high - self.low)).clamp(0, 1)
        steps = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
        return torch.maximum((steps[1:] - expected).abs(), (steps[:-1] - expected).abs()).max().item()


# ---------------------------------------------------------------------------------------------------- neurons


def neuron_parameters(run: dict, state: dict[str, Tensor], layer: int) -> list[Distribution]:
    """alpha, beta, a and b (as many as the neuron model has) of hidden layer ``layer``, from 0."""
    bounds = ADLIF_PRESETS[run["settings"]["network"]["preset"]].bounds
    return [Distribution(name, state[f"hidden.{layer}.neuron.{name}"], *interval) for name, interval in bounds.items()]


def table_of_neurons(view: View, runs: list[dict], store: RunStore, *, layer: int, paper: dict[str, str]) -> Sheet:
    """One row per parameter; ``paper`` says in words what the paper's figure shows of it."""
    run = best_run(runs)
    found = neuron_parameters(run, weights(view.of, store, run), layer)
    rows = {of.name: of.summary() | {"low": of.low, "high": of.high, "histogram": of.histogram()} for of in found}
    cells = [
        [
            name,
            f"[{row['low']:.2f}, {row['high']:.2f}]",
            paper[name],
            f"{row['mean']:.3f} ± {row['std']:.3f}",
            " / ".join(f"{q:.3f}" for q in row["quartiles"]),
            f"{100 * row['at_low']:.0f} / {100 * row['at_high']:.0f}",
            f"{row['distance_from_uniform']:.2f}",
        ]
        for name, row in rows.items()
    ]
    headings = [
        "parameter",
        "clipped to",
        "paper, SHD",
        f"{run['data']['name']}: mean ± std",
        "quartiles",
        "at lower / upper bound (%)",
        "distance from uniform",
    ]
    neurons = next(iter(rows.values()))["count"]
    remarks = [
        f"Paper: {view.source}. Its figure gives no numbers; the words are those of its text.",
        f"Ours: {neurons} neurons of hidden layer {layer + 1} of {which(run)}.",
        "All parameters start uniform over their intervals. At a bound: within 1 % of the interval. Distance: "
        f"Kolmogorov-Smirnov; below {1.36 / math.sqrt(neurons):.2f} it may be chance (5 % level).",
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts([run], rows))


def draw_neurons(view: View, facts: dict, *, layer: int) -> "Figure":
    """A histogram per parameter; dashed: the uniform distribution that they started from."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from ..engine.results import plots

    rows, colour = facts["rows"], _colour(view, facts)
    figure, panels = plt.subplots(1, len(rows), figsize=(2.6 * len(rows) + 0.4, 3.4), squeeze=False, layout="constrained")
    for axes, (name, row) in zip(panels[0], rows.items(), strict=True):
        counts = row["histogram"]
        width = (row["high"] - row["low"]) / len(counts)
        places = [row["low"] + i * width for i in range(len(counts))]
        axes.bar(places, counts, width, align="edge", color=colour)
        axes.axhline(sum(counts) / len(counts), color="black", ls="--", lw=0.8, label="at the start of the training")
        axes.set(xlabel=name, xlim=(row["low"], row["high"]))
        axes.xaxis.set_major_locator(MaxNLocator(3))
    panels[0][0].set_ylabel(f"neurons of hidden layer {layer + 1}")
    figure.suptitle(f"{view.title}\n{facts['runs'][0]['chosen']}", fontsize="small")
    plots.legend_below(figure, *panels[0])
    return figure


def _colour(view: View, facts: dict) -> tuple[float, float, float]:
    """Of the network that is shown, as in every picture of its table."""
    from ..engine.results import styles

    return styles.of_rows(view.of)[facts["runs"][0]["network"]].colour


# ----------------------------------------------------------------------------------------------------- delays


def delays(store: RunStore, run: dict, state: dict[str, Tensor]) -> list[Distribution]:
    """The delays of every connection in time steps, in the order of the layers. Raises
    :class:`recipes.engine.errors.RunError` for delays that no training can have ended with."""
    if run["settings"]["network"].get("max_delay") is None:
        raise OptionError(f"--only {run['network']}: {run['network']} has no delays")
    hidden = len(run["settings"]["network"]["hidden"])
    layers = ["input", *(f"hidden {i + 1}" for i in range(hidden)), "output"]
    keys = [f"hidden.{i}.connection.delay" for i in range(hidden)] + ["readout.0.delay"]
    longest = float(run["settings"]["network"]["max_delay"])
    for key in keys:
        low, high = (float(bound) for bound in state[key].aminmax())
        if not 0 <= low <= high <= longest:
            raise damaged(store, run, "best.pt", f"{key} lies between {low:g} and {high:g}, not 0 and {longest:g}")
    return [
        Distribution(f"{before} - {after}", state[key].flatten(), 0.0, longest)
        for before, after, key in zip(layers, layers[1:], keys, strict=False)
    ]


def table_of_delays(view: View, runs: list[dict], store: RunStore, *, paper: tuple[str, ...]) -> Sheet:
    """One row per connection; ``paper`` says in words what the paper says of each."""
    run = best_run(runs)
    found = delays(store, run, weights(view.of, store, run))
    rows = []
    for of in found:
        whole = torch.bincount(of.values.round().long(), minlength=int(of.high) + 1)
        rows.append({"connection": of.name, **of.summary(), "synapses_by_whole_delay": whole.tolist()})
    cells = []
    for row, words in zip(rows, paper, strict=True):
        share = [100 * n / row["count"] for n in row["synapses_by_whole_delay"]]
        cells.append(
            [
                row["connection"],
                f"{row['count']:,d}",
                words,
                f"{row['mean']:.2f} ± {row['std']:.2f}",
                " / ".join(f"{q:.2f}" for q in row["quartiles"]),
                f"{share[0]:.0f} / {share[1]:.0f} / {sum(share[2:]):.0f}",
                f"{100 * row['at_high']:.1f}",
            ]
        )
    headings = [
        "connection",
        "synapses",
        "paper, SHD",
        f"{run['data']['name']}: mean ± std (steps)",
        "quartiles",
        "nearest to 0 / 1 / more steps (%)",
        "at the cap (%)",
    ]
    start = run["settings"]["network"].get("initial_delay", "zeros")
    remarks = [
        f"Paper: {view.source}. Its figure gives no numbers; the words are those of its text.",
        f"Ours: {which(run)}.",
        f"Time steps of 10 ms, cap {found[0].high:.0f}. Delays started at "
        + ("zero." if start == "zeros" else f'"{start}".'),
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts([run], rows))


def draw_delays(view: View, facts: dict) -> "Figure":
    """A histogram per connection, one bar per whole delay."""
    import matplotlib.pyplot as plt

    rows, colour = facts["rows"], _colour(view, facts)
    figure, panels = plt.subplots(1, len(rows), figsize=(3.4 * len(rows) + 0.4, 3.4), squeeze=False, layout="constrained")
    for axes, row in zip(panels[0], rows, strict=True):
        counts = row["synapses_by_whole_delay"]
        axes.bar(range(len(counts)), counts, 0.9, color=colour)
        axes.set(title=row["connection"], xlabel="delay (time steps of 10 ms)", xlim=(-0.7, len(counts) - 0.3))
    panels[0][0].set_ylabel("synapses")
    figure.suptitle(f"{view.title}\n{facts['runs'][0]['chosen']}", fontsize="small")
    return figure
