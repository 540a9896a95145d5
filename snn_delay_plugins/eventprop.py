"""EventProp layers that need no framework; both front doors hand them out as their own.

A layer computes whole samples and keeps no state between calls, so that there is nothing to reset. The equations are
in :mod:`snn_delay_plugins.functional.eventprop`. Times, delays and time constants share one unit, ms by convention.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from .callers import user_level
from .checks import LARGEST, check_choice, check_flag, check_number, check_whole, shape_alone
from .events import SpikeEvents
from .functional.eventprop import READOUTS, SPIKE_TIMES, Readout, SpikeTimes, eventprop_li, eventprop_lif
from .functional.eventprop_models import LIF, ContinuousModel
from .functional.eventprop_traces import eventprop_traces
from .kernels.dispatch import tell_counters
from .parameters import BoundedModule, DelayType, check_features, delay_shape, initial_delay
from .silence import SCALE_WEIGHTS, SaysSilence, name_of

if TYPE_CHECKING:
    from .eventprop_discrete import DiscreteEventProp

__all__ = ["EventPropLI", "EventPropLIF"]

Output = Literal["events", "dense", "same"]
OUTPUTS = get_args(Output)
MOST_SPIKES = 2**31 - 1
MOST_STEPS_PER_BIN = 2**20
ONE_UNIT = "Times, delays and time constants share one unit, ms by convention"


class _EventPropLayer(BoundedModule):
    """Synapses and time constants: weight [out, in], delay (a parameter, a buffer or None), tau_mem, tau_syn."""

    weight: nn.Parameter

    def _create_synapses(self, in_features, out_features, delay, max_delay, delay_type, learn_delay, weight_init) -> None:
        in_features, out_features = check_features(in_features, out_features)
        delay_shape(delay_type, out_features, in_features)  # without delays too
        self.in_features, self.out_features, self.delay_type = in_features, out_features, delay_type
        self.max_delay = check_number("max_delay", max_delay, least=0.0, infinite=True, unit="inf: no longest delay")
        self.learn_delay = check_flag("learn_delay", learn_delay)
        self._create_connection("weight", "delay", in_features, out_features, delay, weight_init)

    def _create_connection(self, weight: str, delay_name: str, senders: int, receivers: int, delay, init) -> None:
        mean, std = checked_normal(f"{weight}_init", init)
        self.register_parameter(weight, nn.Parameter(torch.empty(receivers, senders).normal_(mean, std)))
        if delay is None:
            self.register_parameter(delay_name, None)
            return
        shape = delay_shape(self.delay_type, receivers, senders)
        initial = initial_delay(delay, shape, self.max_delay, delay_name)
        if self.learn_delay:
            self.register_parameter(delay_name, nn.Parameter(initial))
        else:
            self.register_buffer(delay_name, initial)
        self.bound(delay_name, 0.0, self.max_delay)

    def _create_scheme(self, dt: float, spike_times: str) -> None:
        self.dt = _checked_constant("dt", dt)
        self.spike_times: SpikeTimes = check_choice("spike_times", spike_times, SPIKE_TIMES)

    def _create_constant(self, name: str, value: float, learn: bool) -> None:
        """A positive constant; a learnt one stays above a twentieth of its initial value."""
        value = _checked_constant(name, value)
        if name != "threshold" and self.spike_times == "exact" and self.dt > MOST_STEPS_PER_BIN * value:
            raise ValueError(
                f"dt = {self.dt:g} is {self.dt / value:.3g} times {name} = {value:g}: the exact scheme would "
                "take so many steps in a bin; are the two in one unit?"
            )
        if check_flag(f"learn_{name}", learn):
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
            self.bound(name, value / 20, math.inf)
        else:
            setattr(self, name, value)

    def _constant(self, name: str) -> float | Tensor:
        return self.bounded(name) if name in self._parameters else getattr(self, name)

    def _events(self, input: SpikeEvents | Tensor) -> SpikeEvents:
        """The input as events; dense spikes [T, N, in] stand dt apart."""
        return input if isinstance(input, SpikeEvents) else SpikeEvents.from_dense(input, self.dt)

    def _check_dense(self, input: SpikeEvents | Tensor) -> None:
        if isinstance(input, SpikeEvents):
            return
        if not isinstance(input, Tensor):
            raise TypeError(f"expected SpikeEvents or a tensor [T, N, {self.in_features}], got {type(input).__name__}")
        if input.dim() != 3 or input.shape[2] != self.in_features:
            raise ValueError(f"expected spikes [T, N, {self.in_features}], got shape {tuple(input.shape)}")

    def _shape(self, dense: Tensor) -> Tensor:
        """[T, N, out] without values, for tensors that have none (meta device, FakeTensorMode): all parameters get a
        gradient."""
        no_value = sum(parameter.sum() for parameter in self.parameters()) * 0
        return nn.functional.linear(dense.to(self.weight.dtype), self.weight) + no_value

    def _delay(self, name: str) -> Tensor | None:
        """Delays as the equations read them.

        :raises ValueError: for one beyond ``max_delay``, which a state dict may bring: training would cut it later.
        """
        if getattr(self, name) is None:
            return None
        delay = self.bounded(name)
        if not torch.compiler.is_compiling() and not delay.is_meta:
            longest = float(delay.detach().max())
            if longest > self.max_delay * (1 + 1e-6):  # which float32 may round up
                place = ", ".join(str(int(i)) for i in torch.unravel_index(delay.detach().argmax(), delay.shape))
                raise ValueError(
                    f"{name}[{place}] = {longest:g} of {type(self).__name__} exceeds max_delay = {self.max_delay:g}; "
                    "raise max_delay, or cut the delays with snn_delay_plugins.parameters.project_"
                )
        return delay

    def _options(self) -> dict:
        delay = self._delay("delay")
        return {
            "delay": delay,
            "tau_mem": self._constant("tau_mem"),
            "tau_syn": self._constant("tau_syn"),
            "dt": self.dt,
            "spike_times": self.spike_times,
        }

    def extra_repr(self) -> str:
        delays = "no delays" if self.delay is None else f"max_delay={self.max_delay:g}, delay_type={self.delay_type!r}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, {delays}, dt={self.dt:g}, "
            f"spike_times={self.spike_times!r}"
        )


def _checked_constant(name: str, value: float) -> float:
    value = check_number(name, value, above=0.0)
    if not 1 / LARGEST <= value <= LARGEST:
        raise ValueError(
            f"{name} must be a positive number of {1 / LARGEST:g} to {LARGEST:g}, with which float32 can "
            f"compute, got {value:g}"
        )
    return value


def checked_normal(name: str, init: tuple[float, float]) -> tuple[float, float]:
    try:
        mean, std = init
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers (mean, std) of a normal distribution, got {init!r}") from None
    return check_number(f"the mean of {name}", mean), check_number(f"the std of {name}", std, least=0.0)


class EventPropSpiking(SaysSilence, _EventPropLayer):
    """What layers of spiking neurons have in common: kinds of input and output, recurrent synapses, words for silence."""

    _seen_times = False  # class attributes, so that layers pickled before they existed have them
    count_gradient = 0.0
    _counted_as = "eventprop_lif"

    def _create_layer(
        self, in_features, out_features, *, recurrent, delay, recurrent_delay, max_delay, delay_type, learn_delay,
        weight_init, recurrent_weight_init, output, max_spikes, count_gradient,
    ) -> None:  # fmt: skip
        self._create_output(output, count_gradient)
        self.recurrent = check_flag("recurrent", recurrent)
        self.max_spikes = check_whole("max_spikes", max_spikes, least=1, most=MOST_SPIKES)
        self._create_synapses(in_features, out_features, delay, max_delay, delay_type, learn_delay, weight_init)
        if recurrent:
            self._create_connection(
                "recurrent_weight", "recurrent_delay", out_features, out_features, recurrent_delay, recurrent_weight_init
            )
        else:
            self.recurrent_weight = self.recurrent_delay = None

    def _create_output(self, output: Output, count_gradient: float) -> None:
        self.output = check_choice("output", output, OUTPUTS)
        self.count_gradient = check_number("count_gradient", count_gradient, least=0.0)

    def _suspected_constant(self) -> tuple[str, float]:
        """Name and value of the time constant beside which samples are long."""
        return "tau_mem", float(self._constant("tau_mem"))

    def _fire(self, events: SpikeEvents) -> SpikeEvents:
        raise NotImplementedError

    def neurons(self) -> tuple[ContinuousModel, dict, float | Tensor, float | Tensor]:
        """The neurons' model, its constants by name, threshold and refractory period."""
        raise NotImplementedError

    def discretize(self, dt: float | None = None, *, example: SpikeEvents | Tensor | None = None) -> DiscreteEventProp:
        """This layer frozen into whole time steps, for deployment; equations: :mod:`snn_delay_plugins.eventprop_discrete`.

        :param dt: the time step; delays and refractory periods are rounded to whole ones. Default: that of the layer.
        :param example: input whose spikes are compared before and after, see ``change`` of the result.
        :raises ValueError: for delays of more than 2^20 steps, and constants for each neuron of a convolution.
        """
        from .eventprop_discrete import DiscreteEventProp, SpikeChange

        frozen = DiscreteEventProp(self, self.dt if dt is None else check_number("dt", dt, above=0.0))
        if example is not None:
            with torch.no_grad():
                events = self._events(example)
                after = frozen(events)
                exact = self._fire(events)
            after = after if isinstance(after, SpikeEvents) else SpikeEvents.from_dense(after, frozen.dt)
            frozen.change = SpikeChange.between(exact, after)
        return frozen

    def _largest_potential(self, events: SpikeEvents) -> str:
        raise NotImplementedError

    def forward(self, input: SpikeEvents | Tensor, record: Collection[str] = ()) -> Any:
        """
        :param record: names of the neurons' states, ``"V"`` (membrane potential), ``"I"``, ``"W"`` (adaptation) ..., to be
            returned as well: (output, {name: [T, N, out]}), sampled every ``dt`` for plots, without gradient.
        """
        if record:
            return self._recorded(input, [record] if isinstance(record, str) else list(record))
        tell_counters(self._counted_as)
        self._check_dense(input)
        if isinstance(input, Tensor) and shape_alone(input):
            if self.output == "events":
                raise RuntimeError(
                    f"{type(self).__name__}: how many events come out is known by running alone, not on the "
                    'meta device or in a FakeTensorMode; output="dense" has a shape'
                )
            return self._shape(input)
        events = self._events(input)
        spikes = self._fire(events)
        self._warn_of_times_and_silence(events, spikes, binned=input is not events)
        if self.output == "events" or (self.output == "same" and input is events):
            return spikes
        steps = None if input is events else input.shape[0]
        return spikes.to_dense(self.dt, steps, dtype=self.weight.dtype, count_gradient=self.count_gradient)

    def _recorded(self, input: SpikeEvents | Tensor, names: list[str]) -> tuple[SpikeEvents | Tensor, dict[str, Tensor]]:
        states = self.neurons()[0].states
        for name in names:
            if name not in states:
                raise ValueError(
                    f"record={name!r}: the neurons of {type(self).__name__} have the states {', '.join(states)}"
                )
        if self.spike_times != "exact":
            raise ValueError(f"record= needs spike_times='exact': {self.spike_times!r} has no potential between its steps")
        self._check_dense(input)
        events = self._events(input)
        out, traces = self(input), self._traces(events)
        return out, {name: traces[name] for name in names}

    def _traces(self, events: SpikeEvents) -> dict[str, Tensor]:
        model, constants, threshold, refractory = self.neurons()
        return eventprop_traces(
            events, self.weight, self._delay("delay"), model=model, constants=constants, threshold=threshold,
            refractory=refractory, dt=self.dt, recurrent_weight=self.recurrent_weight,
            recurrent_delay=self._delay("recurrent_delay"), max_spikes=self.max_spikes,
        )  # fmt: skip

    def _warn_of_times_and_silence(self, events: SpikeEvents, spikes: SpikeEvents, binned: bool) -> None:
        """The times of the first batch are looked at, and those of a silent one."""
        if torch.compiler.is_compiling() or not self.training or not len(events) or (len(spikes) and self._seen_times):
            return
        if not self.is_watched(spikes.times):
            return
        first, self._seen_times = not self._seen_times, True
        suspicion = "" if binned and len(spikes) else self._suspicion_of_seconds(events, binned)
        suspicion = suspicion or self._suspicion_of_delays()
        if len(spikes):
            if first and suspicion:
                warnings.warn(f"{name_of(self)}: {suspicion}", stacklevel=user_level())
            return
        with torch.no_grad():
            potential = self._largest_potential(events)
        drive = f"on {len(events)} input spikes its largest membrane potential is {potential}"
        remedy = f"{SCALE_WEIGHTS}, or set weight_init (mean now {self.weight.mean().item():.3g})."
        self.say_silent(drive, suspicion or remedy + self._suspicion_of_constants(events))

    def _suspicion_of_seconds(self, events: SpikeEvents, binned: bool) -> str:
        """Why the times seem to be in another unit than the time constants; empty if they do not."""
        (name, tau), last = self._suspected_constant(), float(events.times.detach().max())
        if events.duration < tau / 4 and binned:
            return (
                f"Its {round(events.duration / self.dt)} bins of dt = {self.dt:g} are short beside {name} = {tau:g}: "
                f"does time come first, [T, N, {self.in_features}]?"
            )
        if events.duration < tau / 4:
            why = f"Samples last {events.duration:g} but {name} is {tau:g}"
        elif 0 < last < events.duration / 100 and not events.times.requires_grad:  # a layer before may fire early alone
            why = f"The last input spike comes at {last:g} of samples that last {events.duration:g}"
        else:
            return ""
        return f"{why}: are their times in seconds? {ONE_UNIT} (SpikeEvents.from_lists has scale=1000)."

    def _suspicion_of_delays(self) -> str:
        """The same of delays that have no effect beside the time constants."""
        name, tau = self._suspected_constant()
        if self.delay is None or not 0 < self.max_delay < tau / 100:
            return ""
        return f"Its max_delay is {self.max_delay:g} but {name} is {tau:g}: are its delays in seconds? {ONE_UNIT}."

    def _suspicion_of_constants(self, events: SpikeEvents) -> str:
        """The same of time constants, beside which the samples of a layer that is silent are very long."""
        name, tau = self._suspected_constant()
        if events.duration < 1000 * tau:
            return ""
        return f" Its {name} is {tau:g} but samples last {events.duration:g}: is it in seconds? {ONE_UNIT}."

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, recurrent={self.recurrent}, output={self.output!r}"


class EventPropLIF(EventPropSpiking):
    r"""Leaky integrate-and-fire neurons whose synapses have trainable weights and delays, with exact gradients.

    .. math:: \tau_m \dot V = -V + I, \quad \tau_s \dot I = -I, \quad
              I_j \leftarrow I_j + w_{ji} \text{ at } t_i + d_{ji}, \quad V_j = \vartheta: \text{spike}, V_j \leftarrow 0

    Takes :class:`~snn_delay_plugins.events.SpikeEvents` or dense spike counts ``[T, N, in]`` (one bin is ``dt`` long).
    Spike times are real numbers, and the gradient is that of the spike times themselves (Meszaros et al., Table 1,
    Eq. 5 and 6): no surrogate is involved, and memory grows with the spikes, not with T. The gradient cannot create
    spikes: a neuron that never fires does not learn, so start from weights that make neurons fire
    (a layer without a single spike warns), scale them on one batch with :func:`snn_delay_plugins.calibrate`, or raise them
    with :func:`snn_delay_plugins.functional.losses.bump_silent_`.

    Parameters
    ----------
    in_features, out_features : int
    recurrent : bool
        Adds synapses ``recurrent_weight``, ``recurrent_delay`` [out, out] from the layer to itself.
    delay, recurrent_delay : float, "zeros", "uniform", Tensor or None
        Initial delays; "uniform": U(0, max_delay); None: the synapses have no delays. Delays, ``max_delay``, ``tau_mem``,
        ``tau_syn``, ``dt`` and the times of events share one unit, ms by convention.
    max_delay : float
        Delays stay in ``[0, max_delay]`` after every optimizer step; unbounded by default, and a long one costs nothing.
    delay_type : str
        ``"synaptic"`` (delay [out, in]), ``"axonal"`` ([1, in]) or ``"dendritic"`` ([out, 1]).
    learn_delay : bool
        False: the delays are buffers.
    weight_init, recurrent_weight_init : (mean, std)
        Normal distribution of the initial weights; the defaults are the paper's for SHD (700 inputs).
    tau_mem, tau_syn, threshold : float
        Trainable with ``learn_tau_mem``, ``learn_tau_syn``, ``learn_threshold``.
    dt : float
        Bin width of dense input and output. The result for events does not depend on it in the exact scheme.
    spike_times : str
        ``"exact"``, or ``"grid"``: the published scheme, whose spikes and delays are multiples of ``dt``.
    output : str
        ``"events"``; ``"dense"``: spike counts [T, N, out] for layers that know no events (spikes are binned, which
        costs precision); ``"same"``: as the input.
    count_gradient : float
        Of dense output, for losses that read how many spikes there are, such as snnTorch's ``ce_count_loss``: EventProp has
        no gradient for them. 1 (or another positive number, its scale) adds one that stands in for it
        (:meth:`SpikeEvents.to_dense <snn_delay_plugins.events.SpikeEvents.to_dense>`); 0: none, and a warning where a loss
        needs it.
    max_spikes : int
        Most spikes of a neuron in a sample; one that exceeds it raises.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as :func:`snn_delay_plugins.functional.eventprop.eventprop_lif`; ValueError too for graded dense input.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins import EventPropLI, EventPropLIF
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(EventPropLIF(700, 64, recurrent=True, delay="uniform", max_delay=50), EventPropLI(64, 20))
    >>> voltage = net((torch.rand(100, 2, 700) < 0.05).float())
    >>> voltage.shape
    torch.Size([100, 2, 20])
    >>> voltage.sum().backward()
    >>> bool(net[0].delay.grad.abs().max() > 0)
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        recurrent: bool = False,
        delay: float | str | Tensor | None = 0.0,
        recurrent_delay: float | str | Tensor | None = 0.0,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.03, 0.01),
        recurrent_weight_init: tuple[float, float] = (0.0, 0.02),
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        threshold: float = 1.0,
        learn_tau_mem: bool = False,
        learn_tau_syn: bool = False,
        learn_threshold: bool = False,
        dt: float = 1.0,
        spike_times: SpikeTimes = "exact",
        output: Output = "events",
        count_gradient: float = 0.0,
        max_spikes: int = 10_000,
    ) -> None:
        super().__init__()
        self._create_scheme(dt, spike_times)
        self._create_layer(
            in_features, out_features, recurrent=recurrent, delay=delay, recurrent_delay=recurrent_delay,
            max_delay=max_delay, delay_type=delay_type, learn_delay=learn_delay, weight_init=weight_init,
            recurrent_weight_init=recurrent_weight_init, output=output, max_spikes=max_spikes,
            count_gradient=count_gradient,
        )  # fmt: skip
        self._create_constant("tau_mem", tau_mem, learn_tau_mem)
        self._create_constant("tau_syn", tau_syn, learn_tau_syn)
        self._create_constant("threshold", threshold, learn_threshold)

    def _fire(self, events: SpikeEvents) -> SpikeEvents:
        return eventprop_lif(
            events,
            self.weight,
            threshold=self._constant("threshold"),
            recurrent_weight=self.recurrent_weight,
            recurrent_delay=self._delay("recurrent_delay"),
            max_spikes=self.max_spikes,
            **self._options(),
        )

    def neurons(self) -> tuple[ContinuousModel, dict, float | Tensor, float | Tensor]:
        constants = {name: self._constant(name) for name in ("tau_mem", "tau_syn")}
        return LIF, constants, self._constant("threshold"), 0.0

    def _largest_potential(self, events: SpikeEvents) -> str:
        # no spike, no reset and no recurrence: the voltage is that of a readout
        peak = eventprop_li(events, self.weight, readout="maximum", **self._options())
        return f"{peak.max().item():.3g} (mean of the peaks {peak.mean().item():.3g})"


class EventPropLI(_EventPropLayer):
    r"""Leaky integrators without threshold, the readout of an EventProp network.

    .. math:: \tau_m \dot V = -V + I, \quad \tau_s \dot I = -I, \quad I_j \leftarrow I_j + w_{ji} \text{ at } t_i + d_{ji}

    Takes :class:`~snn_delay_plugins.events.SpikeEvents` or dense spike counts ``[T, N, in]`` and returns a tensor of the
    weight's dtype.

    Parameters
    ----------
    in_features, out_features : int
    delay : float, "zeros", "uniform", Tensor or None
        None (default, as in the paper): no delays to the readout. Else as :class:`EventPropLIF`, with ``max_delay``,
        ``delay_type`` and ``learn_delay``, and in its unit, ms by convention.
    weight_init : (mean, std)
        The default is the paper's.
    tau_mem, tau_syn : float
        Trainable with ``learn_tau_mem``, ``learn_tau_syn``.
    dt : float
        Bin width of dense input and sampling interval of the voltage.
    spike_times : str
        ``"exact"`` or ``"grid"``.
    readout : str
        ``"voltage"`` [T, N, out]; ``"integral"``, ``"weighted_integral"`` (by e^(-t/T)) or ``"maximum"`` [N, out]: see
        :func:`snn_delay_plugins.functional.eventprop.eventprop_li`.

    Raises
    ------
    TypeError, ValueError
        as :func:`snn_delay_plugins.functional.eventprop.eventprop_li`; ValueError too for graded dense input.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins import EventPropLI
    >>> EventPropLI(64, 20, readout="weighted_integral")((torch.rand(100, 2, 64) < 0.1).float()).shape
    torch.Size([2, 20])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        delay: float | str | Tensor | None = None,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.02, 0.03),
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        learn_tau_mem: bool = False,
        learn_tau_syn: bool = False,
        dt: float = 1.0,
        spike_times: SpikeTimes = "exact",
        readout: Readout = "voltage",
    ) -> None:
        super().__init__()
        self._create_scheme(dt, spike_times)
        self.readout: Readout = check_choice("readout", readout, READOUTS)
        self._create_synapses(in_features, out_features, delay, max_delay, delay_type, learn_delay, weight_init)
        self._create_constant("tau_mem", tau_mem, learn_tau_mem)
        self._create_constant("tau_syn", tau_syn, learn_tau_syn)

    def forward(self, input: SpikeEvents | Tensor) -> Tensor:
        tell_counters("eventprop_li")
        self._check_dense(input)
        if isinstance(input, Tensor) and shape_alone(input):
            voltage = self._shape(input)
            return voltage if self.readout == "voltage" else voltage.sum(0)
        return eventprop_li(self._events(input), self.weight, readout=self.readout, **self._options()).to(self.weight.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, readout={self.readout!r}"
