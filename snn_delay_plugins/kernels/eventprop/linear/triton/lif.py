"""Backward pass of LIF layers and LI readouts with the derivatives by tau_mem and tau_syn: that of the same neurons among
linear ones, x = (I, V), of which these are derivatives by M. Nothing goes by way of the host."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...neuron import Neuron
from ...triton.layer import Gradients
from ...triton.tables import Events, Synapses
from ..tables import Constants, Layer, steps_at_least
from . import layer as linear
from .layer import Readout, backward_pass

__all__ = ["backward", "spikes", "states"]


def spikes(events: Events, before: Tensor) -> linear.Spikes:
    """Without refractory period."""
    return linear.Spikes(events, before, torch.full_like(before, torch.nan))


def states(voltage: Tensor, current: Tensor) -> Tensor:
    """As linear neurons have them."""
    return torch.stack([current, voltage, torch.zeros_like(voltage)], -1)


def backward(
    events: Events, synapses: Synapses, recurrent: Synapses | None, neuron: Neuron, out: linear.Spikes, g_time: Tensor,
    g_jump: Tensor, source: Tensor, end: Tensor, need_times: bool,
) -> Gradients:  # fmt: skip
    """As :func:`...triton.layer.backward`, with ``tau_mem`` and ``tau_syn``. A spike takes ``neuron.theta`` from V."""
    layer = _layer(neuron, synapses.shape[1], source.shape[0])
    by_final = states(end[..., 0], end[..., 1])
    readout = None if recurrent is not None else Readout(source, by_final.contiguous())
    grads = backward_pass(events, synapses, recurrent, layer, out, g_time, g_jump, need_times, True, readout)
    by_m = grads.M.sum(0)
    return Gradients(
        grads.weight, grads.delay, grads.recurrent_weight, grads.recurrent_delay, grads.times,
        theta=(grads.theta - grads.r[:, 1]).sum(),
        tau_mem=(by_m[1, 1] - by_m[1, 0]) / neuron.tau_mem**2,
        tau_syn=by_m[0, 0] / neuron.tau_syn**2,
    )  # fmt: skip


def _layer(neuron: Neuron, n_out: int, samples: int) -> Layer:
    m, s = 1 / neuron.tau_mem, 1 / neuron.tau_syn
    M = np.broadcast_to(np.array([[-s, 0.0], [m, -m]]), (n_out, 2, 2))
    constants = Constants(
        M=M, B=np.array([1.0, 0.0]), c=np.array([0.0, 1.0]), J=np.zeros((n_out, 2, 2)),
        r=np.broadcast_to([0.0, -neuron.theta], (n_out, 2)), theta=np.full(n_out, neuron.theta),
        refractory=np.zeros(n_out), kept=np.ones(2),
    )  # fmt: skip
    if not samples:
        return Layer.of(constants, neuron.duration, neuron.dt)
    dt = neuron.dt * neuron.every
    every = max(1, math.ceil(steps_at_least(M, dt, dt) * (1 - 1e-12)))
    return Layer.of(constants, samples * dt, dt / every)
