"""Free evolution of (V, I) on the device: the propagator P(h) of :mod:`..numba`, in float64."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..neuron import Neuron

# Numbers go to the kernels in a float64 tensor: triton would round Python floats to float32. Their places:
THETA, TAU_MEM, TAU_SYN, DT, EM, K, ES = (tl.constexpr(n) for n in range(7))
DURATION, INV_TAU_MEM, DELTA, GAIN, EQUAL, BACK_EM, BACK_K, BACK_ES = (tl.constexpr(n) for n in range(7, 15))  # exact
GRID_GAIN, DRIVE_V, DRIVE_I = (tl.constexpr(n) for n in range(7, 10))  # grid


@triton.jit
def expm1(x):
    """exp(x) - 1 for |x| <= 2, as in eventprop.numba: Taylor series of x/8, doubled three times."""
    r = 0.125 * x
    q = r * (
        1
        + r
        * (1 / 2)
        * (
            1
            + r
            * (1 / 3)
            * (
                1
                + r
                * (1 / 4)
                * (
                    1
                    + r
                    * (1 / 5)
                    * (
                        1
                        + r
                        * (1 / 6)
                        * (
                            1
                            + r * (1 / 7) * (1 + r * (1 / 8) * (1 + r * (1 / 9) * (1 + r * (1 / 10) * (1 + r * (1 / 11)))))
                        )
                    )
                )
            )
        )
    )
    q = q * (q + 2)
    q = q * (q + 2)
    return q * (q + 2)


@triton.jit
def propagate(h, inv_tm, delta, gain, equal):
    """(em, K, es) of P(h) for |h| <= 2 min(tau_m, tau_s)."""
    em = 1 + expm1(-h * inv_tm)
    q = expm1(h * delta)
    return em, em * (q * gain + h * equal), em + em * q


# A condition on a number is joined with lanes by tl.where, not `&`: the interpreter of Triton 3.9 spreads the outcome of a
# comparison over lanes as an integer, which is no mask.


@triton.jit
def any_of(lanes):
    return tl.max(lanes.to(tl.int32), 0) > 0


@triton.jit
def other_than(lanes):
    """~lanes, which the interpreter of Triton 3.2 lacks for bools."""
    return lanes == 0


@triton.jit
def count_of(lanes):
    return tl.sum(lanes.to(tl.int32), 0)


def difference(neuron: Neuron) -> tuple[float, float, float]:
    """delta = 1 / tau_m - 1 / tau_s; what K multiplies expm1(h delta) and h with, one of which is zero."""
    delta = 1 / neuron.tau_mem - 1 / neuron.tau_syn
    if abs(delta) * neuron.tau_mem < 1e-14:
        return delta, 0.0, 1 / neuron.tau_mem
    return delta, 1 / (neuron.tau_mem * delta), 0.0


def propagator(h: float, neuron: Neuron) -> tuple[float, float, float]:
    """(em, K, es) of P(h) for any h."""
    delta, gain, equal = difference(neuron)
    em, es = math.exp(-h / neuron.tau_mem), math.exp(-h / neuron.tau_syn)
    if delta > 0:  # keeps the exponent of expm1 negative
        return em, -es * math.expm1(-h * delta) * gain + em * h * equal, es
    return em, em * (math.expm1(h * delta) * gain + h * equal), es


def exact_constants(neuron: Neuron, device: torch.device) -> Tensor:
    return _on_device(
        neuron, device, neuron.duration, 1 / neuron.tau_mem, *difference(neuron), *propagator(-neuron.dt, neuron)
    )


def grid_constants(neuron: Neuron, device: torch.device) -> Tensor:
    """Of the published scheme (:mod:`..numba.grid`): V <- em V + gain S, S <- es S + arrivals; what dL/dV of a
    step adds to (p_V, p_I)."""
    tm, ts, dt = neuron.tau_mem, neuron.tau_syn, neuron.dt
    _em, k, _es = propagator(dt, neuron)
    one_m, one_s = -math.expm1(-dt / tm), -math.expm1(-dt / ts)
    return _on_device(neuron, device, one_m * one_s * ts / dt, one_m * tm / dt, (one_s * ts - tm * k) / dt)


def _on_device(neuron: Neuron, device: torch.device, *more: float) -> Tensor:
    values = neuron.theta, neuron.tau_mem, neuron.tau_syn, neuron.dt, *propagator(neuron.dt, neuron), *more
    return torch.tensor(values, dtype=torch.float64, device=device)
