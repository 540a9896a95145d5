"""AdLIF+ as snnTorch neurons: one step per call, and a whole sequence per call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import torch
from snntorch import SpikingNeuron
from torch import Tensor

from ..checks import check_choice, check_current, check_flag, check_function, check_tensor, values_known
from ..functional.adlif import RESETS, VARIANTS, AdLIFState, adlif, adlif_step, spikes_of
from ..functional.surrogate import Boxcar
from ..parameters import AdLIFParameters, live_modules, real_values
from ..second_backward import ToldOfSecondBackward
from ..silence import SaysSilence
from ..transforms import check_left_behind
from .state import CarriedStates
from .upstream import layer_before, neuron_restarted, taken

__all__ = ["AdLIFPlus", "StateAdLIFPlus"]

_LEARNABLE = ("alpha", "beta", "a", "b")


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


class _AdLIFPlusNeuron(SaysSilence, AdLIFParameters, _Unlisted):
    """What the step and the sequence form share: construction and options."""

    def __init__(
        self,
        alpha: float | Tensor | None = None,
        beta: float | Tensor | None = None,
        threshold: float | Tensor = 1.0,
        spike_grad: Callable[[Tensor], Tensor] | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_alpha: bool = True,
        learn_beta: bool = True,
        learn_threshold: bool = False,
        reset_mechanism: str | None = None,
        state_quant: Callable[[Tensor], Tensor] | bool = False,
        output: bool = False,
        reset_delay: bool = True,
        *,
        a: float | Tensor | None = None,
        b: float | Tensor | None = None,
        learn_a: bool = True,
        learn_b: bool = True,
        features: int | Iterable[int] | None = None,
        preset: str = "adlif+",
        bounds: dict[str, Iterable[float]] | None = None,
        bound_mode: str = "project",
        variant: str = "adlif",
        init_state: str = "zeros",
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
    ) -> None:
        check_choice("variant", variant, VARIANTS)
        options = {"surrogate_disable": surrogate_disable, "init_hidden": init_hidden, "inhibition": inhibition,
                   "learn_alpha": learn_alpha, "learn_beta": learn_beta, "learn_a": learn_a, "learn_b": learn_b,
                   "learn_threshold": learn_threshold, "output": output, "reset_delay": reset_delay,
                   "learn_graded_spikes_factor": learn_graded_spikes_factor}  # fmt: skip
        for name, value in options.items():
            check_flag(name, value)
        if spike_grad is not None:
            check_function("spike_grad", spike_grad, "Boxcar()")
        if not isinstance(reset_mechanism, str | None):  # snnTorch refuses unknown ones
            check_choice("reset_mechanism", reset_mechanism, RESETS)
        if inhibition and variant == "symplectic":
            raise ValueError("inhibition compares membrane potentials at the spike, where symplectic resets them")
        if not reset_delay:
            raise ValueError(
                "reset_delay=False: Eq. 1 resets in the step after the spike; variant='symplectic' resets in the same"
            )
        super().__init__(
            threshold=_floating("threshold", threshold, positive=True),
            spike_grad=Boxcar() if spike_grad is None else spike_grad,
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            inhibition=inhibition,
            learn_threshold=learn_threshold,
            reset_mechanism=reset_mechanism or ("zero" if variant == "symplectic" else "subtract"),
            state_quant=state_quant,
            output=output,
            graded_spikes_factor=_floating("graded_spikes_factor", graded_spikes_factor, positive=False),
            learn_graded_spikes_factor=learn_graded_spikes_factor,
        )
        self.variant = variant
        self.create_adlif_parameters(
            features,
            preset,
            initial={"alpha": alpha, "beta": beta, "a": a, "b": b},
            learn=dict(zip(_LEARNABLE, (learn_alpha, learn_beta, learn_a, learn_b), strict=True)),
            bounds=bounds,
            bound_mode=bound_mode,
            init_state=init_state,
        )
        self._prepare()

    def _prepare(self) -> None:
        """What the subclass adds to the construction (so that its signature stays the one above)."""

    def _options(self) -> dict:
        return {
            **self.neuron_parameters(),
            "threshold": self.threshold,
            "surrogate": self.spike_grad,
            "variant": self.variant,
            "reset": self.reset_mechanism,
        }

    def _state(self, w: Tensor, mem: Tensor) -> AdLIFState:
        return AdLIFState(mem, w, spikes_of(mem, self.threshold, self.spike_grad))

    def _graded(self, spikes: Tensor) -> Tensor:
        return spikes * self.graded_spikes_factor.to(spikes.dtype)

    def extra_repr(self) -> str:
        return f"preset={self.preset!r}, variant={self.variant!r}, reset_mechanism={self.reset_mechanism!r}"


class AdLIFPlus(CarriedStates, ToldOfSecondBackward, _AdLIFPlusNeuron):
    r"""Adaptive LIF neuron with bounded trainable parameters (Deckers et al., Eq. 1), used like ``snn.Synaptic``.

    .. math::
        u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]) - \theta\, s[t-1] \\
        w[t] &= \beta\, w[t-1] + (1 - \beta)\, a\, u[t-1] + b\, s[t-1] \\
        s[t] &= \Theta(u[t] - \theta)

    One step per call: input current ``[N, *]``, previous adaptation current ``w`` and membrane potential ``mem``
    ``[N, *]``; returns ``spk, w, mem``, or ``spk`` alone with ``init_hidden=True`` and ``output=False``. States that
    are not passed back persist inside the neuron, as in snnTorch, until :meth:`reset_mem`. Unlike snnTorch's own
    neurons it fires at ``mem >= threshold`` and its gradient also flows through the reset, as Eq. 1 has it.

    alpha, beta, a and b have one trainable value per neuron, drawn uniformly from their intervals and kept there
    after every optimizer step. Note the names: alpha is the leak of the membrane, beta that of the adaptation.

    :param alpha, beta, a, b: initial values (number or tensor) in place of the uniform draw.
    :param threshold: firing threshold theta.
    :param spike_grad: surrogate gradient; default: the boxcar of Eq. 6.
    :param init_hidden: the states are kept inside and only spikes are returned.
    :param inhibition: only the neuron with the highest membrane potential may pass on its spike.
    :param learn_alpha, learn_beta, learn_a, learn_b, learn_threshold: what is trained.
    :param reset_mechanism: ``"subtract"`` (Eq. 1), ``"zero"`` (the default of ``variant="symplectic"``) or ``"none"``.
    :param state_quant: quantisation of the states after each step.
    :param output: with ``init_hidden``: return the states too.
    :param features: shape of the neurons, ``128`` or ``(32, 14, 14)``; ``None``: taken from the first input.
    :param preset: ``"adlif+"``, ``"adlif"`` (Bittar & Garner's intervals) or ``"lif"`` (alpha only).
    :param bounds: intervals that replace the preset's, e.g. ``{"alpha": (0.5, 0.9)}``.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :param variant: ``"adlif"`` or ``"symplectic"`` (SE-AdLIF, Baronig et al. 2024).
    :param init_state: ``"zeros"``, or ``"uniform"``: u, w ~ U(0, 1) as in the paper (evaluation: one fixed draw).
    :param graded_spikes_factor: factor of the spikes that are returned.
    :raises ValueError: for options or values that make no such neuron, and inputs or states that do not fit.
    :raises TypeError: for options of the wrong type, and if states are passed although ``init_hidden=True``.

    Example::

        >>> import torch
        >>> fc, neuron = torch.nn.Linear(700, 128), AdLIFPlus(features=128)
        >>> w, mem = neuron.reset_mem()
        >>> for x in torch.rand(100, 8, 700):
        ...     spk, w, mem = neuron(fc(x), w, mem)
        >>> spk.shape
        torch.Size([8, 128])
    """

    _states = ("w", "mem")
    _sequence_form = "StateAdLIFPlus"
    _reset_and_detach = (
        "snn_delay_plugins.snntorch.reset(net) between batches, or detach(net) between the windows of one sequence"
    )

    def _prepare(self) -> None:
        if self.state_quant is not False:
            check_function("state_quant", self.state_quant, "snntorch.functional.quant.state_quant(num_bits=8)")
        self.w, self.mem = torch.zeros(0), torch.zeros(0)

    def reset_mem(self) -> tuple[Tensor, Tensor]:
        """Forget the states and return them, empty; the next step starts from ``init_state``."""
        self.end_batch()
        self.w, self.mem = (torch.zeros(0, dtype=x.dtype, device=x.device) for x in (self.w, self.mem))
        self.states_are_new()
        neuron_restarted(self)
        return self.w, self.mem

    init_synaptic = reset_mem

    def forward(self, input_: Tensor, w: Tensor | None = None, mem: Tensor | None = None):
        if self.init_hidden and not (w is None and mem is None):
            raise TypeError("`w` or `mem` should not be passed as an argument while `init_hidden=True`")
        check_current(input_, "[N, *]", 0)
        if w is None or mem is None:
            self.take_states()
        taken(self, input_)
        self.create_features(tuple(input_.shape[1:]))
        self.warn_of_sequence(input_)
        w, mem = self._previous(input_, self.w if w is None else w, self.mem if mem is None else mem)
        state = adlif_step(input_, self._state(w, self.continued(mem)), **self._options())
        self.carries(state.u)
        self.w, self.mem, spikes = state.w, state.u, state.s
        self.watch_step(input_, spikes)
        if self.state_quant:
            self.w, self.mem = self.state_quant(self.w), self.state_quant(self.mem)
            if self.variant == "adlif":  # symplectic: mem is reset already and no longer tells of the spike
                spikes = spikes_of(self.mem, self.threshold, self.spike_grad)
        if self.inhibition:
            winner = self.mem.flatten(1).argmax(1, keepdim=True)
            spikes = spikes * torch.zeros_like(spikes.flatten(1)).scatter_(1, winner, 1.0).view_as(spikes)
        spikes = self._graded(spikes.to(input_.dtype))
        if self.init_hidden and not self.output:
            return spikes
        return spikes, self.w, self.mem

    def _previous(self, input_: Tensor, w: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
        for name, value in (("w", w), ("mem", mem)):
            check_tensor(name, value)
        check_left_behind(w, mem)
        initial_mem, initial_w = self.initial_state(input_) if not (w.numel() and mem.numel()) else (mem, w)
        w, mem = (w if w.numel() else initial_w), (mem if mem.numel() else initial_mem)
        for name, value in (("w", w), ("mem", mem)):
            if value.shape != input_.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)} but the input {tuple(input_.shape)}: call reset_mem() or "
                    "snn_delay_plugins.snntorch.reset(net) between batches"
                )
        return w, mem

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
    def _alive(cls) -> list[AdLIFPlus]:
        # one that another thread is building has no states yet
        return [neuron for neuron in live_modules() if isinstance(neuron, cls) and hasattr(neuron, "mem")]


class StateAdLIFPlus(_AdLIFPlusNeuron):
    """:class:`AdLIFPlus` over a whole sequence per call, time first, like snnTorch's ``StateLeaky``.

    Input current ``(T, B, C)`` or ``[T, N, *]``; returns the spikes of the same shape, or with ``output=True``
    ``spk, w, mem``, the traces of the adaptation current and the membrane potential beside them. Every call starts
    from ``init_state``; no state is kept. The arguments are those of :class:`AdLIFPlus`.

    :raises ValueError: for ``init_hidden``, ``inhibition`` and ``state_quant``, which act between steps.

    Example::

        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(700, 128), StateAdLIFPlus(features=128))
        >>> net(torch.rand(100, 8, 700)).shape
        torch.Size([100, 8, 128])
    """

    def _prepare(self) -> None:
        for option in ("init_hidden", "inhibition", "state_quant"):
            if getattr(self, option):
                raise ValueError(f"{option} acts between time steps and is not available on sequences; use AdLIFPlus")

    def reset_mem(self) -> None:
        """Nothing to forget: every call starts from ``init_state``."""

    def forward(self, input_: Tensor):
        check_current(input_, "(T, B, C)", 3)
        self.create_features(tuple(input_.shape[2:]))
        mem, w = self.initial_state(input_.new_zeros(input_.shape[1:]))
        if not self.output:
            spikes, _ = adlif(input_, self._state(w, mem), **self._options())
            self.watch_sequence(input_, spikes)
            return self._graded(spikes)
        spikes, _, (mem, w) = adlif(input_, self._state(w, mem), traces=True, **self._options())
        self.watch_sequence(input_, spikes)
        return self._graded(spikes), w, mem
