"""How the time of a training step grows with batch, time steps, width and delay: exponents of power laws.

    python benchmarks/scaling.py

One quantity is varied at a time, the others stay at a common point; the exponent is the slope of log(CPU time) over
log(quantity), least squares. Work that is done per call whatever the size pulls exponents down.
"""

from __future__ import annotations

import argparse

import measure
import numpy as np
import torch

from snn_delay_plugins import EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear

POINT = {"batch": 8, "T": 500, "width": 128, "delay": 64}
VALUES = {"batch": (2, 4, 8, 16, 32), "T": (125, 250, 500, 1000, 2000), "width": (32, 64, 128, 256, 512),
          "delay": (16, 64, 256, 1024)}  # fmt: skip
INPUTS, DENSITY = 256, 0.01


def adlif_step(batch: int, T: int, width: int, delay: int):
    p = {name: (0.5 + 0.4 * torch.rand(width)).requires_grad_() for name in ("alpha", "beta", "a", "b")}
    current, grad = torch.randn(T, batch, width) * 2, torch.randn(T, batch, width)
    return lambda: adlif(current, **p)[0].backward(grad)


def delay_step(form: str):
    def build(batch: int, T: int, width: int, delay: int):
        spikes = (torch.rand(T, batch, INPUTS) < DENSITY).float()
        weight, grad = torch.randn(width, INPUTS).requires_grad_(), torch.randn(T, batch, width)
        delays = (torch.rand(width, INPUTS) * delay).requires_grad_()
        return lambda: delayed_linear(spikes, weight, delays, max_delay=delay, method=form).backward(grad)

    return build


def eventprop_step(batch: int, T: int, width: int, delay: int):
    g = np.random.default_rng(0)
    events = int(INPUTS * T * DENSITY)
    times = [np.sort(g.uniform(0, T, events)) for _ in range(batch)]
    units = [g.integers(0, INPUTS, events) for _ in range(batch)]
    inputs = SpikeEvents.from_lists(times, units, num_units=INPUTS, duration=float(T))
    layer = EventPropLIF(INPUTS, width, delay="uniform", max_delay=float(delay), weight_init=(0.08, 0.03))
    return lambda: layer(inputs).times.sum().backward()


CASES = {
    "AdLIF+": (adlif_step, ("batch", "T", "width")),
    "delays, events": (delay_step("events"), tuple(VALUES)),
    "delays, shifted": (delay_step("shifted"), tuple(VALUES)),
    "EventProp": (eventprop_step, tuple(VALUES)),
}


def exponent(xs: list[float], ys: list[float]) -> float:
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for case, (build, varied) in CASES.items():
        for quantity in varied:
            steps = {str(value): build(**POINT | {quantity: value}) for value in VALUES[quantity]}
            times = measure.take_turns(steps, args.repeats, seconds=20)
            rows.append({"case": case, "quantity": quantity, "values": list(VALUES[quantity]),
                         "cpu": [times[str(v)]["cpu"] for v in VALUES[quantity]],
                         "fastest": [times[str(v)]["fastest"] for v in VALUES[quantity]]})  # fmt: skip
            rows[-1]["exponent"] = exponent(rows[-1]["values"], rows[-1]["cpu"])
    measure.write("scaling", {**measure.setting(), "point": POINT, "inputs": INPUTS, "density": DENSITY, "rows": rows})
    report(rows)


def report(rows: list[dict]) -> None:
    table = []
    for case in CASES:
        mine = {r["quantity"]: r for r in rows if r["case"] == case}
        table.append({"case": case, **{q: f"{mine[q]['exponent']:.2f}" if q in mine else "-" for q in VALUES}})
    measure.show("exponent of the time of forward + backward", table)
    print(measure.markdown(table))
    for quantity in VALUES:
        curves = {r["case"]: (r["values"], [1e3 * t for t in r["cpu"]]) for r in rows if r["quantity"] == quantity}
        label = {"T": "time steps", "delay": "longest delay (steps)"}.get(quantity, quantity)
        measure.plot(f"scaling_{quantity}", curves, label, "forward + backward (ms of CPU)", f"scaling with {label}")


if __name__ == "__main__":
    main()
