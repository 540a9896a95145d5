"""A quadratic integrate-and-fire neuron, which is no linear system."""

from snn_delay_plugins import snntorch, spikingjelly
from snn_delay_plugins.models import Parameter, StepModel


def step(current, states, spikes, p, theta, reset, detach_reset):
    (u,) = states
    spikes = spikes.detach() if detach_reset else spikes
    return (u + p["rate"] * u * (u - 0.5) + current - theta * spikes,)


model = StepModel(
    name="Quadratic",
    title="Quadratic integrate-and-fire neuron",
    states=("mem",),
    parameters={"rate": Parameter(0.0, 0.2, domain=(0, 1), doc="the rate at which the membrane runs away from 0.5")},
    resets=("subtract",),
    equations=r"u[t] = u[t-1] + r\, u[t-1]\, (u[t-1] - 0.5) + I[t] - \theta\, s[t-1]",
    step=step,
)
Quadratic, StateQuadratic = snntorch.from_model(model)
QuadraticNode = spikingjelly.from_model(model)
