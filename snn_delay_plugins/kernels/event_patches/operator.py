"""Sorting of events by patch as a torch operator, ``event_patches``, and its plain form; what they do: see the package."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import FLOATS, LONGEST, check_indices, check_offsets, check_room, check_size, check_tensor
from ..first_order import first_order_only, reverse_mode_only

__all__ = ["event_pairs", "event_patches", "event_patches_plain"]

_BYTES = 16  # of an event: time and unit


def _loops():
    from . import numba  # which is imported when a layer first runs

    return numba


def _check(
    units: Tensor, offsets: Tensor, starts: Tensor, patches: Tensor, taps: Tensor,
    num_units: int, num_patches: int, num_taps: int, first_channel: int, channels: int,
) -> None:  # fmt: skip
    """
    :raises TypeError, ValueError: for sizes that do not fit to one another, indices that lie outside.
    """
    device = units.device
    check_tensor("units", units, (None,), (torch.int64,), device)
    check_tensor("offsets", offsets, (None,), (torch.int64,), device)
    check_tensor("starts", starts, (None,), (torch.int64,), device)
    check_tensor("patches", patches, (None,), (torch.int64,), device)
    check_tensor("taps", taps, tuple(patches.shape), (torch.int64,), device)
    sizes = {"num_patches": num_patches, "num_taps": num_taps, "channels": channels, "first_channel": first_channel}
    for name, size in sizes.items():
        check_size(name, size)
    check_offsets("offsets", offsets, units.shape[0], "the number of events")
    check_offsets("starts", starts, patches.shape[0], "the number of pairs of patch and tap")
    sites = starts.shape[0] - 1
    if sites < 1 or num_units < 1 or num_units % sites or (first_channel + channels) * sites > num_units:
        raise ValueError(
            f"channels {first_channel} to {first_channel + channels} of {sites} sites are not among num_units = {num_units}"
        )
    if channels * num_taps > LONGEST:
        raise ValueError(f"{channels} channels of num_taps = {num_taps} make more inputs than there can be")
    check_room(f"the rows of {num_patches} patches of {offsets.shape[0] - 1} samples", 8 * num_patches * offsets.shape[0])
    check_indices("units", units, num_units, "num_units")
    check_indices("patches", patches, num_patches, "num_patches")
    check_indices("taps", taps, num_taps, "num_taps")


@torch.library.custom_op("snn_delay_plugins::event_patches", mutates_args=())
def event_patches(
    times: Tensor, units: Tensor, offsets: Tensor, starts: Tensor, patches: Tensor, taps: Tensor,
    num_units: int, num_patches: int, num_taps: int, first_channel: int, channels: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Times, units and offsets of the rows ``patch * N + sample``; the pairs of site s at ``starts[s]:starts[s + 1]`` of
    ``patches`` and ``taps``. Events of other channels than the ``channels`` from ``first_channel`` on are left out."""
    reverse_mode_only("event_patches", "its derivatives exist in reverse mode alone (backward(), torch.autograd.grad)")
    check_tensor("times", times, tuple(units.shape), FLOATS, units.device)
    sizes = num_units, num_patches, num_taps, first_channel, channels
    _check(units, offsets, starts, patches, taps, *sizes)
    if times.device.type != "cpu":
        return event_patches_plain(times.detach(), units, offsets, starts, patches, taps, *sizes)
    loops = _loops()
    table = tuple(x.contiguous().numpy() for x in (units, offsets, starts, patches))
    begin = loops.row_offsets(*table, num_patches, first_channel, channels)
    check_room(f"{begin[-1]} events of all patches", _BYTES * int(begin[-1]))
    out, out_units = times.new_empty(int(begin[-1])), units.new_empty(int(begin[-1]))
    source = times.detach().contiguous().numpy()
    loops.sort_into(
        source, *table, taps.contiguous().numpy(), num_taps, first_channel, channels, begin, out.numpy(), out_units.numpy()
    )
    return out, out_units, torch.from_numpy(begin)


def event_patches_plain(
    times: Tensor, units: Tensor, offsets: Tensor, starts: Tensor, patches: Tensor, taps: Tensor,
    num_units: int, num_patches: int, num_taps: int, first_channel: int, channels: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same in plain PyTorch, differentiable."""
    samples, sites = offsets.shape[0] - 1, starts.shape[0] - 1
    channel, site = units // sites, units % sites
    count = torch.where((channel >= first_channel) & (channel < first_channel + channels), starts.diff()[site], 0)
    event, pair = event_pairs(count, starts[site])
    sample = torch.repeat_interleave(torch.arange(samples, device=units.device), offsets.diff())
    row = patches[pair] * samples + sample[event]
    order = torch.argsort(row, stable=True)
    event, pair = event[order], pair[order]
    begin = torch.bincount(row, minlength=num_patches * samples).cumsum(0)
    return times[event], (channel[event] - first_channel) * num_taps + taps[pair], torch.cat([begin.new_zeros(1), begin])


def event_pairs(count: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the events and of their pairs, one after the other: for every event ``count`` pairs from ``first`` on."""
    event = torch.repeat_interleave(torch.arange(count.shape[0], device=count.device), count)
    before = count.cumsum(0) - count
    return event, torch.arange(event.shape[0], device=count.device) + (first - before)[event]


@event_patches.register_fake
def _(times, units, offsets, starts, patches, taps, num_units, num_patches, num_taps, first_channel, channels):
    events = torch.library.get_ctx().new_dynamic_size()
    rows = num_patches * (offsets.shape[0] - 1) + 1
    return times.new_empty(events), units.new_empty(events), offsets.new_empty(rows)


@torch.library.custom_op("snn_delay_plugins::event_patches_backward", mutates_args=())
def event_patches_backward(
    g_times: Tensor, units: Tensor, offsets: Tensor, starts: Tensor, patches: Tensor, taps: Tensor,
    num_units: int, num_patches: int, num_taps: int, first_channel: int, channels: int,
) -> Tensor:  # fmt: skip
    """Gradient of the times."""
    sizes = num_units, num_patches, num_taps, first_channel, channels
    _check(units, offsets, starts, patches, taps, *sizes)
    if g_times.device.type != "cpu":
        return _summed_back(g_times, units, offsets, starts, patches, taps, *sizes)
    loops = _loops()
    table = tuple(x.contiguous().numpy() for x in (units, offsets, starts, patches))
    begin = loops.row_offsets(*table, num_patches, first_channel, channels)
    check_tensor("g_times", g_times, (int(begin[-1]),), FLOATS, units.device)
    out = g_times.new_zeros(units.shape[0])
    loops.sum_back(g_times.detach().contiguous().numpy(), *table, first_channel, channels, begin, out.numpy())
    return out


def _summed_back(g_times: Tensor, units: Tensor, *rest) -> Tensor:
    """On a device: through the plain form, whose sorting is repeated."""
    events = torch.arange(units.shape[0], device=units.device)
    source, _, _ = event_patches_plain(events, units, *rest)
    check_tensor("g_times", g_times, tuple(source.shape), FLOATS, units.device)
    return g_times.new_zeros(units.shape[0]).index_add_(0, source, g_times.detach())


@event_patches_backward.register_fake
def _(g_times, units, *rest):
    return g_times.new_empty(units.shape[0])


def _context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[1:6])
    ctx.sizes = inputs[6:]


def _backward(ctx, grad, *_):
    return event_patches_backward(grad, *ctx.saved_tensors, *ctx.sizes), *(None for _ in range(10))


event_patches.register_autograd(_backward, setup_context=_context)
first_order_only(event_patches_backward, "event_patches")
