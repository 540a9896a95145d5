"""The network and the sample that EventProp is timed on: 700 inputs -> 256 LIF -> 20 LI, 7,000 events in 1,000 ms."""

from __future__ import annotations

import numpy as np
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif

INPUTS, HIDDEN, OUTPUTS, DURATION, EVENTS = 700, 256, 20, 1000.0, 7000


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
    for _ in range(20):  # the weight scale at which neurons spike 15 times on average
        scale = 0.5 * (low + high)
        count = len(eventprop_lif(events[0], shape * scale, delay)) / HIDDEN
        low, high = (scale, high) if count < 15 else (low, scale)
    out = torch.randn(OUTPUTS, HIDDEN, generator=g) * 0.03
    return [p.requires_grad_() for p in (shape * scale, delay, out)]
