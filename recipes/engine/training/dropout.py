"""Dropout of spike trains ``[T, N, features]``, in several processes as in one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from snn_delay_plugins.kernels.compiled import njit
from snn_delay_plugins.kernels.threads import over_ranges

from . import parallel

_WHOLE_NUMBERS = {8: np.int8, 16: np.int16, 32: np.int32}
_COMPILED = (torch.float32, torch.float64)


class Dropout(nn.Dropout):
    """A new mask for every time step.

    On the CPU torch draws a number per entry, and multiplies with a mask that is as large as the spikes: in a network of
    the paper's size that takes as long as all its products. Here 64 random bits serve 8 entries for p = 0.5, whose
    probability 8 bits represent, else 4 or 2, and these bits are the mask; torch's generator draws their seed. p is rounded
    to them, by a ten-thousandth of p and of 1 - p at most, and what is kept is scaled by the probability with which it is
    kept.
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)
        self._drawn: Drawn | None = None

    @property
    def kept(self) -> Tensor | None:
        """Which entries the last call has kept, if that is known."""
        if self._drawn is None:
            return None
        numbers = self._drawn.numbers.numpy()  # torch compares bytes one by one
        return torch.from_numpy(numbers >= numbers.dtype.type(self._drawn.least))

    def forward(self, x: Tensor) -> Tensor:
        self._drawn = None
        if not self.training or self.p == 0:
            return x
        whole = (x.shape[0], parallel.whole(x.shape[1]), *x.shape[2:])
        bits = _bits(self.p)
        if x.device.type != "cpu" or bits is None:
            return x * parallel.own(nn.functional.dropout(x.new_ones(whole), self.p), dim=1)
        drawn = draw(whole, self.p, bits)
        self._drawn = drawn._replace(numbers=parallel.own(drawn.numbers, dim=1).contiguous())
        return _Kept.apply(x, self._drawn) if x.dtype in _COMPILED else x * self._drawn.mask(x.dtype)


class DropoutOverTime(layer.Dropout):
    """One mask for all time steps of a sample."""

    def create_mask(self, x: Tensor) -> Tensor:
        return parallel.own(super().create_mask(x.new_ones(parallel.whole(x.shape[0]), *x.shape[1:])))


class Drawn(NamedTuple):
    """Entries whose ``numbers`` are at least ``least`` are kept, and multiplied by ``scale``."""

    numbers: Tensor
    least: int
    scale: float

    def mask(self, dtype: torch.dtype) -> Tensor:
        return (self.numbers >= self.least).to(dtype).mul_(self.scale)


def draw(shape: Sequence[int], p: float, bits: int) -> Drawn:
    """Which entries are kept, where each is dropped with the probability ``p``, rounded to a whole number of 2^-bits."""
    dropped = round(p * 2**bits)
    count = int(np.prod(shape))
    generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**63 - 1, ()))))  # a third of the time of torch's
    words = generator.integers(-(2**63), 2**63 - 1, -(-count * bits // 64), np.int64, endpoint=True)
    numbers = torch.from_numpy(words.view(_WHOLE_NUMBERS[bits])[:count].reshape(shape))
    return Drawn(numbers, dropped - 2 ** (bits - 1), 2**bits / (2**bits - dropped))


def _bits(p: float) -> int | None:
    """How many bits represent p and 1 - p well enough, if any."""
    if p == 1:
        return None
    return next((bits for bits in _WHOLE_NUMBERS if abs(round(p * 2**bits) / 2**bits - p) <= 1e-4 * min(p, 1 - p)), None)


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, drawn: Drawn) -> Tensor:
        ctx.drawn = drawn
        x = x.contiguous()
        out = torch.empty_like(x)
        of, numbers, to = (value.detach().view(-1).numpy() for value in (x, drawn.numbers, out))
        least, scale = numbers.dtype.type(drawn.least), of.dtype.type(drawn.scale)  # nothing is compared or computed wider
        over_ranges(lambda begin, end: _keep(begin, end, of, numbers, least, scale, to), x.numel())
        return out

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        return _Kept.apply(g, ctx.drawn), None


@njit(nogil=True, cache=True)
def _keep(begin, end, x, numbers, least, scale, out):
    zero = x.dtype.type(0)
    x, numbers, out = x[begin:end], numbers[begin:end], out[begin:end]  # from 0 on, or loops are not vectorised
    for k in range(out.shape[0]):
        out[k] = x[k] * (scale if numbers[k] >= least else zero)


def drawn_as(network: nn.Module) -> int | None:
    """Which version of :class:`Dropout` the network draws from, if any: a training that was begun with another one cannot
    be continued as it would have gone on."""
    return 3 if any(isinstance(module, Dropout) and module.p > 0 for module in network.modules()) else None
