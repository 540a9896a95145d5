"""Cost of EventProp convolutions per synaptic event, beside linear layers of as many neurons, inputs and events.

    python benchmarks/eventprop_convolution.py

CPU time of one thread, one sample of 1000 ms, delays to 64 ms, forward and backward pass, weights and delays; the fastest
of three.
"""

from __future__ import annotations

import argparse
import time

import torch

from recipes.engine.training import machine
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif
from snn_delay_plugins.functional.eventprop_convolution import eventprop_lif_convolution, eventprop_linear_convolution
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF

DURATION = 1000.0
# channels, height = width, output channels, arrivals per neuron
CASES = ((8, 12, 16, 7000), (8, 16, 16, 1000), (2, 34, 8, 300), (32, 16, 32, 2000))


def events(units: int, count: int) -> SpikeEvents:
    times = DURATION * torch.rand(count, dtype=torch.float64)
    return SpikeEvents(times, torch.randint(units, (count,)), torch.tensor([0, count]), units, DURATION)


def seconds(run, leaves) -> tuple[float, float]:
    """Of forward and backward pass; and spikes."""
    start = time.process_time()
    spikes = run()
    spikes.times.sum().backward()
    took = time.process_time() - start
    for leaf in leaves:
        leaf.grad = None
    return took, len(spikes)


def case(channels: int, size: int, out: int, arrivals: int, adaptive: bool, repeats: int) -> str:
    taps, neurons = 9, out * size * size
    image = events(channels * size * size, int(arrivals / taps * size * size)).reshape(channels, size, size)
    weight = 210 / arrivals * (1 + 0.3 * torch.randn(out, channels, 3, 3)) * (1.3 if adaptive else 1.0)
    delay = 64 * torch.rand(weight.shape)
    places = size * size
    linear = [x.flatten(1).repeat(places, 1).requires_grad_() for x in (weight, delay)]
    kernel = [weight.requires_grad_(), delay.requires_grad_()]
    given = events(channels * taps, arrivals)
    if adaptive:
        runs = (
            lambda: eventprop_linear_convolution(image, *kernel, padding=1, model=ADLIF),
            lambda: eventprop_linear(given, *linear, model=ADLIF),
        )
    else:
        runs = lambda: eventprop_lif_convolution(image, *kernel, padding=1), lambda: eventprop_lif(given, *linear)
    inside = (3 * size - 2) ** 2 / (3 * size) ** 2  # taps that do not hang over the edge
    synaptic = len(image) * taps * inside * out, arrivals * neurons
    best, spikes = [float("inf")] * 2, [0, 0]
    for _ in range(repeats):
        for k, run in enumerate(runs):
            took, spikes[k] = seconds(run, (*kernel, *linear))
            best[k] = min(best[k], took)
    ns = [1e9 * t / n for t, n in zip(best, synaptic, strict=True)]
    per_neuron = [n / neurons for n in spikes]
    return (
        f"{channels} x {size} x {size} -> {out} channels, {arrivals} arrivals, {'AdLIF' if adaptive else 'LIF'}: "
        f"{per_neuron[0]:.1f} and {per_neuron[1]:.1f} spikes a neuron; {ns[0]:.1f} ns, linear {ns[1]:.1f} ns, ratio "
        f"{ns[0] / ns[1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    machine.keep_freed_memory()  # as every recipe does
    torch.manual_seed(0)
    for adaptive in (False, True):
        for sizes in CASES:
            print(case(*sizes, adaptive, repeats), flush=True)


if __name__ == "__main__":
    main()
