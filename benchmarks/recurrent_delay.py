"""Neurons with a delayed recurrent synapse from all to all, forward and backward: the kernel against steps.

    python benchmarks/recurrent_delay.py [--quick]

AdLIF neurons (T = 250, 256 neurons, batch 32, SLAYER's two taps) with gradients of input, weights, delays and leaks, on one
thread. ``steps``: the layer called step by step, ``plain``: the same in plain PyTorch (a product with all lags a step).
Sweeps vary the longest delay, the rule and the rate of the input.
"""

from __future__ import annotations

import argparse

import measure
import torch

from snn_delay_plugins.delays import RULES
from snn_delay_plugins.functional import Recurrence, adlif
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedRecurrent

BASE = {"T": 250, "N": 32, "F": 256, "max_delay": 25, "rule": "slayer", "sigma": 1.0, "drive": 3.0}
SWEEPS = {
    "max_delay": (5, 25, 60, 120, 240),
    "drive": (1.0, 2.0, 4.0, 8.0),
    "rule": ("slayer", "quantised", "triangle", "gaussian"),
}


def build(case: str, s: dict):
    """A function that runs forward and backward once and returns the spikes."""
    torch.manual_seed(0)
    x = (s["drive"] * torch.randn(s["T"], s["N"], s["F"])).requires_grad_()
    layer = DelayedRecurrent(
        AdLIFPlusNode(features=s["F"]), max_delay=s["max_delay"], delay="uniform", delay_gradient=s["rule"],
        sigma=s["sigma"] if "sigma" in RULES[s["rule"]].parameters else None,
    )  # fmt: skip
    leaves = [x, *(p for p in layer.parameters())]

    def step():
        if case == "steps":
            layer.reset()
            spikes = torch.stack([layer(step) for step in x])
        else:
            leaks = {name: getattr(layer.neuron, name) for name in ("alpha", "beta", "a", "b")}
            recurrence: Recurrence = layer.recurrence(None)
            spikes, _ = adlif(x, **leaks, recurrence=recurrence, method={"plain": "torch", "kernel": "numba"}[case])
        torch.autograd.grad(spikes.square().sum(), leaves)
        return spikes

    return step


def compare(s: dict, cases: tuple[str, ...], repeats: int) -> None:
    runs = {case: build(case, s) for case in cases}
    rate = float(runs["kernel"]().detach().mean())  # and what has to be compiled is
    times = measure.take_turns(runs, repeats)
    said = ", ".join(f"{name}={s[name]}" for name in s if s[name] != BASE[name]) or "base"
    kernel = times["kernel"]["fastest"]
    print(f"{said} (rate {rate:.3f}):", *(
        f"{case} {1e3 * t['fastest']:.0f} ms" + ("" if case == "kernel" else f" (x {t['fastest'] / kernel:.1f})")
        for case, t in times.items()
    ), flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the base alone")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    compare(BASE, ("kernel", "steps", "plain"), 2)
    for name, values in {} if quick else SWEEPS.items():
        for value in values:
            compare({**BASE, name: value}, ("kernel",), 3)


if __name__ == "__main__":
    main()
