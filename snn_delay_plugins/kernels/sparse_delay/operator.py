"""Whole delays over a list of synapses, as torch operators: ``snn_delay_plugins::sparse_delayed_linear`` and
its single step. Shapes: :mod:`snn_delay_plugins.functional.sparse_delay`.

On the CPU :mod:`.numba` runs the loops, which check each synapse that a spike visits; on CUDA :mod:`.triton`, after the
whole list has been checked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import FLOATS, LONGEST, check_room, check_size, check_synapse_list, check_tensor
from ..device import runs_triton
from ..first_order import reverse_mode_only
from ..threads import over_ranges

__all__ = ["sparse_delayed_linear", "sparse_delayed_linear_step"]


@torch.library.custom_op("snn_delay_plugins::sparse_delayed_linear", mutates_args=())
def sparse_delayed_linear(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, out_features: int, steps: int,
    max_delay: int | None = None,
) -> Tensor:  # fmt: skip
    """Currents ``[steps, N, out]`` of spikes ``[T, N, in]``; a synapse longer than ``max_delay``, if given, is refused."""
    reverse_mode_only("sparse_delayed_linear")
    synapses = starts, targets, delays, weights
    check_tensor("spikes", spikes, (None, None, None), FLOATS, _home(spikes))
    _check_types(spikes, *synapses)
    check_size("out_features", out_features)
    check_size("steps", steps)
    numbers = steps * spikes.shape[1] * out_features
    check_room(f"steps = {steps} of {spikes.shape[1]} x {out_features} currents", numbers * spikes.element_size())
    longest = LONGEST if max_delay is None else max_delay
    if runs_triton(spikes):
        from . import triton

        return triton.sequence(spikes, *synapses, out_features, steps, longest)
    out = spikes.new_zeros(steps, spikes.shape[1], out_features)
    _over_samples("sequence", spikes, synapses, out, spikes.shape[1], longest)
    return out


@sparse_delayed_linear.register_fake
def _(spikes, starts, targets, delays, weights, out_features, steps, max_delay=None):
    return spikes.new_empty(steps, spikes.shape[1], out_features)


@torch.library.custom_op("snn_delay_plugins::sparse_delayed_linear_step", mutates_args=("pending",))
def sparse_delayed_linear_step(
    spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, pending: Tensor, now: int
) -> None:
    """Add the currents of spikes ``[N, in]`` to the ring ``pending`` ``[slots, N, out]``, whose entry of now is
    ``now``."""
    reverse_mode_only("sparse_delayed_linear_step")
    synapses = starts, targets, delays, weights
    check_tensor("spikes", spikes, (None, None), FLOATS, _home(spikes))
    _check_types(spikes, *synapses)
    check_tensor("pending", pending, (None, spikes.shape[0], None), (spikes.dtype,), spikes.device)
    slots = pending.shape[0]
    if not 0 <= now < slots:
        raise ValueError(f"now = {now} is outside [0, {slots}), the slots of pending")
    ring = pending.detach().contiguous()
    if runs_triton(spikes):
        from . import triton

        triton.step(spikes, *synapses, ring, now)
    else:
        _over_samples("step", spikes, synapses, ring, spikes.shape[0], slots - 1, now)
    if ring.data_ptr() != pending.data_ptr():
        pending.copy_(ring)


@sparse_delayed_linear_step.register_fake
def _(spikes, starts, targets, delays, weights, pending, now):
    return None


def _home(spikes: Tensor) -> torch.device:
    """The spikes' own device, where there are loops for it."""
    return spikes.device if runs_triton(spikes) else torch.device("cpu")


def _check_types(spikes: Tensor, starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor) -> None:
    check_tensor("weights", weights, (None,), (spikes.dtype,), spikes.device)
    check_tensor("starts", starts, (spikes.shape[-1] + 1,), (torch.int64,), spikes.device)
    for name, values in {"targets": targets, "delays": delays}.items():
        check_tensor(name, values, (weights.shape[0],), (torch.int32,), spikes.device)


def _over_samples(
    loop: str, spikes: Tensor, synapses: tuple[Tensor, ...], into: Tensor, samples: int, longest: int, *more: int
) -> None:
    """
    :raises ValueError: if spikes visit synapses that do not fit.
    """
    from . import numba  # when a kernel first runs

    run = {"sequence": numba.sequence, "step": numba.step}[loop]
    arrays = [x.detach().contiguous().numpy() for x in (spikes, *synapses)]
    misfits = []

    def task(first: int, last: int) -> None:
        if not run(first, last, *arrays, into.numpy(), longest, *more):
            misfits.append((first, last))

    over_ranges(task, samples)
    if misfits:
        starts, targets, delays, weights = synapses
        check_synapse_list(starts, targets, delays, weights, into.shape[2], longest)
