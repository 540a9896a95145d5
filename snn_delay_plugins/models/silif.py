r"""SiLIF and C-SiLIF: leaks by their logarithms, and a learned time step."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter

__all__ = ["C_SILIF", "SILIF"]


def _log(low: float, high: float, of: str) -> Parameter:
    return Parameter(initial=(math.log(low), math.log(high)), doc=f"the logarithm of {of}")


def _silif(p, theta, reset, detach_reset):
    step = torch.exp(p["log_dt"])
    alpha, beta = (torch.exp(-torch.exp(p[name]) * step) for name in ("log_alpha", "log_beta"))
    a, b = p["a"], p["b"]
    leak = 1.0 - alpha
    A = ((alpha - leak * a, -leak * beta), (a, beta))
    through = (-leak * b, b) if detach_reset else None
    return Coefficients(theta=theta, A=A, B=(leak,), **_reset(reset, theta, alpha, leak * b, b), through=through)


def _reset(reset, theta, alpha, from_adaptation, b):
    r0 = -from_adaptation - (alpha * theta if reset == "subtract" else 0)
    jump: dict[str, Any] = {"r": (r0, b)}
    if reset == "zero":
        jump["J"] = ((-alpha, 0), (0, 0))
    return jump


SILIF = LinearModel(
    name="SiLIF",
    title="LIF neuron after state space models",
    states=("mem", "w"),
    parameters={
        "log_alpha": _log(10.0, 250.0, "the membrane's decay rate per second"),
        "log_beta": _log(2.5, 10.0, "the adaptation's decay rate per second"),
        "log_dt": _log(0.004, 0.004, "the time step in seconds"),
        "a": Parameter(0.0, 1.0, doc="the coupling of the adaptation to the membrane"),
        "b": Parameter(0.0, 2.0, doc="the adaptation per spike"),
    },
    equations=r"""w[t] &= \beta\, w[t-1] + a\, u[t-1] + b\, s[t-1], \qquad
        \alpha = e^{-e^{\log\alpha} \Delta}, \quad \beta = e^{-e^{\log\beta} \Delta}, \quad \Delta = e^{\log \Delta} \\
        u[t] &= \alpha\, (u[t-1] - \theta\, s[t-1]) + (1 - \alpha) (I[t] - w[t])""",
    source="Fabre et al., arXiv 2506.06374, SiLIF",
    notes="Parameters are drawn as in their code: rates per second and the time step in seconds, by their logarithms.",
    coefficients=_silif,
)


def _c_silif(p, theta, reset, detach_reset):
    step = torch.exp(p["log_dt"])
    size = torch.exp(-torch.exp(p["log_alpha"]) * step)
    angle = p["omega"] * step
    real, imaginary = size * torch.cos(angle), size * torch.sin(angle)
    jump = {
        "subtract": {"r": (-theta * real, -theta * imaginary)},
        "zero": {"J": ((-real, 0), (-imaginary, 0))},
        "none": {},
    }
    return Coefficients(
        theta=theta, A=((real, -imaginary), (imaginary, real)), B=(2.0 * p["b"],), through=(0, 0) if detach_reset else None,
        **jump[reset],
    )  # fmt: skip


_B = "the weight of the input"

C_SILIF = LinearModel(
    name="CSiLIF",
    title="LIF neuron of a complex state after state space models",
    states=("mem", "im"),
    parameters={
        "log_alpha": _log(0.5, 0.5, "the oscillation's decay rate"),
        "omega": Parameter(initial=(math.pi, math.pi), doc="the oscillation's frequency in radians"),
        "log_dt": _log(0.01, 0.5, "the time step"),
        "b": Parameter(initial=(0.0, 0.2), doc=_B),
    },
    presets={"published": {"b": Parameter(initial=(0.0, 1.0), doc=_B)}},
    equations=r"""x[t] &= e^{(-e^{\log\alpha} + i \omega) \Delta}\, (x[t-1] - \theta\, s[t-1]) + 2\, b\, I[t], \qquad
        \Delta = e^{\log \Delta}, \\
        s[t] &= \Theta(\mathrm{Re}\, x[t] - \theta)""",
    source="Fabre et al., arXiv 2506.06374, C-SiLIF",
    notes="mem = Re x, im = Im x; x is twice the paper's state, which fires at 2 Re = theta. The preset published draws b "
    "as in their code, which normalises currents.",
    coefficients=_c_silif,
)
