r"""Resonate-and-fire neurons: a damped rotation of (real part, imaginary part)."""

from __future__ import annotations

import math

import torch

from ..functional.linear_neuron import Coefficients
from .model import LinearModel, Parameter, StepModel, membrane_reset

__all__ = ["BALANCED_RESONATE_AND_FIRE", "RESONATE_AND_FIRE"]


def _rotation(decay, omega):
    """A of the step exp(-decay + i omega)."""
    size = torch.exp(-decay)
    real, imaginary = size * torch.cos(omega), size * torch.sin(omega)
    return (real, -imaginary), (imaginary, real)


def _resonate(p, theta, reset, detach_reset):
    A = _rotation(p["decay"], p["omega"])
    into_x = 1.0 - torch.exp(-p["decay"])
    return Coefficients(theta=theta, A=A, B=(into_x,), **membrane_reset(reset, theta, (A[0][0], A[1][0]), detach_reset))


RESONATE_AND_FIRE = LinearModel(
    name="ResonateAndFire",
    title="Resonate-and-fire neuron",
    states=("mem", "im"),
    parameters={
        "decay": Parameter(0.001, 3.0, (0.05, 0.5), domain=(0, math.inf), doc="the oscillation's decay per time step"),
        "omega": Parameter(0.0, math.pi, (0.1, 1.0), doc="the oscillation's frequency in radians per time step"),
    },
    equations=r"""x[t] &= e^{-b + i \omega}\, x[t-1] + (1 - e^{-b})\, I[t] - \theta\, s[t-1], \\
        s[t] &= \Theta(\mathrm{Re}\, x[t] - \theta)""",
    source="Izhikevich 2001",
    notes="Exact over a step, with a gain of one at resonance; b is the parameter decay, mem = Re x, im = Im x.",
    coefficients=_resonate,
)

_DT = 0.01
_INPUT = 0.15


def _balanced(current, states, spikes, p, theta, reset, detach_reset):
    re, im, q = states
    q = 0.9 * q + spikes
    # the damping at which the Euler step sustains the oscillation; more of it lets it decay
    damping = torch.sqrt(1.0 - (_DT * p["omega"]) ** 2) - 1 - _DT * (p["decay"] + q)
    turn = _DT * p["omega"]
    return re + damping * re - turn * im + _INPUT * current, im + turn * re + damping * im, q


def _above_balanced(states, p, theta):
    return states[0] - theta - states[2]


BALANCED_RESONATE_AND_FIRE = StepModel(
    name="BalancedResonateAndFire",
    title="Balanced resonate-and-fire neuron",
    states=("mem", "im", "q"),
    parameters={
        "decay": Parameter(0.0, 50.0, (0.0, 3.0), domain=(0, math.inf), doc="the oscillation's decay per 100 time steps"),
        "omega": Parameter(
            0.0, 99.0, (5.0, 10.0), domain=(0, 99.9), doc="the oscillation's frequency in radians per 100 time steps"
        ),
    },
    resets=("none",),  # a spike raises the threshold and damps the oscillation, both through q
    equations=r"""x[t] &= x[t-1] + \delta\, (p(\omega) - b - q[t] + i \omega)\, x[t-1] + 0.15\, I[t], \qquad
        p(\omega) = \frac{\sqrt{1 - (\delta \omega)^2} - 1}{\delta}, \quad \delta = 0.01 \\
        q[t] &= 0.9\, q[t-1] + s[t-1], \qquad s[t] = \Theta(\mathrm{Re}\, x[t] - \theta - q[t])""",
    source="Higuchi et al. 2024, Eq. 6 to 10",
    notes="b is the parameter decay, mem = Re x, im = Im x. The input enters by 0.15 in the place of delta, so that "
    "weights that make the other neurons fire serve this one too.",
    step=_balanced,
    above=_above_balanced,
)
