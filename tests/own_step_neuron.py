"""A leaky integrate-and-fire neuron whose membrane saturates, which is no linear system."""

import torch

from snn_delay_plugins import snntorch, spikingjelly
from snn_delay_plugins.models import Parameter, StepModel


def step(current, states, spikes, p, theta, reset, detach_reset):
    (u,) = states
    spikes = spikes.detach() if detach_reset else spikes
    free = p["alpha"] * u + (1 - p["alpha"]) * current - theta * spikes
    return (p["limit"] * torch.tanh(free / p["limit"]),)


model = StepModel(
    name="Saturating",
    title="LIF neuron whose membrane saturates",
    states=("mem",),
    parameters={
        "alpha": Parameter(0.36, 0.96, domain=(0, 1), doc="a leak per time step (membrane)"),
        "limit": Parameter(1.5, 3.0, domain=(0.1, 1e6), doc="the potential at which the membrane saturates"),
    },
    resets=("subtract",),
    equations=r"u[t] = m \tanh\!\left(\frac{\alpha\, u[t-1] + (1 - \alpha)\, I[t] - \theta\, s[t-1]}{m}\right)",
    step=step,
)
Saturating, StateSaturating = snntorch.from_model(model)
SaturatingNode = spikingjelly.from_model(model)
