"""Convolutions with delays for SpikingJelly."""

from __future__ import annotations

from torch import Tensor

from ..delayed_convolution import DelayedConvolution
from .memory import DetachableMemories

__all__ = ["DelayedConv1d", "DelayedConv2d"]


class DelayedConv2d(DelayedConvolution, DetachableMemories):
    r"""Convolution over space with a trainable weight and delay per connection, used like ``layer.Conv2d``.

    .. math:: I_{i}[t, x] = \sum_j \sum_y w_{ij}[y]\, s_j[t - d_{ij}[y],\, x + y] + b_i

    Spikes ``[N, C, H, W]`` (``step_mode="s"``) or ``[T, N, C, H, W]`` (``"m"``). Both modes give equal outputs; the
    memory ``history`` holds the last inputs until ``functional.reset_net``. It shares memory with that of the next step:
    write into a clone alone.

    :param in_channels: and ``out_channels``, ``kernel_size``, ``stride``, ``padding``, ``dilation``, ``groups``,
        ``bias``: as in ``torch.nn.Conv2d``.
    :param max_delay: longest delay in time steps.
    :param delay: initial delays: a number, ``"zeros"``, ``"uniform"`` or a tensor of the shape of the weight.
    :param delay_gradient: and ``interpolation``, ``sigma``, ``learn_sigma``, ``sigma_type``, ``learn_delay``,
        ``bound_mode``: as in :class:`DelayedLinear`.
    :param time_padding: ``"same"``, ``"full"`` or a number of steps after the last (mode ``"m"`` alone).
    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedConv2d(2, 8, 3, padding=1, max_delay=10, delay_gradient="gaussian", step_mode="m")
        >>> layer(torch.rand(20, 4, 2, 16, 16)).shape
        torch.Size([20, 4, 8, 16, 16])
    """

    _axes = 2
    _sequence_form = "functional.set_step_mode(net, 'm')"

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
        delay: float | str | Tensor = "zeros",
        learn_delay: bool = True,
        delay_gradient: str = "slayer",
        interpolation: str = "linear",
        time_padding: str | int = "same",
        sigma: float | None = None,
        learn_sigma: bool = False,
        sigma_type: str = "shared",
        step_mode: str = "s",
        bound_mode: str = "project",
    ) -> None:
        super().__init__()
        self.create_convolution(
            self._axes, in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=bias, max_delay=max_delay, delay=delay, learn_delay=learn_delay,
            delay_gradient=delay_gradient, interpolation=interpolation, time_padding=time_padding, sigma=sigma,
            learn_sigma=learn_sigma, sigma_type=sigma_type, bound_mode=bound_mode,
        )  # fmt: skip
        self.step_mode = step_mode
        self.register_memory("history", 0.0)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        self.check_batch(states[0], inputs[0], "spikingjelly.activation_based.functional.reset_net(net)")
        return states

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        if self.time_padding != "same":
            raise ValueError(f'time_padding={self.time_padding!r} lengthens a sequence and needs step_mode="m"')
        history = states[0] if isinstance(states[0], Tensor) else None
        current, history = self.step_currents(inputs[0], history)
        return (current,), (history,)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple[tuple, tuple]:
        history = states[0] if isinstance(states[0], Tensor) else None
        current = self.sequence_currents(inputs[0], history)
        if self.time_padding != "same":
            return (current,), (0.0,)
        return (current,), (self.history_after(inputs[0], history),)


class DelayedConv1d(DelayedConv2d):
    """:class:`DelayedConv2d` over one axis of space: spikes ``[N, C, L]`` or ``[T, N, C, L]``.

    Example::

        >>> import torch
        >>> DelayedConv1d(2, 8, 3, max_delay=10, step_mode="m")(torch.rand(20, 4, 2, 16)).shape
        torch.Size([20, 4, 8, 14])
    """

    _axes = 1
