r"""LIF neurons: one leak, and a synaptic current before it."""

from __future__ import annotations

import math

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, membrane_reset

__all__ = ["CUBA_LIF", "LIF"]


def _lif(p, theta, reset, detach_reset):
    through = (0,) if detach_reset else None
    return Coefficients(
        theta=theta, A=((p["alpha"],),), B=(1 - p["alpha"],), through=through, **membrane_reset(reset, theta, (p["alpha"],))
    )


LIF = LinearModel(
    name="HeterogeneousLIF",  # snnTorch and SpikingJelly have a LIF and a LIFNode
    title="LIF neuron with a trainable leak of its own",
    states=("mem",),
    parameters={"alpha": Parameter(0.36, 0.96, domain=(0, 1), doc="the membrane's leak per time step")},
    equations=r"u[t] &= \alpha\, u[t-1] + (1 - \alpha)\, I[t] - \theta\, s[t-1]",
    source="Deckers et al., Eq. 1 without adaptation, and in its range",
    coefficients=_lif,
)


def _cuba_lif(p, theta, reset, detach_reset):
    alpha, beta = p["alpha"], p["beta"]
    return Coefficients(
        theta=theta, A=((beta, alpha), (0, alpha)), B=(1.0, 1.0), through=(0,) if detach_reset else None,
        **membrane_reset(reset, theta, (beta, 0)),
    )  # fmt: skip


CUBA_LIF = LinearModel(
    name="CubaLIF",
    title="Current-based LIF neuron",
    states=("mem", "syn"),
    parameters={
        "alpha": Parameter(
            math.exp(-1 / 2), math.exp(-1 / 10), domain=(0, 1), doc="the synaptic current's leak per time step"
        ),
        "beta": Parameter(math.exp(-1 / 5), math.exp(-1 / 25), domain=(0, 1), doc="the membrane's leak per time step"),
    },
    equations=r"""i[t] &= \alpha\, i[t-1] + I[t] \\
        u[t] &= \beta\, u[t-1] + i[t] - \theta\, s[t-1]""",
    source="snnTorch's Synaptic; alpha is the leak of the synaptic current i (state syn), beta that of the membrane",
    coefficients=_cuba_lif,
)
