"""Synapses of a line with a kernel over time, linear or convolved over space, in plain PyTorch (:mod:`.delay_line`).

A step's spikes meet all taps at once: taps are channels. Shapes: kernel
``[taps, out, in / groups, *places]``, spikes of a step ``[N, in, *positions]``, what is on its way
``[N, out, length, *positions out]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as gradients_of

from ..checks import check_room

__all__ = ["DenseSynapses"]


class DenseSynapses:
    """:param kernel: differentiable. :param options: stride, padding and dilation per axis of space, and groups; none for
    linear layers."""

    def __init__(self, kernel: Tensor, *options) -> None:
        self.taps, self.dtype = kernel, kernel.dtype
        self.reach = self.width = kernel.shape[0]
        self.room = max(8, self.reach // 3)
        self.length = self.reach + self.room
        self.receivers = kernel.shape[1]
        self.options = options
        self.channels = kernel.detach().transpose(0, 1).flatten(0, 1).contiguous()  # [out * taps, in / groups, *places]
        self.forward, self.to_input, self.to_weight = _PASSES[kernel.dim() - 3]

    def announce(self, spikes: Tensor) -> None:
        """Counters of operations see those of torch that this runs."""

    def silence(self, spikes: Tensor) -> Tensor:
        with torch.no_grad():
            one = self._all(spikes[:1])
        if one.is_cpu:
            check_room(
                f"currents on their way over {self.reach} steps, of {spikes.shape[0]} x {tuple(one.shape[1:])} taps "
                "and receivers,",
                one[0].numel() // self.width * self.length * spikes.shape[0] * one.itemsize,
            )
        return one.new_zeros(spikes.shape[0], self.receivers, self.length, *one.shape[2:])

    def offset(self, bias: Tensor | None) -> Tensor | None:
        return None if bias is None else bias.detach().to(self.dtype).view(-1, *[1] * (self.channels.dim() - 2))

    def _all(self, spikes: Tensor) -> Tensor:
        return self.forward(spikes.detach().to(self.dtype), self.channels, None, *self.options)

    def arrive(self, spikes: Tensor, pending: Tensor, now: int, offset: Tensor | None) -> tuple[Tensor, tuple]:
        with torch.no_grad(), torch.autocast(spikes.device.type, enabled=False):
            due = pending[:, :, now : now + self.width]
            due += self._all(spikes).view(due.shape)
            current = pending[:, :, now]
            return current.clone() if offset is None else current + offset, (spikes,)

    def keep(self, left: tuple) -> tuple[Tensor, ...]:
        return (left[0].detach().clone(),)

    def kept(self, spikes: Tensor) -> tuple[Tensor, ...]:
        return (spikes,)

    @staticmethod
    def forwards(pending: Tensor, by: int) -> None:
        with torch.no_grad():
            pending[:, :, :-by] = pending[:, :, by:].clone()
            pending[:, :, -by:] = 0

    def tape(self, line) -> DenseTape:
        return DenseTape(self, line.pending, line.to_spikes)


_PASSES = (  # forward, gradient of the input, gradient of the weight
    (F.linear, lambda shape, weight, grad: grad @ weight, lambda spikes, shape, grad: grad.mT @ spikes),
    (F.conv1d, gradients_of.conv1d_input, gradients_of.conv1d_weight),
    (F.conv2d, gradients_of.conv2d_input, gradients_of.conv2d_weight),
)


class DenseTape:
    """What one backward pass has met so far: gradients of later currents, sums for kernel and bias."""

    def __init__(self, synapses: DenseSynapses, like: Tensor, to_spikes: bool) -> None:
        self.synapses, self.to_taps, self.now = synapses, synapses.taps.requires_grad, synapses.room
        self.later = torch.zeros_like(like)
        self.met = torch.zeros_like(synapses.channels) if self.to_taps else None
        self.total = like.new_zeros(synapses.receivers)

    def retreat(self, grad: Tensor | None, kept: tuple[Tensor, ...], to_spikes: bool) -> Tensor | None:
        """One step towards the past, with the gradient of its currents: that of its spikes, ``[N, in, *positions]``."""
        synapses, (spikes,) = self.synapses, kept
        with torch.no_grad(), torch.autocast(spikes.device.type, enabled=False):
            if self.now == 0:
                self.later[:, :, synapses.room :] = self.later[:, :, : -synapses.room].clone()
                self.now = synapses.room
            self.now -= 1
            if grad is None:
                self.later[:, :, self.now] = 0
            else:
                self.later[:, :, self.now] = grad
                self.total += grad.to(synapses.dtype).sum([0, *range(2, grad.dim())])
            window = self.later[:, :, self.now : self.now + synapses.width].flatten(1, 2).to(synapses.dtype)
            if self.to_taps:
                numbers = spikes.to(synapses.dtype)
                self.met += synapses.to_weight(numbers, synapses.channels.shape, window, *synapses.options)
            if to_spikes:
                return synapses.to_input(spikes.shape, synapses.channels, window, *synapses.options)
            return None

    def sums(self) -> tuple[Tensor | None, Tensor]:
        """The gradients of the taps and of the bias."""
        if self.met is None:
            return None, self.total
        taps = self.synapses.taps
        return self.met.view(taps.shape[1], taps.shape[0], *taps.shape[2:]).transpose(0, 1), self.total
