"""AdLIF+ as a SpikingJelly neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor

from ..checks import LARGEST, check_choice, check_current, check_flag, check_function, check_number
from ..functional.adlif import VARIANTS, AdLIFState, adlif, adlif_step, spikes_of
from ..functional.surrogate import Boxcar
from ..parameters import AdLIFParameters
from ..second_backward import ToldOfSecondBackward
from ..silence import SaysSilence
from ..transforms import check_left_behind
from .memory import DetachableMemories

__all__ = ["AdLIFPlusNode"]


class AdLIFPlusNode(SaysSilence, ToldOfSecondBackward, AdLIFParameters, BaseNode, DetachableMemories):
    r"""Adaptive LIF neuron with bounded trainable parameters (Deckers et al., Eq. 1), used like ``neuron.LIFNode``.

    .. math::
        u[t] &= \alpha\, u[t-1] + (1 - \alpha) (I[t] - w[t-1]) - \theta\, s[t-1] \\
        w[t] &= \beta\, w[t-1] + (1 - \beta)\, a\, u[t-1] + b\, s[t-1] \\
        s[t] &= \Theta(u[t] - \theta)

    Input currents ``[N, *]`` (``step_mode="s"``) or ``[T, N, *]`` (``"m"``); spikes of the same shape. The memories
    are ``v`` (the membrane potential u) and ``w`` (the adaptation current), each ``[N, *]``; they last until
    ``functional.reset_net``. alpha, beta, a and b have one trainable value per neuron, drawn uniformly from their
    intervals and kept there after every optimizer step.

    :param tau: membrane time constant in steps, as in LIFNode: starts every alpha at ``1 - 1/tau``.
    :param decay_input: Eq. 1 scales the input by ``1 - alpha``; ``False`` is refused.
    :param v_threshold: firing threshold theta.
    :param v_reset: ``None``: the reset of the variant (Eq. 1: theta is subtracted; symplectic: to zero).
        ``0.0``: the membrane potential that is carried on is zero.
    :param surrogate_function: default: the boxcar of Eq. 6.
    :param detach_reset: no gradient through the reset.
    :param step_mode: ``"s"`` or ``"m"``.
    :param store_v_seq: keep the trace of v in ``v_seq`` ``[T, N, *]``.
    :param features: shape of the neurons, ``128`` or ``(32, 14, 14)``; ``None``: taken from the first input.
    :param preset: ``"adlif+"``, ``"adlif"`` (Bittar & Garner's intervals) or ``"lif"`` (alpha only).
    :param alpha, beta, a, b: initial values (number or tensor) in place of the uniform draw.
    :param learn: ``False``: the four are buffers.
    :param bounds: intervals that replace the preset's, e.g. ``{"alpha": (0.5, 0.9)}``.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :param init_state: ``"zeros"``, or ``"uniform"``: u, w ~ U(0, 1) as in the paper (evaluation: one fixed draw).
    :param variant: ``"adlif"`` or ``"symplectic"`` (SE-AdLIF, Baronig et al. 2024).
    :raises ValueError: for options or values that make no such neuron, and inputs that do not fit.
    :raises TypeError: for options of the wrong type.
    :raises RuntimeError: if the input's shape changed without a reset.

    Example::

        >>> import torch
        >>> from spikingjelly.activation_based import functional, layer
        >>> net = torch.nn.Sequential(layer.Linear(700, 128), AdLIFPlusNode(features=128))
        >>> functional.set_step_mode(net, "m")
        >>> spikes = net(torch.rand(100, 8, 700))
        >>> functional.reset_net(net)
        >>> spikes.shape
        torch.Size([100, 8, 128])
    """

    _operator = "adlif"
    _sequence_form = "functional.set_step_mode(net, 'm')"
    _reset_and_detach = (
        "functional.reset_net(net) between batches, or functional.detach_net(net) between the windows of one sequence"
    )

    def __init__(
        self,
        tau: float | None = None,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        features: int | Iterable[int] | None = None,
        preset: str = "adlif+",
        alpha: float | Tensor | None = None,
        beta: float | Tensor | None = None,
        a: float | Tensor | None = None,
        b: float | Tensor | None = None,
        learn: bool = True,
        bounds: dict[str, Iterable[float]] | None = None,
        bound_mode: str = "project",
        init_state: str = "zeros",
        variant: str = "adlif",
    ) -> None:
        options = {"decay_input": decay_input, "detach_reset": detach_reset, "store_v_seq": store_v_seq, "learn": learn}
        for name, value in options.items():
            check_flag(name, value)
        if surrogate_function is not None:
            check_function("surrogate_function", surrogate_function, "Boxcar()")
        if not decay_input:
            raise ValueError("decay_input=False: Eq. 1 scales the input by 1 - alpha; scale the weights instead")
        if v_reset is not None and check_number("v_reset", v_reset) != 0:
            raise ValueError(f"v_reset must be None (subtract the threshold) or 0.0, got {v_reset}")
        if isinstance(v_threshold, Tensor):
            raise TypeError(f"v_threshold must be a number (a node learns no threshold), got {v_threshold}")
        v_threshold = check_number("v_threshold", v_threshold, above=0.0, most=LARGEST)
        check_choice("variant", variant, VARIANTS)
        if tau is not None:
            if alpha is not None:
                raise ValueError(f"tau={tau} and alpha={alpha} both give the leak; pass one of them")
            tau = check_number("tau", tau)
            if not tau > 1:
                raise ValueError(f"tau must be longer than one step, got {tau}")
            alpha = 1 - 1 / tau
        super().__init__(
            v_threshold=v_threshold,
            v_reset=None if v_reset is None else float(v_reset),
            surrogate_function=Boxcar() if surrogate_function is None else surrogate_function,
            detach_reset=detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        self.variant = variant
        self.store_support, self.support = False, None
        self.register_memory("w", 0.0)
        self.create_adlif_parameters(
            features,
            preset,
            initial={"alpha": alpha, "beta": beta, "a": a, "b": b},
            learn=dict.fromkeys(("alpha", "beta", "a", "b"), learn),
            bounds=bounds,
            bound_mode=bound_mode,
            init_state=init_state,
        )

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        x = check_current(inputs[0], *(("[T, N, *]", 2) if step_mode == "m" else ("[N, *]", 1)))
        current = x.new_zeros(x.shape[1:]) if step_mode == "m" else x
        self.create_features(tuple(current.shape[1:]))
        if step_mode == "s":
            self.warn_of_sequence(current)
        given = all(isinstance(state, Tensor) for state in states)
        initial = states if given else self.initial_state(current)
        materialized = tuple(
            state if isinstance(state, Tensor) else start if state == 0 else torch.full_like(start, state)
            for state, start in zip(states, initial, strict=True)
        )
        check_left_behind(*states)
        for name, state in zip(self._memories, materialized, strict=True):
            if state.shape != current.shape:
                raise RuntimeError(
                    f"{name} has shape {tuple(state.shape)} but the input of a step {tuple(current.shape)}: call "
                    "spikingjelly.activation_based.functional.reset_net(net) between batches"
                )
        return materialized

    def _options(self) -> dict:
        return {
            **self.neuron_parameters(),
            "threshold": self.v_threshold,
            "surrogate": self.surrogate_function,
            "variant": self.variant,
            "reset": "zero" if self.v_reset is not None else None,
            "detach_reset": self.detach_reset,
        }

    def _state(self, states: tuple) -> AdLIFState:
        v, w = states
        v = self.continued(v)
        return AdLIFState(v, w, spikes_of(v, self.v_threshold, self.surrogate_function))

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        state = adlif_step(inputs[0], self._state(states), **self._options())
        self.carries(state.u)
        self.watch_step(inputs[0], state.s)
        return (state.s.to(inputs[0].dtype),), (state.u, state.w)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        spikes, state, *rest = adlif(inputs[0], self._state(states), support=self.store_support, **self._options())
        self.support = rest[0] if rest else None
        self.carries(state.u, spikes)
        self.watch_part(inputs[0], spikes)
        return (spikes,), (state.u, state.w)

    def multi_step_forward(self, x_seq: Tensor, *args, **kwargs) -> Tensor:
        if not self.store_v_seq:
            return super().multi_step_forward(x_seq, *args, **kwargs)
        # BaseNode would loop over single steps here
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        spikes, state, (v_seq, _) = adlif(x_seq, self._state(states), traces=True, **self._options())
        self._memories.update(v=state.u, w=state.w)
        self.carries(state.u, spikes)
        self.v_seq = v_seq
        self.watch_part(x_seq, spikes)
        return spikes

    def reset(self) -> None:
        self.end_batch()
        super().reset()

    def detach(self) -> None:
        self.end_window()
        super().detach()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, preset={self.preset!r}, variant={self.variant!r}"
