"""Time and memory of one EventProp training step on the CPU.

    python benchmarks/eventprop_step.py [--repeats 30] [--json results.json]

One sample of 700 inputs -> 256 LIF -> 20 LI, T = 1000 ms, dt = 1 ms, 7000 input events, float32 parameters, one thread:
forward, cross-entropy on the exponentially weighted voltage, backward to all weights and delays. Weights are scaled to
about 15 spikes per hidden neuron at every delay range. Beside LIF, with spike times on the grid and exact, AdLIF neurons
of the same delays (a = 0.5, b = 0.2, tau_adapt = 100 ms), their weights scaled likewise. Beside them, in the same run and
interleaved, the loop that one would write first: grid scheme in Numba, dense [T, hidden] arrays in float32, no readout;
and, where it is installed, mlGeNN with the same weights, delays and events, as it compiles by default and optimised
(``mlgenn_peer.py`` says what its time holds and compares gradients; its times are of the clock, all others CPU time).
Machines differ by factors; the ratios say more than milliseconds. Then the peak memory of a step with a batch of 256, above
that of the process with parameters and inputs loaded and kernels compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import measure
import numpy as np
import torch
from eventprop_workload import DURATION, HIDDEN, OUTPUTS, adaptive_parameters, inputs, parameters
from mlgenn_peer import MlGenn
from numba import njit

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF
from snn_delay_plugins.functional.losses import voltage_cross_entropy

DELAYS = (64, 256, 1024)
ADAPTIVE = "AdLIF, exact"
MODES = ("grid", "exact", ADAPTIVE)
PLAIN_LOOP = "plain loop, grid, no readout"
MLGENN = {"mlGeNN": False, "mlGeNN, -O3": True}  # is it told to optimise? By default it does not


def step(events: SpikeEvents, p: list[torch.Tensor], target: torch.Tensor, mode: str) -> tuple[float, float, int]:
    """Seconds of CPU time of both passes and of the forward pass, hidden spikes. mode: LIF's spike times, or ADAPTIVE."""
    for tensor in p:
        tensor.grad = None
    start = time.process_time()
    if mode == ADAPTIVE:
        hidden, mode = eventprop_linear(events, p[0], p[1], model=ADLIF), "exact"
    else:
        hidden = eventprop_lif(events, p[0], p[1], spike_times=mode)
    loss = voltage_cross_entropy(eventprop_li(hidden, p[2], spike_times=mode), target)
    middle = time.process_time()
    loss.backward()
    return time.process_time() - start, middle - start, len(hidden)


@njit(fastmath=True, error_model="numpy")
def plain_loop(step_of, unit, weight, delay, steps, alpha, beta, gain, coupling, drive, lambda_v, lambda_i, grad_w, grad_d):
    """Forward and backward pass of the hidden layer on the grid, as plainly as can be; returns the number of spikes."""
    hidden, count = weight.shape[1], 0
    drive[:] = 0
    for e in range(step_of.size):
        i, seen = unit[e], step_of[e] + 1
        for j in range(hidden):
            drive[min(seen + delay[i, j], steps), j] += weight[i, j]
    v, s = np.zeros(hidden, np.float32), np.zeros(hidden, np.float32)
    when, who, slope = np.empty(1 << 15, np.int32), np.empty(1 << 15, np.int32), np.empty(1 << 15, np.float32)
    for n in range(steps):
        for j in range(hidden):
            s[j] = beta * s[j] + drive[n, j]
            v[j] = alpha * v[j] + gain * s[j]
        for j in range(hidden):
            if v[j] >= 1:
                when[count], who[count], slope[count] = n, j, s[j] - v[j]
                v[j] = 0
                count += 1
    v[:], s[:] = 0, 0
    k = count - 1
    for n in range(steps - 1, -1, -1):
        for j in range(hidden):
            s[j] = beta * s[j] + coupling * v[j]
            v[j] *= alpha
        while k >= 0 and when[k] == n:
            v[who[k]] += (v[who[k]] + np.float32(1e-3)) / slope[k]  # some dL/dt of the same size for every spike
            k -= 1
        for j in range(hidden):
            lambda_v[n, j], lambda_i[n, j] = v[j], s[j]
    for e in range(step_of.size):
        i, seen = unit[e], step_of[e] + 1
        for j in range(hidden):
            n = min(seen + delay[i, j], steps)
            grad_w[i, j] += lambda_i[n, j]
            grad_d[i, j] += lambda_i[n, j] - lambda_v[n, j]
    return count


def plain_step(events: SpikeEvents, p: list[torch.Tensor]):
    """A closure that runs the plain loop once; returns (seconds, None, spikes) like :func:`step`."""
    steps = int(DURATION)
    weight = np.ascontiguousarray(p[0].detach().numpy().T.astype(np.float32))
    delay = np.ascontiguousarray(p[1].detach().numpy().T.round().astype(np.int32))
    step_of, unit = np.ceil(events.times.numpy()).astype(np.int32), events.units.numpy().astype(np.int32)
    alpha, beta = np.exp(-1 / 20), np.exp(-1 / 5)
    constants = [np.float32(x) for x in (alpha, beta, (1 - alpha) * (1 - beta) * 5, 20 / (5 - 20) * (beta - alpha))]
    dense = [np.zeros((steps + 1, HIDDEN), np.float32) for _ in range(3)]
    gradients = [np.zeros_like(weight), np.zeros_like(weight)]

    def run() -> tuple[float, None, int]:
        start = time.process_time()
        count = plain_loop(step_of, unit, weight, delay, steps, *constants, *dense, *gradients)
        return time.process_time() - start, None, count

    return run


def mlgenn_step(events: SpikeEvents, p: list[torch.Tensor], target: torch.Tensor, max_delay: int, optimised: bool):
    """A closure that runs mlGeNN on the sample once; returns as the plain loop's."""
    peer = MlGenn(p, max_delay, int(DURATION), optimised)

    def run() -> tuple[float, None, int]:
        seconds, spikes = peer.step(events, int(target))
        return seconds, None, spikes

    return run


def timings(repeats: int) -> list[dict]:
    events, target = inputs(1), torch.tensor([3])
    cases = {}
    mlgenn = MLGENN
    for delay in DELAYS:
        p = parameters(delay, events)
        cases[PLAIN_LOOP, delay] = plain_step(events, p)
        for mode in MODES:
            q = adaptive_parameters(p, events) if mode == ADAPTIVE else p
            cases[mode, delay] = lambda p=q, mode=mode: step(events, p, target, mode)
        try:
            for name, optimised in mlgenn.items():
                cases[name, delay] = mlgenn_step(events, p, target, delay, optimised)
        except measure.Absent as error:
            print(f"mlGeNN skipped: {error}")
            mlgenn = {}
    for run in cases.values():
        run()
    measured = {case: [] for case in cases}
    for _ in range(repeats):  # interleaved, so that a busy moment hits all cases alike
        for case, run in cases.items():
            run()  # warms the caches for this case
            measured[case].append(run())
    fastest = {case: min(total for total, _, _ in runs) for case, runs in measured.items()}
    peers = {"grid": "grid", "exact": "exact", "plain_loop": PLAIN_LOOP, "mlgenn": "mlGeNN", "mlgenn_O3": "mlGeNN, -O3"}
    rows = []
    for (mode, delay), runs in measured.items():
        total, forward = [1e3 * t for t, _, _ in runs], [1e3 * f for _, f, _ in runs if f is not None]
        rows.append(
            {
                "mode": mode,
                "max_delay_ms": delay,
                "spikes_per_neuron": runs[0][2] / HIDDEN,
                "forward_ms": statistics.median(forward) if forward else None,
                "backward_ms": statistics.median(t - f for t, f in zip(total, forward, strict=True)) if forward else None,
                "total_ms": statistics.median(total),
                "fastest_ms": min(total),
                "quartiles_ms": list(np.percentile(total, [25, 75])),
                **{
                    f"fastest_to_{name}": fastest[mode, delay] / fastest[peer, delay]
                    for name, peer in peers.items()
                    if (peer, delay) in fastest
                },
                "fastest_to_delay_64": fastest[mode, delay] / fastest[mode, DELAYS[0]],
            }
        )
    return rows


def memory(mode: str, batch: int) -> dict:
    """Peak resident memory of one step; runs in a process of its own, since a peak cannot be taken back."""
    events = inputs(batch)
    p = parameters(64, events)
    if mode == ADAPTIVE:
        p = adaptive_parameters(p, events)
    step(events[:1], p, torch.tensor([3]), mode)
    result = {}

    def run() -> None:
        result["seconds"], _, result["spikes_per_neuron"] = step(events, p, torch.arange(batch) % OUTPUTS, mode)

    mib = measure.peak_memory_of(run)
    result["spikes_per_neuron"] /= batch * HIDDEN
    return {"mode": mode, "batch": batch, "mib_above_parameters_and_inputs": mib, **result}


def show(title: str, rows: list[dict]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title, *rows, sep="\n")
        return

    def text(x) -> str:
        if isinstance(x, list):
            return " - ".join(map(text, x))
        return f"{x:.3g}" if isinstance(x, float) else "-" if x is None else str(x)

    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(text, row.values()))
    Console(width=220).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--json", help="write the numbers there")
    parser.add_argument("--memory", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        print(json.dumps(memory(args.memory, args.batch)))
        return
    result = {**measure.setting(), "timings": timings(args.repeats)}
    show("forward + backward of one sample, ms", result["timings"])
    result["memory"] = [
        json.loads(
            subprocess.run(
                [sys.executable, __file__, "--memory", mode, "--batch", str(args.batch)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for mode in MODES
    ]
    show("peak memory of a batch", result["memory"])
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
