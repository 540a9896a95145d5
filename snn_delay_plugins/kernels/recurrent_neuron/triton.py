"""Linear neurons with delayed recurrent synapses on CUDA.

The kernels are those of :mod:`..linear_neuron.triton`, one program a sample: its spikes add to the currents of later steps
as they are emitted, its gradients of the currents are collected from those steps. The spikes before the first step and the
gradients of the taps need no recursion: there the synapses are feed-forward ones (:mod:`..sparse_taps.triton`). No two
programs touch the same element, and sums have one order: results repeat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..linear_neuron import triton as neurons
from ..linear_neuron.triton import Synapses
from ..sparse_taps import triton as feed_forward


def _ends(ends: Tensor | None, features: int, device: torch.device) -> Tensor:
    """Receivers and senders ``[2, synapses]``."""
    if ends is not None:
        return ends
    units = torch.arange(features, device=device)
    return torch.stack([units.repeat_interleave(features), units.repeat(features)])


def _synapses(taps: Tensor, lags: Tensor, ends: Tensor | None, features: int, steps: int) -> Synapses:
    """As planes from all to all, where synapses that do not exist have taps of zero."""
    taps, lags = taps.detach(), lags.detach().clamp(max=steps).int()  # what is longer reaches nothing
    width = taps.shape[0]
    if ends is None:
        taps, lags = taps.reshape(1, width, features, features), lags.reshape(1, features, features)
    else:
        pair = ends[0] * features + ends[1]
        layer = _repetition(pair)
        layers = int(layer.max()) + 1 if len(layer) else 1
        place = layer * features * features + pair
        in_planes = taps.new_zeros(width, layers * features * features).index_copy_(1, place, taps)
        taps = in_planes.view(width, layers, features, features).transpose(0, 1)
        lags = lags.new_zeros(layers * features * features).index_copy_(0, place, lags).view(layers, features, features)
    return Synapses(taps.mT.contiguous(), lags.mT.contiguous(), taps.contiguous(), lags.contiguous())


def _repetition(pair: Tensor) -> Tensor:
    """How many entries before each are equal to it."""
    values, order = pair.sort(stable=True)
    repetition = torch.empty_like(order)
    repetition[order] = torch.arange(len(pair), device=pair.device) - torch.searchsorted(values, values)
    return repetition


def forward(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor, ends: Tensor | None,
    past: Tensor, code: int, every: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.numba.forward`; the traces are always whole."""
    shape, features = current.shape, current.shape[2]
    total = current.detach().clone(memory_format=torch.contiguous_format)
    if len(past):
        receivers, senders = _ends(ends, features, current.device)
        order = receivers.argsort(stable=True)
        of_list = taps.detach().mT[order], lags[order], senders[order], receivers[order]
        total += feed_forward.forward(past.detach(), *of_list, features, len(past) - 1 + len(current))[len(past) - 1 :]
    synapses = _synapses(taps, lags, ends, features, len(current))
    spikes, *traces, x0, x1, s = neurons.forward(
        total.flatten(1), tuple(x.flatten() for x in state), coefficients, code, synapses=synapses
    )
    x0_seq, x1_seq = (x.view(shape) if x.numel() else x.new_empty(0, 0, 0) for x in traces)
    final = (x.view(of.shape) for x, of in zip((x0, x1, s), state, strict=True))
    return spikes.view(shape), total, x0_seq, x1_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], spikes: Tensor, total: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor,
    ends: Tensor | None, past: Tensor, code: int, every: int, wants_past: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`.numba.backward`."""
    (steps, samples, features), before = total.shape, len(past)

    def flat(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.flatten(1) if x.dim() == 3 else x.flatten()

    g_total, *g_state, g_coefficients = neurons.backward(
        tuple(flat(g) for g in gradients), flat(phi), boxcar, total.flatten(1), tuple(flat(x) for x in traces),
        tuple(x.flatten() for x in state), coefficients, code, synapses=_synapses(taps, lags, ends, features, steps),
    )  # fmt: skip
    g_current = g_total.view(total.shape)
    receivers, senders = _ends(ends, features, total.device)
    # what a spike of lag 0 meets is that of the step after it: from the step after the first spike on
    later = torch.cat([g_current.new_zeros(before - 1, samples, features), g_current]) if before else g_current[1:]
    trains = torch.cat([past, spikes]).detach()
    g_trains, g_taps = feed_forward.backward(
        later, trains, taps.detach().mT.contiguous(), lags, senders, receivers, wants_past and before > 0, True
    )
    return (
        g_current,
        *(x.view(of.shape) for x, of in zip(g_state, state, strict=True)),
        g_coefficients.view(len(coefficients), samples, features),
        g_taps.mT,
        g_trains[:before] if wants_past and before else torch.zeros_like(past),
    )
