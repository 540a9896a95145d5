"""What the convolutions with delays of both frameworks share: parameters, and which form of the equations they run."""
from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from .checks import check_choice, check_flag, check_steps, check_whole
from .delayed import DELAY_GRADIENTS, GaussianDelays
from .functional.delay import check_delay_options, history_after
from .functional.delay_convolution import delayed_convolution, per_axis
from .parameters import initial_delay
from .transforms import check_left_behind

__all__ = ["DelayedConvolution"]


class DelayedConvolution(GaussianDelays):
    """A weight and a delay per connection of a convolution over space; without any state."""

    def create_convolution(
        self,
        axes: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...],
        padding: int | tuple[int, ...],
        dilation: int | tuple[int, ...],
        groups: int,
        bias: bool,
        max_delay: int,
        delay: float | str | Tensor,
        learn_delay: bool,
        delay_gradient: str,
        interpolation: str,
        time_padding: str | int,
        sigma: float | None,
        learn_sigma: bool,
        sigma_type: str,
        bound_mode: str,
    ) -> None:
        """Create ``weight`` and ``bias`` as torch's convolutions do, ``delay`` and, for Gaussian delays, ``sigma``;
        called once by a layer's constructor."""
        check_delay_options(interpolation, time_padding, None)
        check_choice("delay_gradient", delay_gradient, DELAY_GRADIENTS)
        max_delay = check_steps("max_delay", max_delay)
        bias, learn_delay = check_flag("bias", bias), check_flag("learn_delay", learn_delay)
        learn_sigma = check_flag("learn_sigma", learn_sigma)
        channels = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        in_channels, out_channels, groups = (check_whole(name, value, least=1) for name, value in channels.items())
        kernel_size, stride, dilation = (
            per_axis(name, value, axes, least=1)
            for name, value in {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}.items()
        )
        padding = per_axis("padding", padding, axes, least=0)
        if delay_gradient == "slayer" and (sigma is not None or learn_sigma):
            raise ValueError('sigma belongs to delay_gradient="gaussian"')
        if delay_gradient == "gaussian" and interpolation != "linear":
            raise ValueError('interpolation belongs to delay_gradient="slayer"')
        kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
        plain = kind(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, plain.kernel_size
        self.stride, self.padding, self.dilation, self.groups = plain.stride, plain.padding, plain.dilation, groups
        self.weight, self.bias = plain.weight, plain.bias
        self.max_delay, self.learn_delay, self.learn_sigma = max_delay, learn_delay, learn_sigma
        self.delay_gradient, self.interpolation = delay_gradient, interpolation
        self.time_padding = time_padding or "same"
        initial = initial_delay(delay, tuple(self.weight.shape), self.max_delay)
        if learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay, mode=bound_mode)
        if delay_gradient == "gaussian":
            self.create_sigma(sigma, learn_sigma, sigma_type, bound_mode)

    def sequence_currents(
        self, spikes: Tensor, history: Tensor | None = None, time_padding: str | int | None = None
    ) -> Tensor:
        """Input currents of a sequence ``[T, N, C, ...]``."""
        gaussian = self.delay_gradient == "gaussian"
        return delayed_convolution(
            spikes,
            self.weight,
            self.bounded("delay"),
            self.bias,
            max_delay=self.max_delay,
            sigma=self.bounded("sigma") if gaussian and self.training else None,
            interpolation="round" if gaussian else self.interpolation,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            time_padding=self.time_padding if time_padding is None else time_padding,
            history=history,
        )

    def step_currents(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Input currents of one step ``[N, C, ...]``, and the history, newest first, for the next one."""
        check_left_behind(history)
        if history is not None and history.shape[1] != spikes.shape[0]:
            raise ValueError(
                f"spikes of a batch of {history.shape[1]} are still on their way but the input is a batch of "
                f"{spikes.shape[0]}: reset the layer between batches"
            )
        current = self.sequence_currents(spikes[None], history)[0]
        return current, self.history_after(spikes[None], history)

    def history_after(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        return history_after(spikes, history, self.max_delay)

    def discretize(self) -> Self:
        """A frozen copy with whole delays for deployment: what this layer computes in evaluation, if its delays are
        learned through a Gaussian or ``interpolation="round"``."""
        frozen = copy.deepcopy(self).requires_grad_(False)
        with torch.no_grad():
            frozen.delay.copy_(self.bounded("delay").round())
        frozen.delay_gradient, frozen.interpolation = "slayer", "round"
        return frozen

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, max_delay={self.max_delay}{super().extra_repr()}"
        )
