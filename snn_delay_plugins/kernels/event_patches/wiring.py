"""Which units a convolution or a pooling connects: for every site of the input the pairs (patch, tap) that see it.

A site is a place in space (one of ``height * width``), a patch a place of the output, a tap a place in the kernel: site
``patch * stride - padding + tap * dilation`` on every axis, all three counted in row-major order.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...events import SpikeEvents

__all__ = ["Wiring", "space_of", "wiring"]


class Wiring(NamedTuple):
    """``patches`` and ``taps`` of site s lie at ``starts[s]:starts[s + 1]``; ``out_space``: shape of the output."""

    starts: Tensor
    patches: Tensor
    taps: Tensor
    num_taps: int
    out_space: tuple[int, ...]

    @property
    def num_patches(self) -> int:
        return math.prod(self.out_space)

    def lists(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        return self.starts.to(device), self.patches.to(device), self.taps.to(device)


@lru_cache(maxsize=64)
def wiring(
    space: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Wiring:
    """
    :raises ValueError: for a kernel that is larger than the padded input.

    Example (a row of four, kernel of two): site 1 is seen by patch 0 with tap 1 and by patch 1 with tap 0::

        >>> w = wiring((4,), (2,), (1,), (0,), (1,))
        >>> w.out_space, w.patches[w.starts[1] : w.starts[2]].tolist(), w.taps[w.starts[1] : w.starts[2]].tolist()
        ((3,), [0, 1], [1, 0])
    """
    axes = len(space)
    out_space = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(space, kernel, stride, padding, dilation, strict=True)
    )
    if min(out_space) < 1:
        raise ValueError(
            f"a kernel of {kernel} with dilation {dilation} does not fit into an input of {space} with padding {padding}"
        )
    site, inside = np.zeros((1,) * (2 * axes), np.int64), np.ones((1,) * (2 * axes), bool)
    for axis, (size, outs) in enumerate(zip(space, out_space, strict=True)):
        place = np.arange(outs)[:, None] * stride[axis] - padding[axis] + np.arange(kernel[axis]) * dilation[axis]
        place = place.reshape([outs if i == axis else kernel[axis] if i == axes + axis else 1 for i in range(2 * axes)])
        site = site * size + place
        inside = inside & (place >= 0) & (place < size)
    num_taps = math.prod(kernel)
    inside = inside.reshape(-1, num_taps)
    patches, taps = np.nonzero(inside)
    sites = site.reshape(-1, num_taps)[inside]
    order = np.argsort(sites, kind="stable")
    starts = np.zeros(math.prod(space) + 1, np.int64)
    np.cumsum(np.bincount(sites, minlength=math.prod(space)), out=starts[1:])

    def tensor(numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers, np.int64))

    return Wiring(tensor(starts), tensor(patches[order]), tensor(taps[order]), num_taps, out_space)


def space_of(events: SpikeEvents, axes: int) -> tuple[int, tuple[int, ...]]:
    """Channels, and the shape of space, of units with a shape.

    :raises TypeError: for anything but events. :raises ValueError: for units of another number of axes.
    """
    if not isinstance(events, SpikeEvents):
        raise TypeError(
            f"events must be SpikeEvents, got {type(events).__name__}; dense spikes [T, N, C, ...] become events with "
            "SpikeEvents.from_dense(spikes, dt)"
        )
    shape = events.unit_shape
    if len(shape) != axes + 1:
        names = ("length",) if axes == 1 else ("height", "width") if axes == 2 else ("...",)
        raise ValueError(
            f"units must have a shape ({', '.join(('channels', *names))}), got {shape}: "
            f"events.reshape({', '.join(('channels', *names))})"
        )
    return shape[0], tuple(shape[1:])
