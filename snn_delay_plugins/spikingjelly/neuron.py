"""AdLIF+ as a SpikingJelly neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ..bounds import BoundMode
from ..checks import check_choice, check_flag, check_number
from ..functional.adlif import VARIANTS, Variant
from ..models.adlif_parameters import AdLIFParameters
from ..models.parameters import InitialState
from .history import StepMode
from .model import Node

__all__ = ["AdLIFPlusNode"]


class AdLIFPlusNode(AdLIFParameters, Node):
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

    def __init__(
        self,
        tau: float | None = None,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: StepMode = "s",
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
        bound_mode: BoundMode = "project",
        init_state: InitialState = "zeros",
        variant: Variant = "adlif",
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if not check_flag("decay_input", decay_input):
            raise ValueError("decay_input=False: Eq. 1 scales the input by 1 - alpha; scale the weights instead")
        check_choice("variant", variant, VARIANTS)
        if tau is not None:
            if alpha is not None:
                raise ValueError(f"tau={tau} and alpha={alpha} both give the leak; pass one of them")
            tau = check_number("tau", tau)
            if not tau > 1:
                raise ValueError(f"tau must be longer than one step, got {tau}")
            options["alpha"] = 1 - 1 / tau
        for name in ("tau", "decay_input", "variant"):
            del options[name]
        super().__init__(**options)
        self.variant = variant

    def _reset_mechanism(self) -> str:
        return "zero" if self.v_reset is not None or self.variant == "symplectic" else "subtract"

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, variant={self.variant!r}"
