"""AdLIF+ as snnTorch neurons: one step per call, and a whole sequence per call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ..bounds import BoundMode
from ..checks import check_choice
from ..functional.adlif import VARIANTS, Reset, Variant
from ..models.adlif_parameters import AdLIFParameters
from ..models.parameters import InitialState
from .model import SequenceNeuron, StepNeuron

__all__ = ["AdLIFPlus", "StateAdLIFPlus"]


class _AdLIFPlusOptions(AdLIFParameters):
    """The arguments of both forms."""

    _resets_later = "Eq. 1 resets in the step after the spike; variant='symplectic' resets in the same"

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
        reset_mechanism: Reset | None = None,
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
        bound_mode: BoundMode = "project",
        variant: Variant = "adlif",
        init_state: InitialState = "zeros",
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_choice("variant", variant, VARIANTS)
        if inhibition and variant == "symplectic":
            raise ValueError("inhibition compares membrane potentials at the spike, where symplectic resets them")
        if reset_mechanism is None and variant == "symplectic":
            options["reset_mechanism"] = "zero"
        del options["variant"]
        super().__init__(**options)
        self.variant = variant

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, variant={self.variant!r}"


class AdLIFPlus(_AdLIFPlusOptions, StepNeuron):
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

    init_synaptic = StepNeuron.reset_mem

    def forward(self, input_: Tensor, w: Tensor | None = None, mem: Tensor | None = None):
        return self._step(input_, (w, mem))


class StateAdLIFPlus(_AdLIFPlusOptions, SequenceNeuron):
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

    _step_form = "AdLIFPlus"
