"""snnTorch neurons made of a model: one step per call, and a whole sequence per call. There are no equations here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal, cast

import torch
from snntorch import SpikingNeuron
from torch import Tensor

from ..bounds import BoundMode
from ..checks import check_choice, check_current, check_flag, check_function, check_tensor, real_values, values_known
from ..functional.adlif import Reset
from ..functional.recurrent import Recurrence
from ..functional.surrogate import Boxcar
from ..models import front_door
from ..models.model import RESETS, NeuronModel
from ..models.parameters import InitialState, NeuronParameters
from ..models.run import Run, States
from ..projection import live_modules
from ..second_backward import ToldOfSecondBackward
from ..silence import SaysSilence
from ..transforms import check_left_behind, exported_step
from .state import CarriedStates
from .upstream import layer_before, neuron_restarted, taken

__all__ = ["SequenceNeuron", "StepNeuron", "from_model"]


def _floating(name: str, value: float | Tensor, positive: bool) -> Tensor:
    """snnTorch would keep ``threshold=1`` as an integer, which neither learns nor mixes with the states."""
    given = real_values(name, value)
    if values_known(given) and not bool((given.isfinite() & (given > 0 if positive else True)).all()):
        raise ValueError(f"{name} must be {'positive and ' if positive else ''}finite, got {value}")
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else given
    return torch.empty(given.shape).copy_(given)


class _Unlisted(SpikingNeuron):
    """A neuron that is freed when nobody uses it any more.

    snnTorch's list of every neuron would keep it for ever, with its states and the graph that they hang on. Only the class
    methods of snnTorch's own neurons read that list; ours find their neurons among the modules that are alive.
    """

    def __init__(self, **options) -> None:
        try:
            super().__init__(**options)
        finally:
            with suppress(ValueError):
                SpikingNeuron.instances.remove(self)


class _Neuron(SaysSilence, NeuronParameters, _Unlisted):
    """What the step and the sequence form share: construction and options."""

    def __init__(
        self,
        threshold: float | Tensor = 1.0,
        spike_grad: Callable[[Tensor], Tensor] | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_threshold: bool = False,
        reset_mechanism: Reset | None = None,
        state_quant: Callable[[Tensor], Tensor] | bool = False,
        output: bool = False,
        reset_delay: bool = True,
        *,
        features: int | Iterable[int] | None = None,
        preset: str = "default",
        bounds: dict[str, Iterable[float]] | None = None,
        bound_mode: BoundMode = "project",
        init_state: InitialState = "zeros",
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
        **of_model,
    ) -> None:
        """:param of_model: initial values and ``learn_...`` of the model's parameters."""
        options = {"surrogate_disable": surrogate_disable, "init_hidden": init_hidden, "inhibition": inhibition,
                   "learn_threshold": learn_threshold, "output": output, "reset_delay": reset_delay,
                   "learn_graded_spikes_factor": learn_graded_spikes_factor}  # fmt: skip
        for name, value in options.items():
            check_flag(name, value)
        if spike_grad is not None:
            check_function("spike_grad", spike_grad, "Boxcar()")
        if not isinstance(reset_mechanism, str | None) or reset_mechanism in set(RESETS) - set(self.model.resets):
            check_choice("reset_mechanism", reset_mechanism, self.model.resets)  # snnTorch refuses unknown ones
        if not reset_delay:
            raise ValueError("reset_delay=False: " + self._resets_later)
        super().__init__(
            threshold=_floating("threshold", threshold, positive=True),
            spike_grad=Boxcar() if spike_grad is None else spike_grad,
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            inhibition=inhibition,
            learn_threshold=learn_threshold,
            reset_mechanism=self.model.resets[0] if reset_mechanism is None else reset_mechanism,
            state_quant=state_quant,
            output=output,
            graded_spikes_factor=_floating("graded_spikes_factor", graded_spikes_factor, positive=False),
            learn_graded_spikes_factor=learn_graded_spikes_factor,
        )
        self.model.check_reset(self.reset_mechanism)
        self.create_neuron_parameters(
            features=features,
            preset=preset,
            initial={name: of_model.get(name) for name in self.model.parameters},
            learn={name: of_model.get(f"learn_{name}", True) for name in self.model.parameters},
            bounds=bounds,
            bound_mode=bound_mode,
            init_state=init_state,
        )

    _resets_later = "a spike acts on the states in the step after it"

    def _run(self) -> Run:
        return self.prepared(self.threshold, self.spike_grad, self.reset_mechanism)

    def _graded(self, spikes: Tensor) -> Tensor:
        return spikes * self.graded_spikes_factor.to(spikes.dtype)

    def extra_repr(self) -> str:
        return f"features={self.said_features}, preset={self.preset!r}, reset_mechanism={self.reset_mechanism!r}"


class StepNeuron(CarriedStates, ToldOfSecondBackward, _Neuron):
    """One step per call; the base class of what :func:`from_model` makes."""

    _reset_and_detach = (
        "snn_delay_plugins.snntorch.reset(net) between batches, or detach(net) between the windows of one sequence"
    )

    def __init__(self, **options) -> None:
        super().__init__(**options)
        if self.state_quant is not False:
            check_function("state_quant", self.state_quant, "snntorch.functional.quant.state_quant(num_bits=8)")
        for name in self._states:
            setattr(self, name, torch.zeros(0))

    def reset_mem(self) -> Tensor | tuple[Tensor, ...]:
        """Forget the states and return them, empty; the next step starts from ``init_state``."""
        self.end_batch()
        for name in self._states:
            before = getattr(self, name)
            setattr(self, name, torch.zeros(0, dtype=before.dtype, device=before.device))
        self.states_are_new()
        neuron_restarted(self)
        states = tuple(getattr(self, name) for name in self._states)
        return states[0] if len(states) == 1 else states

    def forward(self, input_: Tensor, *states: Tensor | None):
        """One step.

        :param input_: input current ``[N, *]``. :param states: after the step before, each ``[N, *]``; default: those that
            were kept.
        :returns: ``spk`` and the states, or ``spk`` alone with ``init_hidden=True`` and ``output=False``.
        """
        return self._step(input_, states)

    def _step(self, input_: Tensor, given: tuple[Tensor | None, ...]):
        """``given``: the states in the order in which snnTorch's users pass them, the membrane potential last."""
        kept = any(value is None for value in given)
        if self.init_hidden and any(value is not None for value in given):
            names = " or ".join(f"`{name}`" for name in self._states)
            raise TypeError(f"{names} should not be passed as an argument while `init_hidden=True`")
        check_current(input_, "[N, *]", 0)
        exported = kept and exported_step(type(self).__name__)
        if exported:
            given = tuple(input_.new_zeros(0) if value is None else value for value in given)
        elif kept:
            self.take_states()
            given = tuple(
                getattr(self, name) if value is None else value for name, value in zip(self._states, given, strict=True)
            )
        taken(self, input_)
        self.create_features(tuple(input_.shape[1:]))
        self.warn_of_sequence(input_)
        mem, *others = self._previous(input_, (given[-1], *given[:-1]))
        run = self._run()
        states, spikes = run.step(input_, (self.continued(mem), *others))
        self.carries(states[0])
        self.watch_step(input_, spikes)
        quantise = cast("Callable[[Tensor], Tensor] | Literal[False]", self.state_quant)  # checked at construction
        if quantise:
            states = tuple(quantise(state) for state in states)
            if run.shows_spikes:
                spikes = run.spikes(states)
        if not exported:
            for name, state in zip(self._states, (*states[1:], states[0]), strict=True):
                setattr(self, name, state)
        if self.inhibition:
            winner = states[0].flatten(1).argmax(1, keepdim=True)
            spikes = spikes * torch.zeros_like(spikes.flatten(1)).scatter_(1, winner, 1.0).view_as(spikes)
        spikes = self._graded(spikes.to(input_.dtype))
        if self.init_hidden and not self.output:
            return spikes
        return spikes, *states[1:], states[0]

    def _previous(self, input_: Tensor, given: tuple[Tensor | None, ...]) -> States:
        """The states before the step, in the model's order; empty ones are those of the start."""
        states = tuple(check_tensor(name, value) for name, value in zip(self.model.states, given, strict=True))
        check_left_behind(*states)
        if not all(value.numel() for value in states):
            start = self.initial_state(input_)
            states = tuple(value if value.numel() else first for value, first in zip(states, start, strict=True))
        for name, value in zip(self.model.states, states, strict=True):
            if value.shape != input_.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)} but the input {tuple(input_.shape)}: call reset_mem() or "
                    "snn_delay_plugins.snntorch.reset(net) between batches"
                )
        return states

    def detach_states(self) -> None:
        self.end_window()
        super().detach_states()

    @classmethod
    def detach_hidden(cls) -> None:
        """Detach the states of every neuron of this class, copies included (truncated backpropagation), and the spikes on
        their way in the layers with delays that feed them, which would hold on to the same graph."""
        for neuron in cls._alive():
            neuron.detach_states()
            layer = layer_before(neuron)
            if layer is not None:
                layer.detach_states()

    @classmethod
    def reset_hidden(cls) -> None:
        """Forget the states of every neuron of this class, copies included."""
        for neuron in cls._alive():
            neuron.reset_mem()

    @classmethod
    def _alive(cls) -> list[StepNeuron]:
        # one that another thread is building has no states yet
        return [neuron for neuron in live_modules() if isinstance(neuron, cls) and hasattr(neuron, neuron._states[-1])]


class SequenceNeuron(_Neuron):
    """A whole sequence per call, time first, like snnTorch's ``StateLeaky``; the base class of what
    :func:`from_model` makes.

    :raises ValueError: for ``init_hidden``, ``inhibition`` and ``state_quant``, which act between steps.
    """

    takes_sequences = True
    _step_form = ""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        for option in ("init_hidden", "inhibition", "state_quant"):
            if getattr(self, option):
                raise ValueError(
                    f"{option} acts between time steps and is not available on sequences; use {self._step_form}"
                )

    def reset_mem(self) -> None:
        """Nothing to forget: every call starts from ``init_state``."""

    def forward(self, input_: Tensor, recurrence: Recurrence | None = None):
        """The spikes of a sequence ``(T, B, C)`` or ``[T, N, *]``; with ``output=True`` the traces of the states too.

        :param recurrence: what a :class:`~snn_delay_plugins.snntorch.DelayedRecurrent` adds to the input.
        """
        check_current(input_, "(T, B, C)", 3)
        self.create_features(tuple(input_.shape[2:]))
        states = self.initial_state(input_.new_zeros(input_.shape[1:]))
        sequence = self._run().sequence(input_, states, traces=self.output, recurrence=recurrence)
        self.watch_sequence(input_, sequence.spikes)
        spikes = self._graded(sequence.spikes)
        if sequence.traces is None:
            return spikes
        mem, *others = sequence.traces
        return spikes, *others, mem


def from_model(model: NeuronModel, module: str | None = None) -> tuple[type[StepNeuron], type[SequenceNeuron]]:
    """snnTorch neurons of a model: a class ``NAME`` for steps, like ``snn.Synaptic``, and ``StateNAME`` for sequences.

    :param model: a :class:`~snn_delay_plugins.models.LinearModel` (compiled over sequences) or
        :class:`~snn_delay_plugins.models.StepModel`.
    :param module: where pickle will look for the classes under their own names; default: the module that calls this.
    :returns: the two classes; their arguments are those of ``snn.Synaptic`` with the model's parameters in the place of
        alpha and beta, and ``features``, ``preset``, ``bounds``, ``bound_mode``, ``init_state``.
    :raises TypeError: if ``model`` is no model.
    :raises ValueError: if a state or parameter has the name of something that every snnTorch neuron has.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.models import Coefficients, LinearModel, Parameter, membrane_reset
        >>> def coefficients(p, theta, reset, detach_reset):
        ...     jump = membrane_reset(reset, theta, (p["alpha"],), detach_reset)
        ...     return Coefficients(theta=theta, A=((p["alpha"],),), B=(1,), **jump)
        >>> leak = LinearModel(name="Leak", states=("mem",), parameters={"alpha": Parameter(0.4, 0.9)},
        ...                    coefficients=coefficients)
        >>> Leak, StateLeak = from_model(leak)
        >>> neuron = Leak(features=128, init_hidden=True)
        >>> neuron(torch.rand(8, 128)).shape
        torch.Size([8, 128])
        >>> StateLeak(0.8, learn_alpha=False)(torch.rand(100, 8, 128)).shape
        torch.Size([100, 8, 128])
    """
    front_door.check_type(model)
    module = front_door.calling_module(module)
    states = (*model.states[1:], model.states[0])
    for base in (StepNeuron, SequenceNeuron):
        front_door.check_names(model, base, (*states, *model.parameters), _taken())
    signature = _signature(model)
    sequence_name, shown = f"State{model.name}", ", ".join(states)
    step = front_door.make_class(
        StepNeuron, model.name, module, model, signature, _step_doc(model, module, shown), forward=_forward(states),
        _states=states, _sequence_form=sequence_name,
    )  # fmt: skip
    sequence = front_door.make_class(
        SequenceNeuron, sequence_name, module, model, signature, _sequence_doc(model, module, sequence_name, shown),
        _step_form=model.name,
    )  # fmt: skip
    return step, sequence


def _taken() -> set[str]:
    """What every snnTorch neuron has beside its class's attributes."""
    plain = _Unlisted()
    return {*inspect.signature(_Neuron.__init__).parameters, *plain.__dict__, *plain._buffers, "input_"}


def _signature(model: NeuronModel) -> inspect.Signature:
    """Synaptic's arguments in their order, the model's parameters in the place of alpha and beta."""
    signature = front_door.signature_of(_Neuron.__init__, model.parameters, {"reset_mechanism": model.resets[0]})
    arguments = list(signature.parameters.values())
    place = list(signature.parameters).index("learn_threshold")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments[place:place] = [
        inspect.Parameter(f"learn_{name}", kind, default=True, annotation="bool") for name in model.parameters
    ]
    return signature.replace(parameters=arguments)


def _forward(states: tuple[str, ...]):
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(name, kind) for name in ("self", "input_")]
        + [inspect.Parameter(name, kind, default=None) for name in states]
    )

    def forward(self, input_: Tensor, *given: Tensor | None, **named: Tensor | None):
        if len(given) != len(states) or named:
            given = _by_name(type(self).__name__, states, given, named)
        return self._step(input_, given)

    forward.__signature__ = signature
    forward.__doc__ = StepNeuron.forward.__doc__
    forward.__qualname__ = "StepNeuron.forward"
    return forward


def _by_name(of: str, states: tuple[str, ...], given: tuple, named: dict) -> tuple:
    if len(given) > len(states):
        raise TypeError(f"{of} has {len(states)} states ({', '.join(states)}), got {len(given)}")
    missing = states[len(given) :]
    strange = [name for name in named if name not in missing]
    if strange:
        raise TypeError(f"{of} has the states {', '.join(states)}; {', '.join(strange)} given twice or not one of them")
    return (*given, *(named.get(name) for name in missing))


_OPTIONS = (
    ":param threshold: firing threshold theta.",
    ":param spike_grad: surrogate gradient; default: the boxcar of half-width and height 0.5.",
    ":param reset_mechanism: {resets}.",
    ":param learn_threshold: whether the threshold is trained; ``learn_...``: whether a parameter is.",
    ":param features: shape of the neurons, ``128`` or ``(32, 14, 14)``; ``None``: taken from the first input.",
    ':param bounds: intervals that replace those of the preset, e.g. ``{{"{first}": (low, high)}}``.',
    ':param bound_mode: ``"project"`` (clip after the optimizer\'s step) or ``"clamp"`` (clamp in the forward pass).',
    ':param init_state: ``"zeros"``, or ``"uniform"``: states from U(0, 1) (evaluation: one fixed draw).',
    ":param graded_spikes_factor: factor of the spikes that are returned.",
)
_BETWEEN_STEPS = (
    ":param init_hidden: the states are kept inside and only spikes are returned; ``output``: the states too.",
    ":param inhibition: only the neuron with the highest membrane potential may pass on its spike.",
    ":param state_quant: quantisation of the states after each step.",
)


def _options(model: NeuronModel, more: tuple[str, ...]) -> list[str]:
    resets = " or ".join(f'``"{reset}"``' for reset in model.resets)
    first = next(iter(model.parameters), "name")
    raises = [
        ":raises ValueError: for options or values that make no such neuron, and inputs or states that do not fit.",
        ":raises TypeError: for options of the wrong type.",
    ]
    return [line.format(resets=resets, first=first) for line in _OPTIONS] + list(more) + raises


def _step_doc(model: NeuronModel, module: str, shown: str) -> str:
    call = (
        f"One step per call: input current ``[N, *]`` and the states after the step before, ``{shown}``, each ``[N, *]``; "
        f"returns ``spk, {shown}``, or ``spk`` alone with ``init_hidden=True`` and ``output=False``. States that are not "
        "passed back persist inside the neuron, as in snnTorch, until ``reset_mem()``. It fires where it reaches the "
        "threshold, and its gradient also flows through the reset."
    )
    example = "\n".join((
        "    >>> import torch",
        f"    >>> from {module} import {model.name}",
        f"    >>> neuron = {model.name}(features=128)",
        f"    >>> {shown} = neuron.reset_mem()",
        "    >>> for x in torch.rand(100, 8, 128):",
        f"    ...     spk, {shown} = neuron(x, {shown})",
        "    >>> spk.shape",
        "    torch.Size([8, 128])",
    ))  # fmt: skip
    return front_door.document(model, "used like ``snn.Synaptic``", call, _options(model, _BETWEEN_STEPS), example)


def _sequence_doc(model: NeuronModel, module: str, name: str, shown: str) -> str:
    call = (
        "A whole sequence per call, time first: input current ``(T, B, C)`` or ``[T, N, *]``; returns the spikes of the "
        f"same shape, or with ``output=True`` ``spk, {shown}``, the traces of the states beside them. Every call starts "
        "from ``init_state``; no state is kept."
    )
    example = "\n".join((
        "    >>> import torch",
        f"    >>> from {module} import {name}",
        f"    >>> {name}(features=128)(torch.rand(100, 8, 128)).shape",
        "    torch.Size([100, 8, 128])",
    ))  # fmt: skip
    more = (":param init_hidden, inhibition, state_quant: act between steps and are refused.",)
    return front_door.document(model, "used like snnTorch's ``StateLeaky``", call, _options(model, more), example)
