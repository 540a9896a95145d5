r"""LIF neurons whose threshold rises with their own spikes."""

from __future__ import annotations

import math

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, membrane_reset

__all__ = ["ALIF"]


def _alif(p, theta, reset, detach_reset):
    alpha, rho, beta = p["alpha"], p["rho"], p["beta"]
    jump = membrane_reset(reset, theta, (alpha, 0))
    r0 = jump.pop("r", (0,))[0]
    return Coefficients(
        theta=theta, A=((alpha, 0), (0, rho)), B=(1.0 - alpha,), r=(r0, 1.0 - rho), c=-beta,
        through=(0, 1.0 - rho) if detach_reset else None, **jump,
    )  # fmt: skip


ALIF = LinearModel(
    name="ALIF",
    title="LIF neuron with an adaptive threshold",
    states=("mem", "adaptation"),
    parameters={
        "alpha": Parameter(0.36, 0.96, domain=(0, 1), doc="a leak per time step (membrane)"),
        "rho": Parameter(math.exp(-1 / 30), math.exp(-1 / 120), domain=(0, 1), doc="a leak per time step (adaptation)"),
        "beta": Parameter(0.0, 2.0, doc="how far the adaptation raises the threshold"),
    },
    equations=r"""u[t] &= \alpha\, u[t-1] + (1 - \alpha)\, I[t] - \theta\, s[t-1] \\
        a[t] &= \rho\, a[t-1] + (1 - \rho)\, s[t-1], \qquad s[t] = \Theta(u[t] - \theta - \beta\, a[t])""",
    source="Bellec et al. 2018, section 2, as normalised by Yin et al. 2021",
    notes="a is the state adaptation.",
    coefficients=_alif,
)
