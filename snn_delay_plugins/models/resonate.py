r"""Resonate-and-fire neurons: a damped rotation of (real part, imaginary part)."""

from __future__ import annotations

import math

import torch

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, StepModel, membrane_reset

__all__ = ["BALANCED_RESONATE_AND_FIRE", "RESONATE_AND_FIRE"]

_DECAY = "the oscillation's decay per time step"
_OMEGA = "the oscillation's frequency in radians per time step"


def _rotation(decay, omega):
    """A of the step exp(-decay + i omega)."""
    size = torch.exp(-decay)
    real, imaginary = size * torch.cos(omega), size * torch.sin(omega)
    return (real, -imaginary), (imaginary, real)


def _resonate(p, theta, reset, detach_reset):
    A = _rotation(p["decay"], p["omega"])
    return Coefficients(
        theta=theta, A=A, B=(1.0,), through=(0, 0) if detach_reset else None,
        **membrane_reset(reset, theta, (A[0][0], A[1][0])),
    )  # fmt: skip


RESONATE_AND_FIRE = LinearModel(
    name="ResonateAndFire",
    title="Resonate-and-fire neuron",
    states=("mem", "im"),
    parameters={
        "decay": Parameter(0.001, 3.0, (0.01, 0.1), domain=(0, math.inf), doc=_DECAY),
        "omega": Parameter(0.0, 3.14, (0.05, 0.5), doc=_OMEGA),
    },
    equations=r"""x[t] &= e^{-b + i \omega}\, x[t-1] + I[t] - \theta\, s[t-1], \qquad u = \mathrm{Re}\, x, \\
        s[t] &= \Theta(u[t] - \theta)""",
    source="Izhikevich 2001, exact over a step; b is the parameter decay (per step), omega in radians per step, im = Im x",
    coefficients=_resonate,
)


def _balanced(current, states, spikes, p, theta, reset, detach_reset):
    re, im, q = states
    # sustained oscillation needs this damping of the Euler step (Higuchi et al. 2024, Eq. 8); more of it lets it decay
    damping = (torch.sqrt(1 - p["omega"] ** 2) - 1) - p["decay"] - q
    re, im = re + damping * re - p["omega"] * im + current, im + p["omega"] * re + damping * im
    return re, im, 0.9 * q + spikes


def _above_balanced(states, p, theta):
    return states[0] - theta - states[2]


BALANCED_RESONATE_AND_FIRE = StepModel(
    name="BalancedResonateAndFire",
    title="Balanced resonate-and-fire neuron",
    states=("mem", "im", "q"),
    parameters={
        "decay": Parameter(0.0, 1.0, (0.01, 0.1), domain=(0, math.inf), doc=_DECAY),
        "omega": Parameter(0.0, 0.99, (0.05, 0.5), domain=(0, 0.999), doc=_OMEGA),
    },
    resets=("none",),  # a spike damps the oscillation through q
    equations=r"""x[t] &= x[t-1] + (p(\omega) - b - q[t-1] + i \omega)\, x[t-1] + I[t], \qquad
        p(\omega) = \sqrt{1 - \omega^2} - 1 \\
        q[t] &= 0.9\, q[t-1] + s[t-1], \qquad s[t] = \Theta(\mathrm{Re}\, x[t] - \theta - q[t])""",
    source="Higuchi et al. 2024 (balanced resonate-and-fire), Eq. 6 to 10, with a time step of one",
    step=_balanced,
    above=_above_balanced,
)
