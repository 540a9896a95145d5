r"""Whole delays over a list of synapses: the discrete form of a layer with delays (Hammouamri et al., Eq. 7 in Eq. 6),

.. math:: I_i[t] = \sum_{(j \to i)} w_{ij}\, s_j[t - d_{ij}],

for inference: spikes visit the synapses that exist, so that time and memory shrink with the number of synapses and with
the activity. Nothing here is differentiable; to train sparse connections see ``mask`` of the layers.

Shapes: spikes ``[T, N, in]``, output ``[T, N, out]``; the synapses of sender j are the entries
``starts[j] : starts[j + 1]`` of ``targets``, ``delays`` and ``weights``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_spikes, values_known
from ..delays import check_delays
from ..kernels import dispatch
from ..kernels.checks import check_size, check_synapse_list
from ..kernels.dispatch import ListedMethod
from ..transforms import refuse_transforms
from .inputs import Padding, check_synapses, padded_steps

__all__ = ["SynapseList", "sparse_delayed_linear", "sparse_delayed_linear_step", "synapse_list"]

_TRAIN = "it is frozen, without derivatives; differentiate the DelayedLinear that it was made of"


class SynapseList(NamedTuple):
    """Synapses ordered by their sender."""

    starts: Tensor
    """int64 ``[in + 1]``"""
    targets: Tensor
    """int32 ``[synapses]``: the receiving neurons."""
    delays: Tensor
    """int32 ``[synapses]``: in time steps."""
    weights: Tensor
    """floating point ``[synapses]``"""


def synapse_list(weight: Tensor, delay: Tensor, max_delay: int, mask: Tensor | None = None) -> SynapseList:
    """The synapses of a layer with their delays rounded.

    :param weight: ``[out, in]``. :param delay: ``[out, in]``, ``[1, in]`` or ``[out, 1]`` within ``[0, max_delay]``.
    :param mask: which synapses exist, bool ``[out, in]``; default: all.
    :raises ValueError: for shapes that do not fit, and delays that are negative, NaN or longer than ``max_delay``.

    Example::

        >>> import torch
        >>> synapses = synapse_list(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.4, 2.6]]), max_delay=3)
        >>> synapses.delays.tolist(), synapses.weights.tolist()
        ([0, 3], [1.0, 2.0])
    """
    check_synapses(weight, delay)
    check_delays(delay, max_delay)
    exists = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask.bool()
    if exists.shape != weight.shape:
        raise ValueError(f"mask must have the shape {tuple(weight.shape)} of weight, got {tuple(exists.shape)}")
    sender, target = exists.mT.nonzero(as_tuple=True)
    starts = torch.zeros(weight.shape[1] + 1, dtype=torch.int64, device=weight.device)
    starts[1:] = exists.sum(0).cumsum(0)
    whole = delay.detach().round().expand_as(weight)[target, sender]
    return SynapseList(starts, target.int(), whole.int(), weight.detach()[target, sender])


def sparse_delayed_linear(
    spikes: Tensor,
    synapses: SynapseList,
    out_features: int,
    bias: Tensor | None = None,
    *,
    max_delay: int,
    padding: Padding = "same",
    method: ListedMethod | None = None,
) -> Tensor:
    """Input currents of a sequence over a list of synapses.

    :param spikes: ``[T, N, in]`` in the dtype of the weights. :param bias: ``[out]``.
    :param padding: ``"same"``, ``"full"`` (``max_delay`` steps more) or a number of steps more.
    :param method: ``"torch"`` (plain form), ``"numba"`` (CPU) or ``"triton"`` (CUDA); default: as
        :mod:`~snn_delay_plugins.kernels.dispatch` chooses. The plain form takes memory for every synapse and step.
    :returns: ``[T + padding, N, out]``, without graph.
    :raises ValueError: for shapes or devices that do not fit, synapses whose indices do not fit or that are longer than
        ``max_delay`` (the compiled form looks at those that a spike visits), or a method that is not possible here.
    :raises TypeError: if ``spikes`` and the weights have different dtypes.

    Example::

        >>> import torch
        >>> synapses = synapse_list(torch.tensor([[2.0]]), torch.tensor([[1.0]]), max_delay=1)
        >>> sparse_delayed_linear(torch.ones(2, 1, 1), synapses, 1, max_delay=1, padding="full").flatten().tolist()
        [0.0, 2.0, 2.0]
    """
    check_list_input(spikes, synapses, out_features, bias, dims=3)
    refuse_transforms("a discrete layer", _TRAIN, vmap=False)
    steps = spikes.shape[0] + padded_steps(padding, max_delay)
    with torch.no_grad():
        if spikes.is_meta:  # where nobody knows which delays there are
            current = spikes.new_empty(steps, spikes.shape[1], out_features)
        elif dispatch.sparse_delay_method(spikes, method) != "torch":
            from ..kernels.sparse_delay.operator import sparse_delayed_linear as operator

            current = operator(spikes, *synapses, out_features, steps, int(max_delay))
        else:
            if values_known(synapses.delays):
                check_synapse_list(*synapses, out_features, int(max_delay))
                current = _plain(spikes, synapses, out_features, steps)
            else:
                current = _gathered(spikes, synapses, out_features, steps, int(max_delay))
        return current if bias is None else current + bias


def sparse_delayed_linear_step(
    spikes: Tensor, pending: Tensor, now: int, synapses: SynapseList, bias: Tensor | None = None
) -> Tensor:
    """One time step: the spikes' currents go into the ring buffer ``pending``, those due now come out of it.

    :param spikes: ``[N, in]``.
    :param pending: the ring ``[max_delay + 1, N, out]`` of currents to come, zero at the start; changed in place.
    :param now: the entry of this step; of the next one ``(now + 1) % (max_delay + 1)``.
    :returns: input currents ``[N, out]``.
    :raises ValueError: for shapes or devices that do not fit, synapses whose indices do not fit or that are longer than
        the ring (the compiled form looks at those that a spike visits).
    :raises TypeError: if ``spikes`` and the weights have different dtypes.

    Example::

        >>> import torch
        >>> synapses = synapse_list(torch.tensor([[2.0]]), torch.tensor([[1.0]]), max_delay=1)
        >>> pending = torch.zeros(2, 1, 1)
        >>> [sparse_delayed_linear_step(torch.ones(1, 1), pending, now, synapses).item() for now in (0, 1)]
        [0.0, 2.0]
    """
    check_list_input(spikes, synapses, pending.shape[-1], bias, dims=2)
    refuse_transforms("a discrete layer", _TRAIN, vmap=False)
    if pending.dim() != 3 or pending.shape[1] != spikes.shape[0] or pending.dtype != spikes.dtype:
        raise ValueError(
            f"pending must be [max_delay + 1, {spikes.shape[0]}, out] of {spikes.dtype}, got {tuple(pending.shape)} of "
            f"{pending.dtype}"
        )
    if not 0 <= now < pending.shape[0]:
        raise ValueError(f"now = {now} is outside [0, {pending.shape[0]}), the entries of pending")
    with torch.no_grad():
        if dispatch.sparse_delay_method(spikes, None) != "torch":
            from ..kernels.sparse_delay.operator import sparse_delayed_linear_step as operator

            operator(spikes, *synapses, pending, now)
        else:
            slots = pending.shape[0]
            check_synapse_list(*synapses, pending.shape[2], slots - 1)
            due = _plain(spikes[None], synapses, pending.shape[2], slots)
            pending.add_(due.roll(now, 0))
        current = pending[now].clone() if bias is None else pending[now] + bias
        pending[now] = 0
    return current


def _senders(synapses: SynapseList) -> int:
    return synapses.starts.shape[0] - 1  # torch 2.6 compiles no property of a named tuple


def _plain(spikes: Tensor, synapses: SynapseList, out_features: int, steps: int) -> Tensor:
    count = spikes.shape[0]
    sender = torch.repeat_interleave(torch.arange(_senders(synapses), device=spikes.device), synapses.starts.diff())
    current = spikes.new_zeros(steps, spikes.shape[1], out_features)
    for delay in synapses.delays.unique().tolist():
        these = synapses.delays == delay
        arriving = spikes[: max(0, min(count, steps - delay))][..., sender[these]] * synapses.weights[these]
        current[delay : delay + arriving.shape[0]].index_add_(2, synapses.targets[these].long(), arriving)
    return current


def _gathered(spikes: Tensor, synapses: SynapseList, out_features: int, steps: int, max_delay: int) -> Tensor:
    """The same without a look at values, as programs compute it that are exported."""
    senders = (torch.arange(synapses.weights.numel(), device=spikes.device) >= synapses.starts[1:, None]).sum(0)
    padded = F.pad(spikes, (0, 0, 0, 0, max_delay, steps - spikes.shape[0])).transpose(1, 2)
    times = torch.arange(steps, device=spikes.device)[:, None] + (max_delay - synapses.delays.long())
    arriving = padded[times, senders] * synapses.weights[:, None]  # [steps, synapses, N]
    current = spikes.new_zeros(steps, out_features, spikes.shape[1])
    return current.index_add(1, synapses.targets.long(), arriving).mT


def check_list_input(spikes: Tensor, synapses: SynapseList, out_features: int, bias: Tensor | None, dims: int) -> None:
    if check_spikes(spikes).dim() != dims or spikes.shape[-1] != _senders(synapses):
        layout = f"[{'T, ' if dims == 3 else ''}N, {_senders(synapses)}]"
        raise ValueError(f"spikes must be {layout}, got shape {tuple(spikes.shape)}")
    if spikes.device != synapses.weights.device:
        raise ValueError(f"spikes are on {spikes.device} but the synapses on {synapses.weights.device}; move one")
    if spikes.dtype != synapses.weights.dtype:
        raise TypeError(f"spikes are {spikes.dtype} but the weights {synapses.weights.dtype}; convert one of them")
    check_size("out_features", out_features)
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"bias must be [{out_features}], got shape {tuple(bias.shape)}")
