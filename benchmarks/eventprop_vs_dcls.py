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

import measure
import torch

from recipes.eventprop import cost

INPUTS, CLASSES = 700, 20
CASES = tuple(cost.NETWORKS)


def build(case: str, widths: list[int], batch: int, max_delay: int):
    try:
        return cost.training_step(case, widths, max_delay, cost.Workload(batch))
    except ImportError as error:
        raise measure.Absent(str(error)) from error


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
