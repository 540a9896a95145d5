"""Layers with delays for snnTorch, in the vocabulary of its coming ``SynapticDelay``."""
from __future__ import annotations

from torch import Tensor

from ..functional.delay import check_delay_options, delayed_linear, delayed_linear_step
from ..parameters import DelayParameters

__all__ = ["DelayedLinear"]


class DelayedLinear(DelayParameters):
    r"""Linear layer with a trainable weight and delay per synapse (Deckers et al., Eq. 7), in place of ``nn.Linear``.

    .. math:: I_i[t] = \sum_j W_{ij}\, s_j[t - d_{ij}] + b_i

    With ``step_mode=True`` it is called once per time step on spikes ``(N, in)`` and keeps the last inputs until
    :meth:`reset_delay`; with ``step_mode=False`` it takes the whole sequence ``(T, N, in)`` and keeps nothing. Both
    give equal outputs; delays count time steps. The delay learns by the SLAYER rule and stays in ``[0, max_delay]``
    after every optimizer step.

    :param max_delay: longest delay.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.
    :param learn_delay: ``False``: the delays are a buffer.
    :param delay_type: ``"synaptic"`` (delay ``[out, in]``), ``"axonal"`` (``[1, in]``), ``"dendritic"`` (``[out, 1]``).
    :param kernel: interpolation between whole steps: ``"linear"``, ``"round"`` or ``"floor"``.
    :param padding: ``"same"``, or ``"full"`` (sequences alone): ``T + max_delay`` steps, every spike arrives.
    :param smoothing: the causal kernel eps_d over time (Deckers et al., section 3.3), ``[taps]``.
    :param bound_mode: ``"project"`` (clip after the optimizer's step) or ``"clamp"`` (clamp in the forward pass).
    :param step_mode: one step (default) or the whole sequence per call.
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedLinear(700, 128, max_delay=25, step_mode=False)
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
        delay: float | str | Tensor = 0.0,
        learn_delay: bool = True,
        delay_type: str = "synaptic",
        kernel: str = "linear",
        padding: str = "same",
        smoothing: Tensor | None = None,
        step_mode: bool = True,
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        if not isinstance(step_mode, bool):
            raise TypeError(f"step_mode must be True (one step per call) or False (sequences), got {step_mode!r}")
        check_delay_options(kernel, padding, smoothing)
        if step_mode and padding == "full":
            raise ValueError('padding="full" lengthens a sequence and needs step_mode=False')
        self.create_delay_parameters(
            in_features, out_features, bias, max_delay, delay, delay_type, learn_delay, bound_mode
        )
        self.kernel, self.padding, self.step_mode = kernel, padding, step_mode
        self.register_buffer("smoothing", smoothing)
        self.register_buffer("history", None, persistent=False)

    def reset_delay(self) -> None:
        """Forget the inputs of earlier steps."""
        self.history = None

    reset_mem = reset_delay  # what snnTorch's utils.reset calls

    def forward(self, input_: Tensor) -> Tensor:
        synapses = self.weight, self.bounded("delay"), self.bias
        options = {"max_delay": self.max_delay, "interpolation": self.kernel, "smoothing": self.smoothing}
        if not self.step_mode:
            return delayed_linear(input_, *synapses, padding=self.padding, **options)
        self.check_batch(self.history, input_, "reset_delay() or snn_delay_plugins.snntorch.reset(net)")
        current, self.history = delayed_linear_step(input_, self.history, *synapses, **options)
        return current

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel!r}, step_mode={self.step_mode}"
