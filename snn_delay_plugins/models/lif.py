r"""LIF neurons: one leak, and a synaptic current before it."""

from __future__ import annotations

import math

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, membrane_reset

__all__ = ["CUBA_LIF", "LIF"]


def _lif(p, theta, reset, detach_reset):
    alpha = p["alpha"]
    jump = membrane_reset(reset, theta, (alpha,), detach_reset)
    return Coefficients(theta=theta, A=((alpha,),), B=(1.0 - alpha,), **jump)  # 1.0: torch 2.11 exports no int to ONNX


LIF = LinearModel(
    name="HeterogeneousLIF",  # snnTorch and SpikingJelly have a LIF and a LIFNode
    title="LIF neuron with a trainable leak of its own",
    states=("mem",),
    parameters={"alpha": Parameter(0.36, 0.96, domain=(0, 1), doc="a leak per time step (membrane)")},
    equations=r"u[t] = \alpha\, u[t-1] + (1 - \alpha)\, I[t] - \theta\, s[t-1]",
    source="Deckers et al., Eq. 1 without adaptation, and in its range",
    coefficients=_lif,
)


def _cuba_lif(p, theta, reset, detach_reset):
    alpha, beta = p["alpha"], p["beta"]
    into_u = 1.0 - beta
    return Coefficients(
        theta=theta,
        A=((beta, into_u * alpha), (0, alpha)),
        B=(into_u * (1.0 - alpha), 1.0 - alpha),
        **membrane_reset(reset, theta, (beta, 0), detach_reset),
    )


CUBA_LIF = LinearModel(
    name="CubaLIF",
    title="Current-based LIF neuron",
    states=("mem", "syn"),
    parameters={
        "alpha": Parameter(
            0.0,
            math.exp(-1 / 10),
            (math.exp(-2), math.exp(-1 / 2)),
            domain=(0, 1),
            doc="a leak per time step (synaptic current)",
        ),
        "beta": Parameter(0.36, 0.96, domain=(0, 1), doc="a leak per time step (membrane)"),
    },
    equations=r"""i[t] &= \alpha\, i[t-1] + (1 - \alpha)\, I[t] \\
        u[t] &= \beta\, u[t-1] + (1 - \beta)\, i[t] - \theta\, s[t-1]""",
    source="NIR's CubaLIF (Pedersen et al. 2024) over whole steps",
    notes="i is the state syn. snnTorch's Synaptic is the same neuron without the factors before I and i, with which the "
    "neuron sees the running mean of its input, as the other neurons do; for Synaptic's spikes multiply the input by "
    "1 / ((1 - alpha) (1 - beta)).",
    coefficients=_cuba_lif,
)
