"""Convolutions with delays for snnTorch."""

from __future__ import annotations

from torch import Tensor

from ..delayed_convolution import DelayedConvolution
from ..parameters import live_modules
from ..transforms import exported_step
from .state import CarriedStates
from .upstream import emitted, restarted_alone

__all__ = ["DelayedConv1d", "DelayedConv2d"]


class DelayedConv2d(DelayedConvolution, CarriedStates):
    r"""Convolution over space with a trainable weight and delay per connection, in place of ``nn.Conv2d``.

    .. math:: I_{i}[t, x] = \sum_j \sum_y w_{ij}[y]\, s_j[t - d_{ij}[y],\, x + y] + b_i

    With ``step_mode=True`` it is called once per time step on spikes ``(N, C, H, W)`` and keeps the last inputs until
    :meth:`reset_delay`; with ``step_mode=False`` it takes the whole sequence ``(T, N, C, H, W)`` and keeps nothing.

    The last inputs are ``history`` ``[max_delay + 1, N, C, H, W]``, newest first. It stays as it is when the next step
    brings another, but shares memory with it: write into ``history.clone()`` alone.

    :param in_channels: and ``out_channels``, ``kernel_size``, ``stride``, ``padding``, ``dilation``, ``groups``,
        ``bias``: as in ``torch.nn.Conv2d``.
    :param max_delay: longest delay in time steps.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` or a tensor of the shape of the weight.
    :param kernel: SLAYER: interpolation between whole steps: ``"linear"``, ``"round"`` or ``"floor"``.
    :param delay_gradient: and ``sigma``, ``learn_sigma``, ``sigma_type``, ``learn_delay``, ``bound_mode``: as in
        :class:`DelayedLinear`.
    :param time_padding: ``"same"``, or for sequences alone ``"full"`` or a number of steps after the last.
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedConv2d(2, 8, 3, padding=1, max_delay=10, delay_gradient="gaussian", step_mode=False)
        >>> layer(torch.rand(20, 4, 2, 16, 16)).shape
        torch.Size([20, 4, 8, 16, 16])
    """

    _axes, _states = 2, ("history",)
    _sequence_form = "step_mode=False"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        max_delay: int,
        delay: float | str | Tensor = 0.0,
        learn_delay: bool = True,
        delay_gradient: str = "slayer",
        kernel: str = "linear",
        time_padding: str | int = "same",
        sigma: float | None = None,
        learn_sigma: bool = False,
        sigma_type: str = "shared",
        step_mode: bool = True,
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        if not isinstance(step_mode, bool):
            raise TypeError(f"step_mode must be True (one step per call) or False (sequences), got {step_mode!r}")
        self.create_convolution(
            self._axes, in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=bias, max_delay=max_delay, delay=delay, learn_delay=learn_delay,
            delay_gradient=delay_gradient, interpolation=kernel, time_padding=time_padding, sigma=sigma,
            learn_sigma=learn_sigma, sigma_type=sigma_type, bound_mode=bound_mode,
        )  # fmt: skip
        if step_mode and self.time_padding != "same":
            raise ValueError(f"time_padding={time_padding!r} lengthens a sequence and needs step_mode=False")
        self.step_mode = step_mode
        self.history = None

    def reset_delay(self) -> None:
        """Forget the inputs of earlier steps."""
        self.history = None
        self.states_are_new()
        restarted_alone(self, None)

    reset_mem = reset_delay  # what snnTorch's utils.reset calls

    @classmethod
    def detach_hidden(cls) -> None:
        """Cut the inputs that every layer of this class, copies included, keeps from their graph (truncated
        backpropagation); their spikes still arrive. For one network: :func:`snn_delay_plugins.snntorch.detach`."""
        for layer in live_modules():
            if isinstance(layer, cls):
                layer.detach_states()

    def forward(self, input_: Tensor) -> Tensor:
        if not self.step_mode:
            return self.sequence_currents(input_)
        if exported_step(type(self).__name__):
            return self.step_currents(input_, None)[0]
        self.take_states()
        self.check_batch(self.history, input_, "reset_delay() or snn_delay_plugins.snntorch.reset(net)")
        restarted_alone(self, self.history)
        current, self.history = self.step_currents(input_, self.history)
        emitted(self, current)
        return current


class DelayedConv1d(DelayedConv2d):
    """:class:`DelayedConv2d` over one axis of space: spikes ``(N, C, L)`` or ``(T, N, C, L)``.

    Example::

        >>> import torch
        >>> DelayedConv1d(2, 8, 3, max_delay=10, step_mode=False)(torch.rand(20, 4, 2, 16)).shape
        torch.Size([20, 4, 8, 14])
    """

    _axes = 1
