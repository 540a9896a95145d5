r"""EventProp convolutions: a weight and a delay for every tap of a kernel that all places of the output share.

Equations: those of :mod:`.eventprop` and :mod:`.eventprop_linear`, with

    a spike of channel c at place q, at t:   I[o, p] <- I[o, p] + w[o, c, k]   at   t + d[o, c, k]
    for all places p of the output and taps k with   q = p stride - padding + k dilation   (on every axis)

that is: the linear layer with the unrolled weights and delays, in value and in every gradient, those of the kernel being
sums over p. The unrolled weights exist nowhere. The events are sorted by the place p that sees them
(:mod:`snn_delay_plugins.kernels.event_patches`), and the places pass through the linear layer as a batch; the cost is that
of the linear layer per synaptic event, memory grows with the spikes times the taps.

Input and output are :class:`~snn_delay_plugins.events.SpikeEvents` whose units have a shape (channels, length) or
(channels, height, width); weights are [out, in / groups, *kernel] as in :func:`torch.nn.functional.conv2d`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..checks import check_whole
from ..events import SpikeEvents
from ..kernels import dispatch
from ..kernels.event_patches.operator import event_patches, event_patches_plain
from ..kernels.event_patches.wiring import Wiring, space_of, wiring
from ..kernels.eventprop.neuron import TooManySpikes
from .eventprop import SpikeTimes, eventprop_lif
from .eventprop_linear import eventprop_linear
from .eventprop_models import ContinuousModel
from .eventprop_traces import eventprop_traces
from .window_convolution import per_axis

__all__ = ["eventprop_convolution_traces", "eventprop_lif_convolution", "eventprop_linear_convolution"]

Number = Tensor | float
PerAxis = int | tuple[int, ...]


def eventprop_lif_convolution(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    tau_mem: Number = 20.0,
    tau_syn: Number = 5.0,
    threshold: Number = 1.0,
    dt: float = 1.0,
    spike_times: SpikeTimes = "exact",
    max_spikes: int = 10_000,
) -> SpikeEvents:
    """A convolution onto leaky integrate-and-fire neurons (module heading).

    Parameters
    ----------
    events : SpikeEvents
        Units of shape (channels, length) or (channels, height, width).
    weight : Tensor [out, in / groups, *kernel]
    delay : Tensor, optional
        Like the weight, or with size 1 on some of its axes: one for all. None: zero.
    stride, padding, dilation, groups
        As in :func:`torch.nn.functional.conv2d`, in whole numbers.
    tau_mem, tau_syn, threshold, dt, spike_times, max_spikes
        As in :func:`~snn_delay_plugins.functional.eventprop.eventprop_lif`, one for the layer.

    Returns
    -------
    SpikeEvents
        Units of shape (out, *space).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as :func:`~snn_delay_plugins.functional.eventprop.eventprop_lif`, and for shapes that do not fit.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop_convolution import eventprop_lif_convolution
    >>> row = SpikeEvents.from_lists([[1.0, 4.0]], [[1, 2]], num_units=4, duration=50.0).reshape(1, 4)
    >>> w = torch.tensor([[[4.0, 4.0]]], dtype=torch.float64)  # two taps
    >>> d = torch.tensor([[[3.0, 0.0]]], dtype=torch.float64)
    >>> spikes = eventprop_lif_convolution(row, w, d)
    >>> spikes.unit_shape, spikes.units.tolist(), [round(t, 2) for t in spikes.times.tolist()]
    ((1, 3), [1], [8.12])
    """
    convolution = _Convolution.of(events, weight, delay, stride, padding, dilation, groups)
    parts = []
    for first, rows, w, d in convolution.grouped(events, weight, delay, "eventprop_lif"):
        with convolution.named(first):
            layer = eventprop_lif(
                rows, w, d, tau_mem=tau_mem, tau_syn=tau_syn, threshold=threshold, dt=dt, spike_times=spike_times,
                max_spikes=max_spikes,
            )  # fmt: skip
        parts.append((first, 0, layer))
    return convolution.joined(parts)


def eventprop_linear_convolution(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    threshold: Number = 1.0,
    refractory: Number = 0.0,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    dt: float = 1.0,
    max_spikes: int = 10_000,
) -> SpikeEvents:
    """A convolution onto neurons of any linear model (module heading).

    Parameters
    ----------
    events, weight, delay, stride, padding, dilation, groups
        As in :func:`eventprop_lif_convolution`.
    model, dt, max_spikes
        As in :func:`~snn_delay_plugins.functional.eventprop_linear.eventprop_linear`.
    constants, threshold, refractory
        Numbers, or Tensors: [out], one for each channel, or [out, *space], one for each neuron. With one for each neuron
        the places of the output are computed one after the other, which takes a millisecond or so for each.

    Returns
    -------
    SpikeEvents
        Units of shape (out, *space).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as :func:`~snn_delay_plugins.functional.eventprop_linear.eventprop_linear`, and for shapes that do not fit.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop_convolution import eventprop_linear_convolution
    >>> from snn_delay_plugins.functional.eventprop_models import ADLIF
    >>> image = SpikeEvents.from_lists([[1.0, 4.0]], [[0, 3]], num_units=4, duration=50.0).reshape(1, 2, 2)
    >>> w = torch.full((3, 1, 2, 2), 8.0, dtype=torch.float64)
    >>> b = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)  # of the channels
    >>> eventprop_linear_convolution(image, w, model=ADLIF, constants={"b": b}).counts()
    tensor([[3, 2, 2]])
    """
    convolution = _Convolution.of(events, weight, delay, stride, padding, dilation, groups)
    values = {**(constants or {}), "threshold": threshold, "refractory": refractory}
    values = {name: convolution.by_patch(name, value) for name, value in values.items()}
    layer = partial(eventprop_linear, model=model, dt=dt, max_spikes=max_spikes)
    parts = []
    for first, rows, w, d in convolution.grouped(events, weight, delay, "eventprop_linear"):
        of = slice(first, first + w.shape[0])
        if not any(isinstance(value, tuple) for value in values.values()):
            with convolution.named(first):
                parts.append((first, 0, layer(rows, w, d, **_options(values, of, 0))))
            continue
        for p in range(convolution.wiring.num_patches):
            here = rows[p * events.batch_size : (p + 1) * events.batch_size]
            with convolution.named(first, p):
                parts.append((first, p, layer(here, w, d, **_options(values, of, p))))
    return convolution.joined(parts)


def eventprop_convolution_traces(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    threshold: Number = 1.0,
    refractory: Number = 0.0,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    dt: float = 1.0,
    max_spikes: int = 10_000,
) -> dict[str, Tensor]:
    """:func:`~snn_delay_plugins.functional.eventprop_traces.eventprop_traces` of a convolution, [steps, N, out, *space];
    arguments as of :func:`eventprop_linear_convolution`."""
    convolution = _Convolution.of(events, weight, delay, stride, padding, dilation, groups)
    values = {**(constants or {}), "threshold": threshold, "refractory": refractory}
    values = {name: convolution.by_patch(name, value) for name, value in values.items()}
    patches, samples, each = convolution.wiring.num_patches, events.batch_size, 1
    if any(isinstance(value, tuple) for value in values.values()):
        each = patches
    found: dict[str, list[Tensor]] = {name: [] for name in model.states}
    for first, rows, w, d in convolution.grouped(events.detach(), weight, delay, "eventprop_linear"):
        parts, size, of = [], rows.batch_size // each, slice(first, first + w.shape[0])
        for p in range(each):
            here, options = rows[p * size : (p + 1) * size], _options(values, of, p)
            with convolution.named(first, p if each > 1 else 0):
                parts.append(eventprop_traces(here, w, d, model=model, dt=dt, max_spikes=max_spikes, **options))
        for name in model.states:
            states = torch.cat([part[name] for part in parts], 1)
            found[name].append(states.unflatten(1, (patches, samples)).permute(0, 2, 3, 1))
    return {name: torch.cat(parts, 2).unflatten(3, convolution.wiring.out_space) for name, parts in found.items()}


Values = Number | tuple[Tensor, ...]


def _options(values: Mapping[str, Values], channels: slice, patch: int) -> dict:
    """Arguments of eventprop_linear for some channels at one place."""
    here = {name: value[patch] if isinstance(value, tuple) else value for name, value in values.items()}
    here = {name: x[channels] if isinstance(x, Tensor) and x.dim() == 1 else x for name, x in here.items()}
    own = {name: here.pop(name) for name in ("threshold", "refractory")}
    return {"constants": here, **own}


@dataclass(frozen=True)
class _Convolution:
    """A convolution of given events, its arguments checked."""

    samples: int
    duration: float
    in_channels: int
    out_channels: int
    groups: int
    wiring: Wiring

    @staticmethod
    def of(events, weight, delay, stride, padding, dilation, groups) -> _Convolution:
        if not isinstance(weight, Tensor):
            raise TypeError(f"weight must be a tensor, got {type(weight).__name__}")
        axes = weight.dim() - 2
        if axes < 1 or not weight.numel():
            raise ValueError(f"weight must be [out, in / groups, *kernel], got shape {tuple(weight.shape)}")
        channels, space = space_of(events, axes)
        groups = check_whole("groups", groups, least=1)
        out_channels, per_group, *kernel = weight.shape
        if channels != per_group * groups or out_channels % groups:
            raise ValueError(
                f"weight [out, in / groups, *kernel] = {tuple(weight.shape)} and groups = {groups} do not fit to units of "
                f"shape {events.unit_shape}"
            )
        _check_delay(delay, weight)
        sizes = {"stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1)}
        geometry = (per_axis(name, value, axes, least) for name, (value, least) in sizes.items())
        wired = wiring(space, tuple(kernel), *geometry)
        return _Convolution(events.batch_size, events.duration, channels, out_channels, groups, wired)

    def grouped(
        self, events: SpikeEvents, weight: Tensor, delay: Tensor | None, layer: str
    ) -> Iterator[tuple[int, SpikeEvents, Tensor, Tensor | None]]:
        """For every group its first output channel, its events by place, its weights and delays [out, in taps]."""
        plain = dispatch.eventprop_method(events.times, layer) == "torch"
        sort = event_patches_plain if plain else event_patches
        lists = self.wiring.lists(events.device)
        ins, outs = self.in_channels // self.groups, self.out_channels // self.groups
        sizes = events.num_units, self.wiring.num_patches, self.wiring.num_taps
        for group in range(self.groups):
            times, units, offsets = sort(events.times, events.units, events.offsets, *lists, *sizes, group * ins, ins)
            rows = SpikeEvents._trusted(times, units, offsets, ins * self.wiring.num_taps, self.duration)
            of = slice(group * outs, (group + 1) * outs)
            d = None if delay is None else delay.expand(weight.shape)[of].flatten(1)
            yield group * outs, rows, weight[of].flatten(1), d

    def by_patch(self, name: str, value: Number) -> Values:
        """A number, a tensor [] or [out]; or for every place a tensor [out].

        :raises ValueError: for other shapes.
        """
        if not isinstance(value, Tensor) or value.numel() == 1:
            return value.reshape(()) if isinstance(value, Tensor) else value
        if tuple(value.shape) == (self.out_channels,):
            return value
        if tuple(value.shape) != (self.out_channels, *self.wiring.out_space):
            raise ValueError(
                f"{name} must be a number, [{self.out_channels}] (one for each channel) or "
                f"{[self.out_channels, *self.wiring.out_space]} (one for each neuron), got shape {tuple(value.shape)}"
            )
        return value.flatten(1).unbind(1)

    @contextmanager
    def named(self, first_channel: int, first_patch: int = 0) -> Iterator[None]:
        """Errors name samples, channels and places."""
        try:
            yield
        except TooManySpikes as error:
            row = first_patch * self.samples + error.sample
            place = np.unravel_index(row // self.samples, self.wiring.out_space)
            channel, *_ = error.unit if isinstance(error.unit, tuple) else (error.unit,)
            unit = (first_channel + channel, *map(int, place))
            raise TooManySpikes(row % self.samples, unit, error.duration, error.max_spikes) from None

    def joined(self, parts: list[tuple[int, int, SpikeEvents]]) -> SpikeEvents:
        """The spikes of all (first channel, first place, layer) by sample and time."""
        patches = self.wiring.num_patches
        rows = torch.cat([layer.samples() + place * self.samples for _, place, layer in parts])
        channels = torch.cat([layer.units + first for first, _, layer in parts])
        times = torch.cat([layer.times for *_, layer in parts])
        samples, places = rows % max(self.samples, 1), rows // max(self.samples, 1)
        order = torch.argsort(times.detach(), stable=True)
        order = order[torch.argsort(samples[order], stable=True)]
        ends = torch.bincount(samples, minlength=self.samples).cumsum(0)
        potentials = [layer.potential for *_, layer in parts if layer.potential is not None]
        potential = torch.cat(potentials)[order] if len(potentials) == len(parts) else None
        shape = (self.out_channels, *self.wiring.out_space)
        return SpikeEvents._trusted(
            times[order], (channels * patches + places)[order], torch.cat([ends.new_zeros(1), ends]),
            self.out_channels * patches, self.duration, potential, shape,
        )  # fmt: skip


def _check_delay(delay: Tensor | None, weight: Tensor) -> None:
    if delay is None:
        return
    if not isinstance(delay, Tensor):
        raise TypeError(f"delay must be a tensor, got {type(delay).__name__}")
    if delay.dim() != weight.dim() or any(d not in (1, w) for d, w in zip(delay.shape, weight.shape, strict=True)):
        raise ValueError(
            f"delay must be {list(weight.shape)}, or 1 on some of these axes, as the weight is, got {tuple(delay.shape)}"
        )
