"""Deckers et al., Fig. 3: output spikes of one adaptive neuron over the plane of its parameters a and b.

The text fixes the 12 input spikes and what the figure shows (section 4.3): a region where the neuron emits
more spikes than it receives ("unstable"), mainly at negative a and "apart from a region with a very high
parameter b"; the LIF neuron at a = b = 0; the parametrisations with 6 and with 1 output spikes. Everything
else is left open. Chosen here, each an option:

* alpha = 0.9 and beta = 0.975: a slow membrane inside, and the middle of, the intervals of section 4.2.
* Twelve equally spaced spikes, one every 5 steps, in 100 steps (a sample of section 4.1), so that a neuron
  that goes on firing after its input can be seen to do so.
* Weight 1.2 theta / (1 - alpha): every input spike makes the neuron without adaptation fire once, so that the
  LIF neuron repeats its 12 input spikes.
* a from -40 to 40. In Eq. 1 the membrane enters the adaptation current as (1 - beta) a u, so these are
  couplings between -1 and 1. (Between a = -1 and 1 in Eq. 1 itself nothing is unstable for b >= 0 at these
  leaks; in the code that the paper builds on, the coupling is a alone, and -1 to 1 is the range of AdLIF.)
* b from 0 to 2, the bounds of section 4.2. At negative b every spike excites the neuron further, whatever a
  is: see --b-range -1 2.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from snn_delay_plugins.functional.adlif import adlif

from .engine.command import options
from .engine.errors import OptionError
from .engine.files import atomic
from .engine.results.tables import announce

INPUT_SPIKES = 12
THRESHOLD = 1.0
FIRST_SPIKE = 5  # time step
LARGEST = 1e8  # time steps of all points together, each of which keeps its spike and its membrane potential
MARKED = {6: "tab:purple", 1: "tab:green"}  # output spikes that the paper marks, in its colours


@dataclasses.dataclass(frozen=True)
class Neuron:
    """The neuron and its input, apart from a and b."""

    alpha: float = 0.9
    beta: float = 0.975
    weight: float | None = None
    interval: int = 5
    steps: int = 100

    def current(self) -> Tensor:
        """Input current [T]."""
        weight = 1.2 * THRESHOLD / (1 - self.alpha) if self.weight is None else self.weight
        current = torch.zeros(self.steps, dtype=torch.float64)
        current[FIRST_SPIKE : FIRST_SPIKE + INPUT_SPIKES * self.interval : self.interval] = weight
        return current

    def respond(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and membrane potential, both [T, points], for parameters a and b of shape [points]."""
        current = self.current()[:, None, None].expand(-1, 1, len(a))
        alpha, beta = (torch.full_like(a, value) for value in (self.alpha, self.beta))
        with torch.no_grad():
            spikes, _, (u, _) = adlif(current, alpha=alpha, beta=beta, a=a, b=b, threshold=THRESHOLD, traces=True)
        return spikes[:, 0], u[:, 0]

    def plane(self, a: Tensor, b: Tensor) -> Tensor:
        """Output spikes [b, a] of every pair."""
        pairs_b, pairs_a = (x.flatten() for x in torch.meshgrid(b, a, indexing="ij"))
        return self.respond(pairs_a, pairs_b)[0].sum(0).view(len(b), len(a)).long()


def unstable(counts):
    """More spikes out than in."""
    return counts > INPUT_SPIKES


def checks(a: Tensor, b: Tensor, counts: Tensor) -> dict[str, bool]:
    """What section 4.3 says of the figure, where the plane shows it."""
    wild = unstable(counts)
    adaptive = (a >= 0)[None, :] & (b >= 0)[:, None]
    return {
        "there is an unstable region at negative a": bool(wild[:, a < 0].any()),
        "nothing is unstable at a, b >= 0": not bool(wild[adaptive].any()),
        "at negative a, a high b leaves less of it unstable": bool(wild[-1, a < 0].sum() < wild[0, a < 0].sum()),
    }


class Figure3:
    name = "deckers_fig3"
    title = "Output spikes over the a-b plane: Deckers et al., Fig. 3"
    default_out = "results/deckers_fig3"
    paper_used = f"The paper used: {INPUT_SPIKES} input spikes; the rest of its settings is not given.\n{__doc__}"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        options.add_common(parser, self.default_out)
        plain = Neuron()
        parser.add_argument("--alpha", type=float, default=plain.alpha, help=f"leak of u (default {plain.alpha})")
        parser.add_argument("--beta", type=float, default=plain.beta, help=f"leak of w (default {plain.beta})")
        parser.add_argument("--weight", type=float, help="input current of a spike (default 1.2 theta / (1 - alpha))")
        parser.add_argument(
            "--interval", type=options.positive, default=plain.interval, help="steps between input spikes (default 5)"
        )
        parser.add_argument("--steps", type=options.positive, default=plain.steps, help="time steps (default 100)")
        parser.add_argument(
            "--a-range",
            type=options.finite,
            nargs=2,
            default=(-40.0, 40.0),
            metavar=("LOW", "HIGH"),
            help="(default -40 40)",
        )
        parser.add_argument(
            "--b-range", type=options.finite, nargs=2, default=(0.0, 2.0), metavar=("LOW", "HIGH"), help="(default 0 2)"
        )
        parser.add_argument("--points", type=options.positive, help="points along each axis (default 161, with --smoke 41)")

    def run(self, given: argparse.Namespace) -> int:
        """Count, print and write the table, draw; 1 if the plane is not as the paper says."""
        ok = self.table(given)
        self.plot(given)
        return ok

    def table(self, given: argparse.Namespace) -> int:
        neuron, a, b, out = self._settings(given)
        counts = neuron.plane(a, b)
        found = checks(a, b, counts)
        console = Console()
        console.print(_rich(a, b, counts))
        for what, holds in found.items():
            console.print(f"{'yes' if holds else 'NO':4}{what}", highlight=False)
        lines = ["a,b,output_spikes"]
        lines += [f"{x:g},{y:g},{counts[j, i]}" for j, y in enumerate(b.tolist()) for i, x in enumerate(a.tolist())]
        atomic.write_text(out / f"{self.name}.csv", "\n".join(lines) + "\n")
        facts = {
            "neuron": dataclasses.asdict(neuron),
            "unstable_share": unstable(counts).double().mean().item(),
            "checks": found,
        }
        atomic.write_json(out / f"{self.name}.json", facts)
        print(f"Written: {out / self.name}.csv, {out / self.name}.json")
        return 0 if all(found.values()) else 1

    def plot(self, given: argparse.Namespace) -> int:
        from .engine.results import plots

        neuron, a, b, out = self._settings(given)
        announce(plots.save(_draw(neuron, a, b), out / f"{self.name}.png"))
        return 0

    def _settings(self, given: argparse.Namespace) -> tuple[Neuron, Tensor, Tensor, Path]:
        for name in ("alpha", "beta"):
            if not 0 <= getattr(given, name) < 1:
                raise OptionError(f"--{name} {getattr(given, name)}: a leak lies in [0, 1)")
        if given.weight is not None and not abs(given.weight) <= 1e6:
            raise OptionError(f"--weight {given.weight}: not a number between -1e6 and 1e6")
        needed = FIRST_SPIKE + (INPUT_SPIKES - 1) * given.interval + 1
        if given.steps < needed:
            raise OptionError(f"--steps {given.steps}: the input spikes alone take {needed} steps")
        points = given.points or (41 if given.smoke else 161)
        if points < 3:
            raise OptionError(f"--points {points}: a plane needs at least 3 points along each axis")
        if points**2 * given.steps > LARGEST:
            raise OptionError(f"--points {points}, --steps {given.steps}: more than {LARGEST:.0e} time steps in all")
        axes = []
        for name in ("a_range", "b_range"):
            low, high = getattr(given, name)
            if not low < high:
                option = f"--{name.replace('_', '-')} {low:g} {high:g}"
                raise OptionError(f"{option}: the first must be below the second")
            axes.append(torch.linspace(low, high, points, dtype=torch.float64))
        out = options.writable_folder(given.out or Path(self.default_out + ("-smoke" if given.smoke else "")))
        return Neuron(given.alpha, given.beta, given.weight, given.interval, given.steps), *axes, out


def _rich(a: Tensor, b: Tensor, counts: Tensor) -> Table:
    """Nine by nine points of the plane."""
    columns, rows = (torch.linspace(0, len(axis) - 1, 9).round().long().unique().tolist() for axis in (a, b))
    table = Table(title=f"Output spikes for {INPUT_SPIKES} input spikes (red: more out than in)", box=box.SIMPLE_HEAD)
    table.add_column("b \\ a", justify="right")
    for i in columns:
        table.add_column(f"{a[i].item():.3g}", justify="right")
    for j in reversed(rows):
        cells = [f"[red]{n}[/red]" if n > INPUT_SPIKES else str(n) for n in counts[j, columns].tolist()]
        table.add_row(f"{b[j].item():.3g}", *cells)
    return table


def _draw(neuron: Neuron, a: Tensor, b: Tensor):
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Patch

    counts, a, b = (x.numpy() for x in (neuron.plane(a, b), a, b))
    figure, panels = plt.subplot_mosaic(
        [["plane", "unstable"], ["plane", "lif"], ["plane", "6"], ["plane", "1"]],
        width_ratios=(1.3, 1),
        figsize=(11, 6),
        layout="constrained",
    )
    plane = panels["plane"]
    image = plane.pcolormesh(
        a, b, counts.clip(min=1), norm=LogNorm(1, max(2, counts.max())), cmap="Greys", shading="nearest"
    )
    bar = figure.colorbar(image, ax=plane, label="output spikes", location="left", ticks=(1, 2, 5, 10, 20, 50, 100))
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter("{x:.0f}")
    legend = []
    if unstable(counts).any():
        plane.contourf(a, b, unstable(counts), levels=[0.5, 1.5], colors="none", hatches=["//"])
        plane.contour(a, b, unstable(counts), levels=[0.5], colors="tab:red")
        legend.append(
            Patch(facecolor="white", edgecolor="tab:red", hatch="//", label=f"unstable: more than {INPUT_SPIKES} spikes")
        )
    for number, colour in MARKED.items():
        if (counts == number).any():
            plane.contourf(a, b, counts == number, levels=[0.5, 1.5], colors=[colour], alpha=0.5)
            legend.append(Patch(color=colour, alpha=0.5, label=f"output spikes {number}"))
    legend += plane.plot(0, 0, "o", color="tab:blue", label="LIF", clip_on=False, zorder=5)
    plane.axvline(0, color="black", lw=0.6)
    plane.set(
        xlabel="a", ylabel="b", title=f"{INPUT_SPIKES} input spikes, alpha = {neuron.alpha:g}, beta = {neuron.beta:g}"
    )
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), fontsize="small", frameon=False)
    examples = {
        "unstable": (unstable(counts), "tab:red"),
        "lif": (None, "tab:blue"),
        **{str(number): (counts == number, colour) for number, colour in MARKED.items()},
    }
    arrivals = neuron.current().numpy().nonzero()[0]
    for name, (where, colour) in examples.items():
        _draw_trace(panels[name], neuron, _point_inside(where, a, b), arrivals, colour)
        if where is not None and where.any():
            plane.plot(*_point_inside(where, a, b), "x", color=colour)
    panels["1"].set_xlabel("time step")
    return figure


def _point_inside(where: np.ndarray | None, a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
    """The point of a region nearest to its middle; without a region LIF, in an empty one nothing."""
    if where is None:
        return 0.0, 0.0
    if not where.any():
        return None
    j, i = where.nonzero()
    nearest = ((i - i.mean()) ** 2 + (j - j.mean()) ** 2).argmin()
    return a[i[nearest]].item(), b[j[nearest]].item()


def _draw_trace(axes, neuron: Neuron, point: tuple[float, float] | None, arrivals: np.ndarray, colour: str) -> None:
    axes.axhline(THRESHOLD, color="black", lw=0.5, ls=":")
    axes.set_ylabel("u")
    if point is None:
        axes.set_title("none in this plane", fontsize="small")
        return
    spikes, u = (x[:, 0].numpy() for x in neuron.respond(*(torch.tensor([x], dtype=torch.float64) for x in point)))
    axes.plot(u, color=colour, lw=1)
    axes.plot(arrivals, np.full(len(arrivals), u.min()), "|", color="black", ms=6)
    fired = spikes.nonzero()[0]
    axes.plot(fired, u[fired], ".", color="black", ms=4)
    axes.set_title(f"a = {point[0]:.3g}, b = {point[1]:.3g}: output spikes {int(spikes.sum())}", fontsize="small")


RECIPE = Figure3()
