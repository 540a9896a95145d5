"""A training step at 1 ms: EventProp and event-driven SLAYER delays against DCLS + SpikingJelly.

    python benchmarks/eventprop_vs_dcls.py [--layers 1] [--hidden 256] [--batch 4] [--delays 64 256]

700 inputs, T = 1000 steps of 1 ms, 1 % of the input not zero (7,000 events a sample), ``layers`` hidden layers, 20
classes; forward, loss, backward, Adam. The peer is the network of Hammouamri et al. as published: Dcls1d (Gaussian),
batch normalisation, SpikingJelly's LIFNode (multi-step), dropout, with the paddings of its code; delays in every layer.
Ours: EventPropLIF layers with delays and a leaky readout; and DelayedLinear with LIF neurons in multi-step mode.
mlGeNN is in ``eventprop_step.py``. ``--layers 2 --hidden 256 512`` is the EventProp paper's Fig. 8.
"""
from __future__ import annotations

import argparse
import json
from itertools import pairwise

import measure
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents

INPUTS, CLASSES, STEPS, EVENTS = 700, 20, 1000, 7000
CASES = ("EventProp", "EventProp, grid", "SLAYER delays", "DCLS + SpikingJelly")


def data(batch: int) -> tuple[list, list, Tensor]:
    g = np.random.default_rng(0)
    times = [np.sort(g.uniform(0, STEPS, EVENTS)) for _ in range(batch)]
    units = [g.integers(0, INPUTS, EVENTS) for _ in range(batch)]
    return times, units, torch.from_numpy(g.integers(0, CLASSES, batch))


def dense(times: list, units: list) -> Tensor:
    spikes = torch.zeros(STEPS, len(times), INPUTS)
    for n, (t, j) in enumerate(zip(times, units, strict=True)):
        spikes[t.astype(int), n, j] = 1.0
    return spikes


class DCLS(nn.Module):
    def __init__(self, widths: list[int], taps: int):
        super().__init__()
        try:
            from DCLS.construct.modules import Dcls1d
            from spikingjelly.activation_based import layer, neuron, surrogate
        except ImportError as error:
            raise measure.Absent(str(error)) from error
        self.taps = taps
        self.delays, self.norms, self.neurons = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for k, (before, width) in enumerate(pairwise(widths)):
            self.delays.append(Dcls1d(before, width, kernel_count=1, groups=1, dilated_kernel_size=taps, bias=False,
                                      version="gauss"))  # fmt: skip
            last = k == len(widths) - 2
            if not last:
                self.norms.append(layer.BatchNorm1d(width, step_mode="m"))
            self.neurons.append(neuron.LIFNode(
                tau=10.05, decay_input=False, v_threshold=1e9 if last else 1.0, v_reset=0.0, detach_reset=False,
                surrogate_function=surrogate.ATan(alpha=5.0), step_mode="m", store_v_seq=last,
            ))  # fmt: skip
        self.dropout = layer.Dropout(0.4, step_mode="m")

    def forward(self, x: Tensor) -> tuple[Tensor, list[float]]:
        """[T, N, inputs] -> membrane of the readout."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self)
        rates = []
        for k, (delays, neuron) in enumerate(zip(self.delays, self.neurons, strict=True)):
            trains = pad(x.permute(1, 2, 0), (self.taps - 1, (self.taps - 1) // 2))
            x = delays(trains).permute(2, 0, 1)
            if k < len(self.norms):
                x = neuron(self.norms[k](x.unsqueeze(3)).squeeze(3))
                rates.append(x.detach().mean().item())
                x = self.dropout(x)
            else:
                neuron(x)
        return neuron.v_seq, rates


class Slayer(nn.Module):
    def __init__(self, widths: list[int], max_delay: int):
        super().__init__()
        try:
            from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear
        except ImportError as error:
            raise measure.Absent(str(error)) from error
        self.delays, self.neurons = nn.ModuleList(), nn.ModuleList()
        for k, (before, width) in enumerate(pairwise(widths)):
            self.delays.append(DelayedLinear(before, width, max_delay=max_delay, delay="uniform", step_mode="m"))
            # about 2 % of the neurons fire in a step, whatever the width
            nn.init.normal_(self.delays[-1].weight, 0.6 / (before * 0.01) ** 0.5 / 2, 0.6 / (before * 0.01) ** 0.5)
            if k < len(widths) - 2:
                self.neurons.append(AdLIFPlusNode(features=width, preset="lif", alpha=0.9, step_mode="m"))

    def forward(self, x: Tensor) -> tuple[Tensor, list[float]]:
        from spikingjelly.activation_based import functional

        functional.reset_net(self)
        rates = []
        for k, delays in enumerate(self.delays):
            x = delays(x)
            if k < len(self.neurons):
                x = self.neurons[k](x)
                rates.append(x.detach().mean().item())
        return x, rates


class EventProp(nn.Module):
    def __init__(self, widths: list[int], max_delay: int, scheme: str):
        super().__init__()
        self.hidden = nn.ModuleList(
            EventPropLIF(before, width, delay="uniform", max_delay=float(max_delay), spike_times=scheme,
                         weight_init=(0.03, 0.01) if k == 0 else (0.06, 0.02))
            for k, (before, width) in enumerate(pairwise(widths[:-1]))
        )  # fmt: skip
        self.readout = EventPropLI(widths[-2], widths[-1], readout="weighted_integral", spike_times=scheme)

    def forward(self, events: SpikeEvents) -> tuple[Tensor, list[float]]:
        rates = []
        for layer in self.hidden:
            events = layer(events)
            rates.append(len(events) / (events.batch_size * events.num_units * STEPS))
        return self.readout(events), rates


def build(case: str, widths: list[int], batch: int, max_delay: int):
    """A function that makes one training step and gives the rates of the hidden layers."""
    torch.manual_seed(0)
    times, units, labels = data(batch)
    if case == "DCLS + SpikingJelly":
        network, inputs = DCLS(widths, max_delay + 1), dense(times, units)
    elif case == "SLAYER delays":
        network, inputs = Slayer(widths, max_delay), dense(times, units)
    else:
        scheme = "grid" if case.endswith("grid") else "exact"
        network = EventProp(widths, max_delay, scheme)
        inputs = SpikeEvents.from_lists(times, units, num_units=INPUTS, duration=float(STEPS))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)

    def step() -> list[float]:
        optimizer.zero_grad()
        out, rates = network(inputs)
        logits = out.softmax(-1).sum(0) if out.dim() == 3 else out
        cross_entropy(logits, labels).backward()
        optimizer.step()
        return rates

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--delays", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--peer-up-to", type=int, default=10**6, help="longest delay that the peer is measured at")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--name", default="eventprop_vs_dcls", help="of the files in docs/benchmarks")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        case, widths, batch, max_delay = args.memory[0], *(json.loads(x) for x in args.memory[1:])
        if case != "DCLS + SpikingJelly":
            build(case, widths, 1, max_delay)()  # kernels are loaded
        print(measure.peak_memory_of(build(case, widths, batch, max_delay)))
        return
    rows = []
    for hidden in args.hidden:
        widths = [INPUTS, *[hidden] * args.layers, CLASSES]
        for max_delay in args.delays:
            steps, rates = {}, {}
            for case in CASES:
                if case.startswith("DCLS") and max_delay > args.peer_up_to:
                    continue
                try:
                    steps[case] = build(case, widths, args.batch, max_delay)
                    rates[case] = None if case.startswith("DCLS") else steps[case]()
                except measure.Absent as error:
                    steps.pop(case, None)
                    print(f"  {case} skipped: {error}")
            print(f"{widths}, longest delay {max_delay}: hidden rates {rates}", flush=True)
            for case, time in measure.take_turns(steps, args.repeats, seconds=30).items():
                size = None
                if not args.no_memory:
                    size = measure.in_own_process(__file__, case, widths, args.batch, max_delay)
                rows.append({"widths": widths, "max_delay": max_delay, "batch": args.batch, "case": case,
                             "rates": rates[case], **time, "peak_mib": size})  # fmt: skip
            measure.write(args.name, {**measure.setting(), "rows": rows})
    measure.write(args.name, {**measure.setting(), "rows": rows})
    report(args.name, rows)


def report(name: str, rows: list[dict]) -> None:
    table = []
    for row in rows:
        same = [r for r in rows if all(r[k] == row[k] for k in ("widths", "max_delay", "batch"))]
        peer = next((r for r in same if r["case"].startswith("DCLS")), None)
        table.append({
            "network": "-".join(map(str, row["widths"])), "max delay": row["max_delay"], "batch": row["batch"],
            "case": row["case"], "median ms": 1e3 * row["median"], "CPU ms": 1e3 * row["cpu"], "peak MiB": row["peak_mib"],
            **measure.ratios(row, peer),
            "memory": peer and peer["peak_mib"] and row["peak_mib"] and peer["peak_mib"] / row["peak_mib"],
        })  # fmt: skip
    measure.show("one training step", table)
    print(measure.markdown(table))
    curves = {}
    for widths in {tuple(r["widths"]): None for r in rows}:
        for case in CASES:
            chosen = [r for r in rows if r["case"] == case and tuple(r["widths"]) == widths]
            if chosen:
                label = f"{case}, {'-'.join(map(str, widths))}"
                curves[label] = [r["max_delay"] for r in chosen], [1e3 * r["cpu"] / r["batch"] for r in chosen]
    measure.plot(name, curves, "longest delay (ms)", "training step, ms of CPU per sample", "T = 1000 ms, 7,000 events")


if __name__ == "__main__":
    main()
