"""Exact EventProp beside eventax (JAX): the same network, the same input, times and results in one run.

    python benchmarks/eventprop_vs_eventax.py --peer-python PYTHON [--neurons 256] [--inputs 4] [--json results.json]

``neurons`` LIF neurons, a spike of each of the ``inputs`` in the first half of 20 ms, a weight and a delay for every pair,
float64, one thread: forward, the sum of every neuron's first spike time, backward to all weights and delays; some neurons
stay silent, so that eventax cannot stop early. PYTHON is an interpreter with eventax (`pip install eventax`), this one if
it is not given; ``eventax_peer.py`` runs there and says how. Times are the processor time of the fastest of several runs,
compilation not counted. A spike that only one of them has, or results further apart than the tolerances below, end the run
with an error: so does ``--adjoint eventprop``, whose gradients by delays in eventax 0.1.0 are neither those of its default
(``checkpoint``, through the solver) nor differences of its loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif

DURATION, TAU_MEM, TAU_SYN, THRESHOLD = 20.0, 20.0, 5.0, 1.0
SPIKES, GRADIENTS = 1e-6, 1e-5  # ms, and of the largest entry: what the peer's solver explains
PEER = Path(__file__).with_name("eventax_peer.py")


def draw(neurons: int, inputs: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights at which most neurons fire a few spikes, delays and input spikes in half of the duration."""
    g = np.random.default_rng(seed)
    weight = g.normal(1.0, 0.6, (neurons, inputs)) * 16 / inputs
    delay = g.uniform(0, DURATION / 2, weight.shape)
    return {"weight": weight, "delay": delay, "times": g.uniform(0, DURATION / 2, (inputs, 1))}


def ours(net: dict[str, np.ndarray], repeats: int) -> tuple[dict[str, float], SpikeEvents, list[np.ndarray]]:
    """Seconds, spikes, gradients by weight and delay."""
    weight, delay = (torch.from_numpy(net[name]).requires_grad_() for name in ("weight", "delay"))
    inputs = net["times"].shape[0]
    events = SpikeEvents.from_lists([net["times"][:, 0]], [np.arange(inputs)], num_units=inputs, duration=DURATION)

    def step() -> SpikeEvents:
        weight.grad = delay.grad = None
        spikes = eventprop_lif(events, weight, delay, tau_mem=TAU_MEM, tau_syn=TAU_SYN, threshold=THRESHOLD)
        first = torch.full((weight.shape[0],), torch.inf, dtype=weight.dtype)
        first = first.scatter_reduce(0, spikes.units, spikes.times, "amin")
        first[first.isfinite()].sum().backward()
        return spikes

    step()
    cpu, clock = [], []
    for _ in range(repeats):
        work, start = time.process_time(), time.perf_counter()
        step()
        cpu.append(time.process_time() - work)
        clock.append(time.perf_counter() - start)
    return {"cpu": min(cpu), "clock": min(clock)}, step(), [weight.grad.numpy(), delay.grad.numpy()]


def peer(python: str, net: dict[str, np.ndarray], **options: float | str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, result = (str(Path(folder) / name) for name in ("network.npz", "result.npz"))
        constants = {"tau_mem": TAU_MEM, "tau_syn": TAU_SYN, "threshold": THRESHOLD, "duration": DURATION}
        np.savez(given, **net, **constants, **options)
        run = subprocess.run([python, str(PEER), given, result], capture_output=True, text=True)
        if run.returncode:
            raise measure.Absent(f"{python} {PEER.name} ended with {run.returncode}\n{run.stderr[-3000:]}")
        return dict(np.load(result))


def spike_difference(spikes: SpikeEvents, theirs: np.ndarray) -> float:
    """The largest, ms. :raises SystemExit: if a neuron has not the same number in both."""
    largest = 0.0
    for j, row in enumerate(theirs):
        mine, other = spikes.times[spikes.units == j].detach().numpy(), row[np.isfinite(row)]
        if mine.size != other.size:
            raise SystemExit(f"neuron {j} fires {mine.size} spikes here, {other.size} in eventax: {mine}, {other}")
        largest = max(largest, abs(mine - other).max(initial=0))
    return float(largest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has eventax")
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--inputs", type=int, default=4)
    parser.add_argument("--adjoint", choices=("checkpoint", "eventprop"), default="checkpoint", help="eventax's")
    parser.add_argument("--step", type=float, default=0.5, help="the longest of the peer's solver, ms")
    parser.add_argument("--repeats", type=int, default=20, help="ours; the peer's runs are two")
    parser.add_argument("--json", help="write the numbers there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = draw(args.neurons, args.inputs)
    seconds, spikes, gradients = ours(net, args.repeats)
    try:
        theirs = peer(args.peer_python, net, spikes=len(spikes) + 2, step=args.step, repeats=2, adjoint=args.adjoint)
    except measure.Absent as error:
        parser.exit(1, f"eventax cannot run: {error}\n")
    cpu = float(theirs["cpu"].min())
    differences = {
        "spike times, ms": spike_difference(spikes, theirs["spikes"]),
        **{
            f"gradient by {name}, of the largest": float(abs(mine - theirs[name]).max() / abs(mine).max())
            for name, mine in zip(("weight", "delay"), gradients, strict=True)
        },
    }
    result = {
        **measure.setting(), "peer": theirs["versions"].tolist(), "neurons": args.neurons, "inputs": args.inputs,
        "arrivals": net["weight"].size, "spikes": len(spikes), "silent": args.neurons - len(set(spikes.units.tolist())),
        "ours_cpu_ms": 1e3 * seconds["cpu"], "ours_clock_ms": 1e3 * seconds["clock"], "eventax_cpu_ms": 1e3 * cpu,
        "eventax_clock_ms": 1e3 * float(theirs["clock"].min()), "eventax_first_call_s": float(theirs["first"]),
        "eventax / ours (CPU)": cpu / seconds["cpu"], "differences": differences,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    spike, *others = differences.values()
    if not (spike <= SPIKES and max(others) <= GRADIENTS):
        parser.exit(1, f"results differ by more than {SPIKES:g} ms and {GRADIENTS:g} of the largest gradient\n")


if __name__ == "__main__":
    main()
