r"""Synaptic operations of a network on a batch, and the energy that these are usually said to cost.

A spike that goes over a synapse is one addition, of its weight to the current of the receiving neuron. A layer on spikes
therefore does

.. math:: \mathrm{SynOps} = \sum_j c_j\, f_j

of them, with :math:`c_j` the spikes of sender j in the batch and :math:`f_j` its synapses. A synapse whose delay lies
between two steps, or that a smoothing kernel spreads, counts once for each step at which it arrives (a tap). Synapses of
weight zero in layers with delays, as those that a ``mask`` leaves out, are none; layers of torch count all. A layer on
graded input (a first one on recordings, or one behind average pooling) multiplies and adds instead, over all of its inputs.

Updates of the neurons themselves are not counted, as is usual.

45 nm, 32-bit floating point (Horowitz, *Computing's energy problem*, ISSCC 2014): 0.9 pJ an addition, 4.6 pJ a
multiplication and an addition. What a chip really takes is another matter, memory above all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .callers import user_level
from .delayed import DelayedSynapses, DiscreteSynapses
from .delayed_convolution import DelayedConvolution
from .events import SpikeEvents
from .functional.windows import smoothed_kernel
from .recurrent import RecurrentDelays

__all__ = ["LayerOperations", "Operations", "synaptic_operations"]

ADDITION, MULTIPLICATION_AND_ADDITION = 0.9e-12, 4.6e-12
"""Joules, 45 nm, 32-bit floating point (Horowitz 2014)."""


@dataclass
class LayerOperations:
    """:param spikes: that came in. :param synaptic_operations: additions. :param multiply_accumulates: on graded input.
    :param dense: multiplications and additions that the layer would do on graded input of the same shape."""

    spikes: int = 0
    synaptic_operations: int = 0
    multiply_accumulates: int = 0
    dense: int = 0


@dataclass
class Operations:
    """What :func:`synaptic_operations` counted.

    :param samples: in the batch. :param layers: by name, for the whole batch, as the totals.
    """

    samples: int
    layers: dict[str, LayerOperations] = field(default_factory=dict)

    @property
    def synaptic_operations(self) -> int:
        return sum(layer.synaptic_operations for layer in self.layers.values())

    @property
    def multiply_accumulates(self) -> int:
        return sum(layer.multiply_accumulates for layer in self.layers.values())

    @property
    def dense(self) -> int:
        """Multiplications and additions of the same network on graded inputs."""
        return sum(layer.dense for layer in self.layers.values())

    def __add__(self, other: Operations) -> Operations:
        """Of both batches together, by the same network."""
        layers = {
            name: LayerOperations(*(one + two for one, two in zip(vars(of).values(), vars(other.layers[name]).values(),
                                                                  strict=True)))
            for name, of in self.layers.items()
        }  # fmt: skip
        return Operations(self.samples + other.samples, layers)

    def energy(
        self, addition: float = ADDITION, multiplication_and_addition: float = MULTIPLICATION_AND_ADDITION
    ) -> float:  # fmt: skip
        """Joules per sample. :param addition, multiplication_and_addition: joules of one."""
        spent = self.synaptic_operations * addition + self.multiply_accumulates * multiplication_and_addition
        return spent / max(1, self.samples)

    def __str__(self) -> str:
        rows = [("layer", "spikes", "SynOps", "MACs", "dense")]
        rows += [(name, *(f"{value:,}" for value in vars(of).values())) for name, of in self.layers.items()]
        rows.append(("all", "", *(f"{value:,}" for value in (self.synaptic_operations, self.multiply_accumulates,
                                                             self.dense))))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in
                           enumerate(zip(row, widths, strict=True))) for row in rows]  # fmt: skip
        return "\n".join([*lines, f"{self.samples} samples, {self.energy() * 1e9:.4g} nJ each (45 nm)"])


def synaptic_operations(
    net: nn.Module, batch: Tensor | SpikeEvents, *, steps: bool = False, binned: bool = False
) -> Operations:  # fmt: skip
    """Run a network of either framework on a batch, in evaluation and without gradients, and count.

    :param batch: ``[T, N, *]``, or events.
    :param steps: the network takes one step ``[N, *]`` per call; states are the network's, reset them before and after.
    :param binned: whole numbers are so many spikes of a sender in a step, as where recordings or neurons are summed; else
        input with other numbers than 0 and 1 is graded.
    :raises TypeError: if ``net`` or ``batch`` is of another kind.

    Example::

        >>> from snn_delay_plugins.snntorch import DelayedLinear
        >>> net = nn.Sequential(DelayedLinear(8, 4, max_delay=3, step_mode=False))
        >>> counted = synaptic_operations(net, torch.ones(10, 1, 8))
        >>> counted.synaptic_operations, round(counted.energy() * 1e12)  # 10 steps x 8 spikes x 4 synapses, pJ
        (320, 288)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if not isinstance(batch, Tensor | SpikeEvents):
        raise TypeError(f"batch must be a tensor [T, N, *] or SpikeEvents, got {type(batch).__name__}")
    if isinstance(batch, Tensor) and batch.dim() < 2:
        raise ValueError(f"batch must be [T, N, *], got shape {tuple(batch.shape)}")
    samples = batch.batch_size if isinstance(batch, SpikeEvents) else batch.shape[1]
    counted = Operations(samples)
    modes = {module: module.training for module in net.modules()}
    hooks = [hook for name, module in _counted(net) for hook in _watch(counted, name, module, binned)]
    try:
        net.eval()
        with torch.no_grad():
            for part in batch if steps else [batch]:  # pyright: ignore[reportGeneralTypeIssues] - events have no steps
                net(part)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return counted


# ------------------------------------------------------------------------------------------------------- layers


def _counted(net: nn.Module) -> list[tuple[str, nn.Module]]:
    found, unknown = [], []
    for name, module in net.named_modules():
        weights = [value for value in module.parameters(recurse=False) if value.dim() > 1]
        if _taps_of(module) is not None:
            found.append((name or type(module).__name__, module))
        elif weights and not hasattr(module, "model"):  # a neuron's parameters may have the shape of an image
            unknown.append(f"{name or 'the network'} ({type(module).__name__})")
    if unknown:
        warnings.warn(f"the operations of {', '.join(unknown)} are not counted: no rule is known", stacklevel=user_level())
    return found


def _watch(counted: Operations, name: str, module: nn.Module, binned: bool) -> list[Any]:
    of = counted.layers.setdefault(name, LayerOperations())
    taps = _taps_of(module)
    assert taps is not None
    spread = _spread(module, taps)

    def after(_: nn.Module, args: tuple, out: Any) -> None:
        if isinstance(module, RecurrentDelays):  # whose input are currents; its synapses carry what it emits
            _count(of, spread, 1, out[0] if isinstance(out, tuple | list) else out, binned)
            return
        _count(of, spread, taps.dim() - 1, args[0], binned)
        recurrent = getattr(module, "recurrent_weight", None)
        if isinstance(recurrent, Tensor):
            _count_recurrent(of, recurrent, out)

    return [module.register_forward_hook(after)]


def _count(
    of: LayerOperations, spread: Callable[[Tensor], float], places: int, given: Tensor | SpikeEvents, binned: bool
) -> None:  # fmt: skip
    """:param places: axes of a sender: a neuron, or channel and space."""
    if isinstance(given, SpikeEvents):
        counts = torch.bincount(given.units, minlength=given.num_units).double()
        shape = getattr(given, "unit_shape", None)
        arrivals = spread(counts.view(shape) if shape is not None and places > 1 else counts)
        of.spikes += int(counts.sum())
        of.synaptic_operations += int(arrivals)
        return
    rows = given.detach().reshape(-1, *given.shape[given.dim() - places :])
    dense = int(spread(torch.full_like(rows[:1], len(rows), dtype=torch.float64)[0])) if len(rows) else 0
    of.dense += dense
    spikes = (rows == rows.round()) & (rows >= 0) if binned else (rows == 0) | (rows == 1)
    if not bool(spikes.all()):
        of.multiply_accumulates += dense
        return
    counts = rows.double().sum(0)
    of.spikes += int(counts.sum())
    of.synaptic_operations += int(spread(counts))


def _count_recurrent(of: LayerOperations, weight: Tensor, out: Any) -> None:
    spikes = out[0] if isinstance(out, tuple) else out
    if isinstance(spikes, SpikeEvents):
        counts = torch.bincount(spikes.units, minlength=spikes.num_units).double()
    else:
        counts = spikes.detach().double().reshape(-1, spikes.shape[-1]).sum(0)
    of.synaptic_operations += int((counts * (weight != 0).sum(0)).sum())


def _taps_of(module: nn.Module) -> Tensor | None:
    """How many taps each weight ``[out, in, ...]`` of the layer has; None: it is no layer with weights that are known."""
    if isinstance(module, DiscreteSynapses):
        senders = torch.repeat_interleave(module.starts.diff())
        taps = torch.zeros(module.out_features, module.in_features, dtype=torch.int64, device=module.weights.device)
        return taps.index_put((module.targets.long(), senders), torch.ones_like(senders), accumulate=True)
    if isinstance(module, DelayedSynapses | DelayedConvolution):
        return _of_windows(module)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return torch.ones_like(weight, dtype=torch.int64)
    if _is_eventprop(module):
        return (weight.detach() != 0).long()
    return None


def _of_windows(layer: DelayedSynapses | DelayedConvolution) -> Tensor:
    with torch.no_grad():
        rule = layer.delay_rule.in_evaluation()
        weight = layer.effective_weight() if isinstance(layer, DelayedSynapses) else layer.weight
        delay = layer.bounded("delay").to(weight.dtype).expand_as(weight)
        taps, _ = rule.windows(weight, delay, layer.max_delay, layer.rule_values(rule))  # not over all lags
        if isinstance(layer, DelayedSynapses):
            taps = smoothed_kernel(taps, layer.smoothing)
        return (taps != 0).sum(0)


def _is_eventprop(module: nn.Module) -> bool:
    return type(module).__module__.startswith(f"{__package__}.") and "EventProp" in type(module).__name__


def _spread(module: nn.Module, taps: Tensor) -> Callable[[Tensor], float]:
    """``spikes of each sender -> arrivals``."""
    taps = taps.double()
    if taps.dim() == 2:
        return lambda counts: float((counts * taps.sum(0)).sum())
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[taps.dim()]
    options: dict[str, Any] = getattr(module, "_geometry", None) or {
        name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")
    }
    return lambda counts: float(convolve(counts[None].double(), taps, None, **options).sum())
