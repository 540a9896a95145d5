"""The states of neurons over time."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from ..checks import check_number
from ..models.parameters import NeuronParameters
from ..silence import not_watched
from .axes import AxesOptions, axes_for, legend_above

__all__ = ["neuron_trace", "record"]


@torch.no_grad()
def record(neuron: nn.Module, current: Tensor) -> dict[str, Tensor]:
    """What neurons do from rest over an input current ``[T, N, *]``: all of it ``[T, N, *]``, by name.

    ``"spikes"``, the model's states (``"mem"`` and, of adaptive neurons, ``"w"``), each after its step, and
    ``"threshold"``, which the membrane potential is compared with: that of ALIF moves. States that the neuron carries stay
    as they are. An EventProp layer records its own: ``layer(events, record="V")``.

    :param neuron: one of this package, of either framework, in any mode.
    :raises TypeError: for another module. :raises ValueError: for a current that does not fit.

    Example::

        >>> from snn_delay_plugins.spikingjelly import AdLIFPlusNode
        >>> seen = record(AdLIFPlusNode(features=3), torch.ones(20, 1, 3))
        >>> list(seen), seen["mem"].shape
        (['spikes', 'mem', 'w', 'threshold'], torch.Size([20, 1, 3]))
    """
    run = getattr(neuron, "_run", None)
    if not isinstance(neuron, NeuronParameters) or run is None:
        raise TypeError(f"expected AdLIFPlus, AdLIFPlusNode or another neuron of ours, got {type(neuron).__name__}")
    if not isinstance(current, Tensor) or current.dim() < 2:
        raise ValueError(f"current must be [T, N, *], got {getattr(current, 'shape', type(current).__name__)}")
    with not_watched():
        prepared = run()
        start = neuron.initial_state(current.new_zeros(current.shape[1:]))
        sequence = prepared.sequence(current, start, traces=True)
    states = sequence.traces
    threshold = torch.as_tensor(prepared.threshold_at(states), dtype=states[0].dtype).expand_as(states[0])
    return {"spikes": sequence.spikes, **dict(zip(neuron.model.states, states, strict=True)), "threshold": threshold}


def neuron_trace(
    v: Tensor | np.ndarray,
    s: Tensor | np.ndarray | None = None,
    ax: Axes | None = None,
    *,
    w: Tensor | np.ndarray | None = None,
    v_threshold: float | Tensor | np.ndarray | None = None,
    neuron: int = 0,
    sample: int = 0,
    dt: float | None = None,
    **axes: Unpack[AxesOptions],
) -> Axes:
    """The membrane potential of one neuron, its adaptation, its threshold, and where it spiked.

    :param v: membrane potential ``[T]``, ``[T, neurons]`` or ``[T, N, *]``. :param s: its spikes. :param w: its adaptation,
        both of the same shape. :param v_threshold: a number, or over time in that shape.
    :param neuron: which one, of those of a sample in a row. :param sample: which sample of ``[T, N, *]``.
    :param dt: length of a step in ms; default: time in steps.
    :raises ValueError, IndexError: for shapes that do not belong together, and a neuron or sample that is not there.

    Example::

        >>> from snn_delay_plugins.spikingjelly import AdLIFPlusNode
        >>> seen = record(AdLIFPlusNode(features=3), torch.ones(20, 1, 3))
        >>> ax = neuron_trace(seen["mem"], seen["spikes"], w=seen["w"], v_threshold=seen["threshold"], neuron=2)
        >>> [line.get_label() for line in ax.lines]
        ['membrane potential', 'adaptation', 'threshold', 'spike']
    """
    shape = torch.as_tensor(v).shape
    step = 1.0 if dt is None else check_number("dt", dt, above=0.0)

    def one(name: str, value: Tensor | np.ndarray) -> np.ndarray:
        tensor = torch.as_tensor(value).detach().cpu()
        if tensor.shape != shape:
            raise ValueError(f"{name} must have the shape {tuple(shape)} of v, got {tuple(tensor.shape)}")
        return _of_one(tensor, neuron, sample).double().numpy()

    potential = one("v", v)
    time = step * np.arange(len(potential))
    ax = axes_for(ax, axes, xlabel="time step" if dt is None else "time (ms)", ylabel="state")
    ax.plot(time, potential, color="tab:blue", lw=1.2, label="membrane potential")
    if w is not None:
        ax.plot(time, one("w", w), color="tab:orange", lw=1.2, label="adaptation")
    if v_threshold is not None:
        level = torch.as_tensor(v_threshold, dtype=torch.float64)
        level = one("v_threshold", level if level.dim() else level.expand(shape))
        ax.plot(time, level, color="black", lw=0.8, ls="--", label="threshold")
    if s is not None:
        fired = one("s", s) != 0
        ax.plot(time[fired], potential[fired], "o", color="tab:red", ms=3.5, label="spike")
    legend_above(ax, columns=4)
    return ax


def _of_one(trace: Tensor, neuron: int, sample: int) -> Tensor:
    if trace.dim() == 0:
        raise ValueError("expected a trace [T], [T, neurons] or [T, N, *], got a number")
    if trace.dim() > 2:
        if not -trace.shape[1] <= sample < trace.shape[1]:
            raise IndexError(f"sample {sample} of a batch of {trace.shape[1]}")
        trace = trace[:, sample].flatten(1)
    if trace.dim() == 1:
        return trace
    if not -trace.shape[1] <= neuron < trace.shape[1]:
        raise IndexError(f"neuron {neuron} of {trace.shape[1]}")
    return trace[:, neuron]
