"""Time and memory of one EventProp training step on the CPU.

    python benchmarks/eventprop_step.py [--repeats 30] [--json results.json]

One sample of 700 inputs -> 256 LIF -> 20 LI, T = 1000 ms, dt = 1 ms, 7000 input events, float32 parameters, one thread:
forward, cross-entropy on the exponentially weighted voltage, backward to all weights and delays. Weights are scaled to
about 15 spikes per hidden neuron at every delay range. Then the peak memory of a step with a batch of 256, above that of
the process with parameters and inputs loaded and kernels compiled.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.losses import voltage_cross_entropy

INPUTS, HIDDEN, OUTPUTS, DURATION, EVENTS = 700, 256, 20, 1000.0, 7000
DELAYS = (64, 256, 1024)


def inputs(batch: int, seed: int = 0) -> SpikeEvents:
    g = np.random.default_rng(seed)
    times = [np.sort(g.uniform(0, DURATION, EVENTS)) for _ in range(batch)]
    units = [g.integers(0, INPUTS, EVENTS) for _ in range(batch)]
    return SpikeEvents.from_lists(times, units, num_units=INPUTS, duration=DURATION)


def parameters(max_delay: float, events: SpikeEvents, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shape = torch.randn(HIDDEN, INPUTS, generator=g) * 0.01 + 0.03
    delay = torch.rand(HIDDEN, INPUTS, generator=g) * max_delay
    low, high = 0.3, 10.0
    for _ in range(20):                         # the weight scale at which neurons spike 15 times on average
        scale = 0.5 * (low + high)
        count = len(eventprop_lif(events[0], shape * scale, delay)) / HIDDEN
        low, high = (scale, high) if count < 15 else (low, scale)
    out = torch.randn(OUTPUTS, HIDDEN, generator=g) * 0.03
    return [p.requires_grad_() for p in (shape * scale, delay, out)]


def step(events: SpikeEvents, p: list[torch.Tensor], target: torch.Tensor, mode: str) -> tuple[float, float, int]:
    """Seconds of the forward and of the backward pass, hidden spikes."""
    for tensor in p:
        tensor.grad = None
    start = time.perf_counter()
    hidden = eventprop_lif(events, p[0], p[1], spike_times=mode)
    loss = voltage_cross_entropy(eventprop_li(hidden, p[2], spike_times=mode), target)
    middle = time.perf_counter()
    loss.backward()
    return middle - start, time.perf_counter() - middle, len(hidden)


def timings(repeats: int) -> list[dict]:
    events, target = inputs(1), torch.tensor([3])
    rows = []
    cases = [(mode, delay, parameters(delay, events)) for delay in DELAYS for mode in ("grid", "exact")]
    for mode, _, p in cases:
        step(events, p, target, mode)
    measured = {k: [] for k in range(len(cases))}
    for _ in range(repeats):                    # interleaved, so that a busy moment hits all cases alike
        for k, (mode, _, p) in enumerate(cases):
            measured[k].append(step(events, p, target, mode))
    for k, (mode, delay, _) in enumerate(cases):
        total = [1e3 * (f + b) for f, b, _ in measured[k]]
        rows.append({
            "mode": mode, "max_delay_ms": delay, "spikes_per_neuron": measured[k][0][2] / HIDDEN,
            "forward_ms": 1e3 * statistics.median(f for f, _, _ in measured[k]),
            "backward_ms": 1e3 * statistics.median(b for _, b, _ in measured[k]),
            "total_ms": statistics.median(total), "fastest_ms": min(total),
            "quartiles_ms": list(np.percentile(total, [25, 75])),
        })
    return rows


def memory(mode: str, batch: int) -> dict:
    """Peak resident memory of one step; runs in a process of its own, since a peak cannot be taken back."""
    events = inputs(batch)
    p = parameters(64, events)
    step(events[:1], p, torch.tensor([3]), mode)
    before = peak_mib()
    forward, backward, spikes = step(events, p, torch.arange(batch) % OUTPUTS, mode)
    return {"mode": mode, "batch": batch, "mib_above_parameters_and_inputs": peak_mib() - before,
            "seconds": forward + backward, "spikes_per_neuron": spikes / batch / HIDDEN}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, python {platform.python_version()}, torch {torch.__version__}"


def show(title: str, rows: list[dict]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title, *rows, sep="\n")
        return
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{x:.2f}" if isinstance(x, float) else " - ".join(f"{y:.2f}" for y in x)
                        if isinstance(x, list) else str(x) for x in row.values()))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--json", help="write the numbers there")
    parser.add_argument("--memory", choices=["grid", "exact"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        print(json.dumps(memory(args.memory, args.batch)))
        return
    result = {"machine": machine(), "command": " ".join(["python", *sys.argv]), "timings": timings(args.repeats)}
    show("forward + backward of one sample, ms", result["timings"])
    result["memory"] = [
        json.loads(subprocess.run([sys.executable, __file__, "--memory", mode, "--batch", str(args.batch)], check=True,
                                  capture_output=True, text=True).stdout)
        for mode in ("grid", "exact")
    ]
    show("peak memory of a batch", result["memory"])
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
