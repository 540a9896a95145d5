"""Sparse batches of spike trains with differentiable spike times.

A :class:`SpikeEvents` holds, for every sample of a batch, a list of pairs (time, unit). It is what EventProp layers
hand to each other: memory grows with the number of spikes and not with time steps x batch x units, and times are
real numbers, so that ``loss.backward()`` can carry dL/dt from layer to layer.

At the border to dense code two maps carry gradients (n(k) is the bin of spike k, g = dL/dX the gradient on the dense
tensor X[T, N, C], dt the bin width):

``to_dense``    dL/dt_k = (g[n+1] - g[n-1]) / (2 dt),   n = n(k); one-sided, (g[n+1] - g[n]) / dt, in the first bin and
                alike in the last. g[n] samples phi(n dt), the first-order change of the loss when a spike is put at
                time n dt, so the central difference is phi'(t_k) with an error of order dt^2.
``from_dense``  g[n+1] += dt dL/dt_k,  g[n-1] -= dt dL/dt_k: the gradient of the centre of mass of the spike's
                neighbourhood, t_k = sum_m m dt X[m] / sum_m X[m], m = n-1, n, n+1. It is a right inverse of the
                first map: dense -> events -> dense hands an isolated spike's dL/dt back unchanged.

Neither map says anything about creating or deleting a spike; EventProp has no such gradient. A loss that reads counts
alone, sum_n X[n], has the same g at all times, and so dL/dt = 0. ``to_dense(count_gradient=c)`` lets it train by a
stand-in: a spike's entry in X is taken for

    1 + c (V(t_k) - theta) / theta,   V at the fixed time t_k,   which is 1, so that dL/dV(t_k) += c g[n(k)] / theta

(V(t_k) before the reset). This is the exact derivative of a loss of such graded spikes and not that of the counts, which is
zero almost everywhere; its sign is right in so far as a potential that is higher at the spikes makes more of them. It
reaches neurons that fire, alone.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .bins import bin_of, check_resolution, steps_in
from .callers import user_level
from .checks import TO_DENSE, check_number, check_whole
from .event_arrays import times_and_units
from .timeless import warn_if_timeless
from .transforms import REVERSE_ALONE, refuse_transforms

__all__ = ["SpikeEvents"]

Device = str | torch.device | None


class SpikeEvents:
    r"""A batch of spike trains.

    Parameters
    ----------
    times : Tensor [n]
        Spike times, float32 or float64, in the unit of all times of the network (ms by convention). May require grad.
    units : Tensor [n]
        int64, the unit (channel, neuron) that spiked, ``0 <= unit < num_units``. Several events with equal time and
        unit are allowed and mean that many spikes.
    offsets : Tensor [N + 1]
        int64. Sample b owns events ``offsets[b]:offsets[b + 1]``.
    num_units : int
        Number of units of the layer that emitted the spikes.
    duration : float
        Length of a sample; every time lies in ``[0, duration]``.
    potential : Tensor [n], optional
        The membrane potential at each spike (the threshold). A gradient put on it is added to dL/dV just before
        that spike; :func:`snn_delay_plugins.functional.losses.spike_count_regularisation` uses it.

    Events of a sample are kept sorted by time; unsorted input is sorted (stably) here. Tensors are not copied: whoever
    changes them in place afterwards changes the events. Layers and the methods here check again what they rely on.

    Raises
    ------
    TypeError
        times not floating, units or offsets not int64.
    ValueError
        wrong shapes, NaN or infinite times, a time outside ``[0, duration]``, a unit outside ``[0, num_units)``,
        offsets that do not run from 0 to n without falling. The message names the value.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> e = SpikeEvents.from_lists([[0.0, 10.0], [2.5]], [[0, 1], [1]], num_units=2, duration=40.0)
    >>> e.batch_size, len(e), e.counts().tolist()
    (2, 3, [[1, 1], [0, 1]])

    Units are counted from 0 to ``num_units - 1``; those of an image, or of a convolution, have a :attr:`unit_shape`
    (channels, height, width) besides, see :meth:`reshape`.
    """

    __slots__ = ("_unit_shape", "duration", "num_units", "offsets", "potential", "times", "units")

    def __init__(
        self,
        times: Tensor,
        units: Tensor,
        offsets: Tensor,
        num_units: int,
        duration: float,
        potential: Tensor | None = None,
    ) -> None:
        num_units, duration = int(num_units), float(duration)
        check_types(times, units, offsets, num_units, duration, potential)
        if not duration:
            raise ValueError("duration must be positive and finite, got 0.0")
        _check_values(times, units, offsets, num_units, duration)
        order = _sorting_order(times.detach(), offsets)
        if order is not None:
            times, units = times[order], units[order]
            potential = None if potential is None else potential[order]
        self.times = times
        self.units = units
        self.offsets = offsets
        self.num_units = num_units
        self.duration = duration
        self.potential = potential
        self._unit_shape = None

    @classmethod
    def _trusted(
        cls,
        times: Tensor,
        units: Tensor,
        offsets: Tensor,
        num_units: int,
        duration: float,
        potential: Tensor | None = None,
        unit_shape: tuple[int, ...] | None = None,
    ) -> SpikeEvents:
        """Build without checks, from parts that are valid by construction."""
        self = object.__new__(cls)
        self.times, self.units, self.offsets = times, units, offsets
        self.num_units, self.duration, self.potential = int(num_units), float(duration), potential
        self._unit_shape = unit_shape
        return self

    # ---------------------------------------------------------------- beside dense layers

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise TypeError(f"{getattr(function, '__name__', function)} takes tensors, not SpikeEvents: {TO_DENSE}")

    def __getattr__(self, name: str):
        raise AttributeError(f"SpikeEvents has no attribute {name!r}; a layer for tensors needs dense spikes: {TO_DENSE}")

    # ---------------------------------------------------------------- size and place

    @property
    def batch_size(self) -> int:
        return self.offsets.numel() - 1

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """Of the units, whose numbers count in row-major order; ``(num_units,)`` unless :meth:`reshape` gave another."""
        shape = getattr(self, "_unit_shape", None)  # none in one that was pickled before there were shapes
        return shape if shape is not None and math.prod(shape) == self.num_units else (self.num_units,)

    def reshape(self, *shape: int) -> SpikeEvents:
        """The same spikes of units with a shape, as ``(channels, height, width)``; -1 stands for what is left, as in
        :meth:`torch.Tensor.reshape`. Nothing is copied.

        Unit ``(c, y, x)`` has the number ``(c * height + y) * width + x``. Layers that ask for a shape
        (:class:`~snn_delay_plugins.EventPropConv2d`) read it, all others count through.

        Raises
        ------
        ValueError
            the shape has another number of units.

        Examples
        --------
        >>> from snn_delay_plugins.events import SpikeEvents
        >>> e = SpikeEvents.from_lists([[1.5]], [[7]], num_units=12, duration=10.0).reshape(2, 2, -1)
        >>> e.unit_shape, e.reshape(-1).unit_shape
        ((2, 2, 3), (12,))
        """
        sizes = tuple(check_whole("a size of the units' shape", size, least=-1) for size in shape)
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) == 1 and known and self.num_units % known == 0:
            sizes = tuple(self.num_units // known if size == -1 else size for size in sizes)
        if -1 in sizes or math.prod(sizes) != self.num_units or not sizes:
            raise ValueError(f"{self.num_units} units have no shape {sizes}")
        return SpikeEvents._trusted(
            self.times, self.units, self.offsets, self.num_units, self.duration, self.potential, sizes
        )

    @property
    def dtype(self) -> torch.dtype:
        return self.times.dtype

    @property
    def device(self) -> torch.device:
        return self.times.device

    def __len__(self) -> int:
        return self.times.numel()

    def __repr__(self) -> str:
        return (
            f"SpikeEvents(batch_size={self.batch_size}, spikes={len(self)}, "
            + (f"num_units={self.num_units}, " if len(self.unit_shape) == 1 else f"unit_shape={self.unit_shape}, ")
            + f"duration={self.duration:g}, dtype={self.dtype}, device={self.device})"
        )

    def to(self, *args: Any, **kwargs: Any) -> SpikeEvents:
        """Move to a device and / or cast the times, with the arguments of :meth:`torch.Tensor.to`."""
        times = self.times.to(*args, **kwargs)
        if not times.is_floating_point():
            raise TypeError(f"spike times must stay floating point, got {times.dtype}")
        potential = None if self.potential is None else self.potential.to(times.device, times.dtype)
        return SpikeEvents._trusted(
            times,
            self.units.to(times.device),
            self.offsets.to(times.device),
            self.num_units,
            self.duration,
            potential,
            self._unit_shape,
        )

    def detach(self) -> SpikeEvents:
        """The same spikes, cut from the autograd graph."""
        return SpikeEvents._trusted(
            self.times.detach(), self.units, self.offsets, self.num_units, self.duration, None, self._unit_shape
        )

    # ---------------------------------------------------------------- batching

    @staticmethod
    def cat(batches: Sequence[SpikeEvents]) -> SpikeEvents:
        """Join along the batch: samples of the first, then of the second, ..."""
        batches = list(batches)
        if not batches:
            raise ValueError("SpikeEvents.cat needs at least one batch")
        first = batches[0]
        for other in batches[1:]:
            if (other.num_units, other.duration) != (first.num_units, first.duration):
                raise ValueError(
                    "cannot join batches of different num_units or duration: "
                    f"({first.num_units}, {first.duration}) and ({other.num_units}, {other.duration})"
                )
            if other.unit_shape != first.unit_shape:
                raise ValueError(
                    f"cannot join batches of different unit_shape: {first.unit_shape} and {other.unit_shape}; "
                    "use .reshape()"
                )
            if (other.dtype, other.device) != (first.dtype, first.device):
                raise ValueError(
                    "cannot join batches of different dtype or device: "
                    f"{first.dtype} on {first.device} and {other.dtype} on {other.device}; use .to()"
                )
        starts = [0]
        for events in batches:
            starts.append(starts[-1] + len(events))
        offsets = torch.cat([first.offsets] + [e.offsets[1:] + s for e, s in zip(batches[1:], starts[1:], strict=False)])
        potentials = [e.potential for e in batches if e.potential is not None]
        potential = torch.cat(potentials) if len(potentials) == len(batches) else None
        return SpikeEvents._trusted(
            torch.cat([e.times for e in batches]),
            torch.cat([e.units for e in batches]),
            offsets,
            first.num_units,
            first.duration,
            potential,
            first._unit_shape,
        )

    batch = cat

    def __getitem__(self, index: int | slice) -> SpikeEvents:
        """A sample (int) or a run of samples (slice with step 1), as a batch."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self.batch_size)
            if step != 1:
                raise ValueError(f"slices of SpikeEvents need step 1, got {step}")
            stop = max(start, stop)
        else:
            if not -self.batch_size <= index < self.batch_size:
                raise IndexError(f"sample {index} is out of range for a batch of {self.batch_size}")
            start = index % self.batch_size
            stop = start + 1
        self._check_offsets()
        lo, hi = int(self.offsets[start]), int(self.offsets[stop])
        potential = None if self.potential is None else self.potential[lo:hi]
        return SpikeEvents._trusted(
            self.times[lo:hi],
            self.units[lo:hi],
            self.offsets[start : stop + 1] - lo,
            self.num_units,
            self.duration,
            potential,
            self._unit_shape,
        )

    # ---------------------------------------------------------------- views that losses use

    def samples(self) -> Tensor:
        """[n] int64: the sample of each event."""
        self._check_offsets()
        sizes = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(self.batch_size, device=self.device), sizes)

    def _neurons(self) -> Tensor:
        """[n] int64: sample * num_units + unit of each event."""
        if not torch.compiler.is_compiling():
            _check_units(self.units, self.num_units)
        return self.samples() * self.num_units + self.units

    def counts(self) -> Tensor:
        """[N, num_units] int64: number of spikes of each unit. A count has no gradient."""
        index = self._neurons()
        return torch.bincount(index, minlength=self.batch_size * self.num_units).view(self.batch_size, self.num_units)

    def first_spike_times(self, silent: float = math.inf) -> Tensor:
        """[N, num_units]: time of each unit's first spike, differentiable; ``silent`` where there is none."""
        self._check_offsets()
        self._check_last()
        if not torch.compiler.is_compiling() and _sorting_order(self.times.detach(), self.offsets) is not None:
            raise ValueError("the times of a sample are no longer in order: build the SpikeEvents anew after each change")
        index = self._neurons()
        size = self.batch_size * self.num_units
        first = torch.full((size,), len(self), dtype=torch.int64, device=self.device)
        first.scatter_reduce_(0, index, torch.arange(len(self), device=self.device), reduce="amin")
        padded = torch.cat([self.times, self.times.new_full((1,), silent)])
        return padded[first].view(self.batch_size, self.num_units)

    # ---------------------------------------------------------------- lists

    @classmethod
    def from_lists(
        cls,
        times: Sequence[Any],
        units: Sequence[Any],
        *,
        num_units: int,
        duration: float,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
        device: Device = None,
    ) -> SpikeEvents:
        """From one sequence of times and one of units per sample, as SHD's ``spikes/times`` and ``spikes/units``.

        ``duration`` is the length of every sample in the unit of the network (after ``scale``); no spike comes later. Rows
        (time, unit), an array ``a`` per sample, become ``from_lists([a[:, 0] for a in rows],
        [a[:, 1].astype(int) for a in rows], ...)``.

        ``scale`` turns the times into the network's unit: 1000 for times in s, as SHD's, and a network in ms. Leave it to
        this function: NumPy multiplies float16 numbers, which SHD stores, in float16, and loses half of the ms.

        >>> SpikeEvents.from_lists([[0.0, 0.25], []], [[3, 5], []], num_units=700, duration=1000.0, scale=1000).times
        tensor([  0., 250.], dtype=torch.float64)
        """
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be positive and finite, got {scale!r}")
        if len(times) != len(units):
            raise ValueError(f"times holds {len(times)} samples but units holds {len(units)}")
        all_times, all_units, offsets = [], [], [0]
        for b, (t, u) in enumerate(zip(times, units, strict=False)):
            t = torch.as_tensor(t, dtype=None if hasattr(t, "dtype") else torch.float64)  # Python numbers are float64
            u = torch.as_tensor(u)
            if t.shape != u.shape or t.dim() != 1:
                remedy = {
                    0: "; one sequence per sample: a single sample is from_lists([times], [units])",
                    2: "; one sequence per sample: [a[:, 0] for a in rows], [a[:, 1].astype(int) for a in rows]",
                }.get(max(t.dim(), u.dim()), "")
                raise ValueError(
                    f"sample {b}: times and units must be one-dimensional and of one length, got {tuple(t.shape)} and "
                    f"{tuple(u.shape)}{remedy}"
                )
            if u.numel() and (u.is_floating_point() or u.is_complex()):
                raise TypeError(f"sample {b}: units must be integers, got {u.dtype}; convert them, e.g. units.long()")
            _warn_of_float16(b, t)
            all_times.append(_scaled(t, scale).to(device=device, dtype=dtype))
            all_units.append(u.to(device=device, dtype=torch.int64))
            offsets.append(offsets[-1] + t.numel())
        times_ = torch.cat(all_times) if all_times else torch.zeros(0, dtype=dtype, device=device)
        units_ = torch.cat(all_units) if all_units else torch.zeros(0, dtype=torch.int64, device=device)
        return cls(times_, units_, torch.tensor(offsets, device=times_.device), num_units, duration)

    @classmethod
    def from_array(
        cls,
        rows: Any,
        *,
        duration: float,
        num_units: int | None = None,
        unit_shape: Sequence[int] | None = None,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
        device: Device = None,
    ) -> SpikeEvents:
        """From arrays of rows (time, unit), one array ``(n, 2)`` per sample, or from structured arrays with the fields
        ``t`` and ``x`` (``y``, ``p``), as tonic's, or dicts of these, as SpikingJelly's. One array alone is a batch of one
        sample.

        ``num_units``: how many units there are; of a camera ``unit_shape`` (channels, height, width) instead: p is the
        channel, y the row, x the column, and the events have that shape. ``scale`` turns the times into the network's unit:
        1e-3 for tonic's microseconds and a network in ms; ``duration`` is in the network's unit, and later events are an
        error.

        :raises TypeError, ValueError: for arrays of another form, units that are not whole or lie outside, neither or both
            of ``num_units`` and ``unit_shape``, and as :class:`SpikeEvents`.

        >>> import numpy as np
        >>> recordings = [np.array([[0.5, 3], [2.0, 1]]), np.array([[1.0, 0]])]
        >>> e = SpikeEvents.from_array(recordings, num_units=4, duration=10.0)
        >>> e.units.tolist(), e.offsets.tolist()
        ([3, 1, 0], [0, 2, 3])
        """
        if (num_units is None) == (unit_shape is None):
            raise ValueError("give num_units, or unit_shape of units that have one, and not both")
        shape = (int(cast(int, num_units)),) if unit_shape is None else tuple(int(size) for size in unit_shape)
        alone = isinstance(rows, Tensor | np.ndarray) and (rows.ndim == 2 or getattr(rows.dtype, "names", None))
        pairs = [times_and_units(sample, shape, b) for b, sample in enumerate([rows] if alone else rows)]
        events = cls.from_lists(
            [times for times, _ in pairs], [units for _, units in pairs], num_units=math.prod(shape), duration=duration,
            scale=scale, dtype=dtype, device=device,
        )  # fmt: skip
        return events if unit_shape is None else events.reshape(*shape)

    @classmethod
    def collate(cls, samples: Sequence[Any], **options: Any) -> SpikeEvents | tuple[SpikeEvents, Any]:
        """A batch of the items of a data set, for ``DataLoader(collate_fn=partial(SpikeEvents.collate, num_units=700,
        duration=1000.0))``: arrays as :meth:`from_array` takes, or tuples (array, label); ``options`` are its options.

        :returns: the events, or the events and the labels as torch's ``default_collate`` puts them together.

        >>> import numpy as np
        >>> pairs = [(np.array([[0.5, 3]]), 1), (np.array([[1.0, 0]]), 0)]
        >>> SpikeEvents.collate(pairs, num_units=4, duration=10.0)[1]
        tensor([1, 0])
        """
        from torch.utils.data import default_collate

        if not samples or not isinstance(samples[0], tuple):
            return cls.from_array(list(samples), **options)
        events = cls.from_array([sample[0] for sample in samples], **options)
        labels = [default_collate([sample[i] for sample in samples]) for i in range(1, len(samples[0]))]
        return (events, *labels) if len(labels) != 1 else (events, labels[0])

    def to_lists(self) -> tuple[list[Tensor], list[Tensor]]:
        """Times and units, one tensor per sample."""
        self._check_offsets()
        bounds = self.offsets.tolist()
        pairs = list(itertools.pairwise(bounds))
        return [self.times[lo:hi] for lo, hi in pairs], [self.units[lo:hi] for lo, hi in pairs]

    # ---------------------------------------------------------------- dense

    @classmethod
    def from_dense(cls, dense: Tensor, dt: float, *, dtype: torch.dtype | None = None) -> SpikeEvents:
        """From spike counts [T, N, C]: an entry of k in bin n becomes k spikes at time ``n * dt``; duration T dt. Counts
        [T, N, C, H, W] and the like give units of shape (C, H, W).

        Times are float64 unless ``dtype`` says otherwise. The gradient on the counts is the one in the module's
        heading. Entries that are not whole non-negative numbers cannot be written as spikes and raise a ValueError.
        """
        refuse_transforms("SpikeEvents.from_dense", REVERSE_ALONE)
        _check_step(dt)
        if dense.dim() < 3:
            raise ValueError(f"dense spikes must be [T, N, C] or [T, N, C, ...], got shape {tuple(dense.shape)}")
        if dense.is_complex():
            raise TypeError(f"dense spikes must be real, got {dense.dtype}")
        unit_shape = tuple(dense.shape[2:]) if dense.dim() > 3 else None
        dense = dense.flatten(2)
        if torch.compiler.is_compiling():
            from .kernels.event_bins import dense_to_events

            times, units, offsets = dense_to_events(dense, float(dt), dtype or torch.float64)
            return cls._trusted(times, units, offsets, dense.shape[2], dense.shape[0] * float(dt), unit_shape=unit_shape)
        values = dense.detach()
        bad = (
            ~((values >= 0) & (values == values.floor()) & values.isfinite()) if values.is_floating_point() else values < 0
        )
        if bad.any():
            n, b, c = bad.nonzero()[0].tolist()
            raise ValueError(
                f"dense[{n}, {b}, {c}] = {values[n, b, c].item()} is not a spike count (0, 1, 2, ...); "
                "graded values have no spike times: binarise them or keep the layer dense"
            )
        steps, batch_size, num_units = dense.shape
        dtype = dtype or torch.float64
        check_resolution(dtype, (steps - 1) * dt, dt)
        where = values.permute(1, 0, 2).nonzero()  # sorted by sample, then bin, then unit
        repeats = values.permute(1, 0, 2)[tuple(where.T)].to(torch.int64)
        sample, n, unit = torch.repeat_interleave(where, repeats, dim=0).unbind(1)
        times = _DenseToTimes.apply(dense, n, sample, unit, float(dt), dtype)
        per_sample = torch.bincount(sample, minlength=batch_size)
        offsets = torch.cat([per_sample.new_zeros(1), per_sample.cumsum(0)])
        return cls._trusted(times, unit.contiguous(), offsets, num_units, steps * float(dt), unit_shape=unit_shape)

    def to_dense(
        self, dt: float, num_steps: int | None = None, *, dtype: torch.dtype | None = None, count_gradient: float = 0.0
    ) -> Tensor:
        """Spike counts [T, N, *unit_shape]: bin n counts the spikes in ``[n dt, (n + 1) dt)``, up to rounding
        (:mod:`snn_delay_plugins.bins`).

        ``num_steps`` defaults to ceil(duration / dt); a spike at the very end (t = duration) falls into the last bin.
        The gradient on the times is the one in the module's heading; it needs at least two bins. ``count_gradient``, the
        heading's c, adds a gradient for losses that read how many spikes there are, as snnTorch's ``ce_count_loss``; 0
        (default): none, the gradient is that of EventProp alone. It needs events with a ``potential``, as layers return.

        Raises
        ------
        ValueError
            a spike lies beyond ``num_steps`` (none is ever dropped), times require grad and there is one bin only,
            float32 times of more than 2^23 bins, or a count gradient for events without potential.
        """
        refuse_transforms("SpikeEvents.to_dense", REVERSE_ALONE)
        _check_step(dt)
        steps = steps_in(self.duration, dt) if num_steps is None else int(num_steps)
        if torch.compiler.is_compiling():
            from .kernels.event_bins import events_to_dense

            dense = events_to_dense(
                self.times, self.units, self.offsets, self.num_units, self.duration, float(dt), steps, dtype or self.dtype
            )
            dense = dense + self._graded(bin_of(self.times, dt).clamp(max=steps - 1), dense, count_gradient)
            return dense.unflatten(2, self.unit_shape)
        bins = self.bins(dt, steps)
        if self.times.requires_grad and steps < 2 and len(self):
            raise ValueError("times require grad but the dense tensor has a single bin: there is no gradient in time")
        dense = _TimesToDense.apply(
            self.times,
            bins,
            self.samples(),
            self.units,
            float(dt),
            (steps, self.batch_size, self.num_units),
            dtype or self.dtype,
            not count_gradient,
        )
        if count_gradient:
            dense = dense + self._graded(bins, dense, count_gradient)
        return dense if len(self.unit_shape) == 1 else dense.unflatten(2, self.unit_shape)

    def _graded(self, bins: Tensor, dense: Tensor, scale: float) -> Tensor | float:
        """Zeros [T, N, num_units] with the gradient of counts (module heading)."""
        if not check_number("count_gradient", scale):
            return 0.0
        if self.potential is None:
            raise ValueError(
                "count_gradient needs events with a potential: those that an EventProp layer returns have one (input "
                "spikes, detached ones and those of the plain form have not)"
            )
        above = (self.potential - self.potential.detach()) * (scale / self.potential.detach())
        return torch.zeros_like(dense).index_put((bins, self.samples(), self.units), above.to(dense), accumulate=True)

    def _check_last(self) -> None:
        """Times may have been changed in place since they were checked."""
        if torch.compiler.is_compiling():
            return
        last = float(self.times.detach().max()) if len(self) else 0.0
        if not last <= self.duration * (1 + 1e-6):  # also catches NaN
            raise ValueError(f"a spike at t = {last:g} lies beyond duration = {self.duration:g}")

    def _check_offsets(self) -> None:
        """Nor do offsets that were changed in place cut the spikes into samples."""
        if not torch.compiler.is_compiling():
            _check_offsets(self.offsets, len(self))

    def bins(self, dt: float, steps: int) -> Tensor:
        """[n] int64: the bin of each event among ``steps``; a spike at the very end falls into the last of the sample.

        Raises
        ------
        ValueError
            as :meth:`to_dense`.
        """
        self._check_last()
        bins = bin_of(self.times, dt).clamp(max=max(steps_in(self.duration, dt) - 1, 0))
        last = int(bins.max()) if len(self) else -1
        check_resolution(self.dtype, last * dt, dt)
        if last >= steps:
            k = int(bins.argmax())
            raise ValueError(
                f"a spike at t = {self.times[k].item():g} falls into bin {int(bins[k])} but num_steps = "
                f"{steps}; use at least {int(bins[k]) + 1} steps"
            )
        return bins


class _TimesToDense(torch.autograd.Function):
    """Bin spikes; backward is the central difference in time (module heading)."""

    @staticmethod
    def forward(ctx, times, bins, samples, units, dt, shape, dtype, times_alone):
        if not torch.compiler.is_compiling():  # a negative index would count from the end
            _check_units(units, shape[2])
            if bool((bins < 0).any()):
                raise ValueError(f"times[{int(bins.argmin())}] = {times[bins.argmin()].item()} is negative")
        ctx.save_for_backward(bins, samples, units)
        ctx.dt, ctx.dtype, ctx.times_alone = dt, times.dtype, times_alone
        dense = torch.zeros(shape, dtype=dtype, device=times.device)
        ones = torch.ones(times.numel(), dtype=dtype, device=times.device)
        return dense.index_put_((bins, samples, units), ones, accumulate=True)

    @staticmethod
    def backward(ctx, grad):
        bins, samples, units = ctx.saved_tensors
        by_time = gradient_of_times(grad, bins, samples, units, ctx.dt, ctx.times_alone)
        return by_time.to(ctx.dtype), *(None for _ in range(7))


class _DenseToTimes(torch.autograd.Function):
    """Spike times n dt; backward is the gradient of the local centre of mass (module heading)."""

    @staticmethod
    def forward(ctx, dense, n, samples, units, dt, dtype):
        ctx.save_for_backward(n, samples, units)
        ctx.dt, ctx.shape, ctx.dtype = dt, dense.shape, dense.dtype
        return (n.to(torch.float64) * dt).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        n, samples, units = ctx.saved_tensors
        return gradient_of_counts(grad, n, samples, units, ctx.dt, ctx.shape).to(ctx.dtype), *(None for _ in range(5))


def gradient_of_times(
    grad: Tensor, bins: Tensor, samples: Tensor, units: Tensor, dt: float, times_alone: bool = True
) -> Tensor:
    """dL/dt [n] of events in these bins, from dL/dX [T, N, C] (module heading).

    :param times_alone: nothing else trains, so that a loss without a gradient in time is to be said.
    """
    after = (bins + 1).clamp(max=grad.shape[0] - 1)
    before = (bins - 1).clamp(min=0)
    span = (after - before).clamp(min=1).to(grad.dtype) * dt
    later = grad[after, samples, units]
    change = later - grad[before, samples, units]
    if times_alone:
        warn_if_timeless(grad, later, change, bins)
    return change / span


def gradient_of_counts(grad: Tensor, n: Tensor, samples: Tensor, units: Tensor, dt: float, shape: torch.Size) -> Tensor:
    """dL/dX [T, N, C] from dL/dt [n] of events in the bins n (module heading)."""
    dense = torch.zeros(shape, dtype=grad.dtype, device=grad.device)
    for shift in (1, -1):
        inside = (n + shift >= 0) & (n + shift < shape[0])
        index = ((n + shift)[inside], samples[inside], units[inside])
        dense = dense.index_put(index, shift * dt * grad[inside], accumulate=True)
    return dense


def _scaled(times: Tensor, scale: float) -> Tensor:
    """float64, or float32 from shorter dtypes, so that the bins know how far these times are rounded."""
    product = times.to(torch.float64) * scale
    return product.to(torch.float32) if times.is_floating_point() and times.dtype != torch.float64 else product


def _warn_of_float16(sample: int, times: Tensor) -> None:
    if times.dtype != torch.float16 or not times.numel() or bool((times == times.floor()).all()):
        return
    last = float(times.max())
    if last >= 32:
        warnings.warn(
            f"sample {sample}: float16 times up to {last:g} stand {last * 2.0**-10:.1g} apart; if they were "
            "scaled from seconds, hand over the seconds and scale=1000",
            stacklevel=user_level(),
        )


def _check_step(dt: float) -> None:
    if not (isinstance(dt, (int, float)) and math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be a positive finite number, got {dt!r}")


def check_types(times, units, offsets, num_units, duration, potential) -> None:
    """What costs nothing to check of the parts of a SpikeEvents, whose attributes can be set."""
    for name, tensor in (("times", times), ("units", units), ("offsets", offsets)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if tensor.dim() != 1:
            raise ValueError(f"{name} must be one-dimensional, got shape {tuple(tensor.shape)}")
        if tensor.device != times.device:
            raise ValueError(f"{name} is on {tensor.device} but times is on {times.device}")
    if times.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"times must be float32 or float64, got {times.dtype}")
    for name, tensor in (("units", units), ("offsets", offsets)):
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {tensor.dtype}")
    if units.numel() != times.numel():
        raise ValueError(f"{times.numel()} times but {units.numel()} units")
    if potential is not None and potential.shape != times.shape:
        raise ValueError(f"{times.numel()} times but potential has shape {tuple(potential.shape)}")
    if num_units < 1:
        raise ValueError(f"num_units must be positive, got {num_units}")
    if not math.isfinite(duration) or duration < 0 or (duration == 0 and times.numel()):  # zero: of no time steps at all
        raise ValueError(f"duration must be positive and finite, got {duration}")


def _check_values(times, units, offsets, num_units, duration) -> None:
    _check_offsets(offsets, times.numel())
    values = times.detach()
    inside = (values >= 0) & (values <= duration)  # False for NaN
    if not bool(inside.all()):
        k = int((~inside).nonzero()[0])
        time, sample = values[k].item(), int(torch.searchsorted(offsets, k, right=True)) - 1
        raise ValueError(
            f"times[{k}] = {time} is outside [0, duration = {duration:g}] (sample {sample}, its spike "
            f"{k - int(offsets[sample])})" + (": raise duration, or leave later spikes out" if time > duration else "")
        )
    _check_units(units, num_units)


def _check_offsets(offsets: Tensor, n: int) -> None:
    if offsets.numel() < 1 or int(offsets[0]) != 0 or int(offsets[-1]) != n or bool((offsets.diff() < 0).any()):
        raise ValueError(f"offsets must rise from 0 to the number of events {n}, got {offsets.tolist()[:8]}...")


def _check_units(units: Tensor, num_units: int) -> None:
    inside = (units >= 0) & (units < num_units)
    if not bool(inside.all()):
        k = int((~inside).nonzero()[0])
        raise ValueError(f"units[{k}] = {units[k].item()} is outside [0, num_units = {num_units})")


def _sorting_order(times: Tensor, offsets: Tensor) -> Tensor | None:
    """The permutation that sorts each sample by time, None if it is sorted already."""
    if times.numel() < 2:
        return None
    falls = times[1:] < times[:-1]
    starts = offsets[1:-1]
    starts = starts[(starts > 0) & (starts < times.numel())]
    falls[starts - 1] = False
    if not bool(falls.any()):
        return None
    sizes = offsets[1:] - offsets[:-1]
    samples = torch.repeat_interleave(torch.arange(sizes.numel(), device=times.device), sizes)
    by_time = torch.argsort(times, stable=True)
    return by_time[torch.argsort(samples[by_time], stable=True)]
