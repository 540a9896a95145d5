r"""Rules by which SpikingJelly's ``op_counter`` counts the operators of this package, for ``extra_rules``.

>>> import torch
>>> from spikingjelly.activation_based import op_counter
>>> from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear
>>> net = torch.nn.Sequential(DelayedLinear(8, 4, max_delay=3, step_mode="m"), AdLIFPlusNode(features=4, step_mode="m"))
>>> synops = op_counter.SynOpCounter(extra_rules=extra_rules(op_counter.SynOpCounter))
>>> with op_counter.DispatchCounterMode([synops]):
...     _ = net(torch.ones(10, 1, 8))
>>> synops.get_total()  # 10 steps x 8 spikes x 4 synapses each
320

What is counted, with c the spikes of a sender and f the taps that are not zero of its synapses (one for each synapse with a
whole delay, two between two steps):

- ``SynOpCounter``: :math:`\sum_j c_j f_j`, as for a product of spikes and weights; nothing where the input is graded.
- ``FlopCounter``: a multiplication and an addition for every tap at every step, :math:`2\, T N \sum_j f_j`, whatever
  spikes, as for a product of matrices. Neurons: what the equations of a step say, 1 for each sum, product and comparison.
  EventProp, which computes at events alone: 8 for every arrival (two exponentials, three products, three sums).
- ``MemoryAccessCounter``: every tensor that goes in or comes out once, in bytes.

Operators of torch that only arrange or check count as nothing, so that ``strict=True`` passes where it does for ``LIFNode``
(``FlopCounter``, ``MemoryAccessCounter``). Only forward passes are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..kernels.delayed_linear import operator as _delayed_linear  # noqa: F401 - each import registers an operator
from ..kernels.event_patches import operator as _event_patches  # noqa: F401
from ..kernels.eventprop import operator as _eventprop  # noqa: F401
from ..kernels.eventprop.linear import operator as _eventprop_linear  # noqa: F401
from ..kernels.eventprop.linear import readout_operator as _eventprop_linear_readout  # noqa: F401
from ..kernels.linear_neuron import operator as _linear_neuron  # noqa: F401
from ..kernels.linear_neuron.structure import Structure
from ..kernels.op_counts import delay_line_operator
from ..kernels.recurrent_neuron import operator as _recurrent_neuron  # noqa: F401
from ..kernels.sparse_delay import operator as _sparse_delay  # noqa: F401
from ..kernels.sparse_taps import operator as _sparse_taps  # noqa: F401
from ..kernels.spike_linear import operator as _spike_linear  # noqa: F401

__all__ = ["extra_rules"]

Rule = Callable[[tuple, dict, Any], int]
ARRIVAL = 8
"""Floating-point operations of one arrival in EventProp."""


class Work(NamedTuple):
    """:param spikes: additions that spikes cause. :param dense: floating-point operations, whatever spikes."""

    spikes: int
    dense: int


def extra_rules(counter: type) -> dict[Any, Rule]:
    """
    :param counter: ``op_counter.SynOpCounter``, ``FlopCounter`` or ``MemoryAccessCounter``.
    :raises ValueError: for another counter, of which no rules are known.
    """
    kinds: dict[str, Callable[[Callable[..., Work]], Rule]] = {
        "SynOpCounter": lambda work: lambda args, kwargs, out: work(*args, out=out, **kwargs).spikes,
        "FlopCounter": lambda work: lambda args, kwargs, out: work(*args, out=out, **kwargs).dense,
        "MemoryAccessCounter": lambda work: _moved,
    }
    name = getattr(counter, "__name__", None)
    if name not in kinds:
        raise ValueError(f"there are rules for {', '.join(kinds)}, not for {name or repr(counter)}")
    ours = torch.ops.snn_delay_plugins
    delay_line_operator()
    rules: dict[Any, Rule] = {getattr(ours, of).default: kinds[name](work) for of, work in _WORK.items()}
    arranged = dict.fromkeys(map(_aten, _ARRANGING), _nothing)
    arithmetic = {"FlopCounter": _elements, "MemoryAccessCounter": _moved}
    if name in arithmetic:
        rules |= arranged | dict.fromkeys(map(_aten, _ARITHMETIC), arithmetic[name])
    return rules


def _aten(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _nothing(args: tuple, kwargs: dict, out: Any) -> int:
    return 0


def _elements(args: tuple, kwargs: dict, out: Any) -> int:
    return sum(value.numel() for value in _tensors(out))


def _moved(args: tuple, kwargs: dict, out: Any) -> int:
    return sum(value.numel() * value.element_size() for value in _tensors((args, kwargs, out)))


def _tensors(tree: Any) -> Iterable[Tensor]:
    return [value for value in tree_leaves(tree) if isinstance(value, Tensor)]


def _of_trains(trains: Tensor, fan_out: Tensor) -> Work:
    """Spikes ``[..., in]``, each over ``fan_out`` ``[in]`` taps."""
    counts = (trains != 0).reshape(-1, trains.shape[-1]).sum(0)
    binary = bool(((trains == 0) | (trains == 1)).all())
    rows = trains.numel() // max(1, trains.shape[-1])
    return Work(int((counts * fan_out).sum()) if binary else 0, 2 * rows * int(fan_out.sum()))


def _delayed(trains: Tensor, taps: Tensor, *rest: Any, out: Tensor, **named: Any) -> Work:
    return _of_trains(trains, (taps != 0).sum((0, 1)))


def _listed(spikes: Tensor, starts: Tensor, *rest: Any, out: Tensor, **named: Any) -> Work:
    return _of_trains(spikes, starts.diff())


def _line(spikes: Tensor, fan_out: Tensor, out: Tensor) -> Work:
    return _of_trains(spikes, fan_out)


def _windows(trains: Tensor, kernel: Tensor, lag: Tensor, senders: Tensor, *rest: Any, out: Tensor, **named: Any) -> Work:
    fan_out = torch.zeros(trains.shape[-1], dtype=torch.int64, device=trains.device)
    return _of_trains(trains, fan_out.index_add(0, senders.long(), (kernel != 0).sum(-1)))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, out: Tensor, **named: Any) -> Work:
    work = _of_trains(x, torch.full((x.shape[-1],), weight.shape[0], device=x.device))
    return work._replace(dense=work.dense + (0 if bias is None else out.numel()))


def _neurons(
    current: Tensor, x0: Tensor, x1: Tensor, s: Tensor, coefficients: Tensor, code: int, *rest: Any, out: Any, **named: Any
) -> Work:  # fmt: skip
    return Work(0, current.numel() * _of_a_step(Structure.of(code)))


def _recurrent(
    current: Tensor, x0: Tensor, x1: Tensor, s: Tensor, coefficients: Tensor, taps: Tensor, lags: Tensor,
    ends: Tensor | None, past: Tensor, code: int, *rest: Any, out: Any, **named: Any,
) -> Work:  # fmt: skip
    features, present = current.shape[-1], (taps != 0).sum(0)
    senders = ends[1] if ends is not None else torch.arange(features, device=taps.device).repeat(features)
    work = _of_trains(out[0], _per_sender(present, senders, features))
    return work._replace(dense=work.dense + current.numel() * _of_a_step(Structure.of(code)))


def _per_sender(present: Tensor, senders: Tensor, features: int) -> Tensor:
    return torch.zeros(features, dtype=present.dtype, device=present.device).index_add(0, senders.long(), present)


def _of_a_step(of: Structure) -> int:
    """Sums, products and comparisons of a neuron's step, of which each coefficient is a product, and a sum if not the
    first of its state; J and the threshold are a sum and a product, and a sum and a comparison, more."""
    count = 2  # z - theta >= 0
    for row in (("A00", "A01", "B0", "r0"), ("A10", "A11", "B1", "r1")):
        terms = sum(name in of.names for name in row)
        count += max(0, 2 * terms - 1)
    count += 2 * sum(name.startswith("J") for name in of.names) + 2 * ("c" in of.names) + of.subtracted
    return count + 2 * of.symplectic  # times 1 - A11


def _events(
    times: Tensor, units: Tensor, offsets: Tensor, weight: Tensor, delay: Tensor, recurrent: Any = None, *rest: Any,
    out: Any, spiking: bool, **named: Any,
) -> Work:  # fmt: skip
    arrivals = _arrivals(units, weight)
    if spiking and isinstance(recurrent, Tensor):
        arrivals += _arrivals(out[2], recurrent)
    return Work(arrivals, ARRIVAL * arrivals)


def _arrivals(units: Tensor, weight: Tensor) -> int:
    fan_out = (weight != 0).sum(0)
    return int(fan_out[units.long()].sum())


def _bookkeeping(*args: Any, **named: Any) -> Work:
    return Work(0, 0)


_WORK: dict[str, Callable[..., Work]] = {
    "delayed_linear": _delayed,
    "sparse_delayed_linear": _listed,
    "sparse_delayed_linear_step": _listed,
    "delay_line": _line,
    "sparse_taps": _windows,
    "sparse_linear": _product,
    "linear_neuron": _neurons,
    "recurrent_neuron": _recurrent,
    "eventprop_lif": partial(_events, spiking=True),
    "eventprop_linear": partial(_events, spiking=True),
    "eventprop_li": partial(_events, spiking=False),
    "eventprop_linear_li": partial(_events, spiking=False),
    "eventprop_arrivals": _bookkeeping,
    "event_patches": _bookkeeping,
}
_ARRANGING = (
    "_local_scalar_dense", "_unsafe_view", "all", "amax", "aminmax", "any", "any.dim", "arange", "bincount", "cat",
    "constant_pad_nd", "count_nonzero", "flip", "index.Tensor", "index_select", "lift_fresh", "max", "min", "new_empty",
    "new_full", "new_zeros", "nonzero", "ones", "permute", "promote_types", "repeat_interleave.Tensor", "scatter.src",
    "slice.Tensor", "transpose.int", "zeros_like", "bitwise_and.Tensor", "bitwise_not", "bitwise_or.Tensor", "alias",
    "copy_", "fill_.Scalar", "zeros", "empty_like", "index_put", "squeeze.default", "as_strided", "full", "uniform_",
)  # fmt: skip
_ARITHMETIC = (
    "abs", "clamp", "cos", "cumsum", "exp", "floor", "mean", "pow.Tensor_Scalar", "reciprocal", "round", "sin", "sqrt",
    "where.self", "log",
)  # fmt: skip
