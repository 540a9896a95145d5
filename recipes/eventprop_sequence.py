"""Meszaros et al., section 2.1 and Fig. 3: the order of two spikes, learned by delays alone.

Two inputs spike once, at 0 and at 10 ms; which of them comes first is the class. Two leaky integrators are connected
to both with weight 1, and the one whose potential peaks higher names the class. Delays of 10 ms from the earlier and
0 ms from the later input of its class make both spikes arrive together at an output. Training starts from the opposite,
the worst delays there are, with Adam and a learning rate of 1 ms on the delays alone.

The text leaves the time constants open: tau_mem 10, tau_syn 5 and 40 ms are those of the authors' arrays.
"""

import argparse
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, grid_adjoint
from snn_delay_plugins.spikingjelly import EventPropLI

from .engine.command import options
from .engine.errors import DataError
from .engine.files import numpy_files
from .engine.results.tables import Sheet, announce, show

TAU_MEM, TAU_SYN, DURATION = 10.0, 5.0, 40.0  # ms
WORST = ((0.0, 10.0), (10.0, 0.0))  # [output, input], ms
PAPER_ENCOUNTERS = 6  # "100 % accuracy after encountering both examples 6 times"
SCHEMES = ("exact", "grid")
# Fig. 3: delays all 0, class 1 shown. Output 1 (neuron 3) wants the first spike later and the second earlier, output 2
# (neuron 4) the opposite.
ARROWS = ((+1, -1), (-1, +1))


class Encounter(NamedTuple):
    """One update: what the network answered before it, with which delays [output, input]."""

    loss: float
    correct: int
    delays: list[list[float]]


def examples() -> tuple[SpikeEvents, Tensor]:
    """Both classes: input 1 first, input 2 first."""
    events = SpikeEvents.from_lists([[0.0, 10.0]] * 2, [[0, 1], [1, 0]], num_units=2, duration=DURATION)
    return events, torch.tensor([0, 1])


def network(delays, scheme: str) -> EventPropLI:
    layer = EventPropLI(
        2,
        2,
        delay=torch.tensor(delays),
        max_delay=DURATION,
        weight_init=(1.0, 0.0),
        tau_mem=TAU_MEM,
        tau_syn=TAU_SYN,
        spike_times=scheme,
        readout="maximum",
    )
    layer.weight.requires_grad_(False)
    return layer.double()


def train(encounters: int, learning_rate: float, scheme: str) -> list[Encounter]:
    """Both examples are shown ``encounters`` times; the last entry is the answer after the last update."""
    events, labels = examples()
    layer, found = network(WORST, scheme), []
    optimizer = torch.optim.Adam([layer.delay], lr=learning_rate)
    for _ in range(encounters + 1):
        output = layer(events)
        loss = torch.nn.functional.cross_entropy(output, labels)
        correct = int((output.argmax(1) == labels).sum())
        found.append(Encounter(loss.item(), correct, layer.delay.tolist()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def solved_after(history: list[Encounter]) -> int | None:
    """Encounters after which both answers are right and stay so; None if never."""
    wrong = [number for number, entry in enumerate(history) if entry.correct < 2]
    after = wrong[-1] + 1 if wrong else 0
    return after if after < len(history) else None


def updates(scheme: str) -> Tensor:
    """-dL/dd [output, input] at delays 0 for class 1: the four arrows of Fig. 3."""
    events, labels = examples()
    layer = network(((0.0, 0.0), (0.0, 0.0)), scheme)
    torch.nn.functional.cross_entropy(layer(events[0]), labels[:1]).backward()
    return -layer.delay.grad


def compare_with_arrays(folder: Path) -> dict[str, float]:
    """Largest difference between the grid scheme and the authors' arrays V, lambda_V and lambda_I, relative to each
    array's largest entry. Theirs carry one more 1 / tau_mem; the last V has its input zeroed."""
    names = [f"{name}_{i}" for name in ("V", "lambda_V", "lambda_I") for i in (1, 2)]
    arrays = {name: _array(folder / f"{name}.npy") for name in names}
    events, _ = examples()
    weights = torch.ones(2, 2, dtype=torch.float64)
    constants = {"tau_mem": TAU_MEM, "tau_syn": TAU_SYN, "spike_times": "grid", "readout": "voltage"}
    voltage = eventprop_li(events[0], weights, torch.zeros_like(weights), **constants)
    peak = int(voltage[:, 0, 0].argmax())
    # cross-entropy of two equal maxima in a batch of 2, a mean over the T = 40 steps; class 2 is shown
    grad = torch.zeros_like(voltage)
    grad[peak, 0] = torch.tensor([-0.5, 0.5], dtype=torch.float64) / 2 / len(voltage)
    lambda_v, lambda_i = grid_adjoint(grad, TAU_MEM, TAU_SYN, 1.0)
    ours = {"V": voltage, "lambda_V": lambda_v / TAU_MEM, "lambda_I": lambda_i / TAU_MEM}
    compared = {}
    for key, theirs in arrays.items():
        name, _, output = key.rpartition("_")
        last = -1 if name == "V" else None
        difference = np.abs(ours[name][:last, 0, int(output) - 1].numpy() - theirs[:last]).max()
        compared[key] = float(difference / np.abs(theirs).max())
    return compared


def _array(path: Path) -> np.ndarray:
    array = numpy_files.read_npy(path)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected numbers, not {array.dtype}")
    if array.shape != (int(DURATION),) or not np.isfinite(array).all():
        raise DataError(f"{path}: expected {int(DURATION)} finite numbers, found shape {array.shape}")
    return array.astype(np.float64)


class Sequence:
    name = "eventprop_sequence"
    title = "Order of two spikes, learned by delays: Meszaros et al., Fig. 3"
    default_out = "results/eventprop_sequence"
    paper_used = (
        f"The paper used: worst initial delays, learning rate 1, 100 % after {PAPER_ENCOUNTERS} encounters.\n{__doc__}"
    )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        options.add_common(parser, self.default_out)
        parser.add_argument("--data-dir", type=Path, metavar="DIR", help="compare with the authors' arrays in this folder")
        parser.add_argument(
            "--epochs",
            type=functools.partial(options.positive, most=10_000),
            default=12,
            help="encounters with both examples (default 12)",
        )
        parser.add_argument("--learning-rate", type=options.finite, default=1.0, help="of the delays, ms (default 1)")

    def run(self, given: argparse.Namespace) -> int:
        """Train, compare, print, write the table and draw; 1 if anything is not as the paper says."""
        ok = self.table(given)
        self.plot(given)
        return ok

    def table(self, given: argparse.Namespace) -> int:
        self._check(given)
        out = self._out(given)
        arrays = {} if given.data_dir is None else compare_with_arrays(given.data_dir)
        histories = {scheme: train(given.epochs, given.learning_rate, scheme) for scheme in SCHEMES}
        arrows = {scheme: updates(scheme) for scheme in SCHEMES}
        solved = {scheme: solved_after(history) for scheme, history in histories.items()}
        checks = {}
        for scheme in SCHEMES:
            after = solved[scheme]
            checks[f"{scheme}: 100 % after {after or '-'} encounters (paper: {PAPER_ENCOUNTERS})"] = (
                after is not None and after <= PAPER_ENCOUNTERS
            )
            checks[f"{scheme}: signs of the four delay updates as Fig. 3's arrows"] = arrows[scheme].sign().tolist() == [
                list(map(float, row)) for row in ARROWS
            ]
        for key, difference in arrays.items():
            checks[f"grid: {key} equals the authors' array to 1e-6 (off by {difference:.1e})"] = difference < 1e-6
        console = Console()
        sheet = self._sheet(histories, arrows, checks)
        show(sheet)
        for scheme in SCHEMES:
            for output in (0, 1):
                signs = ", ".join(f"d{output + 3}{i + 1} {arrows[scheme][output, i]:+.2e}" for i in (0, 1))
                console.print(f"{scheme}: delay updates of neuron {output + 3} (Fig. 3): {signs}", highlight=False)
        announce(sheet.write(out))
        return 0 if all(checks.values()) else 1

    def plot(self, given: argparse.Namespace) -> int:
        from .engine.results import plots

        self._check(given)
        out = self._out(given)
        figure = _draw(train(given.epochs, given.learning_rate, "exact"))
        announce(plots.save(figure, out / f"{self.name}.png"))
        return 0

    def _check(self, given: argparse.Namespace) -> None:
        if given.learning_rate < 0:
            raise options.OptionError(f"--learning-rate {given.learning_rate:g}: must not be negative")

    def _out(self, given: argparse.Namespace) -> Path:
        return options.writable_folder(given.out or Path(self.default_out + ("-smoke" if given.smoke else "")))

    def _sheet(self, histories: dict[str, list[Encounter]], arrows: dict[str, Tensor], checks: dict[str, bool]) -> Sheet:
        head = ["scheme", "encounters", "loss", "accuracy (%)", "d31 (ms)", "d32 (ms)", "d41 (ms)", "d42 (ms)"]
        cells = [
            [scheme, str(n), f"{e.loss:.6f}", f"{50 * e.correct:d}", *(f"{d:.4f}" for row in e.delays for d in row)]
            for scheme, history in histories.items()
            for n, e in enumerate(history)
        ]
        facts = {
            "encounters": {scheme: [e._asdict() for e in history] for scheme, history in histories.items()},
            "delay_updates": {scheme: update.tolist() for scheme, update in arrows.items()},
            "checks": checks,
        }
        remarks = [f"{'yes' if holds else 'NO'}: {what}" for what, holds in checks.items()]
        return Sheet(self.name, self.title, head, cells, remarks, facts)


def _draw(history: list[Encounter]):
    import matplotlib.pyplot as plt

    from .engine.results import plots

    figure, (delays, voltages) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for output in (0, 1):
        for i in (0, 1):
            curve = [entry.delays[output][i] for entry in history]
            # two and two are equal: small full circles in large hollow squares
            style, size, face = (("o-", 4, f"C{i}"), ("s--", 9, "none"))[output]
            delays.plot(curve, style, color=f"C{i}", ms=size, mfc=face, label=f"$d_{{{output + 3}{i + 1}}}$")
    delays.set(xlabel="encounters with both examples", ylabel="delay (ms)", title="delays")
    events, _ = examples()
    for label, entry in (("before", history[0]), ("after", history[-1])):
        v = eventprop_li(
            events[0],
            torch.ones(2, 2, dtype=torch.float64),
            torch.tensor(entry.delays, dtype=torch.float64),
            tau_mem=TAU_MEM,
            tau_syn=TAU_SYN,
            dt=0.1,
        )
        for output in (0, 1):
            style = {"before": ":", "after": "-"}[label]
            name = f"neuron {output + 3}, {label} training"
            voltages.plot(np.arange(len(v)) * 0.1, v[:, 0, output], style, color=f"C{output + 2}", label=name)
    voltages.set(xlabel="time (ms)", ylabel="V", title="class 1: input 1 at 0 ms, input 2 at 10 ms")
    plots.legend_below(figure, delays, voltages)
    return figure


RECIPE = Sequence()
