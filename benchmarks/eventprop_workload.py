"""The network and the sample that EventProp is timed on: 700 inputs -> 256 LIF -> 20 LI, 7,000 events in 1,000 ms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF

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
    scale = _scale(lambda scale: len(eventprop_lif(events[0], shape * scale, delay)))
    out = torch.randn(OUTPUTS, HIDDEN, generator=g) * 0.03
    return [p.requires_grad_() for p in (shape * scale, delay, out)]


def adaptive_parameters(p: list[torch.Tensor], events: SpikeEvents) -> list[torch.Tensor]:
    """Those of :func:`parameters` with weights at which AdLIF neurons spike as often."""
    weight, delay = p[0].detach(), p[1].detach()
    scale = _scale(lambda scale: len(eventprop_linear(events[0], weight * scale, delay, model=ADLIF)))
    return [(weight * scale).requires_grad_(), *p[1:]]


def _scale(spikes: Callable[[float], int]) -> float:
    """The weight scale at which neurons spike 15 times on average."""
    low, high = 0.3, 10.0
    for _ in range(20):
        scale = 0.5 * (low + high)
        low, high = (scale, high) if spikes(scale) / HIDDEN < 15 else (low, scale)
    return scale
