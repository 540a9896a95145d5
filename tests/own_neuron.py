"""A neuron of two compartments: the dendrite takes the input, the soma fires and holds the dendrite back."""

import torch

from snn_delay_plugins import snntorch, spikingjelly
from snn_delay_plugins.models import Coefficients, LinearModel, Parameter, membrane_reset


def coefficients(p, theta, reset, detach_reset):
    alpha, beta, gamma = p["alpha"], p["beta"], p["gamma"]
    return Coefficients(
        theta=theta,
        A=((alpha, 1 - alpha), (-gamma, beta)),
        B=(0, 1 - beta),
        **membrane_reset(reset, theta, (alpha, -gamma), detach_reset),
    )


model = LinearModel(
    name="TwoCompartment",
    title="LIF neuron of two compartments",
    states=("mem", "dendrite"),
    parameters={
        "alpha": Parameter(0.36, 0.9, domain=(0, 1), doc="a leak per time step (soma)"),
        "beta": Parameter(0.36, 0.9, domain=(0, 1), doc="a leak per time step (dendrite)"),
        "gamma": Parameter(0.0, 0.2, doc="how the soma holds the dendrite back"),
    },
    equations=r"""u[t] &= \alpha\, u[t-1] + (1 - \alpha)\, d[t-1] - \theta\, s[t-1] \\
        d[t] &= \beta\, d[t-1] - \gamma\, u[t-1] + (1 - \beta)\, I[t]""",
    coefficients=coefficients,
)
TwoCompartment, StateTwoCompartment = snntorch.from_model(model)
TwoCompartmentNode = spikingjelly.from_model(model)

if __name__ == "__main__":
    print(StateTwoCompartment(features=128)(3 * torch.rand(100, 8, 128)).mean())
