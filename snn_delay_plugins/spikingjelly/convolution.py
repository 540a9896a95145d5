"""Convolutions with delays for SpikingJelly."""

from __future__ import annotations

from typing import Self, Unpack

from ..delay_options import ConvolutionOptions, Interpolation, takes_options
from ..delayed_convolution import DelayedConvolution
from .history import KeepsHistory, StepMode

__all__ = ["DelayedConv1d", "DelayedConv2d"]


class DelayedConv2d(DelayedConvolution, KeepsHistory):
    r"""Convolution over space with a trainable weight and delay per connection, used like ``layer.Conv2d``.

    .. math:: I_{i}[t, x] = \sum_j \sum_y w_{ij}[y]\, s_j[t - d_{ij}[y],\, x + y] + b_i

    Spikes ``[N, C, H, W]`` (``step_mode="s"``) or ``[T, N, C, H, W]`` (``"m"``). The memory is ``history``
    (:class:`~snn_delay_plugins.spikingjelly.history.KeepsHistory`). The first eight arguments are those of
    ``torch.nn.Conv2d``, the options those of ``help(DelayedConv2d.__init__)`` and
    :class:`~snn_delay_plugins.delay_options.ConvolutionOptions`; initial delays have the shape of the weight.

    :raises ValueError: for options or shapes that do not fit, and delays outside ``[0, max_delay]``.

    Example::

        >>> import torch
        >>> layer = DelayedConv2d(2, 8, 3, padding=1, max_delay=10, delay_gradient="gaussian", step_mode="m")
        >>> layer(torch.rand(20, 4, 2, 16, 16)).shape
        torch.Size([20, 4, 8, 16, 16])
    """

    @takes_options(ConvolutionOptions)
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
        interpolation: Interpolation = "linear",
        step_mode: StepMode = "s",
        **options: Unpack[ConvolutionOptions],
    ) -> None:
        super().__init__()
        self.create_convolution(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, interpolation=interpolation,
            **options,
        )  # fmt: skip
        self.keep_history(step_mode)

    def discretize(self, weight_bits: int | None = None) -> Self:
        """A frozen copy with whole delays for deployment: what this layer computes in evaluation, if its delays are
        learned through a Gaussian or ``interpolation="round"``.

        :param weight_bits: as of :meth:`DelayedLinear.discretize`.
        """
        frozen = self.with_whole_delays(weight_bits)
        frozen.reset()
        return frozen


class DelayedConv1d(DelayedConv2d):
    """:class:`DelayedConv2d` over one axis of space: spikes ``[N, C, L]`` or ``[T, N, C, L]``.

    Example::

        >>> import torch
        >>> DelayedConv1d(2, 8, 3, max_delay=10, step_mode="m")(torch.rand(20, 4, 2, 16)).shape
        torch.Size([20, 4, 8, 14])
    """

    axes = 1
