"""EventProp convolutions as layers, and pooling of events, for both front doors.

The equations are in :mod:`snn_delay_plugins.functional.eventprop_convolution` and
:mod:`snn_delay_plugins.functional.event_pooling`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from .checks import check_choice, check_flag, check_number, check_whole
from .eventprop import MOST_SPIKES, Output, checked_normal
from .eventprop_linear import LinearNeurons, Value
from .events import SpikeEvents
from .functional.event_pooling import POOLING, Pooling, pool_events
from .functional.eventprop_convolution import (
    PerAxis,
    eventprop_convolution_traces,
    eventprop_lif_convolution,
    eventprop_linear_convolution,
)
from .functional.eventprop_models import LIF, ContinuousModel
from .functional.window_convolution import per_axis
from .parameters import DelayType, initial_delay

__all__ = ["EventPool1d", "EventPool2d", "EventPropConv1d", "EventPropConv2d"]

_DRIVE = 20.0  # sum of a neuron's initial weights, the paper's for SHD


class _EventPropConvolution(LinearNeurons):
    axes: int
    """Of space."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        *,
        model: ContinuousModel = LIF,
        constants: Mapping[str, Value] | None = None,
        refractory: Value = 0.0,
        learn: Collection[str] | str = (),
        delay: float | str | Tensor | None = 0.0,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] | None = None,
        dt: float = 1.0,
        spike_times: str = "exact",
        output: Output = "events",
        count_gradient: float = 0.0,
        max_spikes: int = 10_000,
    ) -> None:
        super().__init__()
        if not isinstance(model, ContinuousModel):
            raise TypeError(f"model must be a ContinuousModel, got {type(model).__name__}")
        self._create_scheme(dt, spike_times)
        self._create_output(output, count_gradient)
        self.max_spikes = check_whole("max_spikes", max_spikes, least=1, most=MOST_SPIKES)
        self._create_geometry(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self._create_kernel(delay, max_delay, delay_type, learn_delay, weight_init)
        values = {**(constants or {}), "refractory": refractory}
        self._create_neurons(model, values, learn, self.out_channels)
        constant = {name: getattr(self, name) for name in (*model.constants, "threshold")}
        resting = isinstance(refractory, (int, float)) and not refractory and "refractory" not in self._parameters
        # LIF with one constant each for the layer has loops of its own
        self._fast = model is LIF and resting and all(value.dim() == 0 for value in constant.values())
        if self._fast:
            del self.refractory
            self._counted_as = "eventprop_lif"
            self.refractory = 0.0  # no buffer, which a state dict could set
        if spike_times == "grid" and not self._fast:
            raise ValueError("spike_times='grid' knows LIF neurons alone, with one constant each for the whole layer")

    def _create_geometry(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups) -> None:
        channels = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        self.in_channels, self.out_channels, self.groups = (check_whole(n, x, least=1) for n, x in channels.items())
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"groups = {groups} must divide in_channels = {in_channels} and out_channels = {out_channels}")
        sizes = {"kernel_size": (kernel_size, 1), "stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1)}
        self.kernel_size, self.stride, self.padding, self.dilation = (
            per_axis(name, value, self.axes, least) for name, (value, least) in sizes.items()
        )

    def _create_kernel(self, delay, max_delay, delay_type, learn_delay, weight_init) -> None:
        self.delay_type, self.learn_delay = delay_type, check_flag("learn_delay", learn_delay)
        self.max_delay = check_number("max_delay", max_delay, least=0.0, infinite=True, unit="inf: no longest delay")
        shape = self.out_channels, self.in_channels // self.groups, *self.kernel_size
        mean = _DRIVE / math.prod(shape[1:])
        mean, std = checked_normal("weight_init", (mean, mean / 3) if weight_init is None else weight_init)
        self.weight = nn.Parameter(torch.empty(shape).normal_(mean, std))
        ones = (1,) * self.axes
        shapes = {"synaptic": shape, "axonal": (1, shape[1], *ones), "dendritic": (shape[0], 1, *ones)}
        shape = shapes[check_choice("delay_type", delay_type, sorted(shapes))]
        if delay_type == "axonal" and self.groups > 1:
            raise ValueError("delay_type='axonal' needs groups=1: groups would share the delays of their axons")
        if delay is None:
            self.register_parameter("delay", None)
            return
        initial = initial_delay(delay, shape, self.max_delay)
        if self.learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay)

    def _fits(self, value: Tensor, neurons: int) -> bool:
        """Or one for each neuron, [out, *space]; the sizes of space are known where input comes."""
        return super()._fits(value, neurons) or (value.dim() == 1 + self.axes and value.shape[0] == neurons)

    def _check_dense(self, input: SpikeEvents | Tensor) -> None:
        if isinstance(input, SpikeEvents):
            return
        wanted = f"[T, N, {self.in_channels}, {', '.join(('length',) if self.axes == 1 else ('height', 'width'))}]"
        if not isinstance(input, Tensor):
            raise TypeError(f"expected SpikeEvents or a tensor {wanted}, got {type(input).__name__}")
        if input.dim() != 3 + self.axes or input.shape[2] != self.in_channels:
            raise ValueError(f"expected spikes {wanted}, got shape {tuple(input.shape)}")

    @property
    def _geometry(self) -> dict:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def _shape(self, dense: Tensor) -> Tensor:
        no_value = sum(parameter.sum() for parameter in self.parameters()) * 0
        convolve = (nn.functional.conv1d, nn.functional.conv2d)[self.axes - 1]
        current = convolve(dense.flatten(0, 1).to(self.weight.dtype), self.weight, None, **self._geometry)
        return current.unflatten(0, dense.shape[:2]) + no_value

    def _fire(self, events: SpikeEvents, scale: float = 1.0) -> SpikeEvents:
        constants = {name: self._value(name) for name in self.model.constants}
        threshold, common = self._value("threshold") * scale, {"dt": self.dt, "max_spikes": self.max_spikes}
        synapses = events, self.weight, self._delay("delay")
        if self._fast:
            return eventprop_lif_convolution(
                *synapses, **self._geometry, **constants, threshold=threshold, spike_times=self.spike_times, **common
            )
        return eventprop_linear_convolution(
            *synapses, **self._geometry, model=self.model, constants=constants, threshold=threshold,
            refractory=self._value("refractory"), **common,
        )  # fmt: skip

    def _traces(self, events: SpikeEvents) -> dict[str, Tensor]:
        model, constants, threshold, refractory = self.neurons()
        return eventprop_convolution_traces(
            events, self.weight, self._delay("delay"), model=model, constants=constants, threshold=threshold,
            refractory=refractory, dt=self.dt, max_spikes=self.max_spikes, **self._geometry,
        )  # fmt: skip

    def extra_repr(self) -> str:
        delays = "no delays" if self.delay is None else f"max_delay={self.max_delay:g}, delay_type={self.delay_type!r}"
        geometry = {"stride": 1, "padding": 0, "dilation": 1}
        changed = {name: getattr(self, name) for name, usual in geometry.items() if set(getattr(self, name)) != {usual}}
        changed |= {"groups": self.groups} if self.groups > 1 else {}
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
            + "".join(f", {name}={value}" for name, value in changed.items())
            + f", model={self.model.name}, {delays}, dt={self.dt:g}, spike_times={self.spike_times!r}, "
            f"output={self.output!r}"
        )


_CONVOLUTION = r"""A convolution over {space} whose kernels have a weight and a delay per tap, with exact gradients.

    .. math:: I_{{o,p}} \leftarrow I_{{o,p}} + w_{{o,c,k}} \text{{ at }} t + d_{{o,c,k}}, \qquad
              q = p \cdot \text{{stride}} - \text{{padding}} + k \cdot \text{{dilation}}

    for a spike at t of channel c at place q. The neurons are those of
    :class:`~snn_delay_plugins.EventPropLIF` or, with ``model``, of :class:`~snn_delay_plugins.EventPropLinear`; spikes and
    all gradients equal theirs with the unrolled weights, which are never built.

    Takes :class:`~snn_delay_plugins.events.SpikeEvents` whose units have the shape {shape}
    (``events.reshape({names})``), or dense spike counts ``[T, N, {names}]``, and returns the like.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As of :class:`torch.nn.{kind}`, in whole numbers; there is no bias.
    model : ContinuousModel
        :data:`~snn_delay_plugins.functional.eventprop_models.LIF`, ``ADLIF`` or any other.
    constants : mapping
        Of the model's constants, and ``threshold``, by name: a number for the layer; a Tensor [out] or (low, high), drawn
        from U(low, high): one for each channel; a Tensor [out, *space]: one for each neuron, at whose price see
        :func:`~snn_delay_plugins.functional.eventprop_convolution.eventprop_linear_convolution`. LIF with numbers alone is
        fastest.
    refractory : float, Tensor or (low, high)
    learn : collection of names, or "all"
        Constants to be trained.
    delay : float, "zeros", "uniform", Tensor or None
        Initial delays; None: the synapses have none.
    delay_type : str
        ``"synaptic"``: one per tap, as the weights; ``"dendritic"``: one per output channel; ``"axonal"``: one per input
        channel.
    weight_init : (mean, std), optional
        Normal distribution of the initial weights; default: weights of a neuron that sum to 20, with a third of their mean
        as std. :func:`snn_delay_plugins.calibrate` scales them on a batch.
    max_delay, learn_delay, dt, spike_times, output, count_gradient, max_spikes
        As in :class:`~snn_delay_plugins.EventPropLIF`; ``spike_times="grid"`` for LIF with numbers alone.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as :func:`~snn_delay_plugins.functional.eventprop_convolution.eventprop_lif_convolution`.

    Examples
    --------
    {example}
    """


class EventPropConv1d(_EventPropConvolution):
    __doc__ = _CONVOLUTION.format(
        space="one axis of space", shape="(channels, length)", names="channels, length", kind="Conv1d",
        example=""">>> import torch
    >>> from snn_delay_plugins import EventPropConv1d, EventPropLI, SpikeEvents
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(EventPropConv1d(1, 4, 7, stride=7, delay="uniform", max_delay=20.0), EventPropLI(400, 20))
    >>> times, units = [300 * torch.rand(9000)], [torch.randint(700, (9000,))]
    >>> cochlea = SpikeEvents.from_lists(times, units, num_units=700, duration=300.0).reshape(1, 700)
    >>> net(cochlea).shape
    torch.Size([300, 1, 20])""",
    )  # fmt: skip
    axes = 1


class EventPropConv2d(_EventPropConvolution):
    __doc__ = _CONVOLUTION.format(
        space="two axes of space", shape="(channels, height, width)", names="channels, height, width", kind="Conv2d",
        example=""">>> import torch
    >>> from snn_delay_plugins import EventPool2d, EventPropConv2d, EventPropLI
    >>> from snn_delay_plugins.functional.eventprop_models import ADLIF
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(
    ...     EventPropConv2d(2, 8, 3, delay="uniform", max_delay=10.0),
    ...     EventPool2d(2),
    ...     EventPropConv2d(8, 4, 3, model=ADLIF, constants={"tau_mem": (10.0, 30.0)}, learn=["tau_mem"]),
    ...     EventPropLI(4 * 3 * 3, 10),
    ... )
    >>> net((torch.rand(50, 2, 2, 12, 12) < 0.05).float()).sum().backward()
    >>> net[0].delay.grad.shape, net[2].tau_mem.grad.shape
    (torch.Size([8, 2, 3, 3]), torch.Size([4]))""",
    )  # fmt: skip
    axes = 2


class _EventPool(nn.Module):
    axes: int

    def __init__(
        self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0, *, mode: Pooling = "sum"
    ) -> None:
        super().__init__()
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes, least=1)
        self.stride = self.kernel_size if stride is None else per_axis("stride", stride, self.axes, least=1)
        self.padding = per_axis("padding", padding, self.axes, least=0)
        self.mode: Pooling = check_choice("mode", mode, POOLING)

    def forward(self, events: SpikeEvents) -> SpikeEvents:
        return pool_events(events, self.kernel_size, self.stride, self.padding, mode=self.mode)

    def extra_repr(self) -> str:
        padding = f", padding={self.padding}" if any(self.padding) else ""
        return f"kernel_size={self.kernel_size}, stride={self.stride}{padding}, mode={self.mode!r}"


_POOL = """Pooling of events over {space}: every spike of a window becomes one of the pooled unit (``mode="sum"``), or the
    first of a sample does (``mode="first"``). See :func:`~snn_delay_plugins.functional.event_pooling.pool_events`.

    Takes and returns :class:`~snn_delay_plugins.events.SpikeEvents` whose units have a shape; for dense spikes there is
    :class:`torch.nn.AvgPool2d`. Without parameters and states.

    Examples
    --------
    >>> from snn_delay_plugins import EventPool{axes}d, SpikeEvents
    >>> events = SpikeEvents.from_lists([[1.0, 2.5]], [[0, 3]], num_units=4, duration=10.0)
    >>> pooled = EventPool{axes}d(2)(events.reshape({shape}))
    >>> pooled.unit_shape, pooled.times.tolist()
    ({pooled}, {times})
    """


class EventPool1d(_EventPool):
    __doc__ = _POOL.format(space="one axis of space", axes=1, shape="1, 4", pooled="(1, 2)", times="[1.0, 2.5]")
    axes = 1


class EventPool2d(_EventPool):
    __doc__ = _POOL.format(space="two axes of space", axes=2, shape="1, 2, 2", pooled="(1, 1, 1)", times="[1.0, 2.5]")
    axes = 2
