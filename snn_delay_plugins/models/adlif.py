r"""Adaptive LIF neurons whose adaptation current is subtracted from the input."""

from __future__ import annotations

import math

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, membrane_reset

__all__ = ["ADLIF_PLUS", "SE_ADLIF"]

_A = "the coupling of the adaptation to the membrane"


def _leak(low: float, high: float, of: str) -> Parameter:
    return Parameter(low, high, domain=(0, 1), doc=f"a leak per time step ({of})")


_PARAMETERS = {  # Deckers et al., section 4.2
    "alpha": _leak(0.36, 0.96, "membrane"),
    "beta": _leak(0.96, 0.99, "adaptation"),
    "a": Parameter(0.0, 1.0, doc=_A),
    "b": Parameter(0.0, 2.0, doc="the adaptation per spike"),
}
_ADLIF = {  # Bittar & Garner 2022: tau_u 5 ... 25 and tau_w 30 ... 120 time steps, a of either sign
    "alpha": _leak(math.exp(-1 / 5), math.exp(-1 / 25), "membrane"),
    "beta": _leak(math.exp(-1 / 30), math.exp(-1 / 120), "adaptation"),
    "a": Parameter(-1.0, 1.0, doc=_A),
}


def _adlif(p, theta, reset, detach_reset):
    alpha, beta, a, b = p["alpha"], p["beta"], p["a"], p["b"]
    jump = membrane_reset(reset, theta, (alpha, 0))
    r0 = jump.pop("r", (0,))[0]
    return Coefficients(
        theta=theta, A=((alpha, 0), ((1.0 - beta) * a, beta)), B=(1.0 - alpha,), r=(r0, b), subtracted=True,
        through=(0, b) if detach_reset else None, **jump,
    )  # fmt: skip


ADLIF_PLUS = LinearModel(
    name="AdLIFPlus",
    title="Adaptive LIF neuron",
    states=("mem", "w"),
    parameters=_PARAMETERS,
    presets={"adlif": _ADLIF},
    equations=r"""u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]) - \theta\, s[t-1] \\
        w[t] &= \beta\, w[t-1] + (1 - \beta)\, a\, u[t-1] + b\, s[t-1]""",
    source="Deckers et al., Eq. 1",
    coefficients=_adlif,
)


def _se_adlif(p, theta, reset, detach_reset):
    alpha, beta, a, b = p["alpha"], p["beta"], p["a"], p["b"]
    return Coefficients(
        theta=theta,
        A=((alpha, 0), (a, beta)),  # the symplectic form has the factor 1 - beta itself
        B=(1.0 - alpha,),
        r=(-theta if reset == "subtract" else 0, b),
        J=((-1.0, 0), (0, 0)) if reset == "zero" else None,
        subtracted=True,
        symplectic=True,
        through=(0, b) if detach_reset else None,
    )


SE_ADLIF = LinearModel(
    name="SEAdLIF",
    title="Adaptive LIF neuron, symplectic",
    states=("mem", "w"),
    parameters=_PARAMETERS,
    presets={"adlif": _ADLIF},
    resets=("zero", "subtract", "none"),
    equations=r"""\hat u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]), \qquad u[t] = \hat u[t]\, (1 - s[t]) \\
        w[t] &= \beta\, w[t-1] + (1 - \beta) (a\, u[t] + b\, s[t])""",
    source="Baronig et al. 2024, Eq. 6",
    notes="mem is the membrane potential before the reset of its own spike.",
    coefficients=_se_adlif,
)
