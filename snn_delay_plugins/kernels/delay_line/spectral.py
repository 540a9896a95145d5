"""Synapses of a line with a long kernel from all to all, on the CPU (:mod:`.delay_line`): blocks of steps.

Within a block of B steps spikes meet the first taps alone, as the product of one matrix. What a block causes later is
added once it is over, as products per frequency (:mod:`..frequencies`). A step thus costs about sqrt(3 taps) products of
matrices in the place of as many as there are taps. Backwards the gradients of currents pass through the same kernel, from
last to first, and the gradient of the taps is the correlation of stretches of spikes with what they led to.

Shapes: kernel ``[taps, out, in]``, spikes of a step ``[N, in]``.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from ..checks import check_room
from ..frequencies import Transforms, transforms
from .listed import entries_of, numbers_of

__all__ = ["SpectralSynapses"]


class SpectralSynapses:
    """:param kernel: ``[taps, out, in]``, differentiable."""

    room = sys.maxsize  # a stream moves its own time

    def __init__(self, kernel: Tensor) -> None:
        self.taps, self.dtype = kernel, kernel.dtype
        self.reach, self.receivers, self.senders = kernel.shape
        self.forth = _Response(kernel.detach().transpose(1, 2).contiguous())
        self._back: _Response | None = None

    @property
    def back(self) -> _Response:
        """From gradients of currents to those of spikes."""
        if self._back is None:
            self._back = _Response(self.taps.detach().contiguous())
        return self._back

    def announce(self, spikes: Tensor) -> None:
        """Counters of operations see those of torch that this runs."""

    def silence(self, spikes: Tensor) -> _Stream:
        return _Stream(self.forth, spikes.shape[0])

    def offset(self, bias: Tensor | None) -> Tensor | None:
        return None if bias is None else bias.detach().to(self.dtype)

    def arrive(self, spikes: Tensor, pending: _Stream, now: int, offset: Tensor | None) -> tuple[Tensor, tuple]:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            current = pending.push(spikes.detach().to(self.dtype))
            return current if offset is None else current.add_(offset), (spikes,)

    def keep(self, left: tuple) -> tuple[Tensor, ...]:
        """What is not zero, where that takes less memory."""
        spikes = numbers_of(left[0], self.dtype)
        entries, values, _ = entries_of(spikes)
        if 2 * entries.size > spikes.size:
            return (torch.from_numpy(spikes.copy()),)
        return torch.from_numpy(entries.copy()), torch.from_numpy(values.copy())

    def kept(self, spikes: Tensor) -> tuple[Tensor, ...]:
        return self.keep((spikes,))

    def spread(self, kept: tuple[Tensor, ...], to: Tensor) -> None:
        """Write the spikes that :meth:`keep` kept to ``to`` ``[N, in]``, which is zero."""
        if len(kept) == 1:
            to.copy_(kept[0])
        else:
            to.view(-1)[kept[0].long()] = kept[1]

    def tape(self, line) -> SpectralTape:
        return SpectralTape(self, line.samples, line.to_spikes)


class _Response:
    """A kernel ``[taps, from, to]``, cut for blocks of steps."""

    def __init__(self, kernel: Tensor) -> None:
        self.taps, self.inputs, self.outputs = kernel.shape
        self.block = math.ceil(math.sqrt(3 * self.taps))  # costs least: B / 2 steps at once, 1.5 (B + taps) / B behind
        self.kernel, self.first = kernel, kernel[: self.block].reshape(-1, self.outputs)
        self._of_block: tuple[Transforms, Tensor] | None = None

    @property
    def of_block(self) -> tuple[Transforms, Tensor]:
        """What transforms a block and the steps behind it, and the kernel transformed."""
        if self._of_block is None:  # shorter sequences need none
            per_frequency = transforms(self.block + self.taps - 1, self.kernel)
            spectrum = per_frequency.of_kernel(self.kernel.flatten(1)).view(-1, self.inputs, self.outputs)
            self._of_block = per_frequency, spectrum
        return self._of_block


class _Stream:
    """What goes through a response, step by step."""

    def __init__(self, response: _Response, samples: int) -> None:
        self.response, block = response, response.block
        steps = block + response.taps - 1
        held = block * response.inputs + steps * response.outputs
        check_room(
            f"currents on their way over {response.taps} steps, of {samples} x {response.outputs} receivers,",
            samples * held * response.kernel.itemsize,
        )
        self.recent = response.kernel.new_zeros(samples, block, response.inputs)  # of this block, newest first
        self.late = response.kernel.new_zeros(steps, samples, response.outputs)  # of blocks before
        self.now = 0

    def push(self, inputs: Tensor) -> Tensor:
        response, now = self.response, self.now
        first = response.block - 1 - now
        self.recent[:, first] = inputs
        window = self.recent.view(inputs.shape[0], -1)[:, first * response.inputs :]
        out = torch.addmm(self.late[now], window, response.first[: window.shape[1]])
        self.now += 1
        if self.now == response.block:
            self._turn()
        return out

    def _turn(self) -> None:
        per_frequency, of_kernel = self.response.of_block
        block, taps = self.response.block, self.response.taps
        spectrum = per_frequency.of_trains(self.recent.transpose(0, 1).flip(0).reshape(block, -1))
        products = spectrum.view(len(spectrum), -1, self.response.inputs) @ of_kernel
        late = per_frequency.back(products.flatten(1), block, block + taps - 1)
        self.late[: taps - 1] = self.late[block:].clone()
        self.late[taps - 1 :] = 0
        self.late[: taps - 1] += late.view(taps - 1, *self.late.shape[1:])
        self.now = 0


class SpectralTape:
    """What one backward pass has met so far. Time runs backwards: entry r is r steps before the last."""

    def __init__(self, synapses: SpectralSynapses, samples: int, to_spikes: bool) -> None:
        self.synapses, self.to_taps = synapses, synapses.taps.requires_grad
        self.stream = _Stream(synapses.back, samples) if to_spikes else None
        like, taps = synapses.forth.kernel, synapses.reach
        self.total = torch.zeros(synapses.receivers, dtype=torch.float64)
        self.silence = like.new_zeros(samples, synapses.receivers)
        self.met: Tensor | None = None
        if self.to_taps:
            self.stretch = max(16, taps)
            self.transforms = transforms(self.stretch + taps - 1, like)
            self.spikes = like.new_zeros(self.stretch, samples, synapses.senders)
            self.later = like.new_zeros(
                self.stretch + taps - 1, samples, synapses.receivers
            )  # taps - 1 steps before the stretch
            self.now = 0

    def retreat(self, grad: Tensor | None, kept: tuple[Tensor, ...], to_spikes: bool) -> Tensor | None:
        """One step towards the past, with the gradient of its currents: that of its spikes, ``[N, in]``."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            grad = self.silence if grad is None else grad.detach().to(self.synapses.dtype)
            self.total += grad.sum(0)
            if self.to_taps:
                self.later[self.synapses.reach - 1 + self.now] = grad
                self.synapses.spread(kept, self.spikes[self.now])
                self.now += 1
                if self.now == self.stretch:
                    self._collect()
            return self.stream.push(grad) if self.stream is not None else None

    def _collect(self) -> None:
        """Add what the spikes of a stretch led to."""
        spikes = self.transforms.of_trains(self.spikes.flatten(1)).view(-1, *self.spikes.shape[1:])
        later = self.transforms.of_gradients(self.later.flatten(1)).view(-1, *self.later.shape[1:])
        if self.met is None:
            self.met = spikes.mT @ later  # [products, in, out]
        else:
            self.met.baddbmm_(spikes.mT, later)
        before = self.synapses.reach - 1
        self.later[:before] = self.later[self.now : self.now + before].clone()
        self.later[before:], self.spikes[:] = 0, 0
        self.now = 0

    def sums(self) -> tuple[Tensor | None, Tensor]:
        """The gradients of the taps and of the bias."""
        if not self.to_taps:
            return None, self.total
        with torch.no_grad():
            if self.now or self.met is None:
                self._collect()
            assert self.met is not None
            taps = self.transforms.of_taps(self.met.flatten(1), self.synapses.reach).flip(0)
            return taps.view(-1, *self.met.shape[1:]).transpose(1, 2), self.total
