"""Layers with delays for SpikingJelly."""
from __future__ import annotations

from torch import Tensor

from ..functional.delay import check_delay_options, delayed_linear, delayed_linear_step, history_after
from ..parameters import DelayParameters
from .memory import DetachableMemories

__all__ = ["DelayedLinear"]


class DelayedLinear(DelayParameters, DetachableMemories):
    r"""Linear layer with a trainable weight and delay per synapse (Deckers et al., Eq. 7), used like ``layer.Linear``.

    .. math:: I_i[t] = \sum_j W_{ij}\, s_j[t - d_{ij}] + b_i

    Spikes ``[N, in]`` (``step_mode="s"``) or ``[T, N, in]`` (``"m"``) in, currents ``[N, out]`` or ``[T, N, out]``
    out; delays count time steps. Both modes give equal outputs. The memory ``history`` holds the last inputs,
    ``[max_delay + 1, N, in]``, until ``functional.reset_net``: a sequence may be fed in parts. The delay learns by the
    SLAYER rule and stays in ``[0, max_delay]`` after every optimizer step.

    :param max_delay: longest delay.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.
    :param delay_type: ``"synaptic"`` (delay ``[out, in]``), ``"axonal"`` (``[1, in]``), ``"dendritic"`` (``[out, 1]``).
    :param learn_delay: ``False``: the delays are a buffer.
    :param interpolation: ``"linear"``, ``"round"`` or ``"floor"`` between whole steps.
    :param padding: ``"same"``, or ``"full"`` (mode ``"m"`` alone): ``T + max_delay`` steps, every spike arrives and
        nothing is left for the next call.
    :param smoothing: the causal kernel eps_d over time (Deckers et al., section 3.3), ``[taps]``.
    :param step_mode: ``"s"`` or ``"m"``.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=25, step_mode="m")
        >>> layer(torch.rand(100, 8, 700)).shape
        torch.Size([100, 8, 128])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        max_delay: int,
        delay: float | str | Tensor = "zeros",
        delay_type: str = "synaptic",
        learn_delay: bool = True,
        interpolation: str = "linear",
        padding: str = "same",
        smoothing: Tensor | None = None,
        step_mode: str = "s",
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        check_delay_options(interpolation, padding, smoothing)
        self.create_delay_parameters(
            in_features, out_features, bias, max_delay, delay, delay_type, learn_delay, bound_mode
        )
        self.interpolation, self.padding = interpolation, padding
        self.register_buffer("smoothing", smoothing)
        self.step_mode = step_mode
        self.register_memory("history", 0.0)

    def _synapses(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.weight, self.bounded("delay"), self.bias

    def _options(self) -> dict:
        return {"max_delay": self.max_delay, "interpolation": self.interpolation, "smoothing": self.smoothing}

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        self.check_batch(states[0], inputs[0], "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        if self.padding == "full":
            raise ValueError('padding="full" lengthens a sequence and needs step_mode="m"')
        history = states[0] if isinstance(states[0], Tensor) else None
        current, history = delayed_linear_step(inputs[0], history, *self._synapses(), **self._options())
        return (current,), (history,)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        history = states[0] if isinstance(states[0], Tensor) else None
        current = delayed_linear(
            inputs[0], *self._synapses(), padding=self.padding, history=history, **self._options()
        )
        if self.padding == "full":
            return (current,), (0.0,)
        return (current,), (history_after(inputs[0], history, self.max_delay, self.smoothing),)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, interpolation={self.interpolation!r}, step_mode={self.step_mode!r}"
